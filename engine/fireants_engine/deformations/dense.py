"""What all dense deformations share: a vector per voxel, smoothed in mm, restricted by axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations.base import Deformation
from fireants_engine.deformations.pair import Pair
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.kernels import Direction
from fireants_engine.ops.jacobian import jacobian_transposed
from fireants_engine.optimise.bound import step_factors
from fireants_engine.transforms import Affine, Transform, split
from fireants_engine.transforms.invert import resize_displacement


@dataclass(frozen=True)
class DenseState:
    """u: (k N, d, *spatial) voxels of the level's fixed grid; affines: fixed mm -> moving mm, N."""

    u: Tensor
    affines: tuple[Affine, ...]


State = TypeVar("State", bound=DenseState)


def sigma_voxels(sigma_mm: float, floor_vox: float, grid: Grid) -> list[float]:
    """Smoothing width per array axis: sigma_mm, but at least floor_vox mean voxels, in voxels."""
    spacing = np.asarray(grid.spacing_zyx)
    sampled = spacing[np.asarray(grid.shape) > 1]
    mean = float(np.exp(np.log(sampled).mean())) if sampled.size else 1.0
    return list(max(sigma_mm, floor_vox * mean) / spacing)


@dataclass(frozen=True)
class Dense(Deformation):
    """A displacement (or velocity) per voxel of the level.

    sigma_grad_mm: smoothing of dU/dphi; sigma_warp_mm: of u after each step. Both in
    mm; where that is less than *_floor_vox voxels of the level, the floor counts, so that
    coarse levels stay regular. window: `gaussian`, or a `box` of the same variance.
    axis_weights: factor of the update along each *voxel* axis i, j(, k) of the fixed image: 1
    free, 0 held; () for all free. Whatever the image's direction, a held axis stays exactly
    still (LESSONS 19). Raises InputError in `init` when they do not fit the image.
    """

    sigma_grad_mm: float = 1.0
    sigma_warp_mm: float = 0.7
    grad_floor_vox: float = 1.0
    warp_floor_vox: float = 0.7
    axis_weights: tuple[float, ...] = ()
    window: str = "gaussian"

    def start(self, pair: Pair, initial: Transform, ctx: ExecutionContext) -> tuple[Tensor, Affine]:
        """`initial` as (u, affine) on the level's grid: `A (x + u(x)) + t`."""
        grid = pair.fixed_grid
        if self.axis_weights and len(self.axis_weights) != grid.dim:
            raise InputError(
                f"axis_weights has {len(self.axis_weights)} numbers but the images are "
                f"{grid.dim}D; give one per voxel axis."
            )
        affine, warp = split(initial, grid)
        if warp is None:
            u = torch.zeros((1, grid.dim, *grid.shape), device=ctx.device, dtype=ctx.dtype)
        else:
            u = warp.u.to(ctx.device, ctx.dtype, copy=True)
        return u, affine

    def variable(self, state: DenseState) -> Tensor:
        return state.u

    def with_variable(self, state: State, variable: Tensor) -> State:
        return replace(state, u=variable)

    def realigned(self, state: State, change: Callable[[Affine], Affine]) -> State:
        return replace(state, affines=tuple(change(affine) for affine in state.affines))

    def matrix(self, pair: Pair, state: DenseState, ctx: ExecutionContext) -> Tensor:
        """(N, d, d+1): fixed voxel -> moving voxel through the affine part."""
        return pair.voxel_matrices(state.affines, ctx)

    def per_axis(self, like: Tensor) -> Tensor | None:
        """`axis_weights` in channel order, broadcastable to u; None where all are free."""
        if not self.axis_weights:
            return None
        weights = torch.tensor(self.axis_weights[::-1], device=like.device, dtype=like.dtype)
        return weights.view(1, -1, *(1,) * (like.ndim - 2))

    def precondition(
        self, pair: Pair, state: DenseState, grad: Tensor, ctx: ExecutionContext
    ) -> Tensor:
        weights = self.per_axis(grad)
        if weights is not None:
            grad = grad * (weights > 0)
        sigma = sigma_voxels(self.sigma_grad_mm, self.grad_floor_vox, pair.fixed_grid)
        # per voxel instead of per image: independent of the level's size
        return ctx.kernels.smooth(grad, sigma, float(pair.fixed_grid.voxels), self.window)

    def bounded(self, way: Direction, step: float, pairs: int) -> tuple[Tensor, Tensor]:
        """A direction and the factor (k N,) of each row within the step bound.

        Axes are weighted here, after the descent, which would undo a factor.
        """
        weights = self.per_axis(way.values)
        if weights is not None:
            way = Direction(way.values * weights, way.peaks * weights.view(1, -1))
        return way.values, step_factors(way.peaks, step, pairs)

    def smoothed(self, pair: Pair, u: Tensor, ctx: ExecutionContext) -> Tensor:
        """The warp smoothing."""
        sigma = sigma_voxels(self.sigma_warp_mm, self.warp_floor_vox, pair.fixed_grid)
        return ctx.kernels.smooth(u, sigma, window=self.window)

    def resample(self, buffer: Tensor, power: int, old: Pair, new: Pair) -> Tensor:
        return resize_displacement(buffer, new.fixed_grid.shape, power)


@dataclass(frozen=True)
class Composed(Dense):
    """Dense deformations that are updated by composition.

    jacobian_transpose: multiply dU/dphi by J(phi)^T first, the steepest descent of the Eulerian
    differential (thesis 3.4); without it the descent is Jacobian-free.
    """

    jacobian_transpose: bool = False

    def precondition(
        self, pair: Pair, state: DenseState, grad: Tensor, ctx: ExecutionContext
    ) -> Tensor:
        if self.jacobian_transpose:
            parts = zip(state.u.split(1), grad.split(1), strict=True)
            grad = torch.cat([jacobian_transposed(u, g) for u, g in parts])
        return super().precondition(pair, state, grad, ctx)
