"""The Inspect dock: what a person presses, drags and reads, during a run and after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QFileDialog

from napari_fireants._looking import AFTERWARDS
from napari_fireants._measure import NO_LABELS
from napari_fireants._views import Look, View
from napari_fireants.panels._export import FigureDialog

LONG = 100_000
pytestmark = pytest.mark.gui

NAMES = {
    View.CHECKERBOARD: "checkerboard",
    View.CURTAIN: "curtain",
    View.DIFFERENCE: "moving minus fixed",
    View.EDGES: "edges of fixed",
    View.GRID: "warped grid",
    View.JACOBIAN: "log Jacobian",
    View.DISPLACEMENT: "displacement (mm)",
    View.INVERSE: "inverse error (mm)",
}
GREEDY = {
    "name": "greedy",
    "deformation": {"kind": "greedy", "sigma_grad_mm": 3.0, "sigma_warp_mm": 1.0},
    "terms": [{"kind": "ssd"}],
    "pyramid": {"levels": [{"shrink": 1, "max_steps": 15}], "min_size": 6},
    "stop": {"tolerance": 0.0},
}


@pytest.fixture
def press(qtbot: Any) -> Callable[[Any], None]:
    return lambda button: qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


@pytest.fixture
def inspect(dock: Any) -> Iterator[Any]:
    """The Inspect dock beside the Register dock."""
    _, panel = dock.controller.viewer.window.add_plugin_dock_widget("napari-fireants", "Inspect")
    return panel


def greedy(recipe: Any, steps: int) -> Any:
    stage = {**GREEDY, "pyramid": {"levels": [{"shrink": 1, "max_steps": steps}], "min_size": 6}}
    return type(recipe).from_dict({**recipe.to_dict(), "stages": [stage]})


@pytest.fixture
def finished(dock: Any, inspect: Any, qtbot: Any, recipe: Any) -> Any:
    """The Inspect dock after a short deformable run."""
    dock.store.use(greedy(recipe(), 15))
    with qtbot.waitSignal(dock.session.finished, timeout=60_000):
        dock.start()
    qtbot.waitUntil(lambda: not dock.session.busy)
    return inspect


def settled(qtbot: Any, inspect: Any) -> None:
    qtbot.waitUntil(lambda: not inspect.looking.busy, timeout=20_000)


def test_nothing_to_look_at_before_a_run(inspect: Any) -> None:
    assert inspect.hint.isVisibleTo(inspect)
    assert not inspect.chooser.buttons[View.JACOBIAN].isEnabled()
    assert not inspect.export.figure.isEnabled()


def test_every_view_of_a_result(
    finished: Any, qtbot: Any, press: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chooser, scene = finished.chooser, finished.controller.scene
    assert not finished.hint.isVisibleTo(finished)
    assert set(NAMES) == {view for view in View if view.composed} - {View.ARROWS}
    for view, name in NAMES.items():
        press(chooser.buttons[view])
        settled(qtbot, finished)
        assert (scene.extra.name, scene.extra.visible) == (name, True)
        tells = view.of_warp
        assert chooser.says.text().startswith("Hold Q") is not tells
    press(chooser.buttons[View.ARROWS])
    settled(qtbot, finished)
    arrows = scene.extras.arrows
    assert arrows.visible
    assert not scene.extra.visible
    before = len(arrows.data)
    finished.controller.viewer.dims.set_point(0, 3)
    qtbot.waitUntil(lambda: bool(np.all(arrows.data[:, 0, 0] == 3)), timeout=10_000)
    chooser.arrows.setValue(60)
    qtbot.waitUntil(lambda: len(arrows.data) > before, timeout=10_000)
    press(chooser.buttons[View.JACOBIAN])
    press(chooser.buttons[View.CHECKERBOARD])  # overtakes it
    qtbot.waitUntil(lambda: scene.extra.name == "checkerboard", timeout=10_000)
    qtbot.wait(100)
    assert scene.extra.name == "checkerboard"
    press(chooser.buttons[View.BLEND])
    assert not scene.extra.visible
    assert scene.live.opacity == 0.5
    assert chooser.share.isVisibleTo(finished)
    assert not chooser.squares.isVisibleTo(finished)
    press(chooser.buttons[View.OVERLAY])
    assert (scene.fixed.colormap.name, scene.live.opacity) == ("green", 1.0)
    kept: list[Any] = []
    monkeypatch.setattr("napari_fireants._looking.remember", lambda *what: kept.append(what))
    chooser.colours.setCurrentIndex(1)
    chooser.colours.activated.emit(1)
    assert (scene.fixed.colormap.name, scene.live.colormap.name) == ("cyan", "red")
    assert kept == [("display", "colours", "cyan and red")]
    chooser.colours.activated.emit(3)  # edges of fixed on grey
    qtbot.waitUntil(lambda: scene.extra.name == "edges of fixed", timeout=10_000)


def test_images_flicker_by_time_and_by_key(finished: Any, qtbot: Any, press: Any) -> None:
    chooser, scene = finished.chooser, finished.controller.scene
    press(chooser.buttons[View.FLICKER])
    seen: set[float] = set()
    qtbot.waitUntil(lambda: bool(seen.add(scene.live.opacity)) or len(seen) == 2, timeout=5000)
    assert seen == {0.0, 1.0}
    chooser.rate.setValue(0)
    qtbot.waitUntil(lambda: not chooser._flicker.isActive(), timeout=2000)
    chooser.between.setCurrentIndex(1)
    chooser.between.activated.emit(1)
    settled(qtbot, finished)
    assert (scene.extra.name, scene.extra.visible) == ("moving before", True)
    press(chooser.buttons[View.CURTAIN])
    settled(qtbot, finished)
    finished.looking.hold_fixed(True)
    assert (scene.fixed.visible, scene.live.opacity, scene.extra.visible) == (True, 0.0, False)
    finished.looking.hold_fixed(False)
    settled(qtbot, finished)
    assert (scene.extra.name, scene.extra.visible) == ("curtain", True)


def event(kind: str, position: tuple[float, ...]) -> Any:
    return SimpleNamespace(type=kind, position=position)


def test_the_curtain_is_dragged_in_the_canvas(finished: Any, qtbot: Any, press: Any) -> None:
    viewer, looking, scene = finished.controller.viewer, finished.looking, finished.controller.scene
    drag = viewer.mouse_drag_callbacks[-1]
    press(finished.chooser.buttons[View.CURTAIN])
    settled(qtbot, finished)
    assert list(drag(viewer, event("mouse_press", (12.0, 5.0, 3.0)))) == []  # far from the line
    move = drag(viewer, press_ := event("mouse_press", (12.0, 5.0, 13.4)))
    next(move)
    assert not viewer.scene.camera.mouse_pan
    press_.type, press_.position = "mouse_move", (12.0, 5.0, 20.5)
    next(move)
    assert looking.look.curtain == pytest.approx(21 / 28)
    press_.type = "mouse_release"
    with pytest.raises(StopIteration):
        next(move)
    assert viewer.scene.camera.mouse_pan
    assert finished.chooser.curtain.value() == 75
    settled(qtbot, finished)
    pictures = finished.controller.session.product.pictures
    assert np.array_equal(scene.extra.data[..., :21], pictures.fixed_bytes[..., :21])
    assert np.array_equal(scene.extra.data[..., 21:], pictures.moved_bytes[..., 21:])
    viewer.dims.ndisplay = 3
    assert not finished.handle.near((12.0, 5.0, 20.5))


def test_views_follow_a_run(dock: Any, inspect: Any, qtbot: Any, recipe: Any, press: Any) -> None:
    scene, chooser = dock.controller.scene, inspect.chooser
    dock.store.use(greedy(recipe(), LONG))
    inspect.looking.choose(Look(View.CHECKERBOARD))
    dock.start()
    assert not chooser.buttons[View.GRID].isEnabled()
    qtbot.waitUntil(lambda: scene.extra is not None and scene.extra.visible, timeout=60_000)
    assert scene.extra.name == "checkerboard"
    for view in (View.JACOBIAN, View.GRID, View.EDGES):
        press(chooser.buttons[view])
        qtbot.waitUntil(lambda v=view: scene.extra.name == NAMES[v], timeout=30_000)
    _, index = scene.wanted().planes[0]
    assert scene.extra.data[index].any()
    assert not scene.extra.data[index + 1].any()  # of a running one only what is looked at
    press(chooser.buttons[View.ARROWS])
    qtbot.waitUntil(lambda: scene.extras.arrows is not None, timeout=30_000)
    press(chooser.buttons[View.INVERSE])
    assert chooser.says.text() == AFTERWARDS
    assert scene.live.visible
    chooser.before.setChecked(True)
    press(chooser.buttons[View.BEFORE_AFTER])
    qtbot.waitUntil(lambda: scene.extra.name == "moving before", timeout=30_000)
    press(chooser.buttons[View.JACOBIAN])
    with qtbot.waitSignal(dock.session.finished, timeout=30_000):
        dock.session.stop()
    # the view stays, now of the whole
    qtbot.waitUntil(lambda: bool(scene.extra.data[index + 1].any()), timeout=20_000)
    assert scene.extra.name == "log Jacobian"


def test_numbers_before_and_after(finished: Any, qtbot: Any, pair_3d: Any) -> None:
    controller = finished.controller
    viewer = controller.viewer
    similar = finished.similarities
    similar._measure.ask()
    qtbot.waitUntil(lambda: similar._measure.value is not None, timeout=20_000)
    assert "better" in similar.cells["NCC"][2].text()
    assert float(similar.cells["NCC"][1].text()) > float(similar.cells["NCC"][0].text())

    rows = finished.labels
    rows._measure.ask()
    qtbot.waitUntil(lambda: rows.says.text() == NO_LABELS, timeout=10_000)
    layers = [
        viewer.add_labels((x > 50).astype(np.uint8) + 2 * (x > 90), units=("mm",) * 3)
        for x in pair_3d
    ]
    controller.current_roles = lambda: controller.roles(
        fixed_labels=layers[0], moving_labels=layers[1]
    )
    rows._measure.ask()
    qtbot.waitUntil(lambda: rows._measure.value is not None, timeout=20_000)
    table = rows.table
    assert [table.item(k, 0).text() for k in range(table.rowCount())] == ["1", "3"]
    assert float(table.item(0, 2).text()) > float(table.item(0, 1).text())
    assert float(table.item(0, 3).text()) == pytest.approx(
        int((layers[0].data == 1).sum()) / 1000, rel=0.01
    )
    table.sortItems(0, Qt.SortOrder.DescendingOrder)
    assert table.item(0, 0).text() == "3"
    centre = np.argwhere(layers[0].data == 3).mean(axis=0)
    viewer.dims.set_point(0, 0)
    table.setCurrentCell(0, 0)
    assert viewer.dims.point[0] == pytest.approx(centre[0], abs=0.6)


def test_three_planes_are_drawn_and_clicked(finished: Any, qtbot: Any) -> None:
    planes, ortho = finished.planes, finished.ortho
    ortho.begin()
    view = planes.views[0]
    view.resize(150, 150)
    picture = view.grab().toImage()
    assert picture.pixelColor(75, 60) != picture.pixelColor(2, 75)
    ortho.move((5, 6, 7))
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=view.rect().center())
    assert ortho.cursor == (5, 15, 13)
    assert finished.controller.viewer.dims.point[0] == pytest.approx(5.0)
    assert "fixed" in planes.says.text()
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert ortho.cursor == (5, 15, 14)


def answer(monkeypatch: pytest.MonkeyPatch, path: Path | str) -> None:
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(path), ""))


def test_figures_and_reports(
    finished: Any, qtbot: Any, press: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = finished.export
    chosen = (View.OVERLAY, View.BEFORE_AFTER, View.GRID, View.ARROWS, View.JACOBIAN, View.INVERSE)
    monkeypatch.setattr(FigureDialog, "exec", lambda _: QDialog.DialogCode.Accepted)
    export.views = chosen
    for name in ("figure.svg", "figure.png", "figure"):
        answer(monkeypatch, tmp_path / name)
        press(export.figure)
        qtbot.waitUntil(lambda: export.message.tone == "good", timeout=30_000)
        export.message.say("")
    text = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert "<svg" in text
    assert (tmp_path / "figure.pdf").exists()
    answer(monkeypatch, tmp_path / "figure.doc")
    press(export.figure)
    qtbot.waitUntil(lambda: export.message.tone == "error", timeout=30_000)
    assert ".png, .svg or .pdf" in export.message.text()
    answer(monkeypatch, tmp_path / "report.html")
    press(export.report)
    qtbot.waitUntil(lambda: export.message.tone == "good", timeout=30_000)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The slice on the canvas." in page
    assert {path.name for path in tmp_path.iterdir()} == {
        "figure.svg", "figure.png", "figure.pdf", "report.html",
    }  # fmt: skip
