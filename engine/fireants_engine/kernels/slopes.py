"""Slopes of a scalar field along one axis, and keeping them where a line cannot fold."""

from __future__ import annotations

import torch
from torch import Tensor


def slope(field: Tensor, axis: int, scale: float = 1.0) -> Tensor:
    """`scale` times the derivative per voxel along array axis `axis` of (N, 1, *spatial): central
    differences, one-sided at both ends. Differentiable."""
    dim = axis + 2
    n = field.shape[dim]
    if n < 2:
        return field * 0.0  # differentiable, too
    edge = field.diff(dim=dim)
    first, last = edge.narrow(dim, 0, 1), edge.narrow(dim, n - 2, 1)
    return (torch.cat([first, edge], dim) + torch.cat([edge, last], dim)) * (0.5 * scale)


def bounded_slopes(field: Tensor, axis: int, limit: float) -> Tensor:
    """(N, 1, *spatial) with no two neighbours along `axis` further apart than `limit`.

    The mean of the largest such field below and of the smallest one above `field`: equal to it (to
    rounding) wherever no steep place is near, and the negative for the negative. What holds along
    other axes still does. A field that is gentle everywhere is returned as it is where looking
    costs nothing (on the CPU).
    """
    if field.device.type == "cpu" and float(steepest(field, axis)) <= limit:
        return field
    dim = axis + 2
    n = field.shape[dim]
    shape = [1] * field.ndim
    shape[dim] = n
    rise = torch.arange(n, device=field.device, dtype=field.dtype).view(shape) * limit

    def below(values: Tensor) -> Tensor:
        forward = (values - rise).cummin(dim).values + rise
        backward = (values + rise).flip(dim).cummin(dim).values.flip(dim) - rise
        return torch.minimum(forward, backward)

    return (below(field) - below(-field)) * 0.5


def steepest(field: Tensor, axis: int) -> Tensor:
    """The largest difference of two neighbours along `axis`, a scalar on the device."""
    if field.shape[axis + 2] < 2:
        return field.new_zeros(())
    return field.diff(dim=axis + 2).abs().amax()
