"""Soft Dice overlap."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Source, Views
from fireants_engine.deformations.pair import LABELS
from fireants_engine.features.labels import OneHot
from fireants_engine.similarity.base import Loss, Term

_EMPTY = 1e-6
"""Summed squares (in voxels) up to which a channel is empty."""


@dataclass(frozen=True)
class Dice(Term):
    """1 minus the mean soft Dice overlap of the channels, in [0, 1].

        1 - mean_c  2 sum w F_c M_c / (sum w F_c^2 + sum w M_c^2),  w: masks and field of view

    With squares, equal maps score 0 also where they are soft (Milletari et al. 2016). Channels
    that are empty in both images count as nothing; when all are, the loss is 0. A channel that
    is empty in one image counts as no overlap.
    source: soft label maps by default; any maps with values in [0, 1] will do, e.g. tissue
    probabilities given as further images (`Source("tissue")`). Thesis B.3 (overlap).
    """

    source: Source = Source(LABELS, OneHot())  # noqa: RUF009 - frozen

    @property
    def reach_vox(self) -> int:
        return 0

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        axes = tuple(range(2, pair.fixed.ndim))

        def loss(views: Views) -> Tensor:
            fixed, moving = views.fixed, views.moving
            weighted = moving if views.weight is None else moving * views.weight
            counted = fixed if views.weight is None else fixed * views.weight
            cross = (fixed * weighted).sum(axes)
            power = (fixed * counted).sum(axes) + (moving * weighted).sum(axes)
            there = (power.detach() > _EMPTY).to(power.dtype)
            lost = there * (1 - 2 * cross / power.clamp(min=_EMPTY))
            return lost.sum(1) / there.sum(1).clamp(min=1)

        return loss
