"""Local normalised cross-correlation in plain torch, with its gradient in closed form.

For each window of (2r+1)^d samples, means E over the samples inside the image, each counted by
its share w in the mask (1 where there is none):

    A = E[IJ] - E[I]E[J],   V_I = E[I^2] - E[I]^2,   V_J likewise
    squared:  cc = A^2 / ((V_I + e)(V_J + e))      signed:  cc = A / sqrt(...)

and, with a = dcc/dA and b = dcc/dV_J (each already weighted and divided by the window's count),

    d(sum cc)/dJ = w (I S[a] + 2 J S[b] - S[a E[I] + 2 b E[J]]),       S = window sum.

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
    """Window mean and damped variance of one image.

    mask: (B, 1, *spatial) share of each sample, None for 1; count: sum of the shares per window.
    """

    mean: Tensor
    var: Tensor
    count: Tensor
    mask: Tensor | None = None


def _mean(field: Tensor, radius: int, count: Tensor, mask: Tensor | None) -> Tensor:
    return box_sum(field if mask is None else field * mask, radius).div_(count)


def _moments(
    image: Tensor, radius: int, epsilon: float, count: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    mean = _mean(image, radius, count, mask)
    var = _mean(image * image, radius, count, mask)
    return mean, var.addcmul_(mean, mean, value=-1).clamp_(min=0).add_(epsilon)


def window_stats(
    image: Tensor, radius: int, epsilon: float, mask: Tensor | None = None
) -> WindowStats:
    """Mean and variance (+ epsilon) of `image` (B, C, *spatial) in every window.

    mask: (1, 1, *spatial) shares in [0, 1]; what it leaves out takes no part in any window.
    """
    if mask is None:
        count = box_count(image.shape[2:], radius, image)
    else:
        count = box_sum(mask, radius).clamp_(min=1e-3)
    return WindowStats(*_moments(image, radius, epsilon, count, mask), count, mask)


class _LNCC(torch.autograd.Function):
    @staticmethod
    def forward(ctx, moving, fixed, stats, weight, radius, epsilon, squared):
        mean, var = _moments(moving, radius, epsilon, stats.count, stats.mask)
        cross = _mean(fixed * moving, radius, stats.count, stats.mask)
        cross = cross.addcmul_(stats.mean, mean, value=-1)
        if squared:
            a = cross / (stats.var * var)
            cc = cross * a
            a = a.mul_(2)
            b = -(cc / var)
        else:
            a = (stats.var * var).rsqrt_()
            cc = cross * a
            b = -(cc / var).mul_(0.5)
        share = weight / stats.count
        ctx.save_for_backward(moving, fixed, stats.mean, mean, a.mul_(share), b.mul_(share))
        ctx.radius, ctx.mask = radius, stats.mask
        return (cc * weight).sum()

    @staticmethod
    def backward(ctx, *grads):
        moving, fixed, fixed_mean, mean, a, b = ctx.saved_tensors
        both = box_sum((a * fixed_mean).addcmul_(b, mean, value=2), ctx.radius)
        grad = box_sum(a, ctx.radius).mul_(fixed)
        grad = grad.addcmul_(box_sum(b, ctx.radius), moving, value=2).sub_(both)
        grad = grad.mul_(grads[0]) if ctx.mask is None else grad.mul_(grads[0] * ctx.mask)
        return grad, None, None, None, None, None, None


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
