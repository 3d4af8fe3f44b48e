"""Landmarks in the viewer: their points and the lines between them. Only layers are written.

A point of the fixed image stands where it is. One of the moving image stands at its own place in
the world while the moving image is shown as it was loaded; while it is shown registered (live, a
result, or a fit on trial) it stands where the present map has brought it, on the structure that
one sees, and a place it is dragged to is taken back through the map. The lines between both show
what is left, drawn onto the slice that is shown where they pass near it; the distance in the table
is that in the moving image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants._extras import shape_of
from napari_fireants._following import Follower
from napari_fireants._landmarks import LandmarkTable, Place, Row, Side
from napari_fireants._layers import coordinates_at, coordinates_of, like, places_mm, world_of
from napari_fireants._mark_layers import (
    LINE,
    WORST,
    draw_lines,
    draw_points,
    forget_drawn,
    looks,
    make_lines,
    make_points,
)
from napari_fireants._seen import BEFORE

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer, Points, Vectors

    from napari_fireants._scene import Scene

SIDES: tuple[Side, Side] = ("fixed", "moving")
NEAR = 0.02
"""How far from the slice a line is still shown, as a share of the longest side."""

Images = Callable[[], tuple["Layer | None", "Layer | None"]]


class Marks:
    """Two layers of points and one of lines, which follow the table and which it follows.

    follower: of the present map, where there is one; exact: the map itself, where it is known.
    """

    def __init__(
        self, viewer: ViewerModel, table: LandmarkTable, images: Images, scene: Scene
    ) -> None:
        self.viewer, self.table, self.images, self.scene = viewer, table, images, scene
        self.points: dict[Side, Points] = {}
        self.lines: Vectors | None = None
        self.follower: Follower | None = None
        self.exact: Callable[[np.ndarray], np.ndarray] | None = None
        self._keys: dict[Side, list[int]] = {"fixed": [], "moving": []}
        self._place: Layer | None = None
        self._shape: tuple[int, ...] = ()
        self._watched: list[Layer] = []
        self._writing = False
        table.changed.connect(self.write)
        table.selected_changed.connect(self.write)
        table.measured.connect(self.write)
        viewer.layers.events.removed.connect(self._gone)
        for event in ("current_step", "order", "ndisplay"):
            getattr(viewer.dims.events, event).connect(self._sliced)

    # ------------------------------------------------------------ what is shown
    @property
    def own(self) -> tuple[Layer, ...]:
        """The layers that are there."""
        lines = () if self.lines is None else (self.lines,)
        return (*self.points.values(), *lines)

    @property
    def through(self) -> bool:
        """The moving image is seen through the present map, not as it was loaded."""
        if self.follower is None:
            return False
        if self._shown(self.scene.trial) or self._shown(self.scene.live):
            return True
        extra = self.scene.extra
        if extra is not None and self._shown(extra):
            return extra.name != BEFORE
        return not self._shown(self.images()[1])

    def _shown(self, layer: Layer | None) -> bool:
        return layer is not None and layer in self.viewer.layers and bool(layer.visible)

    def seen(self, row: Row, side: Side) -> Place | None:
        """Where a place of a row is shown, LPS mm; None where that is not known (yet)."""
        if side == "moving" and self.follower is not None and self.through:
            return self.follower.seen(row)
        return row.place(side)

    def taken(self, side: Side, shown_mm: Sequence[float], key: int | None = None) -> Place | None:
        """The place in its own image of what is shown at `shown_mm`."""
        if side == "fixed" or self.follower is None or not self.through:
            return tuple(map(float, shown_mm))
        if self.exact is not None:
            return tuple(map(float, self.exact(np.array([shown_mm], dtype=float))[0]))
        return self.follower.forward(shown_mm, key)

    # ------------------------------------------------------------ table -> layers
    def write(self) -> None:
        """Bring the layers up to date; makes them when there is something to show."""
        fixed = self.images()[0]
        self._watch()
        if fixed is None or fixed.ndim not in (2, 3) or fixed not in self.viewer.layers:
            return  # also while the window is closing
        rows = [row for row in self.table.rows if fits(row, fixed.ndim)]
        if not self.points and not rows:
            return
        self.open()
        with self._quiet():
            for side in SIDES:
                self._write_points(side, rows)
            self._write_lines()
            self._raise()

    def open(self) -> None:
        """Make the layers where they are missing; the active layer stays."""
        fixed = self.images()[0]
        if fixed is None or fixed.ndim not in (2, 3):
            return
        with self._quiet():
            if self._place is not None and self._place != fixed:
                self._put_like(fixed)
            self._place, self._shape = fixed, shape_of(fixed)
            if all(side in self.points for side in SIDES) and self.lines is not None:
                return
            selection = self.viewer.layers.selection
            active, chosen = selection.active, set(selection)
            self._make(fixed)
            selection.clear()
            selection.update(layer for layer in chosen if layer in self.viewer.layers)
            selection.active = active

    def _make(self, fixed: Layer) -> None:
        if self.lines is None:
            self.lines = make_lines(self.viewer, fixed)
        for side in SIDES:
            if side not in self.points:
                layer = self.points[side] = make_points(self.viewer, fixed, side)
                self._keys[side] = []
                layer.events.data.connect(lambda event, side=side: self._edited(side, event))
                layer.selected_data.events.items_changed.connect(
                    lambda *_, side=side: self._chosen(side)
                )

    def _put_like(self, fixed: Layer) -> None:
        """Another fixed image: the layers lie on it, or anew where it has other axes."""
        if any(layer.ndim != fixed.ndim for layer in self.own):
            for layer in self.own:
                self.viewer.layers.remove(layer)
            return
        for layer in self.own:
            for name, value in like(fixed).items():
                setattr(layer, name, value)

    def _write_points(self, side: Side, rows: list[Row]) -> None:
        layer = self.points[side]
        if not layer.visible:
            return
        places = {row.key: self.seen(row, side) for row in rows}
        known = {key: place for key, place in places.items() if place is not None}
        kept = [key for key in self._keys[side] if key in known]
        keys = [*kept, *(key for key in known if key not in kept)]
        data = np.zeros((0, layer.ndim))
        if keys:
            data = coordinates_of(layer, np.array([known[key] for key in keys]))
        names = [self.table.row(key).name for key in keys]
        self._keys[side] = keys
        look = looks(self.table, side, keys, max(self._shape))
        chosen = {i for i, key in enumerate(keys) if key in self.table.selected}
        draw_points(layer, data, names, look, chosen)

    def _write_lines(self) -> None:
        lines = self.lines
        if lines is None or not lines.visible:
            return
        rows = [row for row in self.table.rows if fits(row, lines.ndim)]
        ends = [(row.key, row.fixed_mm, self.seen(row, "moving")) for row in rows]
        whole = [(key, own, other) for key, own, other in ends if own and other]
        data, keys = np.zeros((0, 2, lines.ndim)), [key for key, _, _ in whole]
        if whole:
            own = coordinates_of(lines, np.array([each[1] for each in whole]))
            other = coordinates_of(lines, np.array([each[2] for each in whole]))
            data, near = self._onto_slice(own, other)
            keys = [key for key, shown in zip(keys, near, strict=True) if shown]
        worst = self.table.worst
        draw_lines(lines, data, [WORST if key == worst else LINE for key in keys])

    def _onto_slice(self, own: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lines (n, 2, d) from `own` to `other` that pass near the slice, drawn onto it, and which
        of all these are. In the 3D view all of them are as they are."""
        own, other, dims = own.copy(), other.copy(), self.viewer.dims
        near = np.ones(len(own), dtype=bool)
        reach = NEAR * max(self._shape)
        here = coordinates_at(self.viewer, self.lines, dims.point)
        for axis in self._hidden(self.lines):
            low, high = np.minimum(own, other)[:, axis], np.maximum(own, other)[:, axis]
            near &= (low - reach <= here[axis]) & (here[axis] <= high + reach)
            own[:, axis] = other[:, axis] = here[axis]
        return np.stack([own, other - own], axis=1)[near], near

    def _hidden(self, layer: Layer) -> list[int]:
        """Axes of a layer across which a slice is shown."""
        first = self.viewer.dims.ndim - layer.ndim
        return [axis - first for axis in self.viewer.dims.not_displayed if axis >= first]

    def on_slice(self, layer: Layer, coordinates: np.ndarray) -> bool:
        """Whether a point of the layer is shown on the slice, as napari decides it."""
        here = coordinates_at(self.viewer, layer, self.viewer.dims.point)
        return all(abs(coordinates[axis] - here[axis]) <= 0.5 for axis in self._hidden(layer))

    def _raise(self) -> None:
        """Nothing that comes later covers the landmarks."""
        layers = self.viewer.layers
        own = [layer for layer in self.own if layer in layers]
        if own and set(list(layers)[-len(own) :]) != set(own):
            layers.move_multiple([layers.index(layer) for layer in own], len(layers))

    def _sliced(self, *_: object) -> None:
        lines = self.lines
        if lines is not None and lines in self.viewer.layers and len(self.table.rows):
            self._write_lines()

    # ------------------------------------------------------------ layers -> table
    def _edited(self, side: Side, event: Any) -> None:
        """A person changed points with napari's own tools; it tells so twice, before and after."""
        if self._writing:
            return
        layer, keys = self.points[side], self._keys[side]
        action = str(getattr(event.action, "value", event.action))
        if action == "added":
            for coordinates in layer.data[len(keys) :]:
                self._add(side, coordinates)
        elif action == "removed":
            self.table.move_all(side, {keys[i]: None for i in event.data_indices}, None)
        elif action == "changed" and len(layer.data) == len(keys):
            self._moved(side, event.data_indices)
        if action in ("added", "removed", "changed"):
            forget_drawn(layer)
            self.write()

    def _add(self, side: Side, coordinates: np.ndarray) -> None:
        place = self.taken(side, places_mm(self.points[side], coordinates)[0])
        if place is not None:
            self.put(side, place)

    def put(self, side: Side, place: Place) -> int:
        """A new place: of the landmark that lacks it, or of a new one; its key."""
        row = self.table.lacking(side)
        if row is None:
            return self.table.add(**{f"{side}_mm": place})
        self.table.move(row.key, side, place)
        self.table.select([row.key])
        return row.key

    def _moved(self, side: Side, indices: Iterable[int]) -> None:
        layer, keys = self.points[side], self._keys[side]
        places: dict[int, Place | None] = {}
        for i in indices:
            shown = places_mm(layer, layer.data[i])[0]
            before = self.seen(self.table.row(keys[i]), side)
            if before is None or not np.allclose(before, shown, atol=1e-6):
                places[keys[i]] = self.taken(side, shown, keys[i])
        if places:
            self.table.move_all(side, places, None)

    def _chosen(self, side: Side) -> None:
        if not self._writing:
            keys = self._keys[side]
            picked = [i for i in self.points[side].selected_data if i < len(keys)]
            self.table.select(keys[i] for i in sorted(picked))

    # ------------------------------------------------------------ housekeeping
    def go(self, key: int) -> None:
        """Bring a landmark on the canvas' slice and into its middle."""
        row = self.table.row(key)
        sides = [side for side in SIDES if self.seen(row, side) is not None]
        shown = [s for s in sides if s in self.points and self.points[s].visible] or sides
        if not shown or not self.points:
            return
        layer, dims = self.points[shown[0]], self.viewer.dims
        place = world_of(self.viewer, layer, coordinates_of(layer, self.seen(row, shown[0]))[0])
        whole = np.array(dims.point, dtype=float)
        whole[dims.ndim - layer.ndim :] = place
        for axis in dims.not_displayed:
            dims.set_point(axis, whole[axis])
        camera = self.viewer.scene.camera
        centre = [0.0, 0.0, 0.0]
        for k, axis in enumerate(reversed(dims.displayed)):
            centre[2 - k] = float(whole[axis])
        camera.center = tuple(centre)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """What is written here comes not back as an edit."""
        before, self._writing = self._writing, True
        try:
            yield
        finally:
            self._writing = before

    def _watch(self) -> None:
        """Follow which image is visible: it decides where points of the moving one stand."""
        now = [x for x in (self.images()[1], *self.scene.own, *self.own) if x is not None]
        for layer in now:
            if layer not in self._watched:
                layer.events.visible.connect(self._turned)
        self._watched = now

    def _turned(self, *_: object) -> None:
        if self.points:
            self.write()

    def _gone(self, event: Any) -> None:
        """A layer was taken out of the viewer: the table keeps what it showed."""
        for side, layer in list(self.points.items()):
            if layer == event.value:
                del self.points[side]
                self._keys[side] = []
        if self.lines is not None and self.lines == event.value:
            self.lines = None


def fits(row: Row, ndim: int) -> bool:
    """The row belongs to images of so many dimensions."""
    places = [place for place in (row.fixed_mm, row.moving_mm) if place is not None]
    return all(len(place) == ndim for place in places)
