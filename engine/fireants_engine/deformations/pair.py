"""Pair: what is registered, on one pyramid level, and what else the terms may look at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

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


@dataclass(frozen=True)
class Pair:
    """Fixed and moving on one pyramid level, on the device: (1, C, *spatial); masks (1, 1, *).

    others: the same for every other Source that a term asks for; landmarks: in mm.
    """

    fixed: Tensor
    moving: Tensor
    fixed_grid: Grid
    moving_grid: Grid
    fixed_mask: Tensor | None = None
    moving_mask: Tensor | None = None
    others: Mapping[Source, Pair] = field(default_factory=dict)
    landmarks: Landmarks | None = None

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

    def voxel_matrix(self, affine: Affine) -> np.ndarray:
        """(d, d+1): fixed voxel -> moving voxel through `affine` (fixed mm -> moving mm)."""
        to_mm = self.fixed_grid.matrix("voxel", "mm")
        return (self.moving_grid.matrix("mm", "voxel") @ affine.matrix @ to_mm)[:-1]
