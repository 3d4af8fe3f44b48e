"""Features of label maps: soft one-hot maps and distances to contours."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from fireants_engine.deformations import FeatureExtractor
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid


def common_labels(fixed: Tensor, moving: Tensor) -> tuple[int, ...]:
    """Labels that occur in both label maps, ascending, without 0 (background).

    fixed, moving: integers of any shape, on any device.
    """
    found = [set(torch.unique(labels).tolist()) for labels in (fixed, moving)]
    return tuple(sorted(int(label) for label in found[0] & found[1] if label != 0))


@dataclass(frozen=True)
class LabelFeatures(FeatureExtractor):
    """One channel per label of a label map (1, 1, *full) of integers.

    labels: values that get a channel, in this order; () stands for those of both images, which
    `resolved` finds: an extractor sees one image at a time.
    Raises InputError when called without labels.
    """

    labels: tuple[int, ...] = ()

    def resolved(self, fixed: Tensor, moving: Tensor) -> Self:
        """The same with the labels of both maps where none are named.

        Raises InputError when they have none in common.
        """
        if self.labels:
            return self
        labels = common_labels(fixed, moving)
        if not labels:
            raise InputError(
                "The two label maps have no label in common; give label maps of one scheme."
            )
        return replace(self, labels=labels)

    def __call__(self, data: Tensor, grid: Grid, shrink: Callable[[Tensor], Tensor]) -> Tensor:
        if not self.labels:
            raise InputError(f"{type(self).__name__}: name the labels that count.")
        return torch.cat([shrink(self.channel(data == label, grid)) for label in self.labels], 1)

    @abstractmethod
    def channel(self, inside: Tensor, grid: Grid) -> Tensor:
        """(1, 1, *full) float32 from `inside` (1, 1, *full), True in one label."""


@dataclass(frozen=True)
class OneHot(LabelFeatures):
    """Share of each label in each voxel of the level: (1, K, *level) in [0, 1].

    1 inside and 0 outside at full resolution, then the level's anti-aliasing. Labels are made
    one after the other, so only one is held at full resolution. Compared by `Dice`.
    """

    def channel(self, inside: Tensor, grid: Grid) -> Tensor:
        return inside.to(torch.float32)


@dataclass(frozen=True)
class Distance(LabelFeatures):
    """Signed distance to the contour of each label: (1, K, *level), in units of `limit_mm`.

        D(x) / limit_mm,  D in mm clipped to +-limit_mm, negative inside

    Measured at full resolution from voxel centres to the faces between voxels inside and
    outside (half a spacing beside a plain face), with the grid's spacing per axis; then the
    level's anti-aliasing. The image's border is no contour. A label that is absent is +1
    everywhere, one that fills the image -1. Compared by SSD: unlike overlap it pulls where the
    contours do not touch yet. Raises ValueError for a limit that is not positive.
    """

    limit_mm: float = 10.0

    def __post_init__(self) -> None:
        if not self.limit_mm > 0:
            raise ValueError(f"limit_mm must be positive, not {self.limit_mm}")

    def channel(self, inside: Tensor, grid: Grid) -> Tensor:
        return signed_distance(inside[0, 0], grid.spacing_zyx, self.limit_mm)[None, None].div_(
            self.limit_mm
        )


def signed_distance(inside: Tensor, spacing: Sequence[float], limit: float) -> Tensor:
    """Distance from each sample to the faces of `inside`, negative inside, clipped to +-limit.

    inside: (*spatial) bool; spacing per array axis and limit in mm; result (*spatial) float32 on
    the same device. Exact: `sum_k (max(|o_k| - 1/2, 0) s_k)^2` from a sample to a voxel o away is
    a sum over axes, so the minimum is taken axis by axis over all offsets within the limit. Only
    the label's box and `limit` around it are looked at.
    """
    out = torch.full(inside.shape, float(limit), device=inside.device)
    box = []
    for axis, (size, step) in enumerate(zip(inside.shape, spacing, strict=True)):
        hit = inside.movedim(axis, 0).flatten(1).any(1).nonzero()[:, 0].tolist()
        if not hit:
            return out
        pad = math.ceil(limit / step) + 1
        box.append(slice(max(0, hit[0] - pad), min(size, hit[-1] + 1 + pad)))
    part = inside[tuple(box)]
    outside_in = _distance_to(part, spacing, limit)
    out[tuple(box)] = torch.where(part, -_distance_to(~part, spacing, limit), outside_in)
    return out


def _distance_to(target: Tensor, spacing: Sequence[float], limit: float) -> Tensor:
    """Distance from each sample to the nearest voxel of `target`, at most `limit`; 0 inside."""
    square = torch.where(target, 0.0, float(limit) ** 2)
    for axis, (size, step) in enumerate(zip(target.shape, spacing, strict=True)):
        near = square.clone()
        for offset in range(1, min(size - 1, math.ceil(limit / step)) + 1):
            left, cost = size - offset, ((offset - 0.5) * step) ** 2
            for here, there in ((0, offset), (offset, 0)):
                goal = near.narrow(axis, here, left)
                torch.minimum(goal, square.narrow(axis, there, left) + cost, out=goal)
        square = near
    return square.sqrt_()
