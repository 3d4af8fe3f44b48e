"""The Batch dock: what a person drops, presses, reads and gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDesktopServices, QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QWidget

from napari_fireants._batch import RowState

LONG = 100_000
pytestmark = pytest.mark.gui


@pytest.fixture(autouse=True)
def _quick_reports(monkeypatch: Any) -> None:
    """The pictures of a report take longer than these runs."""
    monkeypatch.setattr("fireants_engine.workflows.rundir._html", lambda *_: "<html></html>")


@pytest.fixture
def folder(tmp_path: Path, pair_2d: Any) -> Path:
    """Four images; the third is none."""
    import SimpleITK as sitk

    out = tmp_path / "study"
    out.mkdir()
    fixed, moving = pair_2d
    for name, array in (("a", fixed), ("b", moving), ("d", np.roll(moving, 2, 0))):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(out / f"{name}.nii"))
    (out / "c.nii").write_bytes(b"no image")
    return out


@pytest.fixture
def panel(make_napari_viewer: Any, recipe: Any, tmp_path: Path, monkeypatch: Any) -> Iterator[Any]:
    monkeypatch.setenv("FIREANTS_USER_FOLDER", str(tmp_path / "user"))
    viewer = make_napari_viewer()
    _, made = viewer.window.add_plugin_dock_widget("napari-fireants", "Batch")
    made.controller.store.use(recipe(steps=5))
    yield made
    made.session.shutdown()


def dropped(panel: Any, *paths: Path) -> None:
    """As a window system does it."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    none = Qt.KeyboardModifier.NoModifier
    how = (Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, none)
    enter = QDragEnterEvent(QPointF(5, 5).toPoint(), *how)
    panel.dragEnterEvent(enter)
    assert enter.isAccepted()
    assert panel.setup.drop.property("over") == "true"
    panel.dropEvent(QDropEvent(QPointF(5, 5), *how))
    assert panel.setup.drop.property("over") == "false"


@pytest.fixture
def filled(panel: Any, folder: Path, qtbot: Any) -> Any:
    dropped(panel, folder)
    qtbot.waitUntil(lambda: bool(panel.table.rows), timeout=10_000)
    return panel


def ended(panel: Any, qtbot: Any, button: Any) -> None:
    button.click()
    assert panel.batch.running
    qtbot.waitUntil(lambda: not panel.batch.running, timeout=60_000)


def shown(panel: Any) -> list[list[str]]:
    model = panel.view.model()
    columns = range(model.columnCount())
    return [[model.data(model.index(k, c)) for c in columns] for k in range(model.rowCount())]


def states(panel: Any) -> list[str]:
    return [row[1] for row in shown(panel)]


def test_a_drop_anywhere_reaches_the_dock(panel: Any) -> None:
    assert panel.acceptDrops()
    assert [w for w in panel.findChildren(QWidget) if w.acceptDrops()] == []


def test_nothing_to_run_says_what_to_do(panel: Any) -> None:
    assert not panel.run.isEnabled()
    assert panel.status.text() == "Choose a folder or a table of pairs first."
    assert "Drop a folder" in panel.setup.rule.text()
    assert panel.setup.fixed_row.isHidden()


def test_pairs_are_shown_before_anything_runs(filled: Any, folder: Path, qtbot: Any) -> None:
    assert [row[0] for row in shown(filled)] == ["b", "c", "d"]
    assert states(filled) == ["waiting"] * 3
    assert "3 pairs. Every image onto a.nii." in filled.setup.rule.text()
    assert filled.setup.folder.text() == str(folder / "registrations")
    assert filled.run.isEnabled()
    combo = filled.setup.fixed
    assert [combo.itemText(k) for k in range(combo.count())] == ["a.nii", "b.nii", "c.nii", "d.nii"]
    combo.setCurrentIndex(1)
    combo.activated.emit(1)
    qtbot.waitUntil(lambda: filled.table.names() == ["a", "c", "d"], timeout=10_000)
    assert combo.currentText() == "b.nii"
    filled.view.choose(1)
    filled.remove.click()
    assert filled.table.names() == ["a", "d"]


def test_a_bad_table_is_one_sentence(panel: Any, folder: Path, qtbot: Any) -> None:
    table = folder / "bad.csv"
    table.write_text("fixed,moving\na.nii,b.nii\na.nii,\n")
    dropped(panel, table)
    qtbot.waitUntil(lambda: bool(panel.message.text()), timeout=10_000)
    assert "line 3, column moving: is empty" in panel.message.text()
    assert panel.table.rows == []
    table.write_text("fixed,moving\na.nii,b.nii\na.nii,gone.nii\n")
    dropped(panel, table)
    qtbot.waitUntil(lambda: len(panel.table.rows) == 2, timeout=10_000)
    assert "line 3, column moving: there is no file" in panel.message.text()
    assert states(panel) == ["waiting", "missing file"]


def test_a_run_a_failure_a_retry_and_the_results(
    filled: Any, folder: Path, qtbot: Any, monkeypatch: Any
) -> None:
    pages: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: pages.append(url.toLocalFile()))
    seen: list[float] = []
    filled.table.row_changed.connect(lambda k: seen.append(filled.table.rows[k].fraction))
    ended(filled, qtbot, filled.run)
    assert states(filled) == ["done", "failed", "done"]
    assert shown(filled)[0][2]
    assert shown(filled)[0][3].endswith(" s")
    assert filled.status.text() == "2 of 3 done · 1 failed"
    filled.view.choose(1)
    assert "c.nii: this is not an image" in filled.message.text()
    assert not filled.open.isEnabled()
    assert filled.again.isEnabled()
    model = filled.view.model()
    tip = model.data(model.index(1, 0), Qt.ItemDataRole.ToolTipRole)
    assert "this is not an image" in tip
    filled.summary.click()
    assert pages == [str(folder / "registrations" / "summary.html")]
    (folder / "c.nii").write_bytes((folder / "b.nii").read_bytes())
    ended(filled, qtbot, filled.retry)
    assert states(filled) == ["done"] * 3
    assert filled.message.text() == ""
    assert not filled.retry.isEnabled()
    filled.view.choose(0)
    filled.report.click()
    assert pages[1:] == [str(folder / "registrations" / "b" / "report.html")]
    filled.open.click()
    layers = filled.controller.viewer.layers
    qtbot.waitUntil(lambda: len(layers) == 4, timeout=20_000)  # fixed, moving, result, Jacobian
    assert "b: a" in layers
    assert layers["b (registered)"].visible
    qtbot.wait(50)
    ended(filled, qtbot, filled.run)
    assert states(filled) == ["kept"] * 3


def test_a_run_and_a_batch_wait_for_each_other(
    filled: Any, qtbot: Any, recipe: Any, pair_2d: Any
) -> None:
    viewer = filled.controller.viewer
    for name, array in zip(("fixed", "moving"), pair_2d, strict=True):
        viewer.add_image(array, name=name, units=("mm", "mm"), axis_labels=("y", "x"))
    _, register = viewer.window.add_plugin_dock_widget("napari-fireants", "Register")
    assert register.controller is filled.controller
    filled.controller.store.use(recipe(steps=LONG))
    assert register.run.isEnabled()
    filled.run.click()
    assert not register.run.isEnabled()
    assert "A batch is still at work" in register.run.toolTip()
    assert register.run.text() == "Waiting for the batch"
    qtbot.waitUntil(lambda: filled.table.rows[0].state is RowState.RUNNING, timeout=30_000)
    qtbot.waitUntil(lambda: "running" in states(filled)[0], timeout=10_000)
    assert not filled.setup.isEnabled()
    filled.stop.click()
    assert not filled.stop.isEnabled()
    qtbot.waitUntil(lambda: not filled.batch.running, timeout=30_000)
    assert states(filled)[0] in ("stopped", "waiting")
    assert states(filled)[1:] == ["waiting", "waiting"]
    assert register.run.isEnabled()
    assert register.run.text() == "Register"
    register.run.click()
    assert not filled.run.isEnabled()
    assert "A registration is still at work" in filled.status.text()
    qtbot.waitUntil(lambda: "loss" in register.status.text(), timeout=30_000)
    with qtbot.waitSignal(filled.session.finished, timeout=30_000):
        register.stop.click()
    qtbot.waitUntil(filled.run.isEnabled, timeout=5_000)


def test_a_session_that_is_shut_down_ends_the_batch(filled: Any, qtbot: Any, recipe: Any) -> None:
    filled.controller.store.use(recipe(steps=LONG))
    filled.run.click()
    qtbot.waitUntil(lambda: filled.table.rows[0].state is RowState.RUNNING, timeout=30_000)
    filled.session.shutdown(seconds=30)
    qtbot.waitUntil(lambda: not filled.batch.running, timeout=5_000)
    assert "dock that ran it was closed" in filled.message.text()
    assert states(filled)[1:] == ["waiting", "waiting"]
    assert filled.run.isEnabled()


def test_a_preset_of_its_own_for_the_batch(filled: Any, recipe: Any) -> None:
    combo = filled.setup.preset
    assert combo.currentText() == "As in Register"
    assert combo.itemData(0, Qt.ItemDataRole.ToolTipRole).startswith("test, the recipe")
    filled.controller.presets.save("lab", recipe(steps=3))
    combo.setCurrentIndex(combo.findText("lab"))
    assert filled.setup.recipe.name == "lab"
    filled.controller.store.load_preset("rigid")
    assert combo.currentText() == "lab"
    filled.controller.presets.delete("lab")
    assert combo.currentText() == "As in Register"
    assert combo.itemData(0, Qt.ItemDataRole.ToolTipRole).startswith("rigid, the recipe")
    assert filled.setup.recipe.name == "rigid"
    combo.setCurrentIndex(combo.findText("affine"))
    assert filled.setup.recipe.name == "affine"
