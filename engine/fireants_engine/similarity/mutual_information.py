"""Mattes mutual information."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.kernels.parzen import HISTOGRAMS, PAD, Histogram, ParzenWindow
from fireants_engine.similarity.base import Loss, Term


def _range(image: Tensor) -> Tensor:
    """(N, 2): least and largest intensity of each pair's image (N, C, *spatial)."""
    return torch.stack(image.flatten(1).aminmax(dim=1), 1)


@dataclass(frozen=True)
class MutualInformation(Term):
    """Minus the mutual information in nats, Parzen joint histogram of `bins` x `bins`.

        MI = H(F) + H(M) - H(F, M)        normalised: NMI = (H(F) + H(M)) / H(F, M), from 1 to 2

    window: how a sample of the moving image is spread over bins: "bspline" of order 3 (Mattes et
    al. 2003), "gaussian" of sigma half a bin, or "linear", for which MI(x, x) = H(x) and
    NMI(x, x) = 2 on images whose values fall on bin centres. Each image is binned over its own
    range (LESSONS 3), so that a I + b of either image scores the same; several channels are
    summed. normalised: Studholme et al. 1999, changes less with the overlap. histogram:
    "approximate" counts the moving image in its nearest bin too and convolves with the window
    afterwards (thesis 5.3.3): faster, a slightly other value, the gradient of the exact form.

    The fixed image is binned to the nearest bin, which has no gradient. Where a model moves it
    too (`views.fixed` requires a gradient), the loss is the mean of both one-sided losses, each
    differentiable in the image that is spread: swapping the images gives the same loss.

    Raises ValueError for an unknown window or histogram, or too few bins. Thesis 5.3.
    """

    bins: int = 32
    window: ParzenWindow = "bspline"
    normalised: bool = False
    histogram: Histogram = "exact"

    def __post_init__(self) -> None:
        if self.window not in PAD:
            raise ValueError(f"Parzen windows are {', '.join(PAD)}, not {self.window!r}")
        if self.histogram not in HISTOGRAMS:
            raise ValueError(f"Histograms are {', '.join(HISTOGRAMS)}, not {self.histogram!r}")
        if self.bins < 2 * PAD[self.window] + 2:
            raise ValueError(f"{self.bins} bins are too few for the {self.window} window")

    @property
    def reach_vox(self) -> int:
        return 0

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        f_range, m_range = _range(pair.fixed), _range(pair.moving)

        def one_sided(
            spread: Tensor, nearest: Tensor, ends: tuple[Tensor, Tensor], weight: Tensor | None
        ) -> Tensor:
            return -ctx.kernels.parzen_mi(
                *(spread, nearest, *ends, weight, self.bins),
                window=self.window,
                normalised=self.normalised,
                histogram=self.histogram,
            )

        def loss(views: Views) -> Tensor:
            fixed, moving, weight = views.fixed, views.moving, views.weight
            there = one_sided(moving, fixed, (m_range, f_range), weight)
            # without gradients a moved image shows none: the value has to be the same as with
            moved = fixed is not pair.fixed
            if not moved or (not fixed.requires_grad and torch.is_grad_enabled()):
                return there
            return 0.5 * (there + one_sided(fixed, moving, (f_range, m_range), weight))

        return loss
