"""Slopes along an axis by the fused kernels; what they compute: `kernels.slopes`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fireants_engine.kernels.native.library import call, checked, threads_for
from fireants_engine.kernels.native.memory import empty
from fireants_engine.kernels.native.unbend import LineShape


def _run(name: str, field: Tensor, axis: int, scale: float, adjoint: bool = False) -> Tensor:
    """`fireants_{name}` of all lines of a field, whatever its rows and channels are."""
    (plain,) = checked(name, field)
    assert plain is not None
    size, dim = field.shape, axis + 2
    if axis < 0 or dim >= len(size) or not plain.numel():
        raise ValueError(f"{name}: a field of shape {tuple(size)} has no samples along axis {axis}")
    before, after = math.prod(size[:dim]), math.prod(size[dim + 1 :])
    threads = threads_for(plain.numel())
    shape = LineShape(1, 1, 1, 1, before, size[dim], after, scale, adjoint, threads)
    out = empty(plain.shape, plain.dtype, plain.device)
    call(name, plain.dtype, shape, plain, out)
    return out


class _Slope(torch.autograd.Function):
    """Linear in the field: its gradient is the adjoint, whose gradient is the slope again."""

    @staticmethod
    def forward(ctx, field, axis, scale, adjoint):
        ctx.how = axis, scale, adjoint
        return _run("slope", field, axis, scale, adjoint)

    @staticmethod
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        axis, scale, adjoint = ctx.how
        return _Slope.apply(grads[0], axis, scale, not adjoint), None, None, None


def slope(field: Tensor, axis: int, scale: float = 1.0) -> Tensor:
    """`slopes.slope` in one pass, and so its gradient."""
    return _Slope.apply(field, axis, float(scale), False)  # pyright: ignore[reportReturnType]


def bounded_slopes(field: Tensor, axis: int, limit: float) -> Tensor:
    """`slopes.bounded_slopes` by one sweep along all lines and one back; without gradient.

    A gentle line keeps its bits.
    """
    return _run("bounded_slopes", field, axis, float(limit))
