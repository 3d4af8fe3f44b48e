"""Mattes mutual information."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.kernels.parzen import PAD, ParzenWindow
from fireants_engine.ops.rows import spread
from fireants_engine.similarity.base import Loss, Term


def to_bins(image: Tensor, low: Tensor, high: Tensor, bins: int, pad: int) -> Tensor:
    """Intensities as bin coordinates in [pad, bins - 1 - pad], clamped to [low, high].

    low, high: in the unit of `image`, broadcastable to it; where they are equal all samples fall
    on `pad`.
    """
    span = (high - low).clamp(min=torch.finfo(image.dtype).tiny)
    return (image - low).div_(span).clamp(0, 1).mul_(bins - 1 - 2 * pad).add_(pad)


def _ends(image: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest intensity of each pair's image (N, C, *spatial), broadcastable to it."""
    low, high = image.flatten(1).aminmax(dim=1)
    return spread(low, image), spread(high, image)


@dataclass(frozen=True)
class MutualInformation(Term):
    """Minus the mutual information in nats, Parzen joint histogram of `bins` x `bins`.

        MI = H(F) + H(M) - H(F, M)        normalised: NMI = (H(F) + H(M)) / H(F, M), from 1 to 2

    window: how a sample of the moving image is spread over bins: "bspline" of order 3 (Mattes et
    al. 2003), "gaussian" of sigma half a bin, or "linear", for which MI(x, x) = H(x) and
    NMI(x, x) = 2 on images whose values fall on bin centres. Each image is binned over its own
    range (LESSONS 3), so that a I + b of either image scores the same; several channels are
    summed. normalised: Studholme et al. 1999, changes less with the overlap.

    The fixed image is binned to the nearest bin, which has no gradient. Where a model moves it
    too (`views.fixed` requires a gradient), the loss is the mean of both one-sided losses, each
    differentiable in the image that is spread: swapping the images gives the same loss.

    Raises ValueError for an unknown window or too few bins. Thesis 5.3.
    """

    bins: int = 32
    window: ParzenWindow = "bspline"
    normalised: bool = False

    def __post_init__(self) -> None:
        if self.window not in PAD:
            raise ValueError(f"Parzen windows are {', '.join(PAD)}, not {self.window!r}")
        if self.bins < 2 * PAD[self.window] + 2:
            raise ValueError(f"{self.bins} bins are too few for the {self.window} window")

    @property
    def reach_vox(self) -> int:
        return 0

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        pad = PAD[self.window]
        f_range, m_range = _ends(pair.fixed), _ends(pair.moving)

        def binned(image: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
            return to_bins(image, *ends, self.bins, pad)

        bound = binned(pair.fixed, f_range).round_()

        def one_sided(soft: Tensor, nearest: Tensor, weight: Tensor) -> Tensor:
            pairs, channels = soft.shape[:2]
            scores = [
                ctx.kernels.parzen_mi(
                    soft[n, c],
                    nearest[n, c],
                    weight[n if len(weight) > 1 else 0, 0],
                    self.bins,
                    window=self.window,
                    normalised=self.normalised,
                )
                for n in range(pairs)
                for c in range(channels)
            ]
            return -torch.stack(scores).view(pairs, channels).sum(1)

        def loss(views: Views) -> Tensor:
            moving = binned(views.moving, m_range)
            weight = torch.ones_like(moving[:, :1]) if views.weight is None else views.weight
            if views.fixed is pair.fixed:
                return one_sided(moving, bound, weight)
            fixed = binned(views.fixed, f_range)
            there = one_sided(moving, fixed.detach().round(), weight)
            # without gradients a moved image shows none: the value has to be the same as with
            if not views.fixed.requires_grad and torch.is_grad_enabled():
                return there
            return 0.5 * (there + one_sided(fixed, moving.detach().round(), weight))

        return loss
