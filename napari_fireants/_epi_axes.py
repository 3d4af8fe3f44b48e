"""How a layer's samples lie in its file. No Qt, no torch.

Phase encoding is told in voxel axes i, j, k of the *stored* image. Readers may show it with its
axes in another order or running the other way, so what is computed is computed as stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fireants_engine.geometry.orientation import array_axes, nearest_order, reordered

if TYPE_CHECKING:
    from fireants_engine import Grid

ENDS = (("R", "L"), ("A", "P"), ("I", "S"))
"""Where an axis of the world (LPS) begins and ends."""
_CLEAR = 0.8
"""Cosine to an axis of the world from which on a direction is called by it."""


@dataclass(frozen=True)
class Axes:
    """Axis k of the file (0 for i) is axis order[k] of the layer's grid (x, y(, z)).

    turned: whether it runs the other way.
    """

    order: tuple[int, ...]
    turned: tuple[bool, ...]

    @classmethod
    def same(cls, dim: int) -> Axes:
        """A layer that is shown as it is stored, or that has no file: i, j, k are its x, y, z."""
        return cls(tuple(range(dim)), (False,) * dim)

    @classmethod
    def between(cls, stored: np.ndarray, shown: np.ndarray) -> Axes:
        """From the directions (columns, LPS) of the file's and of the layer's axes."""
        order = nearest_order(shown, stored)
        along = [float(stored[:, k] @ shown[:, axis]) for k, axis in enumerate(order)]
        return cls(order, tuple(cosine < 0 for cosine in along))

    @property
    def dim(self) -> int:
        return len(self.order)

    @property
    def _flipped(self) -> tuple[int, ...]:
        """Array axes of the file that run the other way."""
        return tuple(self.dim - 1 - k for k, turned in enumerate(self.turned) if turned)

    def stored(self, array: np.ndarray) -> np.ndarray:
        """An array of the layer as it lies in the file; a view."""
        return np.flip(np.transpose(array, array_axes(self.order)), self._flipped)

    def shown(self, array: np.ndarray) -> np.ndarray:
        """An array of the file as it lies in the layer; a view."""
        back = np.argsort(array_axes(self.order))
        return np.transpose(np.flip(array, self._flipped), back)

    def grid(self, shown: Grid) -> Grid:
        """The layer's grid as the file has it: the same samples."""
        from fireants_engine.geometry.grid import Grid

        grid = reordered(shown, self.order)
        direction, origin = np.array(grid.direction), np.array(grid.origin_mm)
        for k, turned in enumerate(self.turned):
            if turned:
                origin = origin + direction[:, k] * grid.spacing_mm[k] * (grid.size[k] - 1)
                direction[:, k] = -direction[:, k]
        return Grid(grid.size, grid.spacing_mm, tuple(origin), direction)

    def along(self, axis: int) -> tuple[int, int]:
        """Array axis of the layer, and 1 or -1, in which the file's axis (0 for i) runs."""
        return self.dim - 1 - self.order[axis], -1 if self.turned[axis] else 1

    def plane(self, key: tuple[int, int], shape: tuple[int, ...]) -> tuple[int, int]:
        """A plane (array axis, index) of a layer of `shape`, in the file's array."""
        axis = array_axes(self.order).index(key[0])
        last = shape[key[0]] - 1
        return axis, last - key[1] if axis in self._flipped else key[1]

    def shown_plane(self, plane: np.ndarray, key: tuple[int, int]) -> np.ndarray:
        """A plane of the file's array, without its axis, as it lies in the layer at `key`."""
        axis = array_axes(self.order).index(key[0])
        return self.shown(np.expand_dims(plane, axis)).squeeze(key[0])


def way_of(vector: np.ndarray) -> str:
    """A direction (LPS) in words, as A → P; empty where it is oblique to all axes."""
    along = np.asarray(vector) / np.linalg.norm(vector)
    axis = int(np.argmax(np.abs(along)))
    if abs(along[axis]) < _CLEAR:
        return ""
    begin, end = ENDS[axis] if along[axis] > 0 else ENDS[axis][::-1]
    return f"{begin} → {end}"
