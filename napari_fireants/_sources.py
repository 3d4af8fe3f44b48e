"""Where the arrays of a picture come from: a finished run, or the newest frame of a running one.

No Qt; off the GUI thread only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from napari_fireants._layers import to_image
from napari_fireants._preview import Frames, Pictures, enlarge, grey, robust_limits, to_bytes
from napari_fireants._seen import Key, Seen


def _box(shape: Sequence[int], axis: int, index: int, around: int = 0) -> tuple[slice, ...]:
    """The plane at `index` with `around` neighbours on both sides, as far as there are any."""
    box = [slice(None)] * len(shape)
    box[axis] = slice(max(0, index - around), min(shape[axis], index + around + 1))
    return tuple(box)


def of_result(
    pictures: Pictures, mapping: Any, key: Key, spacing: Sequence[float], axes: Sequence[int]
) -> Seen:
    """A finished run, whole or on one plane. mapping: the engine's Result."""
    fixed, moved, before = pictures.fixed_bytes, pictures.moved_bytes, pictures.before_bytes
    warp, shape = mapping.warp_field, fixed.shape
    u = None if warp is None else warp.u
    if key is None:
        return Seen(fixed, moved, spacing, axes, u, before=lambda: before, mapping=mapping)
    box = _box(shape, *key)
    if u is not None:
        u = u[(slice(None), slice(None), *_box(shape, *key, around=1))]
    return Seen(
        fixed[box], moved[box], spacing, axes, u, key, min(key[1], 1), shape, shape,
        lambda: before[box], mapping,
    )  # fmt: skip


class Standing:
    """What a run leaves as it is, made when first asked for: the fixed image and the moving one
    before, as bytes.

    job: the run's. Any thread.
    """

    def __init__(self, job: Any) -> None:
        self._job = job
        self._lock = threading.Lock()
        self._fixed: np.ndarray | None = None
        self._before: tuple[Any, np.ndarray] | None = None
        self._moving: Any = None
        self.limits = (0.0, 1.0)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._job.fixed.size[::-1]

    @property
    def spacing(self) -> tuple[float, ...]:
        return self._job.fixed.spacing_mm[::-1]

    @property
    def ready(self) -> bool:
        """`fixed` answers at once."""
        return self._fixed is not None

    def fixed(self) -> np.ndarray:
        """The whole fixed image; reads lazy data."""
        with self._lock:
            if self._fixed is None:
                values = grey(np.asarray(self._job.fixed.data), len(self.shape))
                self._fixed = to_bytes(values, robust_limits(values))
                moving = grey(np.asarray(self._job.moving.data), len(self._job.moving.size))
                self.limits = robust_limits(moving)
            return self._fixed

    def before(self, grid: Any) -> np.ndarray:
        """The moving image on `grid` (the engine's), not registered."""
        from fireants_engine.ops import warp_image
        from fireants_engine.transforms import Affine

        self.fixed()
        with self._lock:
            if self._before is None or self._before[0] != (grid.size, grid.origin_mm):
                if self._moving is None:
                    self._moving = to_image(self._job.moving)
                still = warp_image(self._moving, Affine.identity(grid.dim), grid)
                values = grey(still.numpy(), grid.dim)
                self._before = (grid.size, grid.origin_mm), to_bytes(values, self.limits)
            return self._before[1]

    @property
    def grid(self) -> Any:
        from fireants_engine import Grid

        fixed = self._job.fixed
        return Grid(fixed.size, fixed.spacing_mm, fixed.origin_mm, fixed.direction)


def of_frames(
    frames: Frames, standing: Standing, key: Key, shrink: float, axes: Sequence[int]
) -> Seen:
    """The newest frame of a run: its plane, or the whole at `shrink`."""
    shape, spacing = standing.shape, standing.spacing
    fixed, warp = standing.fixed(), frames.warps.get(key)
    u = None if warp is None else warp.u
    moved = to_bytes(frames.images[key], standing.limits)
    if key is not None:
        box = _box(shape, *key)
        plane = lambda: standing.before(standing.grid.plane(*key))  # noqa: E731
        return Seen(
            fixed[box], np.expand_dims(moved, key[0]), spacing, axes, u, key, 1, shape, shape, plane
        )
    coarse = shape if u is None else tuple(u.shape[2:])
    if u is None and shrink > 1:
        coarse = tuple(max(1, round(n / shrink)) for n in shape)
    wide = tuple(s * n / k for s, n, k in zip(spacing, shape, coarse, strict=True))
    before: Callable[[], np.ndarray] = lambda: standing.before(  # noqa: E731
        standing.grid.resized(coarse[::-1])
    )
    return Seen(
        enlarge(fixed, coarse), enlarge(moved, coarse), wide, axes, u, None, 0, coarse, shape,
        before,
    )  # fmt: skip
