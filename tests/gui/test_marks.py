"""Landmarks in the viewer: the layers follow the table, the table follows layers and mouse."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_fireants._following import settled
from napari_fireants._landmarks import LandmarkTable
from napari_fireants._layers import coordinates_of, places_mm
from napari_fireants._marks import Marks
from napari_fireants._picking import Picker
from napari_fireants._scene import Scene

SHIFT = np.array([3.0, -2.0, 4.0])


class Bench:
    """A viewer with a pair, a table, marks and a picker; fixed and moving lie elsewhere."""

    def __init__(
        self, dim: int = 3, units: str = "mm", scale: tuple[float, ...] = (2.0, 1.5, 1.0)
    ) -> None:
        self.viewer = ViewerModel()
        shape = (12, 16, 20)[-dim:]
        options = {"units": (units,) * dim}
        self.fixed = self.viewer.add_image(
            np.zeros(shape), name="fixed", scale=scale[-dim:], **options
        )
        self.moving = self.viewer.add_image(
            np.zeros(shape), name="moving", translate=(5.0,) * dim, **options
        )
        self.scene = Scene(self.viewer)
        self.table = LandmarkTable()
        images = lambda: (self.fixed, self.moving)  # noqa: E731
        self.marks = Marks(self.viewer, self.table, images, self.scene)
        self.picker = Picker(self.marks)
        self.said: list[str] = []
        self.picker.said.connect(self.said.append)

    def shown(self, side: str) -> np.ndarray:
        """Places (LPS mm) of the points of a layer."""
        layer = self.marks.points[side]
        return places_mm(layer, layer.data) if len(layer.data) else np.zeros((0, layer.ndim))

    def register(self) -> Callable[[np.ndarray], np.ndarray]:
        """A result that moves by SHIFT, shown in a layer of its own."""
        transform = lambda points: points + SHIFT[: points.shape[1]]  # noqa: E731
        self.marks.follower, _ = settled(self.table.rows, transform)
        self.marks.exact = transform
        self.moving.visible = False
        self.scene.live = self.viewer.add_image(
            np.zeros(self.fixed.data.shape), scale=self.fixed.scale, units=self.fixed.units
        )
        self.marks.write()
        return transform

    def press(self, *positions: tuple[float, ...]) -> None:
        """Press at the first world place, drag along the others, release at the last."""
        event = SimpleNamespace(button=1, type="mouse_press", modifiers=())
        event.position, event.pos = positions[0], np.zeros(2)
        runs = [callback(self.viewer, event) for callback in self.viewer.mouse_drag_callbacks]
        for run in runs:
            next(run, None)
        event.type = "mouse_move"
        for position in positions[1:]:
            event.position, event.pos = position, event.pos + 20
            for run in runs:
                next(run, None)
        event.type = "mouse_release"
        for run in runs:
            next(run, None)

    def visible(self) -> list[str]:
        return [layer.name for layer in self.viewer.layers if layer.visible]


# ------------------------------------------------------------------ table -> layers
def test_no_layers_without_landmarks() -> None:
    bench = Bench()
    bench.marks.write()
    assert len(bench.viewer.layers) == 2
    active = bench.viewer.layers.selection.active
    bench.table.add((1.0, 2.0, 3.0))
    assert len(bench.viewer.layers) == 5
    assert bench.viewer.layers.selection.active == active


@pytest.mark.parametrize("units", ["mm", "um"])
@pytest.mark.parametrize("dim", [2, 3])
def test_points_stand_at_their_places(dim: int, units: str) -> None:
    bench = Bench(dim, units)
    unit = 1.0 if units == "mm" else 1e-3
    bench.viewer.add_image(np.zeros((12, 16, 20)[-dim:]), units=("mm",) * dim)  # counts otherwise
    place = tuple(unit * x for x in (6.0, 3.0, 4.0)[:dim])  # x, y(, z)
    bench.table.add(place, tuple(unit * x for x in (7.0, 3.0, 4.0)[:dim]))
    data = bench.marks.points["fixed"].data
    np.testing.assert_allclose(data, [[2, 2, 6][3 - dim :]])  # z / 2, y / 1.5, x / 1
    np.testing.assert_allclose(bench.shown("moving"), [bench.table.rows[0].moving_mm])
    if dim == 3:
        bench.viewer.dims.set_point(0, 4.0)
    line = bench.marks.lines.data
    np.testing.assert_allclose(line[0, 1], [0, 0, 1][3 - dim :], atol=1e-9)
    bench.table.steps.undo()
    assert [len(layer.data) for layer in bench.marks.own] == [0, 0, 0]


def test_lines_are_drawn_onto_the_slices_they_pass() -> None:
    bench = Bench()
    bench.table.add((6.0, 9.0, 8.0), (10.0, 9.0, 12.0))  # slices 4 to 6
    lines, drawn = bench.marks.lines, {}
    for index in range(12):
        bench.viewer.dims.set_point(0, 2.0 * index)
        drawn[index] = lines.data.tolist()
    assert [index for index, data in drawn.items() if data] == [4, 5, 6]
    assert drawn[5] == [[[5.0, 6.0, 6.0], [0.0, 0.0, 4.0]]]
    bench.viewer.dims.ndisplay = 3
    assert lines.data.tolist() == [[[4.0, 6.0, 6.0], [2.0, 0.0, 4.0]]]


def test_landmarks_stay_on_top() -> None:
    bench = Bench()
    bench.table.add((6.0, 9.0, 8.0))
    bench.viewer.add_image(np.zeros((12, 16, 20)), name="later")
    bench.table.add((6.0, 5.0, 8.0))
    assert bench.viewer.layers[2].name == "later"


def test_the_worst_and_the_selected_stand_out() -> None:
    bench = Bench()
    first = bench.table.add((1.0, 2.0, 3.0), (1.0, 2.0, 9.0))
    second = bench.table.add((5.0, 2.0, 3.0), (5.0, 2.0, 4.0))
    layer = bench.marks.points["fixed"]
    assert layer.border_color[0].tolist() == pytest.approx([0xD5 / 255, 0x5E / 255, 0, 1])
    assert layer.border_color[1].tolist() == [1, 1, 1, 1]
    assert layer.selected_data == {1}
    bench.table.select([first])
    assert layer.selected_data == {0}
    layer.selected_data = {1}
    assert bench.table.selected == (second,)
    assert list(layer.features["name"]) == ["1", "2"]
    bench.table.rename(second, "tip")
    assert list(layer.features["name"]) == ["1", "tip"]


# ------------------------------------------------------------------ layers -> table
def test_points_made_moved_and_removed_with_naparis_own_tools() -> None:
    bench = Bench()
    bench.marks.open()
    fixed, moving = (bench.marks.points[side] for side in ("fixed", "moving"))
    fixed.add([[2.0, 2.0, 6.0]])
    (row,) = bench.table.rows
    assert row.fixed_mm == pytest.approx((6.0, 3.0, 4.0))
    moving.add([[3.0, 2.0, 6.0]])
    assert bench.table.rows[0].moving_mm == pytest.approx((6.0, 3.0, 6.0))
    assert len(bench.table.rows) == 1
    data = fixed.data.copy()
    data[0] = [4.0, 2.0, 6.0]
    fixed.data = data
    assert bench.table.rows[0].fixed_mm == pytest.approx((6.0, 3.0, 8.0))
    fixed.selected_data = {0}
    fixed.remove_selected()
    assert bench.table.rows[0].fixed_mm is None
    for expected in ((6.0, 3.0, 8.0), (6.0, 3.0, 4.0)):
        assert bench.table.steps.undo()
        assert bench.table.rows[0].fixed_mm == pytest.approx(expected)
    np.testing.assert_allclose(fixed.data, [[2, 2, 6]])
    moving.selected_data = {0}
    moving.remove_selected()
    fixed.selected_data = {0}
    fixed.remove_selected()
    assert bench.table.rows == ()


def test_a_layer_that_was_removed_comes_back_with_the_next_change() -> None:
    bench = Bench()
    key = bench.table.add((1.0, 2.0, 3.0), (1.0, 2.0, 9.0))
    bench.viewer.layers.remove(bench.marks.points["moving"])
    assert bench.table.row(key).moving_mm == (1.0, 2.0, 9.0)
    bench.table.rename(key, "tip")
    np.testing.assert_allclose(bench.shown("moving"), [(1.0, 2.0, 9.0)])


# ------------------------------------------------------------------ through a map
def test_moving_landmarks_stand_on_what_is_seen() -> None:
    bench = Bench()
    key = bench.table.add((6.0, 9.0, 8.0), (7.0, 9.0, 9.0))
    np.testing.assert_allclose(bench.shown("moving"), [(7.0, 9.0, 9.0)])
    bench.register()
    np.testing.assert_allclose(bench.shown("moving"), [(4.0, 11.0, 5.0)], atol=1e-6)
    layer = bench.marks.points["moving"]
    layer.data = coordinates_of(layer, np.array([[6.0, 9.0, 8.0]]))  # dragged onto the fixed one
    assert bench.table.row(key).moving_mm == pytest.approx((9.0, 7.0, 12.0))
    np.testing.assert_allclose(bench.shown("moving"), [(6.0, 9.0, 8.0)], atol=1e-6)
    bench.scene.live.visible, bench.moving.visible = False, True
    np.testing.assert_allclose(bench.shown("moving"), [(9.0, 7.0, 12.0)], atol=1e-6)


# ------------------------------------------------------------------ the mouse
def test_pairs_are_picked_in_turn_and_what_was_visible_comes_back() -> None:
    bench = Bench()
    other = bench.viewer.add_labels(np.zeros((12, 16, 20), int), name="labels")
    before, picker = bench.visible(), bench.picker
    bench.viewer.dims.set_point(0, 8.0)
    picker.begin("pairs")
    assert bench.visible() == ["fixed", "fixed landmarks"]
    assert bench.viewer.layers.selection.active == bench.marks.points["fixed"]
    assert picker.sentence == "Click landmark 1 in the fixed image. Esc ends."
    bench.press((8.0, 9.0, 6.0))
    assert bench.visible() == ["moving", "moving landmarks"]
    assert picker.sentence == "Click landmark 1 in the moving image. Esc ends."
    bench.press((9.0, 10.0, 7.0), (9.0, 12.0, 7.0))  # dragged: the canvas was moved
    assert bench.table.rows[0].moving_mm is None
    bench.press((9.2, 10.0, 7.0))  # the slice that is seen is at 9
    assert bench.table.rows[0].fixed_mm == pytest.approx((6.0, 9.0, 8.0))
    assert bench.table.rows[0].moving_mm == pytest.approx((7.0, 10.0, 9.0))
    bench.press((8.0, 100.0, 6.0))
    assert bench.said[-1] == "That is outside fixed; click inside it."
    assert len(bench.table.rows) == 1
    picker.end()
    assert bench.visible() == [*before, "landmark residuals", "fixed landmarks", "moving landmarks"]
    assert bench.viewer.layers.selection.active == other
    bench.press((8.0, 9.0, 6.0))
    assert len(bench.table.rows) == 1


def test_a_lone_place_gets_its_counterpart_first() -> None:
    bench = Bench()
    bench.table.add((6.0, 9.0, 8.0))
    bench.picker.begin("pairs")
    assert bench.picker.turn == "moving"
    bench.press((9.0, 10.0, 7.0))
    assert bench.table.rows[0].complete
    assert bench.picker.turn == "fixed"


def test_the_view_goes_along_to_where_the_counterpart_may_be() -> None:
    bench = Bench()
    bench.table.add((6.0, 9.0, 8.0), (7.0, 12.0, 11.0))
    bench.viewer.dims.set_point(0, 8.0)
    centre = bench.viewer.scene.camera.center
    bench.picker.begin("pairs")
    bench.press((8.0, 9.0, 7.0))
    assert bench.viewer.dims.point[0] == pytest.approx(11.0)
    moved = np.subtract(bench.viewer.scene.camera.center, centre)
    np.testing.assert_allclose(moved[-2:], [3.0, 1.0])
    bench.picker.end()
    assert bench.viewer.dims.point[0] == pytest.approx(8.0)
    np.testing.assert_allclose(bench.viewer.scene.camera.center, centre)


def test_a_held_key_and_a_click() -> None:
    bench = Bench()
    before = bench.visible()
    bench.viewer.dims.set_point(0, 8.0)
    for key, at in (("G", (8.0, 9.0, 6.0)), ("H", (8.0, 10.0, 7.0))):
        hold = next(call for known, call in bench.viewer.keymap.items() if str(known) == key)
        held = hold(bench.viewer)
        next(held)
        bench.press(at)
        next(held, None)
        assert bench.visible()[:2] == before
    (row,) = bench.table.rows
    assert row.fixed_mm == pytest.approx((6.0, 9.0, 8.0))
    assert row.moving_mm == pytest.approx((7.0, 10.0, 8.0))


def test_after_a_run_the_registered_image_is_clicked_and_the_place_taken_back() -> None:
    bench = Bench()
    bench.register()
    bench.viewer.dims.set_point(0, 8.0)
    for registered, told in ((True, (9.0, 7.0, 12.0)), (False, (6.0, 9.0, 8.0))):
        bench.picker.registered = registered
        key = bench.table.add((6.0, 9.0, 8.0))
        bench.picker.begin("pairs")
        bench.press((8.0, 9.0, 6.0))
        bench.picker.end()
        assert bench.table.row(key).moving_mm == pytest.approx(told)
    assert bench.scene.live.visible
    assert not bench.moving.visible


@pytest.mark.parametrize("units", ["mm", "um"])
def test_clicks_count_in_the_units_of_the_image(units: str) -> None:
    bench = Bench(units=units)
    bench.viewer.add_image(np.zeros((12, 16, 20)), units=("um",) * 3)  # the viewer counts in um
    unit, per = (1.0, 1000.0) if units == "mm" else (1e-3, 1.0)
    bench.viewer.dims.set_point(0, 8.0 * per)
    bench.picker.begin("pairs")
    bench.press((8.0 * per, 9.0 * per, 6.0 * per))
    expected = tuple(unit * x for x in (6.0, 9.0, 8.0))
    assert bench.table.rows[0].fixed_mm == pytest.approx(expected)


def test_points_are_dragged_live_and_undone_at_once() -> None:
    bench = Bench()
    key = bench.table.add((6.0, 9.0, 8.0), (7.0, 9.0, 8.0))
    bench.viewer.dims.set_point(0, 8.0)
    bench.viewer.scene.camera.zoom = 20.0
    bench.picker.begin("move")
    assert bench.picker.near((8.0, 9.0, 6.1)) == (key, "fixed")
    assert bench.picker.near((8.0, 9.0, 7.1)) == (key, "moving")
    assert bench.picker.near((8.0, 12.0, 7.1)) is None
    bench.viewer.dims.set_point(0, 12.0)
    assert bench.picker.near((12.0, 9.0, 6.1)) is None  # not on this slice
    bench.viewer.dims.set_point(0, 8.0)
    seen: list[Any] = []
    bench.table.changed.connect(lambda: seen.append(bench.table.row(key).fixed_mm))
    bench.press((8.0, 9.0, 6.1), (8.0, 10.0, 6.1), (8.0, 11.0, 5.1))
    assert seen[-1] == pytest.approx((5.0, 11.0, 8.0))
    assert len(seen) == 2
    assert bench.viewer.scene.camera.mouse_pan
    bench.table.steps.undo()
    assert bench.table.row(key).fixed_mm == (6.0, 9.0, 8.0)


def test_what_stands_in_the_way_is_said() -> None:
    bench = Bench()
    bench.viewer.dims.ndisplay = 3
    bench.picker.begin("pairs")
    assert (bench.picker.mode, "3D view" in bench.said[-1]) == ("", True)
    bench.viewer.dims.ndisplay = 2
    bench.moving = None
    bench.picker.begin("pairs")
    assert bench.said[-1].startswith("Open two images first")


def test_landmarks_of_other_images_stay_aside() -> None:
    bench = Bench()
    bench.table.add((6.0, 9.0), (7.0, 9.0))
    assert len(bench.viewer.layers) == 2
    bench.picker.begin("pairs")
    bench.press((8.0, 9.0, 6.0))
    assert "2D and 3D at once" in bench.said[-1]
    assert len(bench.table.rows) == 1


def test_a_run_may_change_what_is_visible_meanwhile() -> None:
    bench = Bench()
    bench.picker.begin("pairs")
    with bench.picker.aside():
        assert bench.visible()[:2] == ["fixed", "moving"]
        bench.moving.visible = False
    assert bench.visible() == ["fixed", "fixed landmarks"]
    bench.picker.end()
    assert "moving" not in bench.visible()


def test_jumping_to_a_landmark() -> None:
    bench = Bench()
    key = bench.table.add((6.0, 9.0, 8.0))
    bench.marks.go(key)
    assert bench.viewer.dims.point[0] == pytest.approx(8.0)
    np.testing.assert_allclose(bench.viewer.scene.camera.center[-2:], [9.0, 6.0])
    bench.viewer.dims.order = (2, 0, 1)
    bench.marks.go(key)
    assert bench.viewer.dims.point[2] == pytest.approx(6.0)
    np.testing.assert_allclose(bench.viewer.scene.camera.center[-2:], [8.0, 9.0])


def test_layers_of_other_units_may_be_all_that_stays() -> None:
    """The lines leave the viewer before their units do: napari tells of the slice in between."""
    bench = Bench()
    for place in ((2.0, 3.0, 4.0), (6.0, 5.0, 4.0)):
        bench.table.add(place, tuple(x + 1 for x in place))
    lines, layers = bench.marks.lines, bench.viewer.layers
    before = [layer for layer in layers if layer != lines]
    stays = bench.viewer.add_shapes(name="stays")
    for layer in (*before, lines):
        layers.remove(layer)
    assert list(layers) == [stays]
