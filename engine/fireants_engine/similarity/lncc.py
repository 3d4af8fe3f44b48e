"""Local normalised cross-correlation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.kernels.lncc import Gradient, Window
from fireants_engine.ops.rows import pair_mean, spread
from fireants_engine.similarity.base import Loss, Term, mean_weights

_FLAT = 1e-4
"""Share of an image's own variance below which a window counts as flat."""


def _unit_variance(image: Tensor) -> Tensor:
    """Factor that brings each pair's image (N, C, *spatial) to unit variance, broadcastable."""
    variance = image.flatten(1).var(1).clamp(min=torch.finfo(image.dtype).tiny)
    return spread(variance.rsqrt(), image)


@dataclass(frozen=True)
class LNCC(Term):
    """Minus the mean local correlation over windows of (2 radius_vox + 1)^d voxels.

        A^2 / (V_F V_M), or A / sqrt(V_F V_M) unless `squared`; A, V: covariance and variances

    squared: correlation squared (either sign of contrast matches); otherwise signed.
    window: "box", or "gaussian" of sigma = radius_vox / 2 cut at the radius.
    gradient: "exact", or "approximate" without the window sums of the backward pass (ANTs):
    about 1.7 times as fast, but 12 to 37 degrees off on smooth images, most for small windows.
    level_radii_vox: radius per pyramid level, coarse to fine, the last for all that follow;
    empty for `radius_vox` on every level. Taken by `at(level)`.

    Invariant under a*I + b of either image: both are scaled to unit variance and the window
    variances damped by 1e-4 of it, so a flat window scores 0 whatever the unit (LESSONS 2).
    Samples outside the masks take no part in any window. The mean is over the masks, or the whole
    fixed image: what lies beyond the moving image's field of view scores 0, so that the match
    never improves by losing overlap. Differentiable in both images where a model moves both.
    Raises ValueError for an unknown window or gradient or a radius below 1.
    Thesis 5.4; Avants et al. 2008.
    """

    radius_vox: int = 2
    squared: bool = True
    window: Window = "box"
    gradient: Gradient = "exact"
    level_radii_vox: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.window not in ("box", "gaussian"):
            raise ValueError(f"LNCC windows are box and gaussian, not {self.window!r}")
        if self.gradient not in ("exact", "approximate"):
            raise ValueError(f"LNCC gradients are exact and approximate, not {self.gradient!r}")
        if min(self.radius_vox, *self.level_radii_vox, 1) < 1:
            raise ValueError("the radius of an LNCC window is at least 1 voxel")

    @property
    def reach_vox(self) -> int:
        radius = max(self.radius_vox, *self.level_radii_vox, 1)
        return radius if self.gradient == "approximate" else 2 * radius

    def at(self, level: int) -> Term:
        """The term on pyramid level number `level` (0 is the coarsest): its weight and radius."""
        radii = self.level_radii_vox
        if not radii:
            return super().at(level)
        radius = radii[min(level, len(radii) - 1)]
        return replace(self, radius_vox=radius, level_radii_vox=()).at(level)

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        # means are removed too: float32 window variances lose digits on a large offset
        fixed_mean = spread(pair_mean(pair.fixed), pair.fixed)
        moving_mean = spread(pair_mean(pair.moving), pair.moving)
        fixed_scale, moving_scale = _unit_variance(pair.fixed), _unit_variance(pair.moving)
        radius, window = self.radius_vox, self.window

        def scaled_fixed(image: Tensor) -> Tensor:
            return (image - fixed_mean) * fixed_scale

        fixed = scaled_fixed(pair.fixed)
        kept = pair.fixed_mask if pair.moving_mask is None else None
        stats = ctx.kernels.window_stats(fixed, radius, _FLAT, kept, window=window)

        def loss(views: Views) -> Tensor:
            own, used = fixed, stats
            moved = views.fixed is not pair.fixed  # by a model that moves the fixed image too
            if moved or views.mask is not kept:
                own = scaled_fixed(views.fixed) if moved else fixed
                used = ctx.kernels.window_stats(own, radius, _FLAT, views.mask, window=window)
            moving = (views.moving - moving_mean) * moving_scale
            return -ctx.kernels.lncc(
                moving,
                own,
                used,
                mean_weights(views, everywhere=True),
                radius,
                _FLAT,
                squared=self.squared,
                gradient=self.gradient,
            )

        return loss
