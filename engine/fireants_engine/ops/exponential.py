"""The exponential map of a stationary velocity field."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fireants_engine.kernels import REFERENCE

_CONTRACTION = 0.25
"""Largest Lipschitz constant of one factor. Theorem 1 asks for < 1; the rest is margin for the
steps between two looks at the bound and for the accuracy of the first factor."""


def lipschitz(w: Tensor) -> Tensor:
    """Bound of the Lipschitz constant of w (1, d, *spatial) in the maximum norm, a scalar.

    `max_x max_i sum_j |dw_i / dx_j|` by one-sided differences: exact for the multilinear field
    between the samples. Thesis 3.3.
    """
    total = torch.zeros_like(w)
    for axis in range(2, w.ndim):
        if w.shape[axis] < 2:
            continue
        slope = w.diff(dim=axis).abs()
        n = slope.shape[axis]
        largest = torch.zeros_like(w)
        largest.narrow(axis, 0, n).copy_(slope)
        right = largest.narrow(axis, 1, n)
        torch.maximum(right, slope, out=right)
        total.add_(largest)
    return total.amax()


def squarings(w: Tensor) -> int:
    """Halvings n with `Lip(w) / 2^n <= 1/4`, at most 12; reads one number from the device."""
    bound = float(lipschitz(w))
    if not math.isfinite(bound) or bound <= _CONTRACTION:
        return 0
    return min(12, math.ceil(math.log2(bound / _CONTRACTION)))


def exponential(
    w: Tensor, halvings: int, compose: Callable[[Tensor, Tensor], Tensor] = REFERENCE.compose
) -> Tensor:
    """Displacement of `exp(w)` by scaling and squaring: (1, d, *spatial) voxels; differentiable.

    `u_0 = w / 2^n`, `u <- u + u o (id + u)` n times (Arsigny et al. 2006).
    """
    u = w / 2**halvings
    for _ in range(halvings):
        u = compose(u, u)
    return u
