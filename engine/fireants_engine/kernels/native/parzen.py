"""Parzen mutual information by the fused kernels; what it computes: `kernels.parzen`."""

from __future__ import annotations

from ctypes import Structure, c_int32, c_int64

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fireants_engine.kernels.native.library import call, checked
from fireants_engine.kernels.native.memory import empty
from fireants_engine.kernels.parzen import Histogram, ParzenWindow, check, convolved, score

_WINDOWS = ("bspline", "gaussian", "linear")
"""In the order of `enum ParzenWindow` of parzen.cpp."""


class ParzenShape(Structure):
    """`struct ParzenShape` of shapes.h."""

    _fields_ = [
        *((name, c_int64) for name in ("rows", "channels", "voxels", "weight_rows")),
        *((name, c_int32) for name in ("bins", "window", "approximate", "threads")),
    ]


class _ParzenMI(torch.autograd.Function):
    @staticmethod
    def forward(ctx, moving, fixed, ranges, weight, bins, window, normalised, histogram):
        m, f, ends, w = checked("parzen_mi", moving, fixed, ranges, weight)
        assert m is not None
        rows, channels = m.shape[:2]
        shape = ParzenShape(
            *(rows, channels, m[0, 0].numel(), 1 if w is None else len(w)),
            *(bins, _WINDOWS.index(window), histogram == "approximate", torch.get_num_threads()),
        )
        joint = torch.empty((rows, channels, bins, bins), dtype=torch.float64, device=m.device)
        call("parzen_joint", m.dtype, shape, m, f, w, ends, joint)
        if histogram == "approximate":
            joint = convolved(joint, window)
        value, slope = score(joint, normalised)
        ctx.save_for_backward(m, f, ends, w, slope)
        ctx.how = shape
        return value.sum(1).to(m.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        m, f, ends, w, slope = ctx.saved_tensors
        slope = slope * grads[0].to(slope.dtype).view(-1, 1, 1, 1)
        grad = empty(m.shape, m.dtype, m.device)
        ctx.how.threads = torch.get_num_threads()
        call("parzen_grad", m.dtype, ctx.how, m, f, w, ends, slope, grad)
        return grad, *(None,) * 7


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
    """`kernels.parzen.parzen_mi`: both images are binned on the way, no volume is stored but the
    gradient. Raises TypeError for another device or precision than float32 and float64."""
    check(moving, fixed, (moving_range, fixed_range), weight, bins, window, histogram)
    if any(ends.device != moving.device for ends in (moving_range, fixed_range)):
        raise TypeError(f"parzen_mi: ranges have to be on {moving.device}, as the images")
    ranges = torch.cat((moving_range, fixed_range), 1).to(moving.dtype)
    return _ParzenMI.apply(  # pyright: ignore[reportReturnType]
        moving, fixed, ranges, weight, bins, window, normalised, histogram
    )
