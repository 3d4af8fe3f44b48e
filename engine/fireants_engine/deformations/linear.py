"""Linear deformations: few parameters, about a physical centre, in comparable units."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations.base import Deformation
from fireants_engine.deformations.motion import LinearlyPulled, Motion
from fireants_engine.deformations.pair import Pair
from fireants_engine.kernels import Direction
from fireants_engine.kernels.reference import scaled
from fireants_engine.optimise.bound import step_factors
from fireants_engine.transforms import Affine, Chain, Displacement, Transform, split
from fireants_engine.transforms.invert import resize_displacement

SCALES = (1 / 3, 3.0)
"""Scales along any direction that one linear stage may come to."""


@dataclass(frozen=True)
class LinearState:
    """params: (N, n) in mm (rotations and strains times a radius); bases: where they started.

    The map of a pair is `D(params) o base` with D about its centre, a point of the moving image;
    centres_mm and radii_mm: N of each. warp: what a deformable start does before `base`,
    (N, d, *spatial) voxels of the level's fixed grid.
    """

    params: Tensor
    bases: tuple[Affine, ...]
    centres_mm: tuple[np.ndarray, ...]
    radii_mm: tuple[float, ...]
    warp: Tensor | None = None


def _skew(w: Tensor) -> Tensor:
    """Generators of rotations: (N, 1) -> (N, 2, 2), (N, 3) -> (N, 3, 3)."""
    zero = torch.zeros_like(w[:, 0])
    if w.shape[1] == 1:
        (angle,) = w.unbind(1)
        return torch.stack([zero, -angle, angle, zero], 1).view(-1, 2, 2)
    x, y, z = w.unbind(1)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)


def _identities(params: Tensor, dim: int) -> Tensor:
    """(N, dim, dim) identities for params (N, n)."""
    eye = torch.eye(dim, dtype=params.dtype, device=params.device)
    return eye.expand(len(params), dim, dim)


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
        """(N, dim, dim) matrices of the parameters (N, extra) beside the translation, in radians
        or strains."""

    def init(self, pair: Pair, initial: Transform, ctx: ExecutionContext) -> LinearState:
        base, warp = split(initial, pair.fixed_grid)
        dim = pair.fixed_grid.dim
        centre = base(pair.fixed_grid.centre_mm[None])[0]
        radius = float(np.sqrt((pair.fixed_grid.extent_mm**2).sum() / 12))
        params = torch.zeros(1, dim + self.extra(dim), device=ctx.device, dtype=torch.float32)
        u = None if warp is None else warp.u.to(ctx.device, ctx.dtype)
        return LinearState(params, (base,), (centre,), (radius,), u)

    def variable(self, state: LinearState) -> Tensor:
        return state.params

    def with_variable(self, state: LinearState, variable: Tensor) -> LinearState:
        return replace(state, params=variable)

    def delta(self, state: LinearState, params: Tensor) -> Tensor:
        """Homogeneous (N, d+1, d+1) matrices of D(params), mm; differentiable."""
        dim = state.bases[0].dim
        linear = self.linear(params[:, dim:] / params.new_tensor(state.radii_mm)[:, None], dim)
        centre = params.new_tensor(np.stack(state.centres_mm))
        shift = centre + params[:, :dim] - (linear @ centre[:, :, None])[:, :, 0]
        last = params.new_zeros(len(params), 1, dim + 1)
        last[:, 0, dim] = 1.0
        return torch.cat([torch.cat([linear, shift[:, :, None]], dim=2), last], dim=1)

    def motion(self, pair: Pair, state: LinearState, ctx: ExecutionContext) -> Motion:
        # the few small products in float64: world origins may be far away
        wide = torch.float64 if ctx.device.type != "mps" else torch.float32
        delta = self.delta(state, state.params.to(wide))
        each = list(zip(pair.each, state.bases, strict=True))
        left = [one.moving_grid.matrix("mm", "voxel") for one, _ in each]
        right = [base.matrix @ one.fixed_grid.matrix("voxel", "mm") for one, base in each]
        matrix = delta.new_tensor(np.stack(left)) @ delta @ delta.new_tensor(np.stack(right))
        matrix = matrix[:, :-1].to(ctx.dtype)
        return LinearlyPulled(matrix, state.warp)

    def precondition(
        self, pair: Pair, state: LinearState, grad: Tensor, ctx: ExecutionContext
    ) -> Tensor:
        return grad

    def retract(
        self, pair: Pair, state: LinearState, way: Direction, step: float, ctx: ExecutionContext
    ) -> LinearState:
        voxel_mm = float(np.mean(pair.fixed_grid.spacing_mm))
        factors = step_factors(way.peaks, step, len(way.peaks))
        moves = scaled(way.values, voxel_mm * factors)
        dim = pair.fixed_grid.dim
        shift, linear = moves[:, :dim], moves[:, dim:]
        move = torch.cat([shift * self.translation_scale, linear * self.linear_scale], dim=1)
        return replace(state, params=state.params + move)

    def resample(self, buffer: Tensor, power: int, old: Pair, new: Pair) -> Tensor:
        return buffer

    def carry(self, state: LinearState, old: Pair, new: Pair) -> LinearState:
        if state.warp is None:
            return state
        return replace(state, warp=resize_displacement(state.warp, new.fixed_grid.shape))

    def realigned(self, state: LinearState, change: Callable[[Affine], Affine]) -> LinearState:
        """Parameters begin at zero again, about where the centre has come to."""
        delta = self.delta(state, state.params.detach().cpu().double()).numpy()
        bases, centres = [], []
        for one, base, centre in zip(delta, state.bases, state.centres_mm, strict=True):
            now = Affine(one @ base.matrix, base.centre_mm)
            bases.append(change(now))
            fixed = now.inverse()(Affine(one)(centre[None]))
            centres.append(bases[-1](fixed)[0])
        params = torch.zeros_like(state.params)
        return replace(state, params=params, bases=tuple(bases), centres_mm=tuple(centres))

    def problem(self, state: LinearState) -> str | None:
        """A stage that mirrors the image, or scales it by more than `SCALES` along a direction.

        Terms that look at the overlap alone (MI) may gain by it; no images are related so.
        """
        linear = self.delta(state, state.params.detach().cpu().double())[0, :-1, :-1].numpy()
        if np.linalg.det(linear) <= 0:
            return "mirror the image"
        scales = np.linalg.svd(linear, compute_uv=False)
        least, most = float(scales.min()), float(scales.max())
        if least < SCALES[0]:
            return f"squeeze the image to {least:.2g} of its size along one direction"
        return f"stretch the image {most:.2g} times" if most > SCALES[1] else None

    def transform(self, pair: Pair, state: LinearState) -> Transform:
        delta = self.delta(state, state.params.detach().cpu().double())
        affine = Affine(delta[0].numpy() @ state.bases[0].matrix, pair.fixed_grid.centre_mm)
        if state.warp is None:
            return affine
        return Chain([Displacement(state.warp, pair.fixed_grid), affine])


@dataclass(frozen=True)
class Translation(Linear):
    """Translation alone."""

    def extra(self, dim: int) -> int:
        return 0

    def linear(self, params: Tensor, dim: int) -> Tensor:
        return _identities(params, dim)


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
        scale = params[:, 0].exp()[:, None, None]
        return scale * torch.linalg.matrix_exp(_skew(params[:, 1:]))


@dataclass(frozen=True)
class AffineMap(Linear):
    """All d (d + 1) parameters: `I + P` about the centre, and translation."""

    def extra(self, dim: int) -> int:
        return dim * dim

    def linear(self, params: Tensor, dim: int) -> Tensor:
        return _identities(params, dim) + params.view(-1, dim, dim)
