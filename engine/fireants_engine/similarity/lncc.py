"""Local normalised cross-correlation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.similarity.base import Loss, Term, mean_weights

_FLAT = 1e-4
"""Share of an image's own variance below which a window counts as flat."""


def _unit_variance(image: Tensor) -> Tensor:
    """Factor that brings the image to unit variance."""
    return image.var().clamp(min=torch.finfo(image.dtype).tiny).rsqrt()


@dataclass(frozen=True)
class LNCC(Term):
    """Minus the mean local correlation over windows of (2 radius_vox + 1)^d voxels.

    squared: correlation squared (either sign of contrast matches); otherwise signed.
    Invariant under a*I + b of either image: both are scaled to unit variance and the window
    variances damped by 1e-4 of it, so a flat window scores 0 whatever the unit (LESSONS 2).
    Samples outside the masks take no part in any window. The mean is over the masks, or the whole
    fixed image: what lies beyond the moving image's field of view scores 0, so that the match
    never improves by losing overlap.
    Thesis 5.4; Avants et al. 2008.
    """

    weight: float = 1.0
    radius_vox: int = 2
    squared: bool = True

    @property
    def reach_vox(self) -> int:
        return 2 * self.radius_vox

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        # means are removed too: float32 window variances lose digits on a large offset
        fixed_mean, moving_mean = pair.fixed.mean(), pair.moving.mean()
        fixed_scale, moving_scale = _unit_variance(pair.fixed), _unit_variance(pair.moving)

        def scaled_fixed(image: Tensor) -> Tensor:
            return (image - fixed_mean) * fixed_scale

        fixed = scaled_fixed(pair.fixed)
        kept = pair.fixed_mask if pair.moving_mask is None else None
        stats = ctx.kernels.window_stats(fixed, self.radius_vox, _FLAT, kept)

        def loss(views: Views) -> Tensor:
            own, used = fixed, stats
            moved = views.fixed is not pair.fixed  # by a model that moves the fixed image too
            if moved or views.mask is not kept:
                own = scaled_fixed(views.fixed) if moved else fixed
                used = ctx.kernels.window_stats(own, self.radius_vox, _FLAT, views.mask)
            moving = (views.moving - moving_mean) * moving_scale
            weight = mean_weights(views, everywhere=True)
            return -ctx.kernels.lncc(
                moving, own, used, weight, self.radius_vox, _FLAT, squared=self.squared
            )

        return loss
