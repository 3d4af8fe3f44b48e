"""Regulariser: a term that looks at the warp, and the differences that its families share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.errors import InputError
from fireants_engine.similarity import Loss, Term

Spacing = Sequence[float]
"""mm per voxel along each array axis (z, y, x)."""


@dataclass(frozen=True)
class Regulariser(Term):
    """Mean over the stage's warps of an energy of the displacement u.

    u is taken in mm along the voxel axes of the level's fixed grid and differentiated by mm, and
    the energy is a mean over voxels: it depends on the map, not on how finely it is sampled, so a
    weight means the same on every level. The linear part does not count. Masks do not count.
    Raises InputError at the first evaluation in a stage without a warp.
    """

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        spacing = pair.fixed_grid.spacing_zyx

        def loss(views: Views) -> Tensor:
            warps = () if views.motion is None else views.motion.warps
            if not warps:
                raise InputError(
                    f"{type(self).__name__}: the stage has no warp to regularise; remove the "
                    "term or use a deformable stage."
                )
            return self.of_warps(warps, spacing)

        return loss

    def of_warps(self, warps: tuple[Tensor, ...], spacing: Spacing) -> Tensor:
        """The loss of all warps (N, d, *spatial) of a stage together, (N,)."""
        return torch.stack([self.energies(u, spacing) for u in warps]).mean(0)

    def energies(self, u: Tensor, spacing: Spacing) -> Tensor:
        """Energy of each displacement of u (N, d, *spatial), (N,)."""
        return torch.stack([self.energy(one, spacing) for one in u.split(1)])

    @abstractmethod
    def energy(self, u: Tensor, spacing: Spacing) -> Tensor:
        """Scalar energy of one displacement.

        u: (1, d, *spatial) in voxels, channel order = array axes; spacing: mm per array axis.
        """


# Differences are between neighbours on the grid and never wrap around. Along an axis that has too
# few samples for one the derivative counts as 0.


def in_mm(u: Tensor, spacing: Spacing) -> Tensor:
    """Displacement in mm along the array axes, from voxels; (1, d, *spatial)."""
    return u * u.new_tensor(list(spacing)).view(1, -1, *(1,) * (u.ndim - 2))


def mean_square_difference(field: Tensor, axis: int) -> Tensor:
    """Mean over samples of the squared first difference along `axis`, summed over components.

    field: (1, k, *spatial). One pass, and none of the differences is kept.
    """
    left = field.shape[axis + 2] - 1
    if left < 1 or not field.numel():
        return 0.0 * field.sum()
    before, after = (field.narrow(axis + 2, start, left) for start in (0, 1))
    return F.mse_loss(after, before) * field.shape[1]


def square_at_voxels(field: Tensor, axes: Sequence[int], spacing: Spacing) -> Tensor:
    """(1, 1, *spatial): squared derivative of `field` along each of `axes` in turn, per mm,
    summed over components.

    First derivatives are forward and second ones central differences; at the border the nearest
    one that the grid has.
    """
    shape = field.shape
    factor = 1.0
    for axis in axes:
        field = field.diff(dim=axis + 2)
        factor /= spacing[axis] ** 2
    square = field.square().sum(1, keepdim=True) * factor
    if not square.numel():
        return square.sum() + square.new_zeros((1, 1, *shape[2:]))
    return extended(square, axes)


def extended(values: Tensor, axes: Sequence[int]) -> Tensor:
    """`values` with the samples back that differences along `axes` lost, repeated at the border:
    one at the end for each axis named once, one at both ends for an axis named twice.
    """
    for axis in sorted(set(axes)):
        last = values.narrow(axis + 2, values.shape[axis + 2] - 1, 1)
        parts = [values, last]
        if list(axes).count(axis) == 2:
            parts.insert(0, values.narrow(axis + 2, 0, 1))
        values = torch.cat(parts, axis + 2)
    return values


def smooth_root(square: Tensor, eps: float) -> Tensor:
    """`sqrt(square + eps^2) - eps`: a norm from its square, differentiable and 0 at 0."""
    return (square + eps * eps).sqrt() - eps
