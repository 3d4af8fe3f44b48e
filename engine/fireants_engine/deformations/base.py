"""Deformation: what a stage optimises, and the pair of images it looks at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.geometry import Grid
from fireants_engine.transforms import Affine, Transform


@dataclass(frozen=True)
class Pair:
    """Fixed and moving on one pyramid level, on the device: (1, C, *spatial); masks (1, 1, *)."""

    fixed: Tensor
    moving: Tensor
    fixed_grid: Grid
    moving_grid: Grid
    fixed_mask: Tensor | None = None
    moving_mask: Tensor | None = None

    @cached_property
    def field_of_view(self) -> Tensor:
        """1 at every sample of the moving image: warped, it tells what lies inside."""
        return torch.ones_like(self.moving[:, :1])

    def voxel_matrix(self, affine: Affine) -> np.ndarray:
        """(d, d+1): fixed voxel -> moving voxel through `affine` (fixed mm -> moving mm)."""
        to_mm = self.fixed_grid.matrix("voxel", "mm")
        return (self.moving_grid.matrix("mm", "voxel") @ affine.matrix @ to_mm)[:-1]


@dataclass(frozen=True)
class Folds:
    """Strictly folded voxels of a warp: smoothed away, left, and left as a share of all."""

    removed: int
    left: int
    fraction: float


@dataclass(frozen=True)
class Views:
    """What the terms compare: both images on one grid, and what each sample counts.

    weight: (1, 1, *spatial), by masks and field of view; None for 1. mask: by the masks alone,
    for terms that look at neighbourhoods.
    """

    fixed: Tensor
    moving: Tensor
    weight: Tensor | None = None
    mask: Tensor | None = None


def pulled(
    pair: Pair, matrix: Tensor, u: Tensor | None, ctx: ExecutionContext
) -> tuple[Tensor, Tensor | None]:
    """The moving image, and the product of both masks, on the fixed grid through `A(x+u)+t`.

    Beyond its field of view the moving image continues with its border value: a jump there to
    any constant would pull at the transform.
    """
    shape = pair.fixed_grid.shape
    moving = ctx.kernels.warp(pair.moving, matrix, shape, u, border=True)
    mask = pair.fixed_mask
    if pair.moving_mask is not None:
        still = None if u is None else u.detach()
        moved = ctx.kernels.warp(pair.moving_mask, matrix.detach(), shape, still)
        mask = moved if mask is None else mask * moved
    return moving, mask


class Deformation(ABC):
    """Parameters of a stage. `state` is opaque to the loop; `variable(state)` is its leaf tensor.

    Greedy warps the moving image only; a symmetric, EPI or slice-wise model differs in `views`
    and `retract`, never in the loop.
    """

    @abstractmethod
    def init(self, pair: Pair, initial: Transform, ctx: ExecutionContext) -> Any:
        """State of no change on top of `initial`."""

    @abstractmethod
    def variable(self, state: Any) -> Tensor:
        """The tensor the loss is differentiated by."""

    @abstractmethod
    def with_variable(self, state: Any, variable: Tensor) -> Any:
        """The same state with another variable."""

    @abstractmethod
    def views(self, pair: Pair, state: Any, ctx: ExecutionContext) -> Views:
        """Both images as the terms see them; differentiable in `variable(state)`."""

    @abstractmethod
    def precondition(self, pair: Pair, state: Any, grad: Tensor, ctx: ExecutionContext) -> Tensor:
        """The gradient the descent sees (smoothed, restricted, in comparable units)."""

    @abstractmethod
    def retract(
        self, pair: Pair, state: Any, direction: Tensor, step: float, ctx: ExecutionContext
    ) -> Any:
        """The state after moving along `direction`; `step` is a fraction of the step bound."""

    @abstractmethod
    def resample(self, buffer: Tensor, power: int, old: Pair, new: Pair) -> Tensor:
        """A tensor shaped like the variable on the next level; `power`: degree in the gradient.

        The variable itself has power -1, first moments 1, second moments 2.
        """

    @abstractmethod
    def transform(self, pair: Pair, state: Any) -> Transform:
        """The map fixed mm -> moving mm that this state stands for."""

    def settle(self, state: Any) -> tuple[Any, Folds | None]:
        """What a level leaves behind, without its sampling folds; None where none can occur."""
        return state, None
