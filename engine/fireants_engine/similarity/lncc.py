"""Local normalised cross-correlation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.kernels.lncc import Gradient, Scaling, Window
from fireants_engine.ops.rows import pair_mean
from fireants_engine.similarity.base import Loss, Term, mean_weights

_FLAT = 1e-4
"""Share of an image's own variance below which a window counts as flat."""


def _unit_variance(image: Tensor) -> Scaling:
    """What brings each pair's image (N, C, *spatial) to mean 0 and variance 1."""
    variance = image.flatten(1).var(1).clamp(min=torch.finfo(image.dtype).tiny)
    # means are removed too: float32 window variances lose digits on a large offset
    return Scaling(pair_mean(image), variance.rsqrt())


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
        fixed_scaling, moving_scaling = _unit_variance(pair.fixed), _unit_variance(pair.moving)
        radius, window = self.radius_vox, self.window

        def stats_of(image: Tensor, mask: Tensor | None):
            how = {"window": window, "scaling": fixed_scaling}
            return ctx.kernels.window_stats(image, radius, _FLAT, mask, **how)

        kept = pair.fixed_mask if pair.moving_mask is None else None
        stats = stats_of(pair.fixed, kept)

        def loss(views: Views) -> Tensor:
            # a model may move the fixed image too
            still = views.fixed is pair.fixed and views.mask is kept
            return -ctx.kernels.lncc(
                views.moving,
                views.fixed,
                stats if still else stats_of(views.fixed, views.mask),
                mean_weights(views, everywhere=True),
                radius,
                _FLAT,
                squared=self.squared,
                gradient=self.gradient,
                scaling=moving_scaling,
            )

        return loss
