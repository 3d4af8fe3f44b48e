"""Result: the outcome of a registration, ready to apply, measure and save."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fireants_engine.geometry import Grid, Image, as_points
from fireants_engine.ops import jacobian_determinant, warp_image, warp_labels
from fireants_engine.ops.unfold import unfold
from fireants_engine.pipeline import Event, Extras, Outcome, RunOutput
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import (
    Affine,
    Chain,
    Displacement,
    Inverse,
    Transform,
    affine_factor,
    parts_of,
    sampled,
    warp_factor,
)


@dataclass(frozen=True, eq=False)
class Mapping:
    """A transform fixed mm -> moving mm with the fixed grid: what a run leaves to be used.

    known_inverse: gives the inverse where it was computed before (a saved run's file).
    """

    forward: Transform
    grid: Grid
    known_inverse: Callable[[], Transform] | None = field(default=None, kw_only=True)

    @cached_property
    def backward(self) -> Transform:
        """moving mm -> fixed mm; computed (or loaded) once, when first asked for."""
        return self.forward.inverse() if self.known_inverse is None else self.known_inverse()

    @property
    def affine(self) -> Affine:
        """The linear part, applied after the warp."""
        return affine_factor(self.forward)

    @cached_property
    def warp_field(self) -> Displacement | None:
        """The deformable part on the fixed grid (fixed mm -> fixed mm), None if there is none.

        `affine o warp_field = forward`; a warp kept on a coarser level is sampled linearly at
        the fixed grid's voxels.
        """
        return warp_factor(self.forward, self.grid)

    @property
    def inverse_warp_field(self) -> Displacement | None:
        """The inverse of `warp_field`, on the fixed grid; None if there is no warp."""
        last = parts_of(self.backward)[-1]
        if isinstance(last, Inverse) and last.nearly.grid.same_space(self.grid):
            return last.nearly
        return None if self.warp_field is None else self.warp_field.inverse().nearly

    # ------------------------------------------------------------- application
    def warp(
        self,
        image: Image,
        grid: Grid | None = None,
        *,
        interpolation: str = "linear",
        fill: float = 0.0,
    ) -> Image:
        """`image` (in the moving image's space) on the fixed grid, or on `grid`.

        interpolation: linear, nearest, bspline, sinc or label; see `ops.warp_image`.
        """
        through = sampled(self.forward)
        return warp_image(image, through, grid or self.grid, interpolation=interpolation, fill=fill)

    def warp_labels(self, labels: Image, grid: Grid | None = None) -> Image:
        """Labels of the moving image on the fixed grid: one-hot, linear, argmax."""
        return warp_labels(labels, sampled(self.forward), grid or self.grid)

    def unwarp(
        self, image: Image, grid: Grid, *, interpolation: str = "linear", fill: float = 0.0
    ) -> Image:
        """An image of the fixed space on the moving `grid`, through the inverse.

        As ITK and ANTs do with the saved inverse: linear between its samples.
        """
        return self.reversed(grid).warp(image, interpolation=interpolation, fill=fill)

    def unwarp_labels(self, labels: Image, grid: Grid) -> Image:
        """Labels of the fixed space on the moving `grid`, through the inverse."""
        return self.reversed(grid).warp_labels(labels)

    def reversed(self, grid: Grid) -> Mapping:
        """The map the other way, moving mm -> fixed mm, with the moving image's `grid`."""
        return Mapping(self.backward, grid, known_inverse=lambda: self.forward)

    def transform(self, points_mm: object) -> np.ndarray:
        """Points fixed -> moving, (n, d) LPS mm."""
        return self.forward(as_points(points_mm, self.grid.dim))

    def inverse(self, points_mm: object) -> np.ndarray:
        """Points moving -> fixed, (n, d) LPS mm, solved to 0.01 voxel of the fixed grid."""
        return self.backward(as_points(points_mm, self.grid.dim))

    def jacobian(self) -> Image:
        """Determinant of the warp (without the affine) on the fixed grid; 1 = no local change."""
        import torch

        warp = self.warp_field
        if warp is None:
            data = torch.ones((1, *self.grid.shape))
        else:
            data = jacobian_determinant(warp.u)[0].float().cpu()
        return Image(data, self.grid, name="jacobian")


def at_full_resolution(transform: Transform, grid: Grid) -> Transform:
    """`transform` as one warp on the fixed `grid`, on the CPU, then one affine.

    What files hold: so a Result in memory and the same run read from its folder agree
    everywhere, not only at the voxels of the fixed grid. Folds that sampling has made (of a
    coarser level's warp, of two half warps composed) are smoothed away.
    """
    found = Mapping(transform, grid)
    affine = Affine(found.affine.matrix, grid.centre_mm)
    warp = found.warp_field
    if warp is None:
        return affine
    return Chain([Displacement(unfold(warp.u.float().cpu())[0], grid), affine])


@dataclass(frozen=True, eq=False)
class Result(Mapping):
    """What `register` returns; see Mapping for its use, `save` for files."""

    recipe: Recipe = field(kw_only=True)
    fixed: Image = field(kw_only=True)
    moving: Image = field(kw_only=True)
    output: RunOutput = field(kw_only=True)
    execution: dict[str, Any] = field(kw_only=True)
    events: tuple[Event, ...] = field(kw_only=True)
    initial: Transform | None = field(kw_only=True, default=None)
    extras: Extras = field(kw_only=True, default_factory=Extras)
    peak_memory_mb: float = field(kw_only=True, default=float("nan"))

    @property
    def outcome(self) -> Outcome:
        return self.output.outcome

    @cached_property
    def moved(self) -> Image:
        """The moving image on the fixed grid."""
        return self.warp(self.moving)

    def save(
        self,
        folder: Any,
        *,
        moving_labels: Image | None = None,
        fixed_labels: Image | None = None,
    ) -> Any:
        """Write the run directory of the contract; see `workflows.rundir.save_run`."""
        from fireants_engine.workflows.rundir import save_run

        return save_run(self, folder, moving_labels=moving_labels, fixed_labels=fixed_labels)
