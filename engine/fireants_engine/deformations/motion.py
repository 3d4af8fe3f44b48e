"""Motion: the map of one evaluation, and what the terms see of the images through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations.pair import Pair
from fireants_engine.kernels.points import point_jacobians, sample_points, solve_points


class Motion(ABC):
    """The present map, differentiable in the variable of the state it was made from.

    Made once per evaluation; every source of every term is seen through it.
    """

    @property
    @abstractmethod
    def warps(self) -> tuple[Tensor, ...]:
        """Displacements (N, d, *spatial) in voxels of the level's fixed grid; () where linear."""

    @abstractmethod
    def views(self, pair: Pair, ctx: ExecutionContext) -> Views:
        """Both images of `pair` as the terms see them."""

    @abstractmethod
    def points(self, fixed: Tensor, pair: int = 0) -> Tensor:
        """Points (d, n) in fixed voxels -> moving voxels (d, n), through pair number `pair`."""


@dataclass(frozen=True)
class Views:
    """What the terms compare: both images (N, C, *spatial) on one grid, and what samples count.

    weight: (N, 1, *spatial), by masks and field of view; None for 1. mask: by the masks alone,
    for terms that look at neighbourhoods. motion: the map behind them, for terms that look at
    the map itself or at points.
    """

    fixed: Tensor
    moving: Tensor
    weight: Tensor | None = None
    mask: Tensor | None = None
    motion: Motion | None = None


def product(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Of two weights, None standing for 1."""
    if a is None or b is None:
        return b if a is None else a
    return a * b


def _of(tensor: Tensor, pair: int) -> Tensor:
    """(1, ...): what belongs to one pair, or to all."""
    return tensor if len(tensor) == 1 else tensor[pair : pair + 1]


def _moved(matrix: Tensor, pair: int, points: Tensor) -> Tensor:
    """Points (d, n) through the matrix of one pair."""
    own = matrix if matrix.ndim == 2 else _of(matrix, pair)[0]
    return own[:, :-1] @ points + own[:, -1:]


@dataclass(frozen=True)
class Pulled(Motion):
    """`A (x + u(x)) + t`: the moving image comes to the fixed grid.

    matrix: (N, d, d+1), or (d, d+1) for all, fixed voxel -> moving voxel; u: (N, d, *spatial)
    voxels or None.
    """

    matrix: Tensor
    u: Tensor | None = None

    @property
    def warps(self) -> tuple[Tensor, ...]:
        return () if self.u is None else (self.u,)

    def pulled(self, image: Tensor, pair: Pair, ctx: ExecutionContext) -> Tensor:
        """An image (the moving one) on the fixed grid.

        Beyond its field of view it continues with its border value: a jump there to any constant
        would pull at the transform.
        """
        return ctx.kernels.warp(image, self.matrix, pair.fixed_grid.shape, self.u, border=True)

    def carried(self, image: Tensor, pair: Pair, ctx: ExecutionContext) -> Tensor:
        """A mask of the moving image on the fixed grid, 0 beyond it; no gradient."""
        still = None if self.u is None else self.u.detach()
        return ctx.kernels.warp(image, self.matrix.detach(), pair.fixed_grid.shape, still)

    def mask_of(
        self, image: Literal["fixed", "moving"], pair: Pair, ctx: ExecutionContext
    ) -> Tensor | None:
        """The mask of one image carried to the fixed grid; where a pair has none it is 1."""
        mask = pair.fixed_mask if image == "fixed" else pair.moving_mask
        if mask is None:
            return None
        out = self.carried(mask, pair, ctx)
        for row in pair.unmasked(image):
            out[row] = 1
        return out

    def mask(self, pair: Pair, ctx: ExecutionContext) -> Tensor | None:
        """Product of both masks on the fixed grid."""
        return product(pair.fixed_mask, self.mask_of("moving", pair, ctx))

    def views(self, pair: Pair, ctx: ExecutionContext) -> Views:
        mask = self.mask(pair, ctx)
        return Views(pair.fixed, self.pulled(pair.moving, pair, ctx), mask, mask, self)

    def points(self, fixed: Tensor, pair: int = 0) -> Tensor:
        where = fixed if self.u is None else fixed + sample_points(_of(self.u, pair), fixed)
        return _moved(self.matrix, pair, where)


@dataclass(frozen=True)
class LinearlyPulled(Pulled):
    """The same with few parameters, which reach far: what lies beyond the moving image's field
    of view is not known and does not count. `u` is part of the start and does not move."""

    @property
    def warps(self) -> tuple[Tensor, ...]:
        return ()

    def views(self, pair: Pair, ctx: ExecutionContext) -> Views:
        mask = self.mask(pair, ctx)
        inside = self.carried(pair.field_of_view, pair, ctx)
        moving = self.pulled(pair.moving, pair, ctx)
        return Views(pair.fixed, moving, product(inside, mask), mask, self)


@dataclass(frozen=True)
class Halfway(Motion):
    """Both images come to a midpoint: fixed(x + u_f(x)) and moving(A (x + u_m(x)) + t).

    u_fixed, u_moving: (N, d, *spatial) in voxels of the fixed grid, which is the midpoint's too.
    """

    matrix: Tensor
    u_fixed: Tensor
    u_moving: Tensor

    @property
    def warps(self) -> tuple[Tensor, ...]:
        return (self.u_fixed, self.u_moving)

    def _fixed(self) -> Pulled:
        dim = self.u_fixed.shape[1]
        eye = torch.eye(dim, dim + 1, device=self.u_fixed.device, dtype=self.u_fixed.dtype)
        return Pulled(eye, self.u_fixed)

    def views(self, pair: Pair, ctx: ExecutionContext) -> Views:
        own, other = self._fixed(), Pulled(self.matrix, self.u_moving)
        fixed, moving = own.pulled(pair.fixed, pair, ctx), other.pulled(pair.moving, pair, ctx)
        mask = product(own.mask_of("fixed", pair, ctx), other.mask_of("moving", pair, ctx))
        return Views(fixed, moving, mask, mask, self)

    def points(self, fixed: Tensor, pair: int = 0) -> Tensor:
        """`A phi_M(phi_F^-1(q)) + t`: the midpoint m is solved for.

        Moving phi_F at m by d moves phi_M(m) by `-D phi_M (D phi_F)^-1 d` to first order.
        """
        u_fixed, u_moving = _of(self.u_fixed, pair), _of(self.u_moving, pair)
        with torch.no_grad():
            middle = solve_points(u_fixed, fixed, fixed, 1e-3)
            moving = point_jacobians(u_moving, middle)
            passed = moving @ torch.linalg.inv(point_jacobians(u_fixed, middle))
        half = sample_points(u_fixed, middle)
        shift = torch.einsum("nij,jn->in", passed, half - half.detach())
        where = middle + sample_points(u_moving, middle) - shift
        return _moved(self.matrix, pair, where)
