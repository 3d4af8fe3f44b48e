"""A third image, which is not distorted, beside the pair."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Source, Views
from fireants_engine.similarity.base import Loss, Term
from fireants_engine.similarity.lncc import LNCC
from fireants_engine.similarity.mutual_information import MutualInformation

STRUCTURAL = "structural"
"""Name of the input: the image, where the true grid lies (given as both of its images)."""


@dataclass(frozen=True)
class Structural(Term):
    """How unlike the mean of both views is to an image of the true anatomy (T1, T2).

        D(T, mean over the channels of both views)

    measure: `mi` (any contrast) or `lncc` (squared correlation in windows of radius 2). For a
    deformation that moves both images onto a common grid, as phase_encode does. The image is the
    fixed one of the input `structural`. Andersson et al. 2003 have no such term; DR-BUDDI
    (Irfanoglu et al. 2015) has.
    """

    measure: Literal["mi", "lncc"] = "mi"

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.source, Source(STRUCTURAL))

    @property
    def inner(self) -> Term:
        """The similarity that compares the two."""
        return MutualInformation() if self.measure == "mi" else LNCC(radius_vox=2)

    @property
    def reach_vox(self) -> int:
        return self.inner.reach_vox

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        truth = pair.of(Source(STRUCTURAL)).fixed
        both = _mean(pair.fixed, pair.moving)
        inner = self.inner.bind(replace(pair, fixed=truth, moving=both, members=()), ctx)

        def loss(views: Views) -> Tensor:
            moved = _mean(views.fixed, views.moving)
            return inner(replace(views, fixed=truth, moving=moved))

        return loss


def _mean(fixed: Tensor, moving: Tensor) -> Tensor:
    """(N, 1, *spatial)."""
    return (fixed.mean(1, keepdim=True) + moving.mean(1, keepdim=True)) * 0.5
