"""A stack of sections: each slice of the fixed image has an in-plane linear map of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations.base import Deformation
from fireants_engine.deformations.linear import SCALES
from fireants_engine.deformations.motion import LinearlyPulled, Motion
from fireants_engine.deformations.pair import Pair
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.kernels import Direction
from fireants_engine.kernels.reference import scaled
from fireants_engine.optimise.bound import step_factors
from fireants_engine.transforms import Affine, Chain, Displacement, Transform, split
from fireants_engine.transforms.invert import resize_displacement


@dataclass(frozen=True)
class SlicewiseState:
    """params: (N, n, S) in mm (rotations and strains times a radius), S slices of the level.

    affines: fixed mm -> moving mm, N; radii_mm: N; warp: what a deformable start does before,
    (N, 3, *spatial) voxels of the level's fixed grid.
    """

    params: Tensor
    affines: tuple[Affine, ...]
    radii_mm: tuple[float, ...]
    warp: Tensor | None = None


@dataclass(frozen=True)
class SlicewisePulled(LinearlyPulled):
    """The same as one warp, which regularisers may look at: few parameters per slice, so what
    lies beyond the moving image's field of view does not count."""

    @property
    def warps(self) -> tuple[Tensor, ...]:
        assert self.u is not None
        return (self.u,)


@dataclass(frozen=True)
class Slicewise(Deformation):
    """`phi(x) = A S_z(W(x))`: S_z is a rigid or affine map within slice z of the fixed image.

    The slices are stacked along the last voxel axis k (array axis 0), which S leaves alone; S_z is
    about the slice's centre, in mm along the voxel axes i and j:

        model rigid    R(a) (p - c) + c + t        3 numbers: t_i, t_j, a times a radius
        model affine   (I + P) (p - c) + c + t     6 numbers: t_i, t_j, P times a radius

    A and W: linear part and warp of the start, W the identity where that is linear. z is the slice
    in which x lies. sigma_slices: smoothing of each update along the stack, in slices of the fixed
    image: 0 each slice on its own. translation_scale, linear_scale: factors of the step, as in
    `linear`. No update moves a parameter of any slice by more than half a voxel times the step.
    Raises InputError in `init` for 2D images. Slice by slice as in Ourselin et al., Image Vis
    Comput 19 (2001), but against a volume, so that the stack keeps its shape.
    """

    model: Literal["rigid", "affine"] = "rigid"
    sigma_slices: float = 0.0
    translation_scale: float = 1.0
    linear_scale: float = 1.0

    def init(self, pair: Pair, initial: Transform, ctx: ExecutionContext) -> SlicewiseState:
        grid = pair.fixed_grid
        if grid.dim != 3:
            raise InputError(
                f"slicewise: the fixed image is {grid.dim}D; give a 3D stack of sections, or use "
                "a rigid or affine stage for a single section."
            )
        affine, warp = split(initial, grid)
        count = 3 if self.model == "rigid" else 6
        params = torch.zeros(1, count, grid.shape[0], device=ctx.device, dtype=torch.float32)
        radius = float(np.sqrt((grid.extent_mm[:2] ** 2).sum() / 12))
        u = None if warp is None else warp.u.to(ctx.device, ctx.dtype)
        return SlicewiseState(params, (affine,), (radius,), u)

    def variable(self, state: SlicewiseState) -> Tensor:
        return state.params

    def with_variable(self, state: SlicewiseState, variable: Tensor) -> SlicewiseState:
        return replace(state, params=variable)

    def linear(self, state: SlicewiseState) -> Tensor:
        """(N, S, 2, 2) matrices of every slice along the voxel axes i, j; differentiable."""
        values = state.params[:, 2:].movedim(1, 2)
        values = values / values.new_tensor(state.radii_mm)[:, None, None]
        if self.model == "affine":
            return values.unflatten(2, (2, 2)) + torch.eye(2, device=values.device)
        c, s = values[..., 0].cos(), values[..., 0].sin()
        return torch.stack([c, -s, s, c], -1).unflatten(2, (2, 2))

    def field(self, state: SlicewiseState, grid: Grid, dtype: torch.dtype) -> Tensor:
        """(N, 3, *spatial): `S_z(W(x)) - x` in voxels of `grid`; differentiable.

        One volume of vectors: the columns 1, i, j of a slice times the numbers of every slice.
        """
        i, j, _ = grid.spacing_mm
        step = state.params.new_tensor([i, j])
        off = (self.linear(state) - torch.eye(2, device=step.device)) * step / step[:, None]
        shift = state.params[:, :2].movedim(1, 2) / step
        # rows z (held), j, i and columns 1, j, i, as arrays are stored
        rows = torch.cat([shift[..., None], off.flip(-1)], -1).flip(-2)
        rows = F.pad(rows, (0, 0, 1, 0)).movedim(2, 1).to(dtype)
        _, rows_j, rows_i = grid.shape
        like = {"device": rows.device, "dtype": dtype}
        y = torch.arange(rows_j, **like) - (rows_j - 1) / 2
        x = torch.arange(rows_i, **like) - (rows_i - 1) / 2
        ones = torch.ones(rows_j, rows_i, **like)
        columns = torch.stack([ones, ones * y[:, None], ones * x]).flatten(1)
        u = (rows @ columns).unflatten(3, (rows_j, rows_i))
        if state.warp is None:
            return u
        turned = torch.einsum("ncsk,nksyx->ncsyx", rows[..., 1:], state.warp[:, 1:])
        return u + state.warp + turned

    def motion(self, pair: Pair, state: SlicewiseState, ctx: ExecutionContext) -> Motion:
        matrix = pair.voxel_matrices(state.affines, ctx)
        return SlicewisePulled(matrix, self.field(state, pair.fixed_grid, ctx.dtype))

    def precondition(
        self, pair: Pair, state: SlicewiseState, grad: Tensor, ctx: ExecutionContext
    ) -> Tensor:
        grid = pair.fixed_grid
        whole = pair.zooms_mm[0][0] if pair.zooms_mm else grid.spacing_zyx[0]
        sigma = self.sigma_slices * whole / grid.spacing_zyx[0]
        # per slice instead of per stack: independent of how many the level has
        smooth = ctx.kernels.smooth(grad[..., None], [sigma, 0.0], float(grid.shape[0]))
        return smooth[..., 0]

    def retract(
        self, pair: Pair, state: SlicewiseState, way: Direction, step: float, ctx: ExecutionContext
    ) -> SlicewiseState:
        voxel_mm = float(np.mean(pair.fixed_grid.spacing_mm[:2]))
        factors = step_factors(way.peaks, step, len(state.affines))
        moves = scaled(way.values, voxel_mm * factors)
        shift, linear = moves[:, :2], moves[:, 2:]
        move = torch.cat([shift * self.translation_scale, linear * self.linear_scale], dim=1)
        return replace(state, params=state.params + move)

    def resample(self, buffer: Tensor, power: int, old: Pair, new: Pair) -> Tensor:
        """Linear along the stack; mm and gradients per slice stay what they are."""
        size = new.fixed_grid.shape[0]
        if size == buffer.shape[2]:
            return buffer
        return F.interpolate(buffer, size=size, mode="linear", align_corners=False)

    def carry(self, state: SlicewiseState, old: Pair, new: Pair) -> SlicewiseState:
        state = super().carry(state, old, new)
        if state.warp is None:
            return state
        return replace(state, warp=resize_displacement(state.warp, new.fixed_grid.shape))

    def realigned(
        self, state: SlicewiseState, change: Callable[[Affine], Affine]
    ) -> SlicewiseState:
        return replace(state, affines=tuple(change(affine) for affine in state.affines))

    def problem(self, state: SlicewiseState) -> str | None:
        """A slice that is mirrored, or scaled beyond what a linear stage may come to."""
        linear = self.linear(state)[0].detach().cpu().double().numpy()
        for number, one in enumerate(linear, start=1):
            if np.linalg.det(one) <= 0:
                return f"mirror slice {number}"
            scales = np.linalg.svd(one, compute_uv=False)
            if scales.min() < SCALES[0] or scales.max() > SCALES[1]:
                return (
                    f"scale slice {number} by {scales.min():.2g} to {scales.max():.2g} along its "
                    "directions"
                )
        return None

    def transform(self, pair: Pair, state: SlicewiseState) -> Transform:
        u = self.field(state, pair.fixed_grid, torch.float32).detach()
        return Chain([Displacement(u, pair.fixed_grid), *state.affines])
