"""Removing the folds of a sampled warp by local smoothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.kernels import chosen_for
from fireants_engine.ops.jacobian import strict_fold_mask

_MARGIN = 6
"""Voxels around a fold that take part: two of growth, one of rim, three of smoothing."""


def unfold(u: Tensor, rounds: int = 20, sigma_vox: float = 1.0) -> tuple[Tensor, int, int]:
    """`u` smoothed only where it strictly folds; folded voxels before and after.

    u: (1, d, *spatial) voxels. In each round the folded voxels, grown by two voxels with a soft
    rim, are moved towards a Gaussian average (`sigma_vox`) of the field; everything else stays
    as it is, to the bit. Compositions of diffeomorphisms do not fold, their linear samples may:
    this removes those sampling artefacts and is not a substitute for regularisation.
    """
    folded = strict_fold_mask(u)
    before = int(folded.sum())
    if before == 0:
        return u, 0, 0
    box = _box(folded)
    part = u[box].clone()
    for _ in range(rounds):
        part = _smooth_where(part, folded[box], sigma_vox)
        folded[box] = strict_fold_mask(part)
        if not bool(folded[box].any()):
            break
    out = u.clone()
    out[box] = part
    return out, before, int(folded.sum())


def _box(folded: Tensor) -> tuple[slice, ...]:
    """The bounding box of the folds with its margin, as an index of (1, d, *spatial)."""
    where = folded[0, 0].nonzero()
    low = (where.amin(dim=0) - _MARGIN).clamp(min=0).tolist()
    high = (where.amax(dim=0) + _MARGIN + 1).tolist()
    return (slice(None), slice(None), *map(slice, low, high))


def _smooth_where(u: Tensor, folded: Tensor, sigma_vox: float) -> Tensor:
    """`u` moved towards its Gaussian average around the folded voxels."""
    dim = u.shape[1]
    mean = F.avg_pool3d if dim == 3 else F.avg_pool2d
    # torch's averages refuse an axis that is shorter than their window before padding
    weight = mean(F.pad(_grown(folded.to(u.dtype)), [1] * (2 * dim)), 3, 1)
    return torch.lerp(u, chosen_for(u).smooth(u, [sigma_vox] * dim), weight)


def _grown(flags: Tensor) -> Tensor:
    """The largest of `flags` (1, 1, *spatial) within two voxels along every axis, one by one."""
    dim = flags.ndim - 2
    pool = F.max_pool3d if dim == 3 else F.max_pool2d
    for axis in range(dim):
        reach = [2 if k == axis else 0 for k in range(dim)]
        flags = pool(flags, [2 * n + 1 for n in reach], 1, reach)
    return flags
