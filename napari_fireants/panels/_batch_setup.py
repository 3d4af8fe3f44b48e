"""What a batch is given: the pairs, the one fixed image, the recipe and the folder for results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from fireants_engine.recipe.models import Recipe
from napari_fireants._batch import Found
from napari_fireants._controller import Controller
from napari_fireants._fields import small_button
from napari_fireants.panels._gallery import Gallery
from napari_fireants.panels._preset_combo import index_of, offer_presets
from napari_fireants.panels._widgets import LABEL_WIDTH, button, caption, follow, narrow_combo

TABLES = "Table of pairs (*.csv *.tsv *.txt)"
HELP = (
    "A table has a header line with fixed and moving, and if you like name, fixed_mask,\n"
    "moving_mask, moving_labels, fixed_labels, landmarks, init.\n"
    "In a folder, images named fixed… and moving… make pairs, or sub-folders with one of each;\n"
    "else all images go onto one."
)
_DROP = """
QFrame#drop { border: 2px dashed rgba(128, 128, 128, 140); border-radius: 6px; }
QFrame#drop[over="true"] { border-color: #2d86d0; background: rgba(45, 134, 208, 40); }
"""


class BatchSetup(QWidget):
    """`asked` carries paths and a fixed image (or None); `changed`: the folder is another."""

    asked = Signal(object, object)
    changed = Signal()

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._found: Found | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        layout.addWidget(self._drop())
        layout.addWidget(self._fixed())
        layout.addLayout(self._preset())
        layout.addLayout(self._results())
        follow(self, controller.presets.changed, self.offer_recipes)
        follow(self, controller.store.changed, self.offer_recipes)
        self.offer_recipes()

    # ---------------------------------------------------------------- build
    def _drop(self) -> QWidget:
        self.drop = QFrame()
        self.drop.setObjectName("drop")
        self.drop.setStyleSheet(_DROP)
        self.drop.setToolTip(HELP)
        layout = QVBoxLayout(self.drop)
        layout.setSpacing(4)
        self.rule = caption()
        layout.addWidget(self.rule)
        row = QHBoxLayout()
        row.addWidget(button("Folder…", HELP, self._ask_folder))
        row.addWidget(button("Table (CSV)…", HELP, self._ask_table))
        layout.addLayout(row)
        return self.drop

    def _fixed(self) -> QWidget:
        self.fixed_row = QWidget()
        self.fixed = narrow_combo("Fixed image")
        tip = "The image that stays; every other image of the folder is brought onto it"
        self.fixed_row.setLayout(_labelled("Fixed", tip, self.fixed))
        self.fixed.activated.connect(self._choose_fixed)
        return self.fixed_row

    def _preset(self) -> QHBoxLayout:
        self.preset = narrow_combo("Recipe of the batch")
        self.gallery = button("Gallery…", "All presets with pictures, and your own", self._gallery)
        tip = "How every pair is registered: the recipe of the Register dock, or a preset"
        return _labelled("Preset", tip, self.preset, self.gallery)

    def _results(self) -> QHBoxLayout:
        self.folder = QLineEdit()
        self.folder.setAccessibleName("Folder for the results")
        self.folder.setPlaceholderText("Folder for the results")
        self.folder.setAcceptDrops(False)  # what is dropped anywhere on the dock are pairs
        self.folder.textChanged.connect(lambda _: self.changed.emit())
        more = small_button("…", "Choose the folder for the results", self._ask_results)
        tip = "Gets one folder per pair, and a summary. Pairs that are finished there are kept."
        return _labelled("Results", tip, self.folder, more)

    # ---------------------------------------------------------------- what is chosen
    @property
    def recipe(self) -> Recipe:
        """Raises RecipeError where an own preset is damaged."""
        source = self.preset.currentData()
        if source is None:
            return self._controller.store.recipe
        return Recipe.load(source) if isinstance(source, Path) else Recipe.preset(source)

    @property
    def results(self) -> Path | None:
        text = self.folder.text().strip()
        return Path(text).expanduser() if text else None

    # ---------------------------------------------------------------- what is shown
    def mark(self, over: bool) -> None:
        """Something that can be dropped is over the dock, or no longer."""
        self.drop.setProperty("over", "true" if over else "false")
        self.drop.style().unpolish(self.drop)
        self.drop.style().polish(self.drop)

    def searching(self) -> None:
        self.rule.setText("Looking for pairs…")

    def show_found(self, found: Found | None, count: int) -> None:
        """The rule that found the pairs, of which `count` are left."""
        self._found = found
        images = () if found is None else found.pairing.images
        self.fixed.clear()
        for path in images:
            self.fixed.addItem(path.name, path)
        if found is not None and found.pairing.fixed is not None:
            self.fixed.setCurrentIndex(images.index(found.pairing.fixed))
        self.fixed_row.setVisible(bool(images))
        if found is None:
            self.rule.setText("Drop a folder, a table (CSV) or images of pairs here.")
            return
        pairs = f"{count} pair{'s' * (count != 1)}"
        text = f"<b>{found.source[0].name}</b>: {pairs}. {found.pairing.rule}"
        self.rule.setText(f"{text} {extras(found)}".rstrip())
        self.rule.setToolTip(f"{found.source[0]}\n\n{HELP}")

    def offer_recipes(self, *_: object) -> None:
        chosen, entry = self.preset.currentData(), self._controller.store.entry
        name = entry.source if entry.is_preset else Path(entry.source).stem
        edited = " (edited)" if entry.edited else ""
        self.preset.blockSignals(True)
        self.preset.clear()
        self.preset.addItem("As in Register", None)
        tip = f"{name}{edited}, the recipe of the Register dock at present"
        self.preset.setItemData(0, tip, Qt.ItemDataRole.ToolTipRole)
        self.preset.insertSeparator(1)
        offer_presets(self.preset, self._controller.presets)
        self.preset.setCurrentIndex(0 if chosen is None else max(0, index_of(self.preset, chosen)))
        self.preset.blockSignals(False)

    # ---------------------------------------------------------------- questions
    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A folder of pairs")
        if folder:
            self.asked.emit([Path(folder)], None)

    def _ask_table(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "A table of pairs", "", TABLES)
        if path:
            self.asked.emit([Path(path)], None)

    def _ask_results(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the results")
        if folder:
            self.folder.setText(folder)

    def _choose_fixed(self, index: int) -> None:
        if self._found is not None:
            self.asked.emit(list(self._found.source), self.fixed.itemData(index))

    def _gallery(self) -> None:
        gallery = Gallery(self._controller, self)

        def take(preset: Any) -> None:
            self.preset.setCurrentIndex(index_of(self.preset, preset.path or preset.name))

        gallery.chosen.connect(take)
        gallery.show()


def extras(found: Found) -> str:
    """How many pairs bring masks, labels and so on, in a sentence."""
    counts = Counter(
        word for row in found.pairing.rows
        for word in {role.split("_")[-1] for role in row.files}
    )  # fmt: skip
    given = ", ".join(f"{word} of {number}" for word, number in counts.items())
    return f"With {given}." if given else ""


def _labelled(text: str, tip: str, *widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setContentsMargins(0, 0, 0, 0)
    label = QLabel(f"<b>{text}</b>")
    label.setFixedWidth(LABEL_WIDTH)
    label.setToolTip(tip)
    row.addWidget(label)
    for k, widget in enumerate(widgets):
        if not widget.toolTip():
            widget.setToolTip(tip)
        row.addWidget(widget, int(k == 0))
    return row
