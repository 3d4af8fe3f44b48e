"""Planes of a grid as people look at them: radiological, feet down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fireants_engine.geometry.grid import Grid

PLANES = ("sagittal", "coronal", "axial")
"""Names of the planes whose normals are the world axes x, y and z."""
Side = Literal["left", "right", "anterior", "posterior", "inferior", "superior"]
SIDES: tuple[tuple[Side, Side], ...] = (
    ("left", "right"), ("posterior", "anterior"), ("superior", "inferior"),
)  # fmt: skip
"""From which side a plane is seen when its x cross y points along -x, +x, -y, ... of LPS."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of a grid and how to turn it for display.

    axis, index: in array order, axis None for the whole of a 2D grid; grid: that of its samples;
    flip, transpose: what `show` does; aspect: height of a displayed sample over its width.
    """

    title: str
    axis: int | None
    index: int
    grid: Grid
    flip: tuple[bool, bool]
    transpose: bool
    aspect: float

    def show(self, array: np.ndarray) -> np.ndarray:
        """A (rows, columns[, 3]) array as displayed."""
        for k, turned in enumerate(self.flip):
            if turned:
                array = np.flip(array, k)
        return np.swapaxes(array, 0, 1) if self.transpose else array

    def cut(self, array: np.ndarray) -> np.ndarray:
        """This plane of a volume in array order, as displayed."""
        return self.show(array if self.axis is None else np.take(array, self.index, self.axis))

    def shown_at(self, place: tuple[float, float], shape: tuple[int, int]) -> tuple[float, float]:
        """Where `place` of the cut (array order, of `shape`) is displayed: row, column."""
        out = [
            n - 1 - p if turned else p for p, n, turned in zip(place, shape, self.flip, strict=True)
        ]
        return (out[1], out[0]) if self.transpose else (out[0], out[1])

    def place_of(self, shown: tuple[float, float], shape: tuple[int, int]) -> tuple[float, float]:
        """The reverse of `shown_at`."""
        row, column = shown[::-1] if self.transpose else shown
        out = [
            n - 1 - p if turned else p
            for p, n, turned in zip((row, column), shape, self.flip, strict=True)
        ]
        return out[0], out[1]


def plane_of(grid: Grid, axis: int | None, index: int) -> Plane:
    """Rows downwards to posterior (or feet), columns rightwards to the subject's left."""
    rest = [a for a in range(grid.dim) if a != axis]
    worlds, flips = [], []
    for array_axis in rest:
        column = grid.direction[:, grid.dim - 1 - array_axis]
        world = int(np.abs(column).argmax())
        worlds.append(world)
        flips.append(bool((column[world] < 0) != (world == 2)))
    transpose = worlds[1] == 2 or (worlds[0] == 0 and worlds[1] == 1)
    spacing = [grid.spacing_zyx[a] for a in rest]
    aspect = spacing[0] / spacing[1]
    if axis is None:
        title, plane = "", grid
    else:
        normal = grid.direction[:, grid.dim - 1 - axis]
        title = f"{PLANES[int(np.abs(normal).argmax())]} {index}"
        plane = grid.plane(axis, index)
    return Plane(
        title, axis, index, plane, (flips[0], flips[1]), transpose,
        1 / aspect if transpose else aspect,
    )  # fmt: skip


def turn_deg_of(linear: np.ndarray) -> float:
    """Degrees of the rotation (2, 2) nearest to a linear map; of a mirroring one after x is
    negated."""
    if np.linalg.det(linear) < 0:
        linear = linear @ np.diag([-1.0, 1.0])
    u, _, vt = np.linalg.svd(linear)
    turn = u @ vt
    return float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))
