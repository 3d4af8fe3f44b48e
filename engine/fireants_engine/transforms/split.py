"""A transform as one warp followed by one affine map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fireants_engine.geometry import Grid
from fireants_engine.transforms.base import Transform, parts_of
from fireants_engine.transforms.linear import Affine, affine_factor

if TYPE_CHECKING:
    from fireants_engine.transforms.displacement import Displacement


def warp_factor(transform: Transform, grid: Grid) -> Displacement | None:
    """The warp W on `grid` with `affine_factor o W = transform`, None where all is affine.

    A single warp that acts first is taken as it is (on `grid`, or on another size of the same
    field of view: resized linearly, thesis 3.5); anything else is sampled at the grid's voxels.
    """
    parts = parts_of(transform)
    warps = [part for part in parts if not isinstance(part, Affine)]
    if not warps:
        return None
    from fireants_engine.transforms.displacement import Displacement
    from fireants_engine.transforms.invert import resize_displacement

    first = parts[0]
    if len(warps) == 1 and warps[0] is first and isinstance(first, Displacement):
        if first.grid.same_space(grid):
            return first
        if first.grid.same_space(grid.resized(first.grid.size)):  # a pyramid's level
            return Displacement(resize_displacement(first.u, grid.shape), grid)
    alone = transform.then(affine_factor(transform).inverse())
    return Displacement.from_mm(alone.displacement(grid), grid)


def split(transform: Transform, grid: Grid) -> tuple[Affine, Displacement | None]:
    """`affine_factor` and `warp_factor`: `transform = affine o warp` at the voxels of `grid`."""
    return affine_factor(transform), warp_factor(transform, grid)
