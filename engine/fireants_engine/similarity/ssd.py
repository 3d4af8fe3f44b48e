"""Sum of squared differences."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.ops.rows import pair_sum
from fireants_engine.similarity.base import Loss, Term, mean_weights


@dataclass(frozen=True)
class SSD(Term):
    """Weighted mean of `(F - M o phi)^2`, in units of the normalised intensity squared."""

    @property
    def reach_vox(self) -> int:
        return 0

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        def loss(views: Views) -> Tensor:
            difference = views.fixed - views.moving
            return pair_sum(difference * difference * mean_weights(views))

        return loss
