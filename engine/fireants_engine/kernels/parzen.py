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


def _cubic(f: Tensor) -> list[Tensor]:
    """Cubic B-spline weights of the bins floor(m) - 1 ... floor(m) + 2; f = m - floor(m)."""
    g = 1 - f
    f2, g2 = f * f, g * g
    f3, g3 = f2 * f, g2 * g
    return [g3 / 6, 2 / 3 - f2 + f3 / 2, 2 / 3 - g2 + g3 / 2, f3 / 6]


def _cubic_slope(f: Tensor) -> list[Tensor]:
    """Derivatives of `_cubic` by f."""
    g = 1 - f
    f2, g2 = f * f, g * g
    return [g2 / -2, 1.5 * f2 - 2 * f, 2 * g - 1.5 * g2, f2 / 2]


def _linear(f: Tensor) -> list[Tensor]:
    """Hat weights of the bins floor(m) and floor(m) + 1."""
    return [1 - f, f]


def _linear_slope(f: Tensor) -> list[Tensor]:
    return [-torch.ones_like(f), torch.ones_like(f)]


class _ParzenMI(torch.autograd.Function):
    @staticmethod
    def forward(ctx, moving, fixed_bin, weight, bins, cubic):
        floor = moving.detach().floor()
        frac = moving.detach() - floor
        first = fixed_bin * bins + floor.to(torch.int64) - (1 if cubic else 0)
        column = floor.to(torch.int64) - (1 if cubic else 0)
        joint = torch.zeros(bins * bins, device=moving.device, dtype=torch.float64)
        for k, value in enumerate(_cubic(frac) if cubic else _linear(frac)):
            index = first + (column + k).clamp(0, bins - 1) - column
            joint.scatter_add_(0, index.flatten(), (value * weight).flatten().double())
        total = joint.sum().clamp(min=1e-300)
        p = (joint / total).view(bins, bins)
        row, col = p.sum(1, keepdim=True), p.sum(0, keepdim=True)
        tiny = 1e-300
        log_ratio = torch.log(p.clamp(min=tiny)) - torch.log((row * col).clamp(min=tiny))
        table = torch.log(p.clamp(min=1e-12)) - torch.log(col.clamp(min=1e-12))
        ctx.save_for_backward(frac, first, column, weight, (table / total).to(moving.dtype))
        ctx.bins, ctx.cubic = bins, cubic
        return (p * log_ratio).sum().to(moving.dtype)

    @staticmethod
    def backward(ctx, *grads):
        frac, first, column, weight, table = ctx.saved_tensors
        flat = table.flatten()
        out = torch.zeros_like(frac)
        for k, slope in enumerate(_cubic_slope(frac) if ctx.cubic else _linear_slope(frac)):
            index = first + (column + k).clamp(0, ctx.bins - 1) - column
            out.addcmul_(flat[index], slope)
        return out.mul_(weight).mul_(grads[0]), None, None, None, None


def parzen_mi(
    moving_bin: Tensor, fixed_bin: Tensor, weight: Tensor, bins: int, *, cubic: bool = True
) -> Tensor:
    """Mutual information in nats of two images given in bin units; differentiable in the moving.

    moving_bin: any shape, float bin coordinate in [pad, bins - 1 - pad] (pad 2 for cubic, 0 for
    linear); fixed_bin: same shape, int64 bin numbers; weight: same shape, >= 0.
    """
    return _ParzenMI.apply(moving_bin, fixed_bin, weight, bins, cubic)
