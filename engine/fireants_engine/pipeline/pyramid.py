"""Pyramid: levels of a stage, shrunk towards isotropic voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.geometry import Grid
from fireants_engine.kernels import REFERENCE, KernelTable
from fireants_engine.sizes import level_size


@dataclass(frozen=True)
class Level:
    """shrink: voxel size relative to the finest spacing (fractions allowed, >= 1).

    step: factor of the descent's step. smooth_vox: Gaussian smoothing of the images, in voxels of
    the level, beyond what shrinking does.
    """

    shrink: float
    max_steps: int
    step: float = 1.0
    smooth_vox: float = 0.0


@dataclass(frozen=True)
class Pyramid:
    """Coarse to fine. No axis is shrunk below `min_size` samples (or its own size)."""

    levels: tuple[Level, ...]
    min_size: int = 16


def level_grid(grid: Grid, shrink: float, min_size: int, finest_mm: float | None = None) -> Grid:
    """`grid` with voxels of `shrink * finest_mm`, per axis at least its own spacing.

    finest_mm: default the grid's finest spacing. Axes that are already coarser keep their
    samples, so levels tend to isotropy (LESSONS 4). The field of view stays exactly the same.
    """
    return grid.resized(level_size(grid.size, grid.spacing_mm, shrink, min_size, finest_mm))


def shrink_image(
    data: Tensor, target: Grid, kernels: KernelTable = REFERENCE, smooth_vox: float = 0.0
) -> Tensor:
    """Anti-aliased linear resampling of (1, C, *spatial) to `target` (same field of view).

    Gaussian of sigma 0.5 sqrt(f^2 - 1) old voxels before sampling, f the shrink per axis, and of
    `smooth_vox` new voxels.
    """
    shape = tuple(data.shape[2:])
    if shape == target.shape:
        return kernels.smooth(data, [smooth_vox] * len(shape)) if smooth_vox else data
    factor = np.asarray(shape) / np.asarray(target.shape)
    sigma = [float(np.hypot(0.5 * np.sqrt(max(f * f - 1, 0)), smooth_vox * f)) for f in factor]
    mode = "trilinear" if target.dim == 3 else "bilinear"
    smoothed = kernels.smooth(data, sigma)
    return F.interpolate(smoothed, size=target.shape, mode=mode, align_corners=False)


def shrink_mask(mask: Tensor | None, target: Grid) -> Tensor | None:
    """Soft mask (1, 1, *) on `target` by area averaging."""
    if mask is None or tuple(mask.shape[2:]) == target.shape:
        return mask
    out = F.interpolate(mask, size=target.shape, mode="area")
    return out if bool((out > 0).any()) else torch.ones_like(out)
