"""The gallery of presets: a card for each, with a picture and a sentence; and a person's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from qtpy.QtCore import QEvent, QSize, Qt, Signal
from qtpy.QtGui import QKeyEvent, QPixmap
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from fireants_engine.errors import FireantsError
from napari_fireants._controller import Controller
from napari_fireants._presets import Preset, packaged, stages_line
from napari_fireants.panels._widgets import Message, button, caption, follow

COLUMNS, CARD_WIDTH = 4, 226
RECIPES = "Recipe (*.yaml *.yml *.json)"
_CARD = """
QPushButton { background: rgba(128, 128, 128, 28); border: 2px solid transparent;
              border-radius: 6px; padding: 0; }
QPushButton:hover { background: rgba(128, 128, 128, 70); }
QPushButton:checked { background: rgba(35, 116, 184, 80); }
QPushButton:focus { border: 2px solid #2d86d0; }
"""
_MOVES = {
    Qt.Key.Key_Left: -1,
    Qt.Key.Key_Right: 1,
    Qt.Key.Key_Up: -COLUMNS,
    Qt.Key.Key_Down: COLUMNS,
}


class Card(QPushButton):
    """One preset; a click, Enter or Space chooses it."""

    pointed = Signal(object)
    moved = Signal(int)

    def __init__(self, preset: Preset, chosen: bool) -> None:
        super().__init__()
        self.preset = preset
        self.setStyleSheet(_CARD)
        self.setCheckable(True)
        self.setChecked(chosen)
        self.setEnabled(not preset.problem)
        self.setAccessibleName(f"{preset.name}: {preset.sentence}")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(4)
        if preset.picture is not None:
            picture = QLabel()
            picture.setPixmap(QPixmap(str(preset.picture)))
            picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
            layout.addWidget(picture)
        self.head = QHBoxLayout()
        self.head.addWidget(QLabel(f"<b>{preset.name}</b>"), 1)
        layout.addLayout(self.head)
        layout.addWidget(caption(preset.problem or preset.sentence or preset.stages))
        layout.addStretch(1)
        for label in self.findChildren(QLabel):
            label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.NoTextInteraction)
        self.setFixedWidth(CARD_WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.MinimumExpanding)

    def sizeHint(self) -> QSize:
        layout = self.layout()
        height = layout.totalHeightForWidth(CARD_WIDTH)  # -1 where no text is wrapped
        return QSize(CARD_WIDTH, max(height, layout.totalMinimumSize().height()))

    minimumSizeHint = sizeHint

    def enterEvent(self, event: QEvent) -> None:
        self.pointed.emit(self.preset)
        super().enterEvent(event)

    def focusInEvent(self, event: QEvent) -> None:
        self.pointed.emit(self.preset)
        super().focusInEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in _MOVES:
            self.moved.emit(_MOVES[event.key()])
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.click()
        else:
            super().keyPressEvent(event)


class NameForm(QWidget):
    """Asks for the name (and sentence) of an own preset; says why a name will not do."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.sentence = QLineEdit(), QLineEdit()
        self.name.setAccessibleName("Name of the preset")
        self.sentence.setAccessibleName("What the preset is for")
        self.sentence.setPlaceholderText("One sentence: what it is for")
        self.problem = caption()
        self.ok = button("Save", "Keep it", self._done)
        self.cancel = button("Cancel", "Leave everything as it is", self.hide)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Name", self.name)
        form.addRow("Sentence", self.sentence)
        row = QHBoxLayout()
        row.addWidget(self.ok)
        row.addWidget(self.cancel)
        row.addWidget(self.problem, 1)
        form.addRow("", row)
        self._form = form
        self._check: Callable[[str], str] = lambda _: ""
        self._use: Callable[[str, str], None] = lambda *_: None
        self.name.textChanged.connect(self._look)
        for line in (self.name, self.sentence):
            line.returnPressed.connect(self._done)
        self.hide()

    def ask(
        self,
        ok: str,
        name: str,
        sentence: str | None,
        check: Callable[[str], str],
        use: Callable[[str, str], None],
    ) -> None:
        """Show the form; `use(name, sentence)` when it is confirmed. sentence: None asks for none.

        check: why a name cannot be given, or nothing.
        """
        self._check, self._use = check, use
        self.ok.setText(ok)
        self._form.setRowVisible(self.sentence, sentence is not None)
        self.sentence.setText(sentence or "")
        self.name.setText(name)
        self._look(name)
        self.show()
        self.name.setFocus()
        self.name.selectAll()

    def _look(self, name: str) -> None:
        problem = self._check(name)
        self.ok.setEnabled(not problem)
        self.problem.setText(problem if name.strip() else "")

    def _done(self) -> None:
        if self.ok.isEnabled():
            self.hide()
            self._use(self.name.text().strip(), self.sentence.text().strip())


class Gallery(QDialog):
    """Choosing closes it; `chosen` then carries the Preset."""

    chosen = Signal(object)

    def __init__(self, controller: Controller, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Presets")
        self._store, self._own = controller.store, controller.presets
        self.cards: list[Card] = []
        self.details = caption()
        self.details.setMinimumHeight(3 * self.details.fontMetrics().height())
        self.details.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.message, self.form = Message(), NameForm()
        self.save = button(
            "Save present recipe as a preset…",
            "Keep the recipe as it is in the Register dock, under a name of your own",
            self._save,
        )
        self.take = button("Import…", "Add a recipe file to your presets", self._import)
        self.undo = button("Undo", "Take the last step back", self._undo)
        self.close_button = button("Close", "Keep the present preset", self.reject)
        for each in (self.save, self.take, self.undo, self.close_button, self.form.ok):
            each.setAutoDefault(False)
        self.form.cancel.setAutoDefault(False)
        self._build()
        self.fill()
        follow(self, self._own.changed, self.fill)

    def _build(self) -> None:
        self.scroll = QScrollArea()
        self.scroll.setWidgetResizable(True)
        self.scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.undo.hide()
        row = QHBoxLayout()
        for each in (self.save, self.take, self.undo):
            row.addWidget(each)
        row.addStretch(1)
        row.addWidget(self.close_button)
        layout = QVBoxLayout(self)
        heading = QLabel("<b>What kind of images are these?</b>")
        for widget in (heading, self.scroll, self.details, self.message, self.form):
            layout.addWidget(widget, int(widget is self.scroll))
        layout.addLayout(row)
        self.resize(COLUMNS * (CARD_WIDTH + 8) + 50, 740)

    # ---------------------------------------------------------------- cards
    def fill(self) -> None:
        """Show the presets there are; the present one has the focus."""
        body = QWidget()
        grid = QGridLayout(body)
        grid.setSpacing(8)
        self.cards = []
        row = 0
        for title, presets in (("", packaged()), ("Your own", self._own.all())):
            if title:
                text = title if presets else f"{title}: none yet"
                grid.addWidget(QLabel(f"<b>{text}</b>"), row, 0, 1, COLUMNS)
                row += 1
            for k, preset in enumerate(presets):
                grid.addWidget(self._card(preset), row + k // COLUMNS, k % COLUMNS)
            row += -(-len(presets) // COLUMNS)
        grid.setRowStretch(row, 1)
        grid.setColumnStretch(COLUMNS, 1)
        self.scroll.setWidget(body)
        now = next((card for card in self.cards if card.isChecked()), self.cards[0])
        now.setFocus()
        self._tell(now.preset)

    def _card(self, preset: Preset) -> Card:
        card = Card(preset, self._present(preset))
        card.clicked.connect(partial(self._choose, preset))
        card.pointed.connect(self._tell)
        card.moved.connect(partial(self._move, len(self.cards)))
        if preset.own:
            more = QToolButton()
            more.setText("⋯")
            more.setToolTip("Rename, export or delete this preset")
            more.setAccessibleName(f"More about {preset.name}")
            more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
            menu = QMenu(more)
            menu.addAction("Rename…", partial(self._rename, preset.name))
            menu.addAction("Export…", partial(self._export, preset.name))
            menu.addAction("Delete", partial(self._delete, preset.name))
            more.setMenu(menu)
            card.head.addWidget(more)
        self.cards.append(card)
        return card

    def _present(self, preset: Preset) -> bool:
        entry = self._store.entry
        if preset.own:
            return not entry.is_preset and Path(entry.source) == preset.path
        return entry.is_preset and entry.source == preset.name

    def _tell(self, preset: Preset) -> None:
        what = preset.purpose or preset.sentence
        self.details.setText("\n".join(part for part in (what, preset.stages) if part))

    def _move(self, index: int, by: int) -> None:
        to = index + by
        if 0 <= to < len(self.cards):
            self.cards[to].setFocus()
            self.scroll.ensureWidgetVisible(self.cards[to])

    def _choose(self, preset: Preset, *_: object) -> None:
        self.chosen.emit(preset)
        self.accept()

    # ---------------------------------------------------------------- own presets
    def _guarded(self, action: Callable[[], object], said: str = "") -> bool:
        """Run `action`; an error becomes a sentence, else `said` is shown."""
        try:
            action()
        except (FireantsError, OSError) as error:
            self.message.say(str(error))
            return False
        self.message.say(said, "good")
        self.undo.setVisible(bool(said))
        return True

    def _save(self) -> None:
        recipe = self._store.recipe
        self._tell(Preset("", f"Stages to be kept: {stages_line(recipe)}"))

        def use(name: str, sentence: str) -> None:
            path: list[Path] = []
            save = lambda: path.append(self._own.save(name, recipe, sentence))  # noqa: E731
            if self._guarded(save, f"{name} is kept among your own presets."):
                self._store.load_file(path[0])
                self.fill()

        self.form.ask("Save", "", recipe.description, self._own.check, use)

    def _rename(self, name: str) -> None:
        present = Path(self._store.entry.source) == self._own.path(name)

        def use(new: str, _: str) -> None:
            said = f"{name} is called {new} now."
            if self._guarded(lambda: self._own.rename(name, new), said) and present:
                moved = replace(self._store.entry, source=str(self._own.path(new)))
                self._store.restore(moved)
                self.fill()

        self.form.ask("Rename", name, None, partial(self._own.check, but=name), use)

    def _delete(self, name: str) -> None:
        self._guarded(lambda: self._own.delete(name), f"{name} is deleted.")

    def _undo(self) -> None:
        said = self._own.steps.undo()
        self.message.say(f"Taken back: {said}." if said else "", "note")
        self.undo.hide()

    def _export(self, name: str) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export a preset", f"{name}.yaml", RECIPES)
        if path and self._guarded(lambda: self._own.export(name, path)):
            self.message.say(f"{name} is written to {path}.", "good")

    def _import(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import a preset", "", RECIPES)
        if path:
            self._guarded(lambda: self._own.take(path), f"{Path(path).name} is added.")
