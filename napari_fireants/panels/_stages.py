"""The Advanced section: start, stages and their fields, generated from the recipe's schema."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from fireants_engine.errors import RecipeError
from fireants_engine.recipe.models import Recipe
from napari_fireants._fields import small_button
from napari_fireants._forms import Editor, example, make_editor
from napari_fireants._store import RecipeStore
from napari_fireants.panels._focus import order_tabs


class StagesEditor(QWidget):
    """Edits the store's recipe; `problem` carries a sentence while the form is not a recipe.

    The form is made when it is first seen: most people never look at it.
    """

    problem = Signal(str)

    def __init__(self, store: RecipeStore) -> None:
        super().__init__()
        self._store = store
        self._data: dict[str, Any] = {}
        self._start: Editor | None = None
        self._form: Editor | None = None
        self._filling = False
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addLayout(self._history())
        self._start_box = QVBoxLayout()
        self._layout.addLayout(self._start_box)
        self._layout.addWidget(QLabel("<b>Stages</b> (tick to use; select to edit)"))
        self.list = QListWidget()
        self.list.setAccessibleName("Stages")
        self.list.setToolTip("Stages run from top to bottom; Space ticks, arrow keys select")
        self.list.setMaximumHeight(96)
        self.list.currentRowChanged.connect(self._show_stage)
        self.list.itemChanged.connect(self._ticked)
        self._layout.addWidget(self.list)
        self._layout.addLayout(self._stage_buttons())
        self._form_box = QVBoxLayout()
        self._layout.addLayout(self._form_box)
        store.changed.connect(self._refresh)
        self._refresh(store.recipe)

    @cached_property
    def _schema(self) -> dict[str, Any]:
        return Recipe.model_json_schema()

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ShowToParent:
            self._refresh(self._store.recipe)
        return super().event(event)

    def _history(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.undo, self.redo, self.revert = (QPushButton(t) for t in ("Undo", "Redo", "Revert"))
        self.undo.clicked.connect(lambda: self._store.steps.undo())
        self.redo.clicked.connect(lambda: self._store.steps.redo())
        self.revert.clicked.connect(lambda: self._store.revert())
        self.undo.setToolTip("Take the last step back (Ctrl+Z)")
        self.redo.setToolTip("Do it again (Ctrl+Shift+Z)")
        self.revert.setToolTip("Back to the preset or file as it was read")
        for button in (self.undo, self.redo, self.revert):
            row.addWidget(button)
        return row

    def _stage_buttons(self) -> QHBoxLayout:
        row = QHBoxLayout()
        for text, tip, action in (
            ("▲", "Run this stage earlier", lambda: self._move(-1)),
            ("▼", "Run this stage later", lambda: self._move(1)),
            ("+", "Add a stage after this one", self._add),
            ("✕", "Remove this stage", self._remove),
        ):
            row.addWidget(small_button(text, tip, action))
        row.addStretch(1)
        return row

    # ---------------------------------------------------------------- model -> form
    def _refresh(self, recipe: Recipe) -> None:
        self.undo.setEnabled(self._store.steps.can_undo)
        self.redo.setEnabled(self._store.steps.can_redo)
        self.revert.setEnabled(self._store.entry.edited)
        if self.isHidden():
            return
        data = recipe.to_dict()
        if data != self._data:
            self._fill(data)

    def _fill(self, data: dict[str, Any], row: int | None = None) -> None:
        row = max(0, self.list.currentRow()) if row is None else row
        self._data = data
        self._filling = True
        self.list.clear()
        for stage in data["stages"]:
            item = QListWidgetItem(stage["name"])
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            ticked = Qt.CheckState.Checked if stage["enabled"] else Qt.CheckState.Unchecked
            item.setCheckState(ticked)
            self.list.addItem(item)
        self._filling = False
        _clear(self._start_box)
        self._start = make_editor(self._schema["properties"]["start"], self._schema, data["start"])
        self._start.changed.connect(self._edited)
        self._start_box.addWidget(QLabel("<b>Start</b>"))
        self._start_box.addWidget(self._start)
        self.list.setCurrentRow(min(row, len(data["stages"]) - 1))

    def _show_stage(self, row: int) -> None:
        if self._filling:
            return
        _clear(self._form_box)
        self._form = None
        if 0 <= row < len(self._data["stages"]):
            node = self._schema["$defs"]["StageSpec"]
            stage = self._data["stages"][row]
            self._form = make_editor(node, self._schema, stage, skip=("enabled",))
            self._form.changed.connect(self._edited)
            self._form_box.addWidget(self._form)
        order_tabs(self)

    # ---------------------------------------------------------------- form -> model
    def _edited(self) -> None:
        data = dict(self._data)
        stages = list(data["stages"])
        row = self.list.currentRow()
        if self._form is not None and row >= 0:
            stages[row] = {**self._form.value(), "enabled": stages[row]["enabled"]}
            self._filling = True
            self.list.item(row).setText(stages[row]["name"])
            self._filling = False
        if self._start is not None:
            data["start"] = self._start.value()
        self._commit({**data, "stages": stages})
        order_tabs(self)

    def _ticked(self, item: QListWidgetItem) -> None:
        if self._filling:
            return
        row = self.list.row(item)
        stages = list(self._data["stages"])
        stages[row] = {**stages[row], "enabled": item.checkState() == Qt.CheckState.Checked}
        self._commit({**self._data, "stages": stages})

    def _commit(self, data: dict[str, Any]) -> None:
        """Hand `data` to the store if it is a recipe, else say what is wrong with it."""
        self._data = data
        try:
            recipe = Recipe.from_dict(data, "Advanced")
            if not any(stage.enabled for stage in recipe.stages):
                raise RecipeError("Advanced: no stage is ticked; tick at least one.")
        except RecipeError as error:
            self.problem.emit(str(error))
            return
        self.problem.emit("")
        self._data = recipe.to_dict()
        self._store.edit(recipe)

    def _reorder(self, stages: list[Any], row: int) -> None:
        self._fill({**self._data, "stages": stages}, row)
        self._commit(self._data)

    def _move(self, by: int) -> None:
        row, stages = self.list.currentRow(), list(self._data["stages"])
        if 0 <= row + by < len(stages):
            stages[row], stages[row + by] = stages[row + by], stages[row]
            self._reorder(stages, row + by)

    def _add(self) -> None:
        row, stages = self.list.currentRow(), list(self._data["stages"])
        stage = example(self._schema["$defs"]["StageSpec"], self._schema)
        stages.insert(row + 1, {**stage, "name": f"stage {len(stages) + 1}"})
        self._reorder(stages, row + 1)

    def _remove(self) -> None:
        row, stages = self.list.currentRow(), list(self._data["stages"])
        if len(stages) > 1 and row >= 0:
            del stages[row]
            self._reorder(stages, max(0, row - 1))


def _clear(layout: QVBoxLayout) -> None:
    while (item := layout.takeAt(0)) is not None:
        if item.widget() is not None:
            item.widget().hide()
            item.widget().deleteLater()
