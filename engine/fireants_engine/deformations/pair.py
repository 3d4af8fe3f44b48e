"""Pair: what is registered, on one pyramid level, and what else the terms may look at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Landmarks
from fireants_engine.transforms import Affine

Masks = Literal["both", "fixed", "moving", "none"]
IMAGE = "image"
"""Name of the pair that is registered, among the named inputs of a run."""
LABELS, LANDMARKS = "labels", "landmarks"
"""Names of the label maps of both images and of corresponding points, likewise."""


class FeatureExtractor(ABC):
    """What a term compares instead of intensities; frozen, so that equal extractors are shared."""

    def resolved(self, fixed: Tensor, moving: Tensor) -> FeatureExtractor:
        """The extractor for these two images (1, C, *full), where it depends on both of them."""
        return self

    def turned(self, axes: np.ndarray) -> FeatureExtractor:
        """The extractor for the moving image, in which the axes of the fixed one run as `axes`.

        axes: (d, d) orthogonal, both in array order, column i: axis i of the fixed image in the
        moving one, in mm. Default: features that do not tell directions.
        """
        return self

    @abstractmethod
    def __call__(self, data: Tensor, grid: Grid, shrink: Callable[[Tensor], Tensor]) -> Tensor:
        """Features (1, K, *level) of `data` (1, C, *full) on `grid`.

        shrink: brings (1, k, *full) to the level with anti-aliasing; whether features are made
        before or after it is the extractor's decision.
        """


@dataclass(frozen=True)
class Source:
    """What a term looks at: a named input, features of it, some channels, and which masks count.

    channels: numbers of the (feature) channels, None for all.
    """

    name: str = IMAGE
    features: FeatureExtractor | None = None
    channels: tuple[int, ...] | None = None
    masks: Masks = "both"


def _stacked(masks: Sequence[Tensor | None], like: Tensor) -> Tensor | None:
    """(N, 1, *spatial) masks of a batch, None where no pair has one."""
    if all(mask is None for mask in masks):
        return None
    ones = torch.ones_like(like[:, :1])
    return torch.cat([ones if mask is None else mask for mask in masks])


@dataclass(frozen=True)
class Pair:
    """Fixed and moving on one pyramid level, on the device: (N, C, *spatial); masks (N, 1, *).

    N is 1 but in a batch, which `stack` makes: then `each` are its pairs alone, and the grids (the
    first pair's) stand for what all have in common, sizes and spacings.
    others: the same for every other Source that a term asks for; landmarks: in mm.
    zooms_mm: voxel sizes (array axes) of the fixed and of the moving image themselves, which a
    level's grids do not tell; () where they are those of the grids.
    """

    fixed: Tensor
    moving: Tensor
    fixed_grid: Grid
    moving_grid: Grid
    fixed_mask: Tensor | None = None
    moving_mask: Tensor | None = None
    others: Mapping[Source, Pair] = field(default_factory=dict)
    landmarks: Landmarks | None = None
    members: tuple[Pair, ...] = ()
    zooms_mm: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def stack(cls, pairs: Sequence[Pair]) -> Pair:
        """N pairs of the same sizes and spacings as one; a mask that only some have is 1 in others.

        Raises InputError where a source shows another number of channels in one than in another.
        """
        first = pairs[0]
        if len(pairs) == 1:
            return first
        for pair in pairs:
            if pair.fixed.shape != first.fixed.shape or pair.moving.shape != first.moving.shape:
                raise InputError(
                    "A batch needs pairs of one size with the same channels or common labels: "
                    f"{tuple(pair.fixed.shape[1:])} and {tuple(pair.moving.shape[1:])} beside "
                    f"{tuple(first.fixed.shape[1:])} and {tuple(first.moving.shape[1:])} "
                    "(channels, z, y, x); run those pairs on their own."
                )
        others = {s: cls.stack([pair.others[s] for pair in pairs]) for s in first.others}
        whole = replace(
            first,
            fixed=torch.cat([pair.fixed for pair in pairs]),
            moving=torch.cat([pair.moving for pair in pairs]),
            fixed_mask=_stacked([pair.fixed_mask for pair in pairs], first.fixed),
            moving_mask=_stacked([pair.moving_mask for pair in pairs], first.moving),
            others=others,
        )
        members = [  # views: nothing is held twice
            replace(
                pair,
                fixed=whole.fixed.narrow(0, k, 1),
                moving=whole.moving.narrow(0, k, 1),
                others={source: other.each[k] for source, other in others.items()},
            )
            for k, pair in enumerate(pairs)
        ]
        return replace(whole, members=tuple(members))

    @property
    def each(self) -> tuple[Pair, ...]:
        """The pairs of this batch, alone."""
        return self.members or (self,)

    def unmasked(self, image: Literal["fixed", "moving"]) -> list[int]:
        """Numbers of the pairs whose `image` has no mask, in a batch where others have one."""
        return [k for k, one in enumerate(self.each) if getattr(one, f"{image}_mask") is None]

    def rows(self, numbers: Sequence[int]) -> Pair:
        """The batch of the pairs with these numbers."""
        each = self.each
        return self if len(numbers) == len(each) else Pair.stack([each[k] for k in numbers])

    def of(self, source: Source) -> Pair:
        """The pair of another source on the same two grids."""
        return self if source == Source() else self.others[source]

    def looked_at(self, source: Source) -> Pair:
        """This pair with the channels and masks of `source` only.

        Raises InputError for a channel that is not there.
        """
        fixed, moving = self.fixed, self.moving
        if source.channels is not None:
            count = fixed.shape[1]
            if any(channel >= count for channel in source.channels):
                raise InputError(
                    f"A term asks for channel {max(source.channels)} of {source.name!r}, which "
                    f"has {count} (0 to {count - 1}); change its channels."
                )
            fixed, moving = (image[:, list(source.channels)] for image in (fixed, moving))
        return replace(
            self,
            fixed=fixed,
            moving=moving,
            fixed_mask=self.fixed_mask if source.masks in ("both", "fixed") else None,
            moving_mask=self.moving_mask if source.masks in ("both", "moving") else None,
        )

    @cached_property
    def field_of_view(self) -> Tensor:
        """1 at every sample of the moving image: warped, it tells what lies inside."""
        return torch.ones_like(self.moving[:, :1])

    def voxel_matrices(self, affines: Sequence[Affine], ctx: ExecutionContext) -> Tensor:
        """(N, d, d+1): fixed voxel -> moving voxel through each pair's affine."""
        found = [p.voxel_matrix(a) for p, a in zip(self.each, affines, strict=True)]
        return torch.as_tensor(np.stack(found), device=ctx.device, dtype=ctx.dtype)

    def voxel_matrix(self, affine: Affine) -> np.ndarray:
        """(d, d+1): fixed voxel -> moving voxel through `affine` (fixed mm -> moving mm)."""
        to_mm = self.fixed_grid.matrix("voxel", "mm")
        return (self.moving_grid.matrix("mm", "voxel") @ affine.matrix @ to_mm)[:-1]
