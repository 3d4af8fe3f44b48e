"""Energies of first and second derivatives of the displacement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from fireants_engine.errors import InputError
from fireants_engine.regularise.base import (
    Regulariser,
    Spacing,
    extended,
    in_mm,
    mean_square_difference,
    smooth_root,
    square_at_voxels,
)

_EPS = 1e-3
"""Size below which a norm is rounded off: 0.1 % stretch, or that per mm."""


@dataclass(frozen=True)
class Diffusion(Regulariser):
    """Mean squared gradient of the displacement; or its total variation.

        power 2: mean over x of |grad u|^2;   power 1: mean over x of |grad u|

    |grad u|: root of the sum over all d^2 entries w_j (du_i/dx_j)^2, dimensionless. Power 1 lets
    regions slide along each other; it is rounded off below 0.001 to be differentiable. Zero for
    any translation. axis_weights: w_j >= 0 of each voxel axis i, j(, k), () for 1; (0, 0, 1)
    compares neighbouring slices alone, |u(k+1) - u(k)|^2 / spacing^2, which holds a stack of
    sections together and leaves each free within its plane. Raises InputError at the first
    evaluation where there is not one for each axis.
    Thesis 4.5.6 (its "total variation" is power 2); Fischer & Modersitzki 2002.
    """

    power: Literal[1, 2] = 2
    axis_weights: tuple[float, ...] = ()

    @property
    def reach_vox(self) -> int:
        return 1

    def energy(self, u: Tensor, spacing: Spacing) -> Tensor:
        mm = in_mm(u, spacing)
        weights = self._along(len(spacing))
        if self.power == 1:
            return smooth_root(_gradient_square(mm, spacing, weights), _EPS).mean()
        parts = [
            weight * mean_square_difference(mm, k) / step**2
            for k, (step, weight) in enumerate(zip(spacing, weights, strict=True))
            if weight
        ]
        return reduce(torch.add, parts)

    def _along(self, dim: int) -> tuple[float, ...]:
        """The weight of each array axis."""
        if self.axis_weights and len(self.axis_weights) != dim:
            raise InputError(
                f"Diffusion: axis_weights has {len(self.axis_weights)} numbers but the images are "
                f"{dim}D; give one per voxel axis."
            )
        return self.axis_weights[::-1] or (1.0,) * dim


@dataclass(frozen=True)
class Elastic(Regulariser):
    """First plus second order: mean over x of `alpha |grad u| + beta |grad^2 u|`.

    Norms, not squares, as in thesis 4.5.6, but of u instead of phi, so that the identity costs
    nothing: |grad u| over all du_i/dx_j, dimensionless; |grad^2 u| over all d^2 u_i/dx_j dx_k, in
    1/mm, so beta is in mm. Both are rounded off below 0.001. Zero for any translation.
    """

    alpha: float = 1.0
    beta: float = 1.0

    @property
    def reach_vox(self) -> int:
        return 2

    def energy(self, u: Tensor, spacing: Spacing) -> Tensor:
        mm = in_mm(u, spacing)
        total = u.new_zeros(())
        if self.alpha:
            total = total + self.alpha * smooth_root(_gradient_square(mm, spacing), _EPS).mean()
        if self.beta:
            total = total + self.beta * smooth_root(_hessian_square(mm, spacing), _EPS).mean()
        return total


@dataclass(frozen=True)
class Laplacian(Regulariser):
    """Mean over x of |Delta u|^2, in 1/mm^2.

    Delta u_i = sum_j d^2 u_i / dx_j^2; at the border the nearest second difference. Free for
    affine maps (and other harmonic ones). Thesis 4.5.6.
    """

    @property
    def reach_vox(self) -> int:
        return 2

    def energy(self, u: Tensor, spacing: Spacing) -> Tensor:
        mm = in_mm(u, spacing)
        total = torch.zeros_like(mm)
        for k, step in enumerate(spacing):
            second = mm.diff(n=2, dim=k + 2) / step**2
            if second.numel():
                total = total + extended(second, (k, k))
        return total.square().sum(1).mean()


@dataclass(frozen=True)
class Bending(Regulariser):
    """Bending energy: mean over x of the sum of all squared second derivatives, in 1/mm^2.

        sum_i ( sum_j (d^2 u_i/dx_j^2)^2 + 2 sum_{j<k} (d^2 u_i/dx_j dx_k)^2 )

    Free for affine maps. Each derivative is averaged where the grid has it. Rueckert et al. 1999.
    """

    @property
    def reach_vox(self) -> int:
        return 2

    def energy(self, u: Tensor, spacing: Spacing) -> Tensor:
        mm = in_mm(u, spacing)
        parts = []
        for j, step in enumerate(spacing):
            first = mm.diff(dim=j + 2) / step
            for k in range(j, len(spacing)):
                times = 1 if k == j else 2
                parts.append(mean_square_difference(first, k) * (times / spacing[k] ** 2))
        return reduce(torch.add, parts)


def _gradient_square(mm: Tensor, spacing: Spacing, weights: Sequence[float] = ()) -> Tensor:
    """|grad u|^2 per voxel, (1, 1, *spatial); weights: of each array axis, default 1."""
    weights = weights or (1.0,) * len(spacing)
    axes = [k for k, weight in enumerate(weights) if weight]
    squares = [weights[k] * square_at_voxels(mm, (k,), spacing) for k in axes]
    return reduce(torch.add, squares)


def _hessian_square(mm: Tensor, spacing: Spacing) -> Tensor:
    """Sum of all squared second derivatives per voxel, (1, 1, *spatial)."""
    axes = range(mm.ndim - 2)
    own = [square_at_voxels(mm, (k, k), spacing) for k in axes]
    mixed = [2 * square_at_voxels(mm, pair, spacing) for pair in combinations(axes, 2)]
    return reduce(torch.add, own + mixed)
