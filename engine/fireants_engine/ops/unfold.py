"""Removing the last folds of a sampled warp by local smoothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.kernels import REFERENCE
from fireants_engine.ops.jacobian import strict_fold_mask


def unfold(u: Tensor, rounds: int = 20, sigma_vox: float = 1.0) -> tuple[Tensor, int]:
    """`u` smoothed only where it strictly folds; the new field and the number of folds left.

    u: (1, d, *spatial) voxels. In each round the folded voxels, grown by two voxels with a soft
    rim, are moved towards a Gaussian average (`sigma_vox`) of the field; everything else stays
    as it is, to the bit. Compositions of diffeomorphisms do not fold, their linear samples may:
    this removes those sampling artefacts and is not a substitute for regularisation.
    """
    pool = F.max_pool3d if u.shape[1] == 3 else F.max_pool2d
    mean = F.avg_pool3d if u.shape[1] == 3 else F.avg_pool2d
    out = u
    folded = strict_fold_mask(out)
    for _ in range(rounds):
        if not bool(folded.any()):
            break
        grown = pool(folded.to(u.dtype), 5, 1, 2)
        weight = mean(grown, 3, 1, 1) * (pool(grown, 3, 1, 1) > 0)
        smooth = REFERENCE.smooth(out, [sigma_vox] * u.shape[1])
        out = torch.lerp(out, smooth, weight)
        folded = strict_fold_mask(out)
    return out, int(folded.sum())
