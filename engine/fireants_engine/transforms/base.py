"""Transform: an immutable map of physical points, fixed mm -> moving mm (LPS)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np

from fireants_engine.geometry import Grid


class Transform(ABC):
    """Maps (n, d) float64 points in LPS mm. Resampling pulls: moved(x) = moving(T(x))."""

    dim: int

    @abstractmethod
    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """Mapped points, (n, d) float64."""

    @abstractmethod
    def inverse(self) -> Transform:
        """The map moving mm -> fixed mm."""

    def then(self, other: Transform) -> Chain:
        """`other o self`: first this map, then `other`."""
        return Chain([self, other])

    def displacement(self, grid: Grid) -> np.ndarray:
        """`T(x) - x` in mm at the samples of `grid`: array (*grid.shape, d), x, y(, z) order."""
        out = np.empty((*grid.shape, self.dim), dtype=np.float32)
        step = max(1, 2_000_000 // max(1, grid.voxels // grid.shape[0]))
        for start in range(0, grid.shape[0], step):
            points = grid.points_mm(start, start + step)
            moved = self(points) - points
            out[start : start + step] = moved.reshape(-1, *grid.shape[1:], self.dim)
        return out


class Chain(Transform):
    """Several transforms, applied to points first to last; resampled once whatever its length."""

    def __init__(self, parts: Iterable[Transform]) -> None:
        flat: list[Transform] = []
        for part in parts:
            flat.extend(parts_of(part))
        if not flat:
            raise ValueError("a chain needs at least one transform")
        if len({part.dim for part in flat}) != 1:
            raise ValueError("all transforms of a chain have the same dimension")
        self.parts: tuple[Transform, ...] = tuple(flat)
        self.dim = flat[0].dim

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        for part in self.parts:
            points_mm = part(points_mm)
        return points_mm

    def inverse(self) -> Chain:
        return Chain([part.inverse() for part in reversed(self.parts)])


def parts_of(transform: Transform) -> tuple[Transform, ...]:
    """The parts of a chain in the order in which they act on points; otherwise itself."""
    return transform.parts if isinstance(transform, Chain) else (transform,)
