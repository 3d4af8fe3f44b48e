"""Term: one summand of a stage's loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Source, Views
from fireants_engine.ops.rows import pair_sum, spread

Loss = Callable[[Views], Tensor]
"""The loss of each pair, (N,); of one pair alone a scalar will do."""


@dataclass(frozen=True, kw_only=True)
class Term(ABC):
    """A similarity or regulariser. Lower is better; one number per pair, differentiable.

    weight: its factor in the stage's loss; level_weights: further factors per level, coarse to
    fine, the last for all that follow. source: what it looks at. reach_vox: how far a sample's
    value depends on its neighbours (what a sharded run has to exchange).
    """

    weight: float = 1.0
    level_weights: tuple[float, ...] = ()
    source: Source = Source()  # noqa: RUF009 - frozen

    @property
    def sources(self) -> tuple[Source, ...]:
        """What it looks at: `source`, and what else `bind` takes from the pair."""
        return (self.source,)

    @property
    def needs(self) -> str:
        """Name of the input that has to be given for this term."""
        return self.sources[-1].name

    def at(self, level: int) -> Term:
        """The term on pyramid level number `level`."""
        if not self.level_weights:
            return self
        factor = self.level_weights[min(level, len(self.level_weights) - 1)]
        return replace(self, weight=self.weight * factor, level_weights=())

    @property
    @abstractmethod
    def reach_vox(self) -> int:
        """Neighbourhood radius in voxels."""

    @abstractmethod
    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        """The loss on one level; work that depends on the fixed image alone is done here, once."""


def mean_weights(views: Views, *, everywhere: bool = False) -> Tensor:
    """Weights of a mean over samples and channels of each pair, broadcastable to (N, C, *spatial).

    They sum to 1 per pair; with `everywhere` the mean is over the masks, or over the whole fixed
    image, and samples beyond the field of view count as 0.
    """
    if views.weight is None:
        return torch.full(
            (1,) * views.fixed.ndim,
            1.0 / views.fixed[0].numel(),
            device=views.fixed.device,
            dtype=views.fixed.dtype,
        )
    counted = views.mask if everywhere else views.weight
    samples = views.fixed[0, 0].numel()
    total = samples if counted is None else spread(pair_sum(counted).clamp(min=1e-6), counted)
    return views.weight / (total * views.fixed.shape[1])
