"""Global normalised cross-correlation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.ops.rows import pair_sum, spread
from fireants_engine.similarity.base import Loss, Term


@dataclass(frozen=True)
class NCC(Term):
    """Minus the correlation coefficient of the whole images, weighted, mean over the channels.

        r = sum w (F - F') (M - M') / sqrt(sum w (F - F')^2 sum w (M - M')^2),  ' = weighted mean

    Invariant under a I + b (a > 0) of either image. squared: r^2 instead, which also matches
    inverted contrast. A constant image scores 0.
    """

    squared: bool = False

    @property
    def reach_vox(self) -> int:
        return 0

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        axes = tuple(range(2, pair.fixed.ndim))

        def loss(views: Views) -> Tensor:
            weight = torch.ones_like(views.fixed[:, :1]) if views.weight is None else views.weight
            share = weight / spread(pair_sum(weight).clamp(min=1e-6), weight)
            fixed = views.fixed - (views.fixed * share).sum(axes, keepdim=True)
            moving = views.moving - (views.moving * share).sum(axes, keepdim=True)
            pulled = moving * share
            cross = (fixed * pulled).sum(axes)
            power = (fixed * fixed * share).sum(axes) * (moving * pulled).sum(axes)
            r = cross / power.clamp(min=1e-12).sqrt()
            return -(r * r if self.squared else r).mean(1)

        return loss
