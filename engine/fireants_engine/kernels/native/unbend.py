"""Images bent along one axis by the fused kernels; what they compute: `kernels.unbend`."""

from __future__ import annotations

import math
from ctypes import Structure, c_double, c_int32, c_int64

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fireants_engine.kernels import unbend as reference
from fireants_engine.kernels.native.library import call, checked, threads_for
from fireants_engine.kernels.native.memory import empty


class LineShape(Structure):
    """`struct LineShape` of shapes.h."""

    _fields_ = [
        *((name, c_int64) for name in ("rows", "channels", "image_rows", "v_rows")),
        *((name, c_int64) for name in ("before", "size", "after")),
        ("scale", c_double),
        *((name, c_int32) for name in ("modulate", "threads")),
    ]


def _shape(image: Tensor, v: Tensor, axis: int, scale: float, modulate: bool) -> LineShape:
    size = image.shape[2:]
    if size[axis] >= 2**31:
        raise ValueError(f"unbend: too many samples along an axis of {tuple(image.shape)}")
    rows, channels = max(len(image), len(v)), image.shape[1]
    before, after = math.prod(size[:axis]), math.prod(size[axis + 1 :])
    threads = threads_for(rows * channels * math.prod(size))
    counts = rows, channels, len(image), len(v)
    return LineShape(*counts, before, size[axis], after, scale, modulate, threads)


class _Unbend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, v, axis, scale, modulate):
        plain, field = checked("unbend", image, v)
        assert plain is not None
        assert field is not None
        shape = _shape(plain, field, axis, scale, modulate)
        out = empty((shape.rows, *plain.shape[1:]), plain.dtype, plain.device)
        call("unbend", plain.dtype, shape, plain, field, out)
        ctx.save_for_backward(plain, field)
        ctx.how = axis, scale, modulate
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        image, v = ctx.saved_tensors
        (grad,) = checked("unbend", grads[0].to(image.dtype))
        shape = _shape(image, v, *ctx.how)
        out = empty((shape.rows, *v.shape[1:]), v.dtype, v.device)
        call("unbend_backward", image.dtype, shape, grad, image, v, out)
        return None, out if len(v) == shape.rows else out.sum(0, keepdim=True), None, None, None


def unbend(image: Tensor, v: Tensor, axis: int, scale: float, *, modulate: bool = True) -> Tensor:
    """`unbend.unbend` in one pass, and so its gradient by v, computed from both tensors again.

    Where the image wants a gradient, too, it is the reference's. A NaN in v takes no sample.
    """
    if image.requires_grad and torch.is_grad_enabled():
        return reference.unbend(image, v, axis, scale, modulate=modulate)
    reference.check(image, v, axis)
    return _Unbend.apply(image, v, axis, float(scale), modulate)  # pyright: ignore
