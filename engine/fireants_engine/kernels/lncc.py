"""Local normalised cross-correlation in plain torch, with its gradient in closed form.

For each window w of (2r+1)^d samples, means E over the samples inside the image:

    A = E[IJ] - E[I]E[J],   V_I = E[I^2] - E[I]^2,   V_J likewise
    squared:  cc = A^2 / ((V_I + e)(V_J + e))      signed:  cc = A / sqrt(...)

and, with a = dcc/dA and b = dcc/dV_J (each already weighted and divided by the window's count),

    d(sum cc)/dJ = I S[a] + 2 J S[b] - S[a E[I] + 2 b E[J]],       S = window sum.

Only three window sums forward (the fixed image's two are kept for the level) and three backward.
Source: thesis 5.4 (the gamma tensors, Algorithms 2 and 3), in the exact form.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fireants_engine.kernels.reference import box_count, box_sum


@dataclass(frozen=True)
class WindowStats:
    """Window mean and damped variance of one image; `count` is the samples per window."""

    mean: Tensor
    var: Tensor
    count: Tensor


def window_stats(image: Tensor, radius: int, epsilon: float) -> WindowStats:
    """Mean and variance (+ epsilon) of `image` (B, C, *spatial) in every window."""
    count = box_count(image.shape[2:], radius, image)
    mean = box_sum(image, radius).div_(count)
    var = box_sum(image * image, radius).div_(count)
    var = var.addcmul_(mean, mean, value=-1).clamp_(min=0).add_(epsilon)
    return WindowStats(mean, var, count)


class _LNCC(torch.autograd.Function):
    @staticmethod
    def forward(ctx, moving, fixed, stats, weight, radius, epsilon, squared):
        own = window_stats(moving, radius, epsilon)
        cross = box_sum(fixed * moving, radius).div_(stats.count)
        cross = cross.addcmul_(stats.mean, own.mean, value=-1)
        if squared:
            a = cross / (stats.var * own.var)
            cc = cross * a
            a = a.mul_(2)
            b = -(cc / own.var)
        else:
            a = (stats.var * own.var).rsqrt_()
            cc = cross * a
            b = -(cc / own.var).mul_(0.5)
        share = weight / stats.count
        ctx.save_for_backward(moving, fixed, stats.mean, own.mean, a.mul_(share), b.mul_(share))
        ctx.radius = radius
        return (cc * weight).sum()

    @staticmethod
    def backward(ctx, *grads):
        moving, fixed, fixed_mean, mean, a, b = ctx.saved_tensors
        both = box_sum((a * fixed_mean).addcmul_(b, mean, value=2), ctx.radius)
        grad = box_sum(a, ctx.radius).mul_(fixed)
        grad = grad.addcmul_(box_sum(b, ctx.radius), moving, value=2).sub_(both)
        return grad.mul_(grads[0]), None, None, None, None, None, None


def lncc(
    moving: Tensor,
    fixed: Tensor,
    fixed_stats: WindowStats,
    weight: Tensor,
    radius: int,
    epsilon: float,
    *,
    squared: bool = True,
) -> Tensor:
    """`sum(weight * cc)` over all windows and channels; differentiable in `moving`.

    moving, fixed: (B, C, *spatial); weight: broadcastable to them; epsilon: added to the moving
    variance. Higher is better.
    """
    return _LNCC.apply(moving, fixed, fixed_stats, weight, radius, epsilon, squared)
