"""The Landmarks dock in a window: what a person does there, and what a run makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QMessageBox

from fireants_engine.recipe.models import Recipe
from napari_fireants._autosave import Autosave
from napari_fireants._landmarks import LandmarkTable
from napari_fireants._session import State

SHIFT = np.array([1.0, -3.0, 2.0])  # x, y, z of `pair_3d`
PLACES = [(14.0, 16.0, 11.0), (10.0, 12.0, 9.0), (18.0, 20.0, 13.0), (12.0, 20.0, 14.0)]


@pytest.fixture
def panel(dock: Any) -> Iterator[Any]:
    """The Landmarks dock beside the Register dock."""
    viewer = dock.controller.viewer
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Landmarks")
    assert panel.controller is dock.controller
    yield panel
    panel.picker.end()


def fill(panel: Any, off: float = 0.0) -> None:
    """Pairs that the true shift brings onto each other, the first but for `off` mm."""
    for k, place in enumerate(PLACES):
        moving = np.add(place, SHIFT) + (k == 0) * np.array([0.0, 0.0, off])
        panel.table.add(place, tuple(moving))


def cells(panel: Any) -> list[list[str]]:
    model = panel.view.rows
    return [
        [model.data(model.index(i, j)) for j in range(model.columnCount())]
        for i in range(model.rowCount())
    ]


def test_empty_it_says_what_to_do_and_the_mouse_picks(panel: Any) -> None:
    assert "Press Pick pairs" in panel.hint.text()
    assert panel.hint.isVisibleTo(panel)
    shown = (panel.view, panel.more, panel.doing, panel.recovery, panel.registered)
    assert not any(widget.isVisibleTo(panel) for widget in shown)
    assert not panel.save.isEnabled()
    panel.pick.click()
    assert panel.doing.text() == "Click landmark 1 in the fixed image. Esc ends."
    panel.picker.click((11.0, 16.0, 14.0))
    panel.picker.click((13.0, 13.0, 15.0))
    assert panel.table.rows[0].complete
    assert panel.doing.text() == "Click landmark 2 in the fixed image. Esc ends."
    assert cells(panel)[0] == ["1", "3.7", "–", "–", "1"]
    panel.picker.click((500.0, 0.0, 0.0))
    assert "outside fixed" in panel.message.text()
    panel.pick.click()
    assert not panel.doing.isVisibleTo(panel)
    assert panel.pick.text() == "Pick pairs"


def test_rows_are_edited_sorted_deleted_and_brought_back(panel: Any, qtbot: Any) -> None:
    fill(panel, off=4.0)
    model, view = panel.view.rows, panel.view
    edit = Qt.ItemDataRole.EditRole
    assert model.setData(model.index(1, 0), "apex", edit)
    assert model.setData(model.index(1, 4), "2,5", edit)
    assert not model.setData(model.index(1, 4), "much", edit)
    assert "number of at least 0" in panel.message.text()
    assert model.setData(model.index(2, 0), 0, Qt.ItemDataRole.CheckStateRole)
    assert [row.enabled for row in panel.table.rows] == [True, True, False, True]
    view.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    assert cells(panel)[0][0] == "1"
    view.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    assert [row[0] for row in cells(panel)] == ["1", "3", "4", "apex"]
    assert "3 pairs" in panel.numbers.text()
    view.selectRow(3)
    assert panel.table.row(panel.table.selected[0]).name == "apex"
    qtbot.keyClick(view, Qt.Key.Key_Delete)
    assert [row[0] for row in cells(panel)] == ["1", "3", "4"]
    assert panel.undo.toolTip() == "Take back: landmark apex deleted"
    panel.undo.click()
    assert cells(panel)[3] == ["apex", "3.7", "–", "–", "2.5"]
    panel.redo.click()
    assert len(cells(panel)) == 3
    panel.view.clicked.emit(panel.view.rows.index(0, 1))  # goes there
    assert panel.controller.viewer.dims.point[0] == 11.0
    panel.view.clicked.emit(panel.view.rows.index(1, 1))
    assert panel.controller.viewer.dims.point[0] == 13.0


def test_files_by_the_buttons(
    panel: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(panel)
    panel.table.add((1.0, 1.0, 1.0))
    panel.marking.autosave.flush()
    assert panel.marking.autosave.path.exists()
    name = "Slicer, two lists (*.fcsv)"
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_, **__: (str(tmp_path / "set"), name)
    )
    panel.save.click()
    qtbot.waitUntil(lambda: panel.message.text().startswith("Saved"), timeout=20000)
    assert "1 without a counterpart is not in it" in panel.message.text()
    assert not panel.marking.autosave.path.exists()
    files = sorted(tmp_path.glob("*.fcsv"))
    assert [file.name for file in files] == ["set_fixed.fcsv", "set_moving.fcsv"]
    panel.table.delete([row.key for row in panel.table.rows])
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_, **__: ([str(files[0])], ""))
    panel.load.click()
    qtbot.waitUntil(lambda: len(panel.table.rows) == 4, timeout=20000)
    assert panel.message.text().startswith("4 pairs from set_fixed.fcsv (fixed)")
    plain = files[0].rename(tmp_path / "points.fcsv")
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_, **__: ([str(plain)], ""))
    ask = panel._ask_side
    monkeypatch.setattr(panel, "_ask_side", lambda _: "moving")
    panel.load.click()
    qtbot.waitUntil(lambda: len(panel.table.rows) == 8, timeout=20000)
    (tmp_path / "bad.json").write_text("{}")
    bad = str(tmp_path / "bad.json")
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_, **__: ([bad], ""))
    panel.load.click()
    qtbot.waitUntil(lambda: "no list of fiducials" in panel.message.text(), timeout=20000)
    for text in ("Fixed", "Moving"):

        def press(box: QMessageBox, text: str = text) -> int:
            next(b for b in box.buttons() if b.text() == text).click()
            return 0

        monkeypatch.setattr(QMessageBox, "exec", press)
        assert ask("points.txt") == text.lower()
    monkeypatch.setattr(QMessageBox, "exec", lambda box: 0)
    assert ask("points.txt") is None


def test_unsaved_landmarks_are_offered_and_small_voxels_told_in_micrometres(
    make_napari_viewer: Callable[..., Any],
) -> None:
    lost = LandmarkTable()
    keep = Autosave(lost)
    lost.add((0.01, 0.01), (0.0135, 0.01))
    keep.flush()
    viewer = make_napari_viewer()
    for name in ("fixed", "moving"):
        viewer.add_image(np.zeros((30, 40)), name=name, units=("um", "um"))
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Landmarks")
    assert panel.lost.text().startswith("1 landmark of fixed and moving")
    panel._recover()
    assert not panel.recovery.isVisibleTo(panel)
    assert not keep.path.exists()
    assert cells(panel)[0][1] == "3.5"
    assert "largest 3.5 µm" in panel.numbers.text()
    panel.pull.robust.setChecked(True)
    assert panel.pull.limit.suffix() == " µm"
    assert panel.table.robust_mm == 0.005


def test_a_fit_is_tried_and_becomes_the_start(
    panel: Any, dock: Any, qtbot: Any, recipe: Callable[..., Recipe]
) -> None:
    fill(panel)
    scene, viewer = panel.controller.scene, panel.controller.viewer
    looks = [(layer.visible, layer.colormap.name) for layer in viewer.layers[:2]]
    panel.fit.show_button.click()
    qtbot.waitUntil(lambda: panel.marking.trial is not None, timeout=20000)
    assert panel.table.distances("now") == pytest.approx(
        {row.key: 0.0 for row in panel.table.rows}, abs=1e-6
    )
    assert panel.view.rows.headerData(2, Qt.Orientation.Horizontal, 0) == "Fit"
    moved = np.asarray(scene.trial.data)
    np.testing.assert_allclose(
        moved[2:-3, 4:-4, 4:-4], viewer.layers["moving"].data[4:-1, 1:-7, 5:-3], atol=1e-3
    )
    assert scene.trial not in [dock.inputs.fixed.layer(), dock.inputs.moving.layer()]
    assert "rigid fit" in panel.numbers.text()
    panel.table.move(panel.table.rows[0].key, "moving", (16.0, 13.0, 13.0))  # fitted anew
    qtbot.waitUntil(lambda: panel.table.statistics("now").largest > 0.1, timeout=20000)
    panel.undo.click()
    qtbot.waitUntil(lambda: panel.table.statistics("now").largest < 0.1, timeout=20000)
    panel.fit.use.click()
    assert scene.trial is None
    assert [(layer.visible, layer.colormap.name) for layer in viewer.layers[:2]] == looks
    np.testing.assert_allclose(panel.controller.initial[:3, 3], SHIFT, atol=1e-6)
    assert "rigid fit of the landmarks" in panel.fit.start_says.text()
    panel.controller.choose_recipe(recipe(steps=1))
    dock.start()
    qtbot.waitUntil(lambda: dock.session.state is State.FINISHED, timeout=60000)
    assert np.linalg.norm(dock.session.result.affine.matrix[:3, 3] - SHIFT) < 1.5
    while panel.undo.toolTip() != "Take back: rigid fit of the landmarks":
        panel.undo.click()
    assert panel.controller.initial is not None
    panel.undo.click()
    assert panel.controller.initial is None
    assert not panel.fit.start_row.isVisibleTo(panel)


def test_what_the_widgets_of_fit_and_pull_say(panel: Any, qtbot: Any) -> None:
    panel.table.add((1.0, 2.0, 3.0), (1.0, 2.0, 4.0))
    panel.fit.show_button.click()
    qtbot.waitUntil(lambda: "at least 3 landmarks" in panel.message.text(), timeout=20000)
    assert not panel.fit.show_button.isChecked()
    fill(panel)
    panel.pull.use.click()
    assert panel.pull.slider.isVisibleTo(panel)
    before = panel.table.strength
    for value in (10, 20, 90):
        panel.pull.slider.setValue(value)
    assert panel.table.strength > before
    panel.pull.robust.click()
    assert panel.table.robust_mm == 5.0
    panel.pull.limit.setValue(2.5)
    assert panel.table.robust_mm == 2.5
    assert panel.pull.limit.suffix() == " mm"
    panel.undo.click()
    assert (panel.table.strength, panel.table.robust_mm) == (before, 0.0)
    assert not panel.pull.limit.isEnabled()
    panel.undo.click()
    assert not panel.pull.use.isChecked()


def test_a_run_measures_and_is_pulled(
    panel: Any, dock: Any, qtbot: Any, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    fill(panel, off=2.0)
    panel.controller.choose_recipe(recipe(steps=400))
    now: list[float] = []
    panel.table.measured.connect(
        lambda: now.extend([s.mean] if (s := panel.table.statistics("now")) else [])
    )
    dock.start()
    qtbot.waitUntil(lambda: bool(now), timeout=60000)
    assert panel.marking.marks.follower is not None
    dock.session.stop()
    qtbot.waitUntil(lambda: dock.session.state is State.FINISHED, timeout=60000)
    qtbot.waitUntil(lambda: bool(panel.table.distances("after")), timeout=20000)
    result = dock.session.result
    told = np.linalg.norm(
        result.transform(np.array([row.fixed_mm for row in panel.table.rows]))
        - [row.moving_mm for row in panel.table.rows],
        axis=1,
    )
    np.testing.assert_allclose(list(panel.table.distances("after").values()), told, atol=1e-6)
    assert panel.table.worst == panel.table.rows[0].key
    assert result.extras.landmarks.names == ("1", "2", "3", "4")
    assert [term.kind for term in result.recipe.stages[0].terms] == ["ssd"]
    # a result is there: a dragged landmark is measured through it
    panel.table.move(panel.table.rows[1].key, "fixed", (10.0, 12.0, 6.0))
    qtbot.waitUntil(lambda: panel.table.statistics("after").pairs == 4, timeout=20000)
    panel.pull.use.click()
    panel.pull.slider.setValue(100)
    panel.controller.choose_recipe(recipe(steps=20))
    dock.start()
    assert panel.table.distances("after") == {}
    qtbot.waitUntil(lambda: dock.session.state is State.FINISHED, timeout=60000)
    result = dock.session.result
    assert [term.kind for term in result.recipe.stages[0].terms] == ["ssd", "landmarks"]
    assert result.recipe.stages[0].terms[1].weight == pytest.approx(panel.table.strength)
    assert panel.controller.store.recipe == recipe(steps=20)  # the recipe itself stays
    qtbot.waitUntil(lambda: not panel.marking.busy, timeout=20000)
