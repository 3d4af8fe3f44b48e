"""The exponential map of a stationary velocity field."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fireants_engine.kernels import chosen_for

_CONTRACTION = 0.25
"""Largest Lipschitz constant of one factor. Theorem 1 asks for < 1; the rest is margin for the
steps between two looks at the bound and for the accuracy of the first factor."""


def lipschitz(w: Tensor) -> Tensor:
    """Bound of the Lipschitz constant of w (N, d, *spatial) in the maximum norm, (N,).

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
    return total.flatten(1).amax(1)


def squarings(w: Tensor) -> tuple[int, ...]:
    """Halvings n with `Lip(w) / 2^n <= 1/4`, at most 12, of each field of w (N, d, *spatial);
    reads N numbers from the device."""
    return tuple(
        min(12, math.ceil(math.log2(bound / _CONTRACTION)))
        if math.isfinite(bound) and bound > _CONTRACTION
        else 0
        for bound in lipschitz(w).tolist()
    )


def exponential(
    w: Tensor,
    halvings: Sequence[int],
    compose: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Displacement of `exp(w)` by scaling and squaring: (N, d, *spatial) voxels; differentiable.

    `u_0 = w / 2^n`, `u <- u + u o (id + u)` n times (Arsigny et al. 2006); n: one per field.
    compose: default that of the kernels `auto` chooses for the device of w.
    """
    compose = compose or chosen_for(w).compose
    if len(set(halvings)) > 1:
        each = zip(w.split(1), halvings, strict=True)
        return torch.cat([exponential(one, [n], compose) for one, n in each])
    u = w / 2 ** halvings[0]
    for _ in range(halvings[0]):
        u = compose(u, u)
    return u
