"""Linear deformations: few parameters, about a physical centre, in comparable units."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations.base import Deformation
from fireants_engine.deformations.motion import LinearlyPulled, Motion
from fireants_engine.deformations.pair import Pair
from fireants_engine.transforms import Affine, Chain, Displacement, Transform, split
from fireants_engine.transforms.invert import resize_displacement


@dataclass(frozen=True)
class LinearState:
    """params: (n,) in mm (rotations and strains times `radius_mm`); base: where it started.

    The map is `D(params) o base` with D about `centre_mm`, a point of the moving image. warp:
    what a deformable start does before `base`, (1, d, *spatial) voxels of the level's fixed grid.
    """

    params: Tensor
    base: Affine
    centre_mm: np.ndarray
    radius_mm: float
    warp: Tensor | None = None


def _skew(w: Tensor) -> Tensor:
    """Generator of a rotation: (1,) -> 2 x 2, (3,) -> 3 x 3."""
    zero = torch.zeros((), dtype=w.dtype, device=w.device)
    if w.numel() == 1:
        return torch.stack([zero, -w[0], w[0], zero]).view(2, 2)
    x, y, z = w
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)


@dataclass(frozen=True)
class Linear(Deformation):
    """Common to all of them: a linear map D(params) about the image's physical centre.

    translation_scale, linear_scale: factors of the step of the translation, and of all the other
    parameters (rotation, scale, shear).
    """

    translation_scale: float = 1.0
    linear_scale: float = 1.0

    @abstractmethod
    def extra(self, dim: int) -> int:
        """Number of parameters beside the translation."""

    @abstractmethod
    def linear(self, params: Tensor, dim: int) -> Tensor:
        """(dim, dim) matrix of the parameters beside the translation (radians or strains)."""

    def init(self, pair: Pair, initial: Transform, ctx: ExecutionContext) -> LinearState:
        base, warp = split(initial, pair.fixed_grid)
        dim = pair.fixed_grid.dim
        centre = base(pair.fixed_grid.centre_mm[None])[0]
        radius = float(np.sqrt((pair.fixed_grid.extent_mm**2).sum() / 12))
        params = torch.zeros(dim + self.extra(dim), device=ctx.device, dtype=torch.float32)
        u = None if warp is None else warp.u.to(ctx.device, ctx.dtype)
        return LinearState(params, base, centre, radius, u)

    def variable(self, state: LinearState) -> Tensor:
        return state.params

    def with_variable(self, state: LinearState, variable: Tensor) -> LinearState:
        return replace(state, params=variable)

    def _delta(self, state: LinearState, params: Tensor) -> Tensor:
        """Homogeneous (d+1, d+1) matrix of D(params), mm; differentiable."""
        dim = state.base.dim
        linear = self.linear(params[dim:] / state.radius_mm, dim)
        centre = torch.as_tensor(state.centre_mm, dtype=params.dtype, device=params.device)
        shift = centre + params[:dim] - linear @ centre
        last = torch.zeros(1, dim + 1, dtype=params.dtype, device=params.device)
        last[0, dim] = 1.0
        return torch.cat([torch.cat([linear, shift[:, None]], dim=1), last])

    def motion(self, pair: Pair, state: LinearState, ctx: ExecutionContext) -> Motion:
        # the few small products in float64: world origins may be far away
        wide = torch.float64 if ctx.device.type != "mps" else torch.float32
        delta = self._delta(state, state.params.to(wide))
        left = torch.as_tensor(
            pair.moving_grid.matrix("mm", "voxel"), dtype=wide, device=ctx.device
        )
        right = torch.as_tensor(
            state.base.matrix @ pair.fixed_grid.matrix("voxel", "mm"),
            dtype=wide,
            device=ctx.device,
        )
        matrix = (left @ delta @ right)[:-1].to(ctx.dtype)
        return LinearlyPulled(matrix, state.warp)

    def precondition(
        self, pair: Pair, state: LinearState, grad: Tensor, ctx: ExecutionContext
    ) -> Tensor:
        return grad

    def retract(
        self, pair: Pair, state: LinearState, direction: Tensor, step: float, ctx: ExecutionContext
    ) -> LinearState:
        half_voxel_mm = 0.5 * float(np.mean(pair.fixed_grid.spacing_mm))
        limit = direction.abs().amax().clamp(min=1.0)
        scaled = direction * (step * half_voxel_mm / limit)
        dim = pair.fixed_grid.dim
        move = torch.cat([scaled[:dim] * self.translation_scale, scaled[dim:] * self.linear_scale])
        return replace(state, params=state.params + move)

    def resample(self, buffer: Tensor, power: int, old: Pair, new: Pair) -> Tensor:
        return buffer

    def carry(self, state: LinearState, old: Pair, new: Pair) -> LinearState:
        if state.warp is None:
            return state
        return replace(state, warp=resize_displacement(state.warp, new.fixed_grid.shape))

    def transform(self, pair: Pair, state: LinearState) -> Transform:
        delta = self._delta(state, state.params.detach().cpu().double())
        affine = Affine(delta.numpy() @ state.base.matrix, pair.fixed_grid.centre_mm)
        if state.warp is None:
            return affine
        return Chain([Displacement(state.warp, pair.fixed_grid), affine])


@dataclass(frozen=True)
class Translation(Linear):
    """Translation alone."""

    def extra(self, dim: int) -> int:
        return 0

    def linear(self, params: Tensor, dim: int) -> Tensor:
        return torch.eye(dim, dtype=params.dtype, device=params.device)


@dataclass(frozen=True)
class Rigid(Linear):
    """Rotation (exponential coordinates) and translation about the centre of the field of view."""

    def extra(self, dim: int) -> int:
        return 1 if dim == 2 else 3

    def linear(self, params: Tensor, dim: int) -> Tensor:
        return torch.linalg.matrix_exp(_skew(params))


@dataclass(frozen=True)
class Similarity(Linear):
    """Rotation, translation and one scale: `exp(s) R` about the centre of the field of view."""

    def extra(self, dim: int) -> int:
        return 2 if dim == 2 else 4

    def linear(self, params: Tensor, dim: int) -> Tensor:
        return params[0].exp() * torch.linalg.matrix_exp(_skew(params[1:]))


@dataclass(frozen=True)
class AffineMap(Linear):
    """All d (d + 1) parameters: `I + P` about the centre, and translation."""

    def extra(self, dim: int) -> int:
        return dim * dim

    def linear(self, params: Tensor, dim: int) -> Tensor:
        return torch.eye(dim, dtype=params.dtype, device=params.device) + params.view(dim, dim)
