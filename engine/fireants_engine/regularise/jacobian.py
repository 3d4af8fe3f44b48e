"""Volume preservation: the Jacobian determinant of the warp near 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import product

import torch
from torch import Tensor

from fireants_engine.regularise.base import Regulariser, Spacing

_SMALL = 0.1
"""Determinant below which a voxel is on its way to a fold."""


@dataclass(frozen=True)
class JacobianPenalty(Regulariser):
    """Mean over the corners of all grid cells of a penalty of J = det(I + grad u), dimensionless.

        (J - 1)^2 + fold_weight * max(0, 1 - J / 0.1)^2

    logarithmic: (log J)^2 in place of (J - 1)^2, so that halving a volume costs as much as
    doubling it; below J = 0.1 the logarithm goes on along its tangent. Finite and differentiable
    for any J: folded voxels pull back hardest.
    J is taken at every corner of every cell from the cell's own edges (2^d one-sided
    determinants), which sees the folds that central differences miss (LESSONS 25). Zero for any
    translation; the same for mirrored images and any voxel size.
    Thesis 4.5.6 (fold_weight = 0).
    """

    logarithmic: bool = False
    fold_weight: float = 1.0

    @property
    def reach_vox(self) -> int:
        return 1

    def energy(self, u: Tensor, spacing: Spacing) -> Tensor:
        return torch.stack([self._penalty(j) for j in corner_determinants(u)]).mean()

    def _penalty(self, j: Tensor) -> Tensor:
        if self.logarithmic:
            off = j.clamp(min=_SMALL).log() - (_SMALL - j).clamp(min=0) / _SMALL
        else:
            off = j - 1
        value = off.square().mean()
        if self.fold_weight:
            value = value + self.fold_weight * (1 - j / _SMALL).clamp(min=0).square().mean()
        return value


def corner_determinants(u: Tensor) -> Iterator[Tensor]:
    """J at each corner of all grid cells in turn, from the edges that meet there.

    u: (1, d, *spatial) voxels; each result has one sample less per axis that has more than one.
    """
    edges = [_edges(u, axis) for axis in range(u.ndim - 2)]
    sides = [range(min(2, n)) for n in u.shape[2:]]
    for others in product(*sides[1:]):
        rows = [_at_side(row, k, (None, *others)) for k, row in enumerate(edges)]
        minors = _minors(rows[1:])  # shared by the corners that differ along the first axis
        for first in sides[0]:
            side = (first, *(None for _ in others))
            ends = [_at_side([minor], -1, side)[0] for minor in minors]
            yield reduce(torch.add, (a * b for a, b in zip(rows[0], ends, strict=True)))


def _edges(u: Tensor, axis: int) -> list[Tensor]:
    """d phi_i along the edges of `axis`, per component i: one sample less there, if it can be."""
    many = u.shape[axis + 2] > 1
    row = list((u.diff(dim=axis + 2) if many else torch.zeros_like(u))[0].unbind())
    row[axis] = row[axis] + 1
    return row


def _at_side(row: list[Tensor], own: int, side: tuple[int | None, ...]) -> list[Tensor]:
    """The edges that start at a cell's `side` (0 or 1; None: any) along all axes but `own`."""
    for axis, which in enumerate(side):
        if axis != own and which is not None and row[0].shape[axis] > 1:
            row = [part.narrow(axis, which, part.shape[axis] - 1) for part in row]
    return row


def _minors(rows: list[list[Tensor]]) -> list[Tensor]:
    """Signed minors of all rows of a matrix but the first: J is its first row times them."""
    if len(rows) == 1:
        (a, b) = rows[0]
        return [b, -a]
    a, b = rows
    return [a[(k + 1) % 3] * b[(k + 2) % 3] - a[(k + 2) % 3] * b[(k + 1) % 3] for k in range(3)]
