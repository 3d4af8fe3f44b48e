"""Jacobian determinants of phi(x) = x + u(x) and the strict count of folds."""

from __future__ import annotations

import torch
from torch import Tensor

from fireants_engine.kernels import REFERENCE, chosen_for
from fireants_engine.kernels.jacobian import gradient


def jacobian_determinant(u: Tensor) -> Tensor:
    """det(I + grad u) by central differences (one-sided at the border).

    u: (1, d, *spatial) voxels, channel order = array axes -> (1, 1, *spatial), dimensionless.
    By the kernels that `auto` chooses for its device, unless a gradient is asked for.
    """
    if torch.is_grad_enabled() and u.requires_grad:
        return REFERENCE.jacobian_determinant(u)
    return chosen_for(u).jacobian_determinant(u)


def jacobian_transposed(u: Tensor, field: Tensor) -> Tensor:
    """`J^T field` with `J = I + grad u`: `field_j + sum_i (du_i / dx_j) field_i`.

    u, field: (1, d, *spatial). Thesis 3.4: the steepest descent of the Eulerian differential.
    """
    out = field.clone()
    for axis in range(u.shape[1]):
        out[0, axis].add_((gradient(u, axis) * field[0]).sum(dim=0))
    return out


def strict_fold_mask(u: Tensor) -> Tensor:
    """True where *any* of the 2^d one-sided finite-difference determinants is <= 0.

    u: (1, d, *spatial) voxels -> (1, 1, *spatial) bool. Central differences alone miss folds
    (a 1.8-voxel checkerboard shows none of its 50%, LESSONS 25). A NaN counts as a fold.
    By the kernels that `auto` chooses for its device: all find the same.
    """
    return chosen_for(u).strict_fold_mask(u)


def count_folds(u: Tensor, mask: Tensor | None = None) -> tuple[int, float]:
    """Number and fraction of strictly folded voxels, inside `mask` (broadcastable) if given."""
    folded = strict_fold_mask(u)
    if mask is not None:
        folded = folded & mask
        total = int(mask.expand_as(folded).sum())
    else:
        total = folded.numel()
    count = int(folded.sum())
    return count, count / max(1, total)
