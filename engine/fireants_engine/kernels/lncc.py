"""Local normalised cross-correlation in plain torch, with its gradients in closed form.

For each window, means E over the samples inside the image, each counted by its share w in the
mask (1 where there is none) and by the window's own weights (box: 1 within the radius; gaussian:
sigma = radius / 2 voxels, cut at the radius):

    A = E[IJ] - E[I]E[J],   V_I = E[I^2] - E[I]^2,   V_J likewise
    squared:  cc = A^2 / ((V_I + e)(V_J + e))      signed:  cc = A / sqrt(...)

and, with S the window sum, a = dcc/dA, b_J = dcc/dV_J and b_I = dcc/dV_I (each already weighted
and divided by the window's count),

    d(sum cc)/dJ = w (I S[a] + 2 J S[b_J] - S[a E[I] + 2 b_J E[J]])
    d(sum cc)/dI = w (J S[a] + 2 I S[b_I] - S[a E[J] + 2 b_I E[I]]).

Only three window sums forward (the fixed image's two are kept for the level) and three backward,
five where both images move. Source: thesis 5.4 (the gamma tensors, Algorithms 2 and 3), in the
exact form; the approximate one (ANTs, end of thesis 5.4.1) takes the gamma tensors of the sample's
own window for their window means, with a and b not divided by the count:

    d(sum cc)/dJ ~ w (a (I - E[I]) + 2 b_J (J - E[J])).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fireants_engine.kernels.reference import (
    box_count,
    box_sum,
    gaussian_count,
    gaussian_sum,
    spread,
)

Window = Literal["box", "gaussian"]
Gradient = Literal["exact", "approximate"]


class Scaling(NamedTuple):
    """How an image is seen: `(image - center) * factor`; (B,) each, one number per image.

    Brings images of any unit to unit variance, which is what epsilon is measured against.
    """

    center: Tensor
    factor: Tensor

    def of(self, image: Tensor) -> Tensor:
        """The scaled image (B, C, *spatial)."""
        return (image - spread(self.center, image)) * spread(self.factor, image)


@dataclass(frozen=True)
class WindowStats:
    """Window mean and damped variance of one image; constants of the level.

    mean, var: (B, C, *spatial), of the scaled image; count: sum of the shares (times window
    weights) per window; mask: (B, 1, *spatial) share of each sample, None for 1; window: its
    shape; scaling: the image's, None for none.
    """

    mean: Tensor
    var: Tensor
    count: Tensor
    mask: Tensor | None = None
    window: Window = "box"
    scaling: Scaling | None = None


def _sum(field: Tensor, radius: int, window: Window) -> Tensor:
    return box_sum(field, radius) if window == "box" else gaussian_sum(field, radius)


def _mean(field: Tensor, radius: int, window: Window, count: Tensor, mask: Tensor | None) -> Tensor:
    return _sum(field if mask is None else field * mask, radius, window).div_(count)


def _moments(
    image: Tensor, radius: int, epsilon: float, window: Window, count: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    mean = _mean(image, radius, window, count, mask)
    var = _mean(image * image, radius, window, count, mask)
    return mean, var.addcmul_(mean, mean, value=-1).clamp_(min=0).add_(epsilon)


@torch.no_grad()
def window_stats(
    image: Tensor,
    radius: int,
    epsilon: float,
    mask: Tensor | None = None,
    *,
    window: Window = "box",
    scaling: Scaling | None = None,
) -> WindowStats:
    """What `lncc` keeps of a fixed `image` (B, C, *spatial): here mean and variance (+ epsilon)
    in every window, in other backends something else.

    radius: voxels; epsilon: in units of the scaled image squared; mask: (B, 1, *spatial) shares in
    [0, 1]: what it leaves out takes no part in any window; scaling: None for the image as it is.
    Without gradient: `lncc` knows how the statistics depend on the image.
    """
    image = image if scaling is None else scaling.of(image)
    if mask is not None:
        count = _sum(mask, radius, window).clamp_(min=1e-3)
    elif window == "box":
        count = box_count(image.shape[2:], radius, image)
    else:
        count = gaussian_count(image.shape[2:], radius, image)
    moments = _moments(image, radius, epsilon, window, count, mask)
    return WindowStats(*moments, count, mask, window, scaling)


class _LNCC(torch.autograd.Function):
    @staticmethod
    def forward(ctx, moving, fixed, stats, weight, radius, epsilon, squared, exact):
        window, count, mask = stats.window, stats.count, stats.mask
        mean, var = _moments(moving, radius, epsilon, window, count, mask)
        cross = _mean(fixed * moving, radius, window, count, mask)
        cross = cross.addcmul_(stats.mean, mean, value=-1)
        if squared:
            a = cross / (stats.var * var)
            cc = cross * a
            a = a.mul_(2)
            half = -cc
        else:
            a = (stats.var * var).rsqrt_()
            cc = cross * a
            half = cc * -0.5
        share = weight / count if exact else weight
        b_fixed = (half / stats.var).mul_(share) if ctx.needs_input_grad[1] else None
        b = half.div_(var).mul_(share)
        ctx.save_for_backward(moving, fixed, stats.mean, mean, a.mul_(share), b, b_fixed)
        ctx.radius, ctx.mask, ctx.window, ctx.exact = radius, mask, window, exact
        return (cc * weight).flatten(1).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        moving, fixed, fixed_mean, mean, a, b, b_fixed = ctx.saved_tensors
        scale = grads[0].view(-1, *(1,) * (moving.ndim - 1))
        scale = scale if ctx.mask is None else scale * ctx.mask
        sum_a = _sum(a, ctx.radius, ctx.window) if ctx.exact else a

        def gradient(other, other_mean, own, own_mean, slope):
            """d(sum cc)/d(own)."""
            both = (a * other_mean).addcmul_(slope, own_mean, value=2)
            if ctx.exact:
                both = _sum(both, ctx.radius, ctx.window)
                slope = _sum(slope, ctx.radius, ctx.window)
            return (sum_a * other).addcmul_(slope, own, value=2).sub_(both).mul_(scale)

        want_moving, want_fixed = ctx.needs_input_grad[:2]
        moving_grad = gradient(fixed, fixed_mean, moving, mean, b) if want_moving else None
        fixed_grad = gradient(moving, mean, fixed, fixed_mean, b_fixed) if want_fixed else None
        return moving_grad, fixed_grad, None, None, None, None, None, None


def lncc(
    moving: Tensor,
    fixed: Tensor,
    fixed_stats: WindowStats,
    weight: Tensor,
    radius: int,
    epsilon: float,
    *,
    squared: bool = True,
    gradient: Gradient = "exact",
    scaling: Scaling | None = None,
) -> Tensor:
    """`sum(weight * cc)` over all windows and channels of each image, (B,); differentiable once
    in both images.

    moving, fixed: (B, C, *spatial), unscaled; fixed_stats: `window_stats` of this `fixed` with the
    same radius and epsilon, where the mask, the window's shape and the fixed image's scaling come
    from; weight: broadcastable to the images; epsilon: added to the variances of the scaled
    images; scaling: the moving image's, None for the image as it is. Higher is better; in
    [-sum(weight), sum(weight)]. The gradients are by the images as given; that by `fixed` (its
    statistics included) is computed only if it is required. gradient: "exact", or "approximate"
    without the window sums of the backward pass: cheaper, another direction. Thesis 5.4.
    """
    moving = moving if scaling is None else scaling.of(moving)
    fixed = fixed if fixed_stats.scaling is None else fixed_stats.scaling.of(fixed)
    exact = gradient == "exact"
    return _LNCC.apply(moving, fixed, fixed_stats, weight, radius, epsilon, squared, exact)
