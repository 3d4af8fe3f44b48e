"""Forms made from the recipe's schema."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QLabel, QLineEdit, QSpinBox

from fireants_engine.recipe.models import Recipe
from fireants_engine.recipe.presets import preset_names
from napari_fireants._fields import Section
from napari_fireants._forms import ListEditor, TableEditor, UnionEditor, make_editor
from napari_fireants._store import RecipeStore
from napari_fireants.panels._stages import StagesEditor

SCHEMA = Recipe.model_json_schema()


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_survives_the_form(qtbot, name: str) -> None:
    for stage in Recipe.preset(name).to_dict()["stages"]:
        editor = make_editor(SCHEMA["$defs"]["StageSpec"], SCHEMA, stage, skip=("enabled",))
        qtbot.addWidget(editor)
        assert editor.value() == stage


def test_units_titles_and_tooltips_come_from_the_schema(qtbot) -> None:
    stage = Recipe.preset("brain-mri").to_dict()["stages"][2]
    editor = make_editor(SCHEMA["$defs"]["StageSpec"], SCHEMA, stage)
    qtbot.addWidget(editor)
    suffixes = {box.suffix() for box in editor.findChildren(QDoubleSpinBox)}
    assert {" mm", " voxels", " half voxels", "x"} <= suffixes
    titles = {label.text(): label.toolTip() for label in editor.findChildren(QLabel)}
    assert "stiffer" in titles["Warp smoothing"]
    step = next(b for b in editor.findChildren(QDoubleSpinBox) if b.suffix() == " half voxels")
    assert step.maximum() == 1
    assert step.text() == f"{stage['descent']['step']:g} half voxels"
    assert editor.findChildren(QCheckBox)


def test_union_list_and_table(qtbot) -> None:
    stage = Recipe.preset("rigid").to_dict()["stages"][0]
    editor = make_editor(SCHEMA["$defs"]["StageSpec"], SCHEMA, stage)
    qtbot.addWidget(editor)
    union = editor.findChild(UnionEditor)
    with qtbot.waitSignal(editor.changed):
        union.combo.setCurrentIndex(union.combo.findData("greedy"))
    assert editor.value()["deformation"]["sigma_grad_mm"] == 1.0
    terms = editor.findChild(ListEditor)
    terms._add({"kind": "lncc"}, tell=True)
    assert [t["kind"] for t in editor.value()["terms"]] == ["mi", "lncc"]
    terms._remove(terms._items[0])
    terms._remove(terms._items[0])  # the last one stays
    assert [t["kind"] for t in editor.value()["terms"]] == ["lncc"]
    table = editor.findChild(TableEditor)
    table._copy(0)
    assert len(editor.value()["pyramid"]["levels"]) == 3
    Recipe.from_dict({"stages": [editor.value()]})


def test_the_wheel_changes_nothing_without_focus(qtbot) -> None:
    editor = make_editor({"type": "integer", "minimum": 0, "maximum": 9}, SCHEMA, 5)
    qtbot.addWidget(editor)
    spin = editor.findChild(QSpinBox)
    assert spin.focusPolicy() == Qt.FocusPolicy.StrongFocus


def test_stages_editor_edits_the_store(qtbot) -> None:
    store = RecipeStore("brain-mri")
    panel = StagesEditor(store)
    panel.show()
    qtbot.addWidget(panel)
    problems: list[str] = []
    panel.problem.connect(problems.append)
    panel.list.item(0).setCheckState(Qt.CheckState.Unchecked)
    assert not store.recipe.stages[0].enabled
    panel.list.setCurrentRow(1)
    panel._move(-1)
    assert [s.name for s in store.recipe.stages] == ["affine", "rigid", "greedy"]
    assert panel.list.currentRow() == 0
    panel.undo.click()
    panel.undo.click()
    assert store.recipe == Recipe.preset("brain-mri")
    assert panel.list.item(0).checkState() == Qt.CheckState.Checked
    panel.list.setCurrentRow(0)
    boxes = panel._form.findChildren(QComboBox)
    descents = next(box for box in boxes if box.findText("Levenberg-Marquardt") >= 0)
    descents.setCurrentIndex(descents.findText("Levenberg-Marquardt"))  # not for a rigid stage
    assert "a vector per voxel" in problems[-1]
    assert store.recipe == Recipe.preset("brain-mri")
    descents.setCurrentIndex(descents.findText("SGD"))
    assert problems[-1] == ""
    assert store.recipe.stages[0].descent.kind == "sgd"


def test_numbers_are_read_from_one_line(qtbot) -> None:
    node = {"type": "array", "items": {"type": "number"}, "title": "Axes", "description": "Why."}
    editor = make_editor(node, {}, [1.0, 0.5])
    qtbot.addWidget(editor)
    changes: list[int] = []
    editor.changed.connect(lambda: changes.append(1))
    line = editor.findChild(QLineEdit)
    assert (line.text(), line.toolTip(), line.accessibleName()) == ("1, 0.5", "Why.", "Axes")
    for text, shown, value in (
        ("1,0, 2.5", "1, 0, 2.5", [1, 0, 2.5]),
        ("1 2;3", "1, 2, 3", [1, 2, 3]),
        ("one", "1, 2, 3", [1, 2, 3]),  # put back
        ("", "", []),
    ):
        line.setText(text)
        line.editingFinished.emit()
        assert (line.text(), editor.value()) == (shown, value)
    assert len(changes) == 3
    whole = make_editor({"type": "array", "items": {"type": "integer"}}, {}, [4])
    qtbot.addWidget(whole)
    whole.findChild(QLineEdit).setText("4, 2.5")
    whole.findChild(QLineEdit).editingFinished.emit()
    assert whole.value() == [4]


def test_rare_values_are_folded_away(qtbot) -> None:
    schema = Recipe.model_json_schema()
    node = schema["$defs"]["GreedySpec"]
    editor = make_editor(node, schema, {"kind": "greedy"})
    qtbot.addWidget(editor)
    more = editor.findChild(Section)
    rare = {box.accessibleName() for box in more.findChildren(QLineEdit)}
    assert "Axis weights" in rare
    assert not more.findChildren(QDoubleSpinBox)
    assert len(editor.findChildren(QDoubleSpinBox)) == 4
    line = more.findChild(QLineEdit)
    assert line.isHidden() or not line.isVisibleTo(editor)
    more.heading.click()
    assert line.isVisibleTo(editor)


def test_editing_a_value_reaches_the_store(qtbot) -> None:
    store = RecipeStore("rigid")
    panel = StagesEditor(store)
    panel.show()
    qtbot.addWidget(panel)
    spin = next(b for b in panel.findChildren(QDoubleSpinBox) if b.suffix() == " half voxels")
    spin.setValue(0.3)
    assert store.recipe.stages[0].descent.step == pytest.approx(0.3)
    assert panel.revert.isEnabled()
    store.load_preset("affine")
    assert panel.list.count() == 2


def test_kinds_are_called_what_the_field_calls_them() -> None:
    from napari_fireants._forms import kind_label

    names = ("lncc", "mi", "adam", "rmsprop", "sgd", "greedy", "similarity")
    shown = ["LNCC", "MI", "Adam", "RMSprop", "SGD", "Greedy", "Similarity"]
    assert [kind_label(name) for name in names] == shown
