"""MIND-SSC: modality independent self-similarity context."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor

from fireants_engine.deformations import FeatureExtractor
from fireants_engine.geometry import Grid
from fireants_engine.kernels.reference import box_sum

_RANGE = 1e3
"""The local variance is kept within this factor of its mean over the image, as published."""
_DECIMALS = 9
"""Of directions and offsets: what is nearer to an axis or a voxel is on it."""


@dataclass(frozen=True)
class MIND(FeatureExtractor):
    """How alike the patches around a voxel are to each other; compared by SSD.

        d_k(x) = sum over the patch of (I(x + a_k + .) - I(x + b_k + .))^2
        m_k(x) = exp(-(d_k - min_k d_k) / v(x)),   v(x) = mean_k (d_k - min_k d_k)

    a_k, b_k: all pairs of neighbours of x, `dilation_vox` away along two different axes: 12
    channels in 3D, 4 in 2D. Patches are (2 radius_vox + 1)^d boxes, cut at the border, beyond
    which the image continues with its edge value. v is clamped to [0.001, 1000] of its mean over
    the image, so that noise in flat regions is not amplified; where all is flat m = 1.

    (1, C, *full) -> (1, C * channels, *level), each image channel after the other, dimensionless
    in [0, 1]. Computed in voxels of the level, which tend to isotropy. Invariant under a I + b,
    a != 0. An image channel at a time holds temporaries of its own; no gradient flows to the image.

    axes: unit vectors along which the neighbours lie, columns in array order, () for the image's
    own. The descriptor tells directions, so of an image that lies turned it has to be made along
    the turned axes (`turned`); what lies between voxels is interpolated linearly.
    Heinrich et al. 2013 (MIND-SSC, MICCAI). Raises ValueError for a radius < 0 or dilation < 1.
    """

    radius_vox: int = 1
    dilation_vox: int = 2
    axes: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.radius_vox < 0 or self.dilation_vox < 1:
            raise ValueError(f"radius_vox >= 0 and dilation_vox >= 1, not {self}")

    def turned(self, axes: np.ndarray) -> MIND:
        axes = axes.round(_DECIMALS)  # a turn by 90 degrees is one to the bit
        own = np.array_equal(axes, np.eye(len(axes)))
        return replace(self, axes=() if own else tuple(map(tuple, axes.tolist())))

    @torch.no_grad()
    def __call__(self, data: Tensor, grid: Grid, shrink: Callable[[Tensor], Tensor]) -> Tensor:
        level = shrink(data)
        pairs = neighbour_pairs(level.ndim - 2)
        offsets = self._offsets(
            [s * n / m for s, n, m in zip(grid.spacing_zyx, data.shape[2:], level.shape[2:],
                                          strict=True)]
        )  # fmt: skip
        channels = level.shape[1]
        out = level.new_empty((1, channels * len(pairs), *level.shape[2:]))
        for image, own in zip(level.split(1, 1), out.split(len(pairs), 1), strict=True):
            self._describe(image, offsets, pairs, own)
        return out

    def _offsets(self, spacing: Sequence[float]) -> np.ndarray:
        """(2 d, d): where the neighbours lie, in voxels of the level, before and after on each
        axis; `dilation_vox` away in voxels, along the axes in mm."""
        ways = (np.array(self.axes) if self.axes else np.eye(len(spacing))).T / np.asarray(spacing)
        ways *= self.dilation_vox / np.linalg.norm(ways, axis=1, keepdims=True)
        return np.stack([-ways, ways], axis=1).reshape(-1, len(spacing)).round(_DECIMALS)

    def _describe(
        self, image: Tensor, offsets: np.ndarray, pairs: list[tuple[int, int]], out: Tensor
    ) -> None:
        """Fill `out` (1, K, *) with the descriptor of `image` (1, 1, *)."""
        ends = [_shifted(image, offset) for offset in offsets.tolist()]
        for k, (a, b) in enumerate(pairs):
            square = (ends[a] - ends[b]).square_()
            out[:, k : k + 1] = box_sum(square, self.radius_vox)
        del ends
        out.sub_(out.amin(1, keepdim=True))
        spread = out.mean(1, keepdim=True)
        typical = spread.mean().clamp(min=torch.finfo(image.dtype).tiny * _RANGE)
        out.div_(spread.clamp(typical / _RANGE, typical * _RANGE)).neg_().exp_()


def neighbour_pairs(dim: int) -> list[tuple[int, int]]:
    """Pairs of the 2 dim neighbours on different axes; 2 k: before on axis k, 2 k + 1: after."""
    axes = combinations(range(dim), 2)
    return [(2 * i + p, 2 * j + q) for i, j in axes for p, q in product((0, 1), repeat=2)]


def _shifted(image: Tensor, offset: Sequence[float]) -> Tensor:
    """image(x + offset), linear between voxels, continued with the edge value."""
    for axis, by in enumerate(offset, start=2):
        whole = math.floor(by)
        if by == 0:
            continue
        size = image.shape[axis]
        where = torch.arange(size, device=image.device) + whole
        found = image.index_select(axis, where.clamp(0, size - 1))
        if by != whole:
            after = image.index_select(axis, (where + 1).clamp(0, size - 1))
            found = found.lerp_(after, by - whole)
        image = found
    return image
