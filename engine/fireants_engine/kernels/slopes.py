"""Slopes of a scalar field along one axis, and keeping them where a line cannot fold."""

from __future__ import annotations

import torch
from torch import Tensor


def slope(field: Tensor, axis: int) -> Tensor:
    """Derivative per voxel along array axis `axis` of (N, 1, *spatial): central differences,
    one-sided at both ends. Differentiable."""
    dim = axis + 2
    n = field.shape[dim]
    if n < 2:
        return torch.zeros_like(field)
    edge = field.diff(dim=dim)
    first, last = edge.narrow(dim, 0, 1), edge.narrow(dim, n - 2, 1)
    return (torch.cat([first, edge], dim) + torch.cat([edge, last], dim)) * 0.5


def limit_slopes(field: Tensor, axis: int, limit: float, sweeps: int) -> Tensor:
    """(N, 1, *spatial) with neighbours along `axis` brought to within `limit` of each other.

    Each sweep goes over the even and then the odd pairs of neighbours and moves both of a pair
    towards each other by half of what they are apart too far: the sum of a line stays, and so
    does everything that is not too steep. In place.
    """
    dim = axis + 2
    n = field.shape[dim]
    for _ in range(sweeps if n > 1 else 0):
        for first in (0, 1):
            count = (n - first) // 2
            if not count:
                continue
            pairs = field.narrow(dim, first, 2 * count).unflatten(dim, (count, 2))
            low, high = pairs.select(dim + 1, 0), pairs.select(dim + 1, 1)
            apart = high - low
            excess = (apart - apart.clamp(-limit, limit)) * 0.5
            low += excess
            high -= excess
    return field


def steepest(field: Tensor, axis: int) -> Tensor:
    """The largest difference of two neighbours along `axis`, a scalar on the device."""
    if field.shape[axis + 2] < 2:
        return field.new_zeros(())
    return field.diff(dim=axis + 2).abs().amax()
