"""Mattes mutual information."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.similarity.base import Loss, Term


def to_bins(image: Tensor, low: Tensor, high: Tensor, bins: int, pad: int) -> Tensor:
    """Intensities as bin coordinates in [pad, bins - 1 - pad], clamped to [low, high]."""
    span = (high - low).clamp(min=torch.finfo(image.dtype).tiny)
    return ((image - low) / span).clamp(0, 1) * (bins - 1 - 2 * pad) + pad


@dataclass(frozen=True)
class MutualInformation(Term):
    """Minus the mutual information in nats, Parzen joint histogram of `bins` x `bins`.

    cubic: cubic B-spline window on the moving image (Mattes et al. 2003); otherwise linear, for
    which MI(x, x) = H(x) on images whose values fall on bin centres. Each image is binned over
    its own range (LESSONS 3); several channels are summed. Thesis 5.3.
    """

    weight: float = 1.0
    bins: int = 32
    cubic: bool = True

    @property
    def reach_vox(self) -> int:
        return 0

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        pad = 2 if self.cubic else 0
        m_low, m_high = pair.moving.amin(), pair.moving.amax()
        f_low, f_high = pair.fixed.amin(), pair.fixed.amax()

        def fixed_bins(image: Tensor) -> Tensor:
            return to_bins(image, f_low, f_high, self.bins, pad).round().to(torch.int64)

        bound = fixed_bins(pair.fixed)

        def loss(views: Views) -> Tensor:
            target = bound if views.fixed is pair.fixed else fixed_bins(views.fixed.detach())
            moving = to_bins(views.moving, m_low, m_high, self.bins, pad)
            weight = torch.ones_like(moving[:, :1]) if views.weight is None else views.weight
            total = moving.new_zeros(())
            for c in range(moving.shape[1]):
                total = total - ctx.kernels.parzen_mi(
                    moving[:, c], target[:, c], weight[:, 0], self.bins, cubic=self.cubic
                )
            return total

        return loss
