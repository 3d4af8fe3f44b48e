"""Mutual information by a Parzen-window joint histogram in plain torch, gradient in closed form.

Both images are binned over their own range, `to_bins`. Fixed samples fall in their nearest bin,
moving samples (m, in bin units, f = m - floor(m)) are spread over the bins c = floor(m) + offset
... by weights B_k(f) that sum to 1:

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

The approximate histogram counts the moving samples in their nearest bin too and convolves with
the window afterwards, B_k(0) along the moving axis: one sum instead of one per power. Its p stands
in the formulas above; the gradient keeps the true f.
Source: thesis 5.3, 5.3.3 (approximate); Mattes et al. 2003; Studholme et al. 1999 (NMI).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ParzenWindow = Literal["bspline", "gaussian", "linear"]
Histogram = Literal["exact", "approximate"]

PAD = {"bspline": 2, "gaussian": 2, "linear": 0}
"""Bins that have to be free on either side of the moving image's values."""

HISTOGRAMS = ("exact", "approximate")

MOST_BINS = 4096
"""Cells are counted in the images' own precision: bins^2 has to be exact in float32."""

_TAPS = {
    "bspline": torch.tensor(
        [[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]], dtype=torch.float64
    )
    / 6,
    "linear": torch.tensor([[1, -1], [0, 1]], dtype=torch.float64),
}
"""B_k(f) = sum_j _TAPS[k, j] f^j."""

_GAUSSIAN_BINS = (-1, 0, 1, 2)


def to_bins(image: Tensor, low: Tensor, high: Tensor, bins: int, pad: int) -> Tensor:
    """Intensities as bin coordinates in [pad, bins - 1 - pad], clamped to [low, high].

    low, high: in the unit of `image`, broadcastable to it; where they are equal all samples fall
    on `pad`, without gradient.
    """
    span = high - low
    span = torch.where(span == 0, torch.inf, span)
    return (image - low).div_(span).clamp(0, 1).mul_(bins - 1 - 2 * pad).add_(pad)


def check(
    moving: Tensor,
    fixed: Tensor,
    ranges: tuple[Tensor, Tensor],
    weight: Tensor | None,
    bins: int,
    window: str,
    histogram: str,
) -> None:
    """Raise ValueError for what `parzen_mi` cannot take."""
    if window not in PAD:
        raise ValueError(f"Parzen windows are {', '.join(PAD)}, not {window!r}")
    if histogram not in HISTOGRAMS:
        raise ValueError(f"Parzen histograms are {', '.join(HISTOGRAMS)}, not {histogram!r}")
    if not 2 * PAD[window] + 2 <= bins <= MOST_BINS:
        raise ValueError(f"{bins} bins do not fit the {window} window (at most {MOST_BINS})")
    if moving.ndim < 3 or fixed.shape != moving.shape:
        raise ValueError(
            f"parzen_mi: images of shape {tuple(moving.shape)} and {tuple(fixed.shape)}; both have "
            "to be (pairs, channels, *spatial)"
        )
    if any(ends.shape != (len(moving), 2) for ends in ranges):
        raise ValueError(f"parzen_mi: ranges have to be ({len(moving)}, 2): low and high per pair")
    if weight is not None:
        fits = {(rows, 1, *moving.shape[2:]) for rows in (1, len(moving))}
        if tuple(weight.shape) not in fits:
            raise ValueError(
                f"parzen_mi: a weight of shape {tuple(weight.shape)} does not fit images of shape "
                f"{tuple(moving.shape)}"
            )


def _cells(
    moving: Tensor, fixed_bin: Tensor, bins: int, low: int, high: int
) -> tuple[Tensor, Tensor]:
    """(number fixed bin * bins + floor - low, f) of every sample; low <= floor <= high."""
    floor = moving.floor().clamp_(low, high)
    # an image of NaN has no bins: its weights make the result NaN, not its cells an error
    frac = (moving - floor).add_(fixed_bin - fixed_bin)
    cell = floor.add_(fixed_bin, alpha=bins).sub_(low).to(torch.int64)
    return cell.clamp_(0, bins * bins - 1), frac


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
    return joint


def convolved(counts: Tensor, window: str) -> Tensor:
    """Counts (..., fixed bin, nearest moving bin) spread by the window along the moving axis."""
    if window == "linear":  # B(0) = 1
        return counts
    zero = torch.zeros((), dtype=torch.float64, device="cpu")
    at_zero = torch.stack(_gaussian(zero)) if window == "gaussian" else _TAPS[window][:, 0]
    taps = at_zero.tolist()  # numbers: a copy to the device would be waited for
    joint = counts * taps[1]
    joint[..., :-1] += counts[..., 1:] * taps[0]
    joint[..., 1:] += counts[..., :-1] * taps[2]
    joint[..., 2:] += counts[..., :-2] * taps[3]
    return joint


def score(joint: Tensor, normalised: bool) -> tuple[Tensor, Tensor]:
    """MI or NMI (...) of joint histograms (..., bins, bins), and its derivative by them.

    joint: sums of weights in float64, rows are fixed bins; the derivative is up to constants.
    """
    joint = joint.clamp(min=0)  # rounding
    total = joint.sum((-2, -1), keepdim=True).clamp(min=1e-300)
    p = joint / total
    row, col = p.sum(-1, keepdim=True), p.sum(-2, keepdim=True)
    tiny = 1e-300
    log_p = torch.log(p.clamp(min=1e-12))
    log_col = torch.log(col.clamp(min=1e-12))
    if not normalised:
        log_ratio = torch.log(p.clamp(min=tiny)) - torch.log((row * col).clamp(min=tiny))
        return (p * log_ratio).sum((-2, -1)), (log_p - log_col) / total
    row_h, col_h, both = (
        -torch.special.xlogy(q, q).sum((-2, -1), keepdim=True) for q in (row, col, p)
    )
    known = ~(both <= 1e-9)  # of two constant images nothing can be said: 1, without gradient
    safe = torch.where(known, both, 1.0)
    nmi = torch.where(known, (row_h + col_h) / safe, 1.0)
    return nmi[..., 0, 0], (nmi * log_p - log_col) * (known / safe) / total


def _tap_tables(slope: Tensor, window: str) -> Tensor:
    """(taps, bins * bins): d/dp at each tap's own bin, in order of the window's first bin; for a
    B-spline the coefficients of f^j of the derivative instead."""
    taps = 2 if window == "linear" else 4
    tables = torch.zeros(taps, *slope.shape, device=slope.device, dtype=slope.dtype)
    for k in range(taps):
        tables[k, :, : slope.shape[1] - k] = slope[:, k:]
    tables = tables.flatten(1)
    if window == "gaussian":
        return tables
    matrix = _TAPS[window].to(tables.device)
    degree = torch.arange(1, taps, device=tables.device)
    return (matrix[:, 1:] * degree).T @ tables


class _ParzenMI(torch.autograd.Function):
    """One channel of one pair, in bin units."""

    @staticmethod
    def forward(ctx, moving, fixed_bin, weight, bins, window, normalised, histogram):
        low, high = (0, bins - 2) if window == "linear" else (1, bins - 3)
        flat = weight.expand_as(moving).flatten()
        ctx.shape, ctx.window = moving.shape, window
        moving, fixed_bin = moving.flatten(), fixed_bin.flatten()
        cell, frac = _cells(moving, fixed_bin, bins, low, high)
        if histogram == "exact":
            joint = _joint(_sums(cell, frac, flat, bins, window))
        else:
            nearest, off = _cells(moving.round(), fixed_bin, bins, 0, bins - 1)
            counts = torch.zeros(bins * bins, device=flat.device, dtype=torch.float64)
            counts.scatter_add_(0, nearest, (flat + off).double())  # off: 0 or NaN
            joint = convolved(counts.view(bins, bins), window)
        value, slope = score(joint, normalised)
        ctx.save_for_backward(cell, frac, flat, _tap_tables(slope, window).to(moving.dtype))
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
        return out.mul_(weight).mul_(grads[0]).view(ctx.shape), *(None,) * 6


def parzen_mi(
    moving: Tensor,
    fixed: Tensor,
    moving_range: Tensor,
    fixed_range: Tensor,
    weight: Tensor | None,
    bins: int,
    *,
    window: ParzenWindow = "bspline",
    normalised: bool = False,
    histogram: Histogram = "exact",
) -> Tensor:
    """Mutual information in nats of each pair (B,), channels summed; differentiable in `moving`.

    moving, fixed: (B, C, *spatial), any unit; moving_range, fixed_range: (B, 2), the low and high
    intensity that fall on the first and the last bin, in the units of the images. What lies beyond
    is clamped to them and has no gradient. The nearest bin of halves is the even one.
    weight: (B or 1, 1, *spatial), >= 0, or None for 1 everywhere. bins: per image, at most 4096.

    normalised: (H(F) + H(M)) / H(F, M) instead, without unit, 1 for independent images, 2 for
    images that determine each other; 1 where both are constant. histogram: "approximate" counts
    the moving samples in their nearest bin and convolves with the window afterwards; equal to
    "exact" where they sit on bin centres, close to it elsewhere.

    Without any weight MI is 0; a NaN sample makes the result NaN. Raises ValueError for an unknown
    window or histogram, a number of bins or shapes that do not fit.
    """
    check(moving, fixed, (moving_range, fixed_range), weight, bins, window, histogram)
    pad = PAD[window]

    def binned(image: Tensor, ends: Tensor, row: int) -> Tensor:
        low, high = ends[row].detach().to(image.dtype)
        return to_bins(image[row], low, high, bins, pad)

    one = torch.ones((), device=moving.device, dtype=moving.dtype)
    scores = []
    for row in range(len(moving)):
        soft = binned(moving, moving_range, row)
        nearest = binned(fixed.detach(), fixed_range, row).round_()
        own = one if weight is None else weight[row if len(weight) > 1 else 0, 0]
        for m, f in zip(soft, nearest, strict=True):
            scores.append(_ParzenMI.apply(m, f, own, bins, window, normalised, histogram))
    return torch.stack(scores).view(moving.shape[:2]).sum(1)
