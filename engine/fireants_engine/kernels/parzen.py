"""Mutual information by a Parzen-window joint histogram in plain torch, gradient in closed form.

Fixed samples fall in their nearest bin, moving samples are spread over neighbouring bins by a
B-spline window of order 3 (Mattes) or 1 (exact on images whose values sit on bin centres, where
MI(x, x) = H(x)). With p the weighted joint histogram and p_m its moving marginal,

    MI = sum p log(p / (p_f p_m)),     dMI/dm(x) = w(x) sum_k log(p / p_m)[f(x), k] B'(m(x) - k),

constants vanish because sum_k B' = 0. One pass over the samples per window tap, no table of
samples x bins (LESSONS 16). Source: thesis 5.3; Mattes et al. 2003.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _cubic(t: Tensor) -> tuple[Tensor, Tensor]:
    """Cubic B-spline and its derivative at |t| <= 2."""
    s = t.abs()
    far = (2 - s).clamp(min=0)
    inner = s < 1
    value = torch.where(inner, 2 / 3 - s * s + 0.5 * s**3, far**3 / 6)
    slope = torch.where(inner, -2 * s + 1.5 * s * s, -0.5 * far * far)
    return value, slope * t.sign()


def _linear(t: Tensor) -> tuple[Tensor, Tensor]:
    """Hat function and its derivative at |t| <= 1."""
    s = t.abs()
    return (1 - s).clamp(min=0), -t.sign() * (s < 1).to(t.dtype)


class _ParzenMI(torch.autograd.Function):
    @staticmethod
    def forward(ctx, moving, fixed_bin, weight, bins, cubic):
        window, reach = (_cubic, 2) if cubic else (_linear, 1)
        first = moving.detach().floor().to(torch.int64) - (reach - 1)
        joint = torch.zeros(bins * bins, device=moving.device, dtype=torch.float64)
        base = fixed_bin * bins
        for k in range(2 * reach):
            column = first + k
            value, _ = window(moving - column)
            index = (base + column.clamp(0, bins - 1)).flatten()
            joint.scatter_add_(0, index, (value * weight).flatten().double())
        total = joint.sum().clamp(min=1e-300)
        p = (joint / total).view(bins, bins)
        row, col = p.sum(1, keepdim=True), p.sum(0, keepdim=True)
        tiny = 1e-300
        log_ratio = torch.log(p.clamp(min=tiny)) - torch.log((row * col).clamp(min=tiny))
        table = torch.log(p.clamp(min=1e-12)) - torch.log(col.clamp(min=1e-12))
        ctx.save_for_backward(moving, fixed_bin, weight, (table / total).to(moving.dtype), first)
        ctx.bins, ctx.window, ctx.reach = bins, window, reach
        return (p * log_ratio).sum().to(moving.dtype)

    @staticmethod
    def backward(ctx, *grads):
        moving, fixed_bin, weight, table, first = ctx.saved_tensors
        base, flat = fixed_bin * ctx.bins, table.flatten()
        out = torch.zeros_like(moving)
        for k in range(2 * ctx.reach):
            column = first + k
            _, slope = ctx.window(moving - column)
            out.addcmul_(flat[base + column.clamp(0, ctx.bins - 1)], slope)
        return out.mul_(weight).mul_(grads[0]), None, None, None, None


def parzen_mi(
    moving_bin: Tensor, fixed_bin: Tensor, weight: Tensor, bins: int, *, cubic: bool = True
) -> Tensor:
    """Mutual information in nats of two images given in bin units; differentiable in the moving.

    moving_bin: any shape, float bin coordinate in [pad, bins - 1 - pad] (pad 2 for cubic, 0 for
    linear); fixed_bin: same shape, int64 bin numbers; weight: same shape, >= 0.
    """
    return _ParzenMI.apply(moving_bin, fixed_bin, weight, bins, cubic)
