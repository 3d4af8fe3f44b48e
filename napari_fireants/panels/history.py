"""The History dock: the runs of this viewer, steps to take back, and sessions."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QInputDialog,
    QVBoxLayout,
    QWidget,
)

from fireants_engine.errors import FireantsError
from napari_fireants._controller import controller_of
from napari_fireants._runs import Comparison
from napari_fireants.panels._runs import RunList
from napari_fireants.panels._session import OfferBox, SessionBox
from napari_fireants.panels._widgets import Dock, Message, button, caption, follow

if TYPE_CHECKING:
    from napari.components import ViewerModel

_RIGHT = Qt.TextElideMode.ElideRight
EMPTY = (
    "Every registration of this window appears here, with its recipe and its numbers. Press "
    "Register in the Register dock to begin."
)


class HistoryPanel(Dock):
    """Thin: everything it shows comes from the controller's history, undo stack and keeper."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.controller = controller_of(napari_viewer)
        self.history, self.undo_stack = self.controller.history, self.controller.undo
        self._comparison: Comparison | None = None
        self._build()
        follow(self, self.history.changed, self._draw)
        follow(self, self.history.said, self.message.say)
        follow(self, self.undo_stack.changed, self._draw_steps)
        follow(self, self.controller.keeper.said, self.message.say)
        self.controller.session.state_changed.connect(self._refresh)
        self.controller.session.busy_changed.connect(self._refresh)
        self._draw()
        self._draw_steps()

    # ---------------------------------------------------------------- build
    def _build(self) -> None:
        body, layout = self.column()
        self.session = SessionBox(self.controller)
        self.offer = OfferBox(self.controller, self.session)
        layout.addWidget(self.offer)
        layout.addLayout(self._steps())
        self.hint = caption(EMPTY)
        layout.addWidget(self.hint)
        self.space = QWidget()
        layout.addWidget(self.space, 1)
        self.runs = RunList(self.history)
        self.runs.chosen.connect(self._refresh)
        self.runs.restored.connect(self._restore)
        self.runs.removed.connect(self._remove)
        layout.addWidget(self.runs, 1)
        layout.addWidget(self._buttons())
        layout.addWidget(self._compared())
        self.message = Message()
        layout.addWidget(self.message)
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        layout.addWidget(line)
        layout.addWidget(self.session)
        self.session.said.connect(self.message.say)
        self.scroll = self.fill(body)

    def _steps(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.undo = button("Undo", "", lambda: self._guarded(self.undo_stack.undo))
        self.redo = button("Redo", "", lambda: self._guarded(self.undo_stack.redo))
        for item in (self.undo, self.redo):
            item.setMinimumWidth(60)
            row.addWidget(item, 1)
        return row

    def _buttons(self) -> QWidget:
        self.actions = QWidget()
        grid = QGridLayout(self.actions)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(3)
        one = self._one
        self.restore = button(
            "Restore", "Show this run again: layers, views and saving follow it", one(self._restore)
        )
        self.rerun = button(
            "Run again", "Its recipe becomes the present one, and a run begins", one(self._rerun)
        )
        self.compare = button(
            "Compare", "Select two runs (Ctrl and click): their numbers and images", self._compare
        )
        self.save = button("Save run…", "A folder with image, transforms, report", one(self._save))
        self.name = button("Name…", "Call it by a name of your own", one(self._rename))
        self.remove = button("Remove", "Take it out of the list; Undo brings it back", self._away)
        for i, item in enumerate(
            (self.restore, self.rerun, self.compare, self.save, self.name, self.remove)
        ):
            grid.addWidget(item, i // 3, i % 3)
        return self.actions

    def _compared(self) -> QWidget:
        self.compared = QWidget()
        layout = QVBoxLayout(self.compared)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        self.compared_says, self.table = caption(), caption()
        self.apart = caption()
        layout.addWidget(self.compared_says)
        layout.addWidget(self.table)
        layout.addWidget(self.apart)
        row = QHBoxLayout()
        inspect = button(
            "More views", "Inspect: curtain, flicker, difference, … of both", self._inspect
        )
        row.addWidget(inspect)
        row.addWidget(
            button("End comparison", "Show the run beside its fixed image", self.history.leave)
        )
        layout.addLayout(row)
        self.compared.hide()
        return self.compared

    # ---------------------------------------------------------------- what happens
    def _draw(self) -> None:
        self.runs.draw()
        there = bool(self.history.runs)
        for item in (self.hint, self.space):
            item.setVisible(not there)
        self.runs.setVisible(there)
        self.actions.setVisible(there)
        if self.history.compared is None:
            self._comparison = None
        self.compared.setVisible(self.history.compared is not None)

    def _draw_steps(self) -> None:
        for item, word, name in (
            (self.undo, "Undo", self.undo_stack.undo_name),
            (self.redo, "Redo", self.undo_stack.redo_name),
        ):
            text = f"{word} {name}".strip()
            item.setText(item.fontMetrics().elidedText(text, _RIGHT, 138))
            item.setToolTip(text if name else f"Nothing to {word.lower()}")
            item.setEnabled(bool(name))

    def _refresh(self, *_: object) -> None:
        numbers, free = self.runs.numbers, not self.controller.session.busy
        one = len(numbers) == 1
        shown = one and numbers[0] == self.history.shown and self.history.compared is None
        self.restore.setEnabled(one and free and not shown)
        self.rerun.setEnabled(one and free)
        self.compare.setEnabled(len(numbers) == 2 and free)
        self.save.setEnabled(one)
        self.name.setEnabled(one)
        self.remove.setEnabled(bool(numbers))

    # ---------------------------------------------------------------- commands
    def _guarded(self, action: Callable[[], object]) -> bool:
        """An error becomes a sentence in the dock."""
        self.message.say("")
        try:
            action()
        except (FireantsError, OSError) as error:
            self.message.say(str(error))
            return False
        return True

    def _one(self, action: Callable[[int], object]) -> Callable[[], None]:
        def act() -> None:
            if len(self.runs.numbers) == 1:
                action(self.runs.numbers[0])

        return act

    def _restore(self, number: int) -> None:
        self._guarded(lambda: self.history.restore(number))

    def _rerun(self, number: int) -> None:
        self._guarded(lambda: self.controller.keeper.recall.rerun(number))

    def _remove(self, number: int) -> None:
        self._guarded(lambda: self.history.remove(number))

    def _away(self) -> None:
        for number in self.runs.numbers:
            self._remove(number)

    def _rename(self, number: int) -> None:
        run = self.history.run(number)
        title, ok = QInputDialog.getText(self, f"Run {number}", "Name:", text=run.title or run.name)
        if not ok:
            return
        note, ok = QInputDialog.getMultiLineText(self, f"Run {number}", "Note:", run.note)
        self.history.rename(number, title, note if ok else run.note)

    def _save(self, number: int) -> None:
        name = f"run-{number}"
        folder, _ = QFileDialog.getSaveFileName(self, "Save the run to a folder", name)
        if folder:
            done = lambda where: self.message.say(f"Saved to {where}.", "good")  # noqa: E731
            if self._guarded(lambda: self.history.save(number, folder, done)):
                self.message.say("Saving the run…", "note")

    def _inspect(self) -> None:
        self.controller.open_inspect()

    def _compare(self) -> None:
        numbers = self.runs.numbers
        if len(numbers) != 2 or not self._guarded(lambda: self._begin_compare(*numbers)):
            return

    def _begin_compare(self, first: int, second: int) -> None:
        found = self._comparison = self.history.compare(first, second)
        self.compared_says.setText(
            f"Run {first} in green, run {second} in magenta: white or grey where they agree."
        )
        self.table.setText(_table(found))
        self.apart.setText("")
        self.history.distance(found, lambda mm: self._tell_distance(found, mm))

    def _tell_distance(self, comparison: Comparison, mm: tuple[float, float]) -> None:
        if comparison is self._comparison or self._comparison is None:
            self.apart.setText(
                f"Their maps take a place of the fixed image {mm[0]:.2f} mm apart in the mean, "
                f"{mm[1]:.2f} mm at most."
            )


def _table(found: Comparison) -> str:
    """Numbers side by side, and what changed in the recipe."""
    first, second = found.first.number, found.second.number
    head = f"<tr><th></th><th>Run {first}</th><th>Run {second}</th></tr>"
    rows = "".join(
        f"<tr><td>{escape(name)}&nbsp;&nbsp;</td><td>{escape(a)}&nbsp;&nbsp;</td>"
        f"<td>{escape(b)}</td></tr>"
        for name, a, b in found.rows
    )
    changes = "<br>".join(escape(change) for change in found.changes) or "the same"
    return f"<table>{head}{rows}</table><p>Recipe: {changes}</p>"
