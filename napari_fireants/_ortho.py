"""Three planes through one voxel of the fixed image, and what stands there. No widgets.

Planes are turned as radiologists look at them; on the GUI thread, since a plane takes a moment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from psygnal import Signal

from napari_fireants._extras import shape_of
from napari_fireants._latest import Latest
from napari_fireants._layers import data_of
from napari_fireants._looking import Looking
from napari_fireants._preview import Wanted, grey, to_bytes

MODES = ("Overlay", "Blend", "Fixed", "Moving")


@dataclass(frozen=True)
class Here:
    """What stands at the cursor; None where it is not known (yet)."""

    point_mm: tuple[float, ...]
    fixed: float | None = None
    moving: float | None = None
    displacement_mm: float | None = None
    jacobian: float | None = None

    @property
    def sentence(self) -> str:
        place = ", ".join(f"{x:.1f}" for x in self.point_mm)
        both = ("fixed", self.fixed), ("moving", self.moving)
        lines = [f"{name} {_short(value)}" for name, value in both if value is not None]
        lines.append(f"at ({place}) mm LPS")
        if self.displacement_mm is not None:
            lines.append(f"displacement {self.displacement_mm:.2g} mm")
        if self.jacobian is not None:
            lines.append(f"Jacobian {self.jacobian:.2f}")
        return "\n".join(lines)


def _short(value: float) -> str:
    """Four digits that count, without exponents where they can be avoided."""
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.4g}"


class Ortho:
    """The cursor, the planes through it, and their pictures.

    changed: something has to be drawn again. active: whether anybody looks; a running registration
    is only then asked for three planes.
    """

    changed = Signal()

    def __init__(self, looking: Looking) -> None:
        self.looking, self.scene = looking, looking.scene
        self.mode = MODES[0]
        self.active = False
        self.cursor: tuple[int, ...] = ()
        self._grid: Any = None
        self._latest = Latest()
        self._following = False
        self.scene.viewer.dims.events.current_step.connect(self._follow)
        looking.ready.connect(self._on_ready)

    # ------------------------------------------------------------ what it is
    @property
    def shape(self) -> tuple[int, ...]:
        return () if self._grid is None else self._grid.shape

    @property
    def axes(self) -> list[int | None]:
        """Array axis across each view; one view of a 2D image."""
        return [None] if len(self.shape) == 2 else [*range(len(self.shape))]

    def plane(self, axis: int | None) -> Any:
        """The engine's Plane through the cursor."""
        from fireants_engine.geometry.planes import plane_of

        return plane_of(self._grid, axis, 0 if axis is None else self.cursor[axis])

    def wish(self, wanted: Wanted) -> Wanted:
        """The planes of a running registration that are looked at here."""
        if not self.active or len(self.cursor) != 3:
            return wanted
        mine = tuple(key for key in enumerate(self.cursor) if key not in wanted.planes)
        return replace(wanted, planes=wanted.planes + mine, warp=True)

    # ------------------------------------------------------------ commands
    def move(self, voxel: tuple[float, ...]) -> None:
        """Put the cursor at a voxel; napari's slices follow."""
        inside = zip(voxel, self.shape, strict=True)
        self.cursor = tuple(min(max(round(x), 0), n - 1) for x, n in inside)
        self._following = True
        try:
            self.scene.go(self.cursor)
        finally:
            self._following = False
        self.changed.emit()

    def choose(self, mode: str) -> None:
        self.mode = mode
        self.changed.emit()

    def begin(self) -> None:
        """Somebody looks from now on."""
        self.active = True
        self._on_ready(self.looking.possible)

    # ------------------------------------------------------------ what happens
    def _on_ready(self, ready: bool) -> None:
        if not self.active:
            return
        if not ready:
            self._grid = None
            self.changed.emit()
            return
        running = self.looking.standing
        if self.looking.running and running is not None and not running.ready:
            self._latest.ask(running.fixed, lambda _: self._on_ready(True), lambda _: None)
            return
        product = self.looking.session.product
        grid = running.grid if self.looking.running else product.result.grid
        if self._grid is None or self._grid.shape != grid.shape:
            self.cursor = tuple(n // 2 for n in grid.shape)
        self._grid = grid
        self._follow()
        self.changed.emit()

    def _follow(self, *_: object) -> None:
        if self._following or not self.active or self._grid is None:
            return
        key = self.looking.key
        if key is not None and self.cursor[key[0]] != key[1]:
            cursor = list(self.cursor)
            cursor[key[0]] = key[1]
            self.cursor = tuple(cursor)
            self.changed.emit()

    # ------------------------------------------------------------ pictures
    def picture(self, axis: int | None) -> np.ndarray | None:
        """The plane across `axis` as displayed, (rows, columns, 3) bytes; None without anything."""
        if self._grid is None or not self.looking.possible:
            return None
        fixed, moved = self._pair(axis)
        plane = self.plane(axis)
        fixed = plane.show(fixed)
        moved = np.zeros_like(fixed) if moved is None else plane.show(moved)
        return composite(self.mode, fixed, moved, self.scene.colours)

    def _cut(self, volume: np.ndarray, axis: int | None) -> np.ndarray:
        return volume if axis is None else volume.take(self.cursor[axis], axis)

    def _pair(self, axis: int | None) -> tuple[np.ndarray, np.ndarray | None]:
        looking = self.looking
        if not looking.running:
            pictures = looking.session.product.pictures
            both = pictures.fixed_bytes, pictures.moved_bytes
            return self._cut(both[0], axis), self._cut(both[1], axis)
        fixed = self._cut(looking.standing.fixed(), axis)
        plane = looking.frames.images.get(None if axis is None else (axis, self.cursor[axis]))
        return fixed, None if plane is None else to_bytes(plane, looking.standing.limits)

    # ------------------------------------------------------------ the readout
    def here(self) -> Here | None:
        """What stands at the cursor."""
        if self._grid is None or not self.looking.possible:
            return None
        from fireants_engine.geometry import apply_matrix

        point = apply_matrix(self._grid.matrix("voxel", "mm"), np.array([self.cursor], float))[0]
        layer = self.scene.fixed
        data = data_of(layer)
        found = Here(tuple(float(x) for x in point))
        if shape_of(layer) == self.shape:  # nobody has put other data into the layer
            found = replace(found, fixed=float(np.mean(np.asarray(data[self.cursor], float))))
        return self._running(found) if self.looking.running else self._finished(found)

    def _finished(self, found: Here) -> Here:
        product = self.looking.session.product
        moved = product.pictures.moved[self.cursor]
        found = replace(found, moving=float(np.mean(np.asarray(moved, float))))
        warp = product.result.warp_field
        return found if warp is None else self._warp(found, warp.u, self.cursor)

    def _running(self, found: Here) -> Here:
        frames = self.looking.frames
        if len(self.cursor) == 2:
            key, rest = None, self.cursor
        else:
            key, rest = (0, self.cursor[0]), self.cursor[1:]
        image, warp = frames.images.get(key), frames.warps.get(key)
        if image is not None:
            found = replace(found, moving=float(grey(image, len(rest))[rest]))
        if warp is None:
            return found
        return self._warp(found, warp.u, self.cursor if key is None else (1, *rest))

    def _warp(self, found: Here, u: Any, place: tuple[int, ...]) -> Here:
        """Displacement and Jacobian at `place` of the tensor u (1, d, *shape)."""
        from fireants_engine.ops import jacobian_determinant

        box = [slice(max(0, k - 1), k + 2) for k in place]
        near = u[(slice(None), slice(None), *box)]
        middle = tuple(min(k, 1) for k in place)
        way = near[(0, slice(None), *middle)].numpy() * np.asarray(self._grid.spacing_zyx)
        jacobian = float(jacobian_determinant(near)[(0, 0, *middle)])
        return replace(found, displacement_mm=float(np.linalg.norm(way)), jacobian=jacobian)


def composite(
    mode: str, fixed: np.ndarray, moved: np.ndarray, colours: tuple[str, str]
) -> np.ndarray:
    """Two planes of bytes as one picture (rows, columns, 3)."""
    if mode == "Fixed":
        return np.repeat(fixed[..., None], 3, axis=-1)
    if mode == "Moving":
        return np.repeat(moved[..., None], 3, axis=-1)
    if mode == "Blend":
        mean = (fixed.astype(np.uint16) + moved) // 2
        return np.repeat(mean[..., None].astype(np.uint8), 3, axis=-1)
    parts = [
        plane[..., None] * colour_of(name)
        for plane, name in zip((fixed, moved), colours, strict=True)
    ]
    return np.clip(parts[0] + parts[1], 0, 255).astype(np.uint8)


def colour_of(colormap: str) -> np.ndarray:
    """The brightest colour of a napari colour map, (3,) float32 from 0 to 1."""
    from napari.utils.colormaps import ensure_colormap

    return np.asarray(ensure_colormap(colormap).colors[-1][:3], np.float32)
