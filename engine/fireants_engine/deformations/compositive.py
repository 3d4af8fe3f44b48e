"""Greedy compositive diffeomorphism: the method of thesis chapter 3."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations.base import Deformation, Folds, Pair, Views, pulled
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.ops.unfold import unfold
from fireants_engine.optimise.bound import bounded_step
from fireants_engine.transforms import Affine, Chain, Displacement, Transform, linear_part
from fireants_engine.transforms.invert import resize_displacement


@dataclass(frozen=True)
class CompositiveState:
    """u: (1, d, *spatial) voxels of the level's fixed grid; affine: fixed mm -> moving mm."""

    u: Tensor
    affine: Affine


def sigma_voxels(sigma_mm: float, floor_vox: float, grid: Grid) -> list[float]:
    """Gaussian width per array axis: sigma_mm, but at least floor_vox mean voxels, in voxels."""
    spacing = np.asarray(grid.spacing_zyx)
    sampled = spacing[np.asarray(grid.shape) > 1]
    mean = float(np.exp(np.log(sampled).mean())) if sampled.size else 1.0
    return list(max(sigma_mm, floor_vox * mean) / spacing)


@dataclass(frozen=True)
class Compositive(Deformation):
    """`phi(x) = A (x + u(x)) + t`, updated by composition `phi <- phi o (id + e v)`.

    sigma_grad_mm: Gaussian smoothing of dU/dphi; sigma_warp_mm: of u after each step. Both in
    mm; where that is less than *_floor_vox voxels of the level, the floor counts, so that
    coarse levels stay regular. Thesis 3.4 (Jacobian-free Eulerian descent), Eq. B.1.
    """

    sigma_grad_mm: float = 1.0
    sigma_warp_mm: float = 0.7
    grad_floor_vox: float = 1.0
    warp_floor_vox: float = 0.7

    def init(self, pair: Pair, initial: Transform, ctx: ExecutionContext) -> CompositiveState:
        affine = linear_part(initial)
        if affine is None:
            raise InputError(
                "A greedy stage can only start from linear transforms; put it last in the recipe."
            )
        shape = (1, pair.fixed_grid.dim, *pair.fixed_grid.shape)
        return CompositiveState(torch.zeros(shape, device=ctx.device, dtype=ctx.dtype), affine)

    def variable(self, state: CompositiveState) -> Tensor:
        return state.u

    def with_variable(self, state: CompositiveState, variable: Tensor) -> CompositiveState:
        return replace(state, u=variable)

    def views(self, pair: Pair, state: CompositiveState, ctx: ExecutionContext) -> Views:
        matrix = torch.as_tensor(
            pair.voxel_matrix(state.affine), device=ctx.device, dtype=ctx.dtype
        )
        moving, mask = pulled(pair, matrix, state.u, ctx)
        return Views(pair.fixed, moving, mask, mask)

    def precondition(
        self, pair: Pair, state: CompositiveState, grad: Tensor, ctx: ExecutionContext
    ) -> Tensor:
        # per voxel instead of per image: independent of the level's size
        density = grad * float(pair.fixed_grid.voxels)
        sigma = sigma_voxels(self.sigma_grad_mm, self.grad_floor_vox, pair.fixed_grid)
        return ctx.kernels.smooth(density, sigma)

    def retract(
        self,
        pair: Pair,
        state: CompositiveState,
        direction: Tensor,
        step: float,
        ctx: ExecutionContext,
    ) -> CompositiveState:
        u = ctx.kernels.compose(bounded_step(direction, step), state.u)
        sigma = sigma_voxels(self.sigma_warp_mm, self.warp_floor_vox, pair.fixed_grid)
        return replace(state, u=ctx.kernels.smooth(u, sigma))

    def resample(self, buffer: Tensor, power: int, old: Pair, new: Pair) -> Tensor:
        return resize_displacement(buffer, new.fixed_grid.shape, power)

    def transform(self, pair: Pair, state: CompositiveState) -> Transform:
        return Chain([Displacement(state.u, pair.fixed_grid), state.affine])

    def settle(self, state: CompositiveState) -> tuple[CompositiveState, Folds]:
        u, before, after = unfold(state.u)
        return replace(state, u=u), Folds(before - after, after, after / u[0, 0].numel())
