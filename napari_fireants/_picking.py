"""Setting landmarks with the mouse. Of the viewer, visibility, slice, camera and keys are written.

Three ways: pairs in turn (click in the fixed image, then in the moving one), a click while a key
is held, and dragging points that are there. The image a click counts for is shown alone; what was
visible comes back afterwards.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from fireants_engine.errors import InputError
from napari_fireants._extras import shape_of
from napari_fireants._landmarks import Place, Side
from napari_fireants._layers import coordinates_at, coordinates_of, places_mm, world_of
from napari_fireants._marks import SIDES, Marks

if TYPE_CHECKING:
    from napari.layers import Layer

KEYS: dict[Side, str] = {"fixed": "G", "moving": "H"}
"""Held while clicking. No layer of napari uses them, and they lie beside each other."""
NEAR_PX, STILL_PX = 14, 4
Mode = Literal["", "pairs", "move"]


class Picker:
    """What the mouse does to landmarks. changed: another mode or turn; said: a sentence.

    registered: landmarks of the moving image are set on the registered one, where there is one.
    """

    changed = Signal()
    said = Signal(str)

    def __init__(self, marks: Marks) -> None:
        self.marks, self.viewer, self.table = marks, marks.viewer, marks.table
        self.mode: Mode = ""
        self.turn: Side = "fixed"
        self.held: Side | None = None
        self.registered = True
        self._visible: list[tuple[Layer, bool]] = []
        self._active: Layer | None = None
        self._shift: np.ndarray | None = None
        self._drags = 0
        self._listen()

    # ------------------------------------------------------------ modes
    @property
    def side(self) -> Side | None:
        """In which image a click counts; None while it does not."""
        return self.held or (self.turn if self.mode == "pairs" else None)

    @property
    def sentence(self) -> str:
        """What to do next."""
        if self.mode == "move":
            return "Drag a landmark to another place. Esc ends."
        if self.mode != "pairs":
            return ""
        row = self.table.lacking(self.turn)
        name = self.table.next_name if row is None else row.name
        return f"Click landmark {name} in the {self.turn} image. Esc ends."

    def begin(self, mode: Mode) -> None:
        """Set pairs, or move points; "" ends either."""
        if mode == self.mode:
            return
        self.end()
        if not mode or not self._ready():
            return
        self.mode = mode
        self.marks.open()
        self._remember()
        self.viewer.bind_key("Escape", lambda _: self.end(), overwrite=True)
        if mode == "pairs":
            self._take_turn("moving" if self.table.lacking("moving") is not None else "fixed")
        else:
            self.changed.emit()

    def end(self) -> None:
        """Nothing is set any more; what was visible is visible again."""
        if not self.mode:
            return
        self.mode = ""
        self.viewer.bind_key("Escape", None)
        self._move_view(None)
        self._restore()
        self.changed.emit()

    def hold(self, side: Side) -> None:
        """The key of `side` is down."""
        if self.mode or self.held or not self._ready():
            return
        self.held = side
        self.marks.open()
        self._remember()
        self._show(side)

    def release(self) -> None:
        if self.held:
            self.held = None
            self._restore()
            self.marks.write()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let others change what is visible; what counts for clicks is shown again afterwards."""
        side = self.side
        if side is None:
            yield
            return
        self._restore()
        yield
        self._remember()
        self._show(side)

    def again(self) -> None:
        """Another image is to be clicked in, or the same from anew."""
        if self.mode == "pairs":
            self._take_turn(self.turn)

    def _ready(self) -> bool:
        fixed, moving = self.marks.images()
        if fixed is None or moving is None or fixed == moving:
            self.said.emit(
                "Open two images first: landmarks are places in a fixed and a moving one."
            )
            return False
        if fixed.ndim != moving.ndim or fixed.ndim not in (2, 3):
            self.said.emit(f"{fixed.name} and {moving.name} need to be both 2D or both 3D.")
            return False
        if self.viewer.dims.ndisplay == 3:
            self.said.emit("Landmarks are set in slices: leave the 3D view first (Ctrl+Y).")
            return False
        return True

    # ------------------------------------------------------------ what is shown
    def target(self, side: Side) -> Layer | None:
        """The image in which places of `side` are clicked."""
        fixed, moving = self.marks.images()
        if side == "fixed":
            return fixed
        scene = self.marks.scene
        shown = scene.result if scene.result is not None else scene.live
        there = shown is not None and shown in self.viewer.layers
        return shown if self.registered and self.marks.exact is not None and there else moving

    def _remember(self) -> None:
        self._visible = [(layer, bool(layer.visible)) for layer in self.viewer.layers]
        self._active = self.viewer.layers.selection.active

    def _restore(self) -> None:
        for layer, visible in self._visible:
            if layer in self.viewer.layers and layer.visible != visible:
                layer.visible = visible
        for layer in self.marks.own:
            if layer not in [each for each, _ in self._visible]:
                layer.visible = True
        if self._active is not None and self._active in self.viewer.layers:
            self.viewer.layers.selection.active = self._active
        self._visible, self._active = [], None

    def _show(self, side: Side) -> None:
        """The image of `side` alone, with its points, which take the clicks from other tools."""
        image, points = self.target(side), self.marks.points.get(side)
        for layer in self.viewer.layers:
            visible = layer in (image, points)
            if layer.visible != visible:
                layer.visible = visible
        if points is not None:
            points.mode = "pan_zoom"
            self.viewer.layers.selection.active = points
        self.marks.write()

    def _take_turn(self, side: Side) -> None:
        self.turn = side
        self._show(side)
        row = self.table.lacking(side)
        other = None if row is None else row.place("moving" if side == "fixed" else "fixed")
        guess = (
            side == "moving" and other is not None and self.target(side) == self.marks.images()[1]
        )
        self._move_view(self._guess(other) - np.array(other) if guess and other else None)
        self.changed.emit()

    def _guess(self, fixed_mm: Place) -> np.ndarray:
        """About where a place of the fixed image is in the moving one: as far away as its nearest
        pair, else at the same place where the moving image reaches there, else from its middle."""
        place = np.array(fixed_mm)
        pairs = [row for row in self.table.rows if row.complete]
        if pairs:
            near = min(pairs, key=lambda row: np.linalg.norm(place - np.array(row.fixed_mm)))
            return place + np.array(near.moving_mm) - np.array(near.fixed_mm)
        fixed, moving = self.marks.images()
        assert fixed is not None
        assert moving is not None
        if _inside(moving, coordinates_of(moving, place)[0]):
            return place
        middles = [places_mm(x, (np.array(shape_of(x)) - 1) / 2)[0] for x in (fixed, moving)]
        return place + middles[1] - middles[0]

    def _move_view(self, shift_mm: np.ndarray | None) -> None:
        """Slice and camera go along by `shift_mm` (None: back), so that a structure stays put."""
        before = np.zeros(1) if self._shift is None else self._shift
        fixed = self.marks.images()[0]
        change = -before if shift_mm is None else shift_mm - before
        self._shift = shift_mm
        if fixed is None or not np.any(change):
            return
        points = coordinates_of(fixed, np.array([np.zeros(fixed.ndim), change]))
        start, end = (world_of(self.viewer, fixed, point) for point in points)
        dims, camera = self.viewer.dims, self.viewer.scene.camera
        step = np.zeros(dims.ndim)
        step[dims.ndim - fixed.ndim :] = end - start
        for axis in dims.not_displayed:
            dims.set_point(axis, dims.point[axis] + step[axis])
        centre = np.array(camera.center, dtype=float)
        centre[-2:] += step[list(dims.displayed[-2:])]
        camera.center = tuple(centre)

    # ------------------------------------------------------------ the mouse
    def _listen(self) -> None:
        known = weakref.ref(self)

        def drag(_: Any, event: Any) -> Iterator[None]:
            picker = known()
            if picker is not None and event.button == 1:
                yield from picker._press(event)

        self.viewer.mouse_drag_callbacks.append(drag)
        for side in SIDES:

            def held(_: Any, side: Side = side) -> Iterator[None]:
                picker = known()
                if picker is not None:
                    picker.hold(side)
                yield
                if picker is not None:
                    picker.release()

            self.viewer.bind_key(KEYS[side], held, overwrite=True)

    def _press(self, event: Any) -> Iterator[None]:
        if self.mode == "move" and self.held is None:
            yield from self._drag(event)
        elif self.side is not None:
            start, still = np.array(event.pos), True
            yield
            while event.type == "mouse_move":
                still = still and float(np.linalg.norm(np.array(event.pos) - start)) <= STILL_PX
                yield
            if still:
                self.click(event.position)

    def click(self, position: Sequence[float]) -> None:
        """A click at a place of the viewer's world, in the image whose turn it is."""
        side = self.side
        image = None if side is None else self.target(side)
        if side is None or image is None:
            return
        if self.viewer.dims.ndisplay == 3:
            self.said.emit("Landmarks are set in slices: leave the 3D view first (Ctrl+Y).")
            return
        coordinates = coordinates_at(self.viewer, image, position)
        first = self.viewer.dims.ndim - image.ndim
        for axis in self.viewer.dims.not_displayed:
            if axis >= first:  # of the slice that is seen, not of where the slider stands in it
                coordinates[axis - first] = round(coordinates[axis - first])
        if not _inside(image, coordinates):
            self.said.emit(f"That is outside {image.name}; click inside it.")
            return
        place = self.marks.taken(side, places_mm(image, coordinates)[0])
        if place is None:
            self.said.emit("Where that lies in the moving image is not known yet; try again.")
            return
        self.said.emit("")
        try:
            key = self.marks.put(side, place)
        except InputError as error:  # landmarks of other images are in the table
            self.said.emit(str(error))
            return
        if self.mode == "pairs":
            self._next(key)

    def _next(self, key: int) -> None:
        row = self.table.row(key)
        missing: Iterable[Side] = (s for s in SIDES if row.place(s) is None)
        waiting: Iterable[Side] = (
            s for s in ("moving", "fixed") if self.table.lacking(s) is not None
        )
        self._take_turn(next(iter(missing), None) or next(iter(waiting), "fixed"))

    # ------------------------------------------------------------ dragging
    def near(self, position: Sequence[float]) -> tuple[int, Side] | None:
        """The landmark under the mouse: its key, and which of its two points."""
        dims, zoom = self.viewer.dims, float(self.viewer.scene.camera.zoom)
        shown = list(dims.displayed)
        best, least = None, NEAR_PX / max(zoom, 1e-12)
        for side, layer in self.marks.points.items():
            for row in self.table.rows if layer.visible else ():
                place = self.marks.seen(row, side)
                if place is None or len(place) != layer.ndim:
                    continue
                coordinates = coordinates_of(layer, np.array(place))[0]
                gap = np.zeros(dims.ndim)
                world = world_of(self.viewer, layer, coordinates)
                gap[dims.ndim - layer.ndim :] = world - np.asarray(position)[-layer.ndim :]
                away = float(np.linalg.norm(gap[shown]))
                if away <= least and self.marks.on_slice(layer, coordinates):
                    best, least = (row.key, side), away
        return best

    def _drag(self, event: Any) -> Iterator[None]:
        found = self.near(event.position)
        if found is None:
            return
        key, side = found
        self.table.select([key])
        self._drags += 1
        camera = self.viewer.scene.camera
        panned, camera.mouse_pan = camera.mouse_pan, False
        layer = self.marks.points[side]
        begun = coordinates_at(self.viewer, layer, event.position)
        place = self.marks.seen(self.table.row(key), side)
        start = coordinates_of(layer, np.array(place))[0]
        try:
            yield
            while event.type == "mouse_move":
                here = coordinates_at(self.viewer, layer, event.position)
                shown = places_mm(layer, start + here - begun)[0]
                taken = self.marks.taken(side, shown, key)
                if taken is not None and self.table.has(key):
                    self.table.move(key, side, taken, merge=("drag", self._drags))
                yield
        finally:
            camera.mouse_pan = panned


def _inside(image: Layer, coordinates: np.ndarray) -> bool:
    return bool(np.all((coordinates >= -0.5) & (coordinates <= np.array(shape_of(image)) - 0.5)))
