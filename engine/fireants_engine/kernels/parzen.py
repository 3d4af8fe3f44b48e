"""Mutual information by a Parzen-window joint histogram in plain torch, gradient in closed form.

Fixed samples fall in their nearest bin, moving samples (m, in bin units, f = m - floor(m)) are
spread over the bins c = floor(m) + offset ... by weights B_k(f) that sum to 1:

    bspline   B-spline of order 3, four bins (Mattes et al. 2003)
    gaussian  exp(-2 (m - c)^2), sigma half a bin, over the same four bins and divided by their sum
    linear    B-spline of order 1, two bins: exact on images whose values sit on bin centres,
              where MI(x, x) = H(x)

With p the weighted joint histogram, p_f and p_m its marginals, H = -sum p log p in nats,

    MI = H(p_f) + H(p_m) - H(p),             dMI/dp  = log p - log p_m
    NMI = (H(p_f) + H(p_m)) / H(p),          dNMI/dp = (NMI log p - log p_m) / H(p)
    d/dm(x) = w(x) sum_k (d/dp)[fixed bin of x, c_k] B_k'(f);

constants vanish because sum_k B_k' = 0. B-splines are polynomials in f, so the histogram is made
of the sums of w f^j in each cell (fixed bin, floor(m)), and the gradient is a polynomial whose
coefficients stand in one table per power: one pass over the samples per power, each by the same
cell number, and no table of samples x bins (LESSONS 16).
Source: thesis 5.3; Mattes et al. 2003; Studholme et al. 1999 (NMI).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ParzenWindow = Literal["bspline", "gaussian", "linear"]

PAD = {"bspline": 2, "gaussian": 2, "linear": 0}
"""Bins that have to be free on either side of the moving image's values."""

_TAPS = {
    "bspline": torch.tensor(
        [[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]], dtype=torch.float64
    )
    / 6,
    "linear": torch.tensor([[1, -1], [0, 1]], dtype=torch.float64),
}
"""B_k(f) = sum_j _TAPS[k, j] f^j."""

_GAUSSIAN_BINS = (-1, 0, 1, 2)


def _cells(moving: Tensor, fixed_bin: Tensor, bins: int, window: str) -> tuple[Tensor, Tensor]:
    """(number fixed bin * bins + first bin of the window, f) of every sample, flat."""
    low, high = (0, bins - 2) if window == "linear" else (1, bins - 3)
    floor = moving.floor().clamp_(low, high)
    frac = moving - floor
    cell = floor.add_(fixed_bin, alpha=bins).sub_(low).to(torch.int64)
    # an image of NaN has no bins: its weights make the result NaN, not its cells an error
    return cell.clamp_(0, bins * bins - 1).flatten(), frac.flatten()


def _gaussian(frac: Tensor) -> list[Tensor]:
    """Weights of the four bins: exp(-2 (f - k)^2) without its common factor, over their sum."""
    e = torch.exp(4 * frac)
    parts = [e.reciprocal().mul_(0.1353352832366127), torch.ones_like(e)]  # exp(-2 k^2)
    parts += [e * 0.1353352832366127, (e * e).mul_(3.354626279025118e-4)]
    total = (parts[0] + parts[2]).add_(parts[3]).add_(1).reciprocal_()
    return [part.mul_(total) for part in parts]


def _sums(cell: Tensor, frac: Tensor, weight: Tensor, bins: int, window: str) -> Tensor:
    """(taps, bins, bins): what each tap of the window adds to [fixed bin, its first bin + tap]."""
    taps = 2 if window == "linear" else 4
    sums = torch.zeros(taps, bins * bins, device=frac.device, dtype=torch.float64)
    if window == "gaussian":
        for k, part in enumerate(_gaussian(frac)):
            sums[k].scatter_add_(0, cell, part.mul_(weight).double())
        return sums.view(taps, bins, bins)
    power = weight.double()
    for j in range(taps):
        if j:
            power = power * frac if j == 1 else power.mul_(frac)
        sums[j].scatter_add_(0, cell, power)
    return (_TAPS[window].to(sums.device) @ sums).view(taps, bins, bins)


def _joint(sums: Tensor) -> Tensor:
    """The taps' sums, each moved to its own bin and added up: (bins, bins)."""
    joint = sums[0].clone()
    for k in range(1, len(sums)):
        joint[:, k:] += sums[k, :, :-k]
    return joint.clamp_(min=0)  # rounding


def _score(p: Tensor, normalised: bool) -> tuple[Tensor, Tensor]:
    """MI or NMI of the joint distribution `p`, and its derivative by p up to constants."""
    row, col = p.sum(1, keepdim=True), p.sum(0, keepdim=True)
    tiny = 1e-300
    log_p = torch.log(p.clamp(min=1e-12))
    log_col = torch.log(col.clamp(min=1e-12))
    if not normalised:
        log_ratio = torch.log(p.clamp(min=tiny)) - torch.log((row * col).clamp(min=tiny))
        return (p * log_ratio).sum(), log_p - log_col
    row_h, col_h, both = (-torch.special.xlogy(q, q).sum() for q in (row, col, p))
    known = both > 1e-9  # of two constant images nothing can be said: 1, without gradient
    safe = torch.where(known, both, 1.0)
    nmi = torch.where(known, (row_h + col_h) / safe, 1.0)
    return nmi, (nmi * log_p - log_col) * (known / safe)


def _tap_tables(slope: Tensor, taps: int) -> Tensor:
    """(taps, bins, bins): d/dp at each tap's own bin, in order of the window's first bin."""
    tables = torch.zeros(taps, *slope.shape, device=slope.device, dtype=slope.dtype)
    for k in range(taps):
        tables[k, :, : slope.shape[1] - k] = slope[:, k:]
    return tables


class _ParzenMI(torch.autograd.Function):
    @staticmethod
    def forward(ctx, moving, fixed_bin, weight, bins, window, normalised):
        cell, frac = _cells(moving, fixed_bin, bins, window)
        flat = weight.expand_as(moving).flatten()
        joint = _joint(_sums(cell, frac, flat, bins, window))
        total = joint.sum().clamp(min=1e-300)
        value, slope = _score(joint / total, normalised)
        tables = _tap_tables(slope / total, 2 if window == "linear" else 4).flatten(1)
        if window != "gaussian":  # coefficients of f^j of the derivative
            taps = _TAPS[window].to(tables.device)
            degree = torch.arange(1, taps.shape[1], device=tables.device)
            tables = (taps[:, 1:] * degree).T @ tables
        ctx.save_for_backward(cell, frac, flat, tables.to(moving.dtype))
        ctx.shape, ctx.window = moving.shape, window
        return value.to(moving.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        cell, frac, weight, tables = ctx.saved_tensors
        at = [table.index_select(0, cell) for table in tables]
        if ctx.window == "gaussian":  # B_k' = 4 B_k (k - sum_j B_j j)
            middle, mean, out = (torch.zeros_like(frac) for _ in range(3))
            for k, part, value in zip(_GAUSSIAN_BINS, _gaussian(frac), at, strict=True):
                middle.add_(part, alpha=k)
                product = part.mul_(value)
                mean.add_(product)
                out.add_(product, alpha=4 * k)
            out.addcmul_(middle, mean, value=-4)
        else:
            out = at.pop()
            while at:
                out = out.mul_(frac).add_(at.pop())
        return out.mul_(weight).mul_(grads[0]).view(ctx.shape), None, None, None, None, None


def parzen_mi(
    moving_bin: Tensor,
    fixed_bin: Tensor,
    weight: Tensor,
    bins: int,
    *,
    window: ParzenWindow = "bspline",
    normalised: bool = False,
) -> Tensor:
    """Mutual information in nats of two images given in bin units; differentiable in the moving.

    moving_bin: any shape, float bin coordinate in [pad, bins - 1 - pad], pad = PAD[window];
    fixed_bin: same shape, whole numbers in [0, bins - 1], of any dtype (that of `moving_bin` is
    fastest); weight: broadcastable to it, >= 0; bins: at most 4096 (cells are counted in the
    images' own precision). normalised: (H(F) + H(M)) / H(F, M) instead, without unit, 1 for
    independent images, 2 for images that determine each other; 1 where both are constant.
    Without any weight MI is 0. Raises ValueError for an unknown window.
    """
    if window not in PAD:
        raise ValueError(f"Parzen windows are {', '.join(PAD)}, not {window!r}")
    return _ParzenMI.apply(moving_bin, fixed_bin, weight, bins, window, normalised)
