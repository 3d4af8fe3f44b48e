"""The order of a grid's axes: the same samples, stored the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from fireants_engine.geometry.grid import Grid


def nearest_order(direction: np.ndarray, to: np.ndarray | None = None) -> tuple[int, ...]:
    """For each axis of `to` (columns; default x, y(, z)) the axis of `direction` nearest to it.

    Signs do not count. Of orders that are equally near the present one is kept.
    """
    dim = len(direction)
    near = np.abs((np.eye(dim) if to is None else np.asarray(to)).T @ np.asarray(direction))

    def score(order: tuple[int, ...]) -> float:
        kept = 1e-6 if order == tuple(range(dim)) else 0.0
        return float(near[np.arange(dim), list(order)].sum()) + kept

    return max(permutations(range(dim)), key=score)


def reordered(grid: Grid, order: Sequence[int]) -> Grid:
    """The grid whose axis k (x, y(, z) order) is axis order[k] of `grid`: the same samples."""
    axes = list(order)
    return Grid(
        tuple(grid.size[k] for k in axes),
        tuple(grid.spacing_mm[k] for k in axes),
        grid.origin_mm,
        grid.direction[:, axes],
    )


def array_axes(order: Sequence[int]) -> tuple[int, ...]:
    """What `numpy.transpose` needs to bring an array of a grid onto `reordered(grid, order)`."""
    last = len(order) - 1
    return tuple(last - order[last - axis] for axis in range(len(order)))
