"""Smoothing by the fused kernels; what it computes: `kernels.reference`."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, c_double, c_int64

import torch
from torch import Tensor

from fireants_engine.kernels import reference
from fireants_engine.kernels.native.library import call, checked, sizes3, threads_for
from fireants_engine.kernels.native.memory import empty


class SmoothShape(Structure):
    """`struct SmoothShape` of shapes.h."""

    _fields_ = [
        ("volumes", c_int64),
        ("size", c_int64 * 3),
        ("sigma", c_double * 3),
        ("scale", c_double),
        *((name, c_int64) for name in ("box", "adjoint", "threads")),
    ]


class _Smooth(torch.autograd.Function):
    """Linear in the field: its gradient is the adjoint, whose gradient is the smoothing again."""

    @staticmethod
    def forward(ctx, field, sigma, scale, box, adjoint):
        ctx.how = sigma, scale, box
        ctx.adjoint = adjoint
        (plain,) = checked("smooth", field)
        assert plain is not None
        size = sizes3(tuple(field.shape[2:]))
        volumes = plain.shape[0] * plain.shape[1]
        out = empty(plain.shape, plain.dtype, plain.device)
        threads = threads_for(plain.numel())
        shape = SmoothShape(volumes, size, sigma, scale, box, adjoint, threads)
        call("smooth", plain.dtype, shape, plain, out)
        return out

    @staticmethod
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        back = _Smooth.apply(grads[0], *ctx.how, not ctx.adjoint)
        return back, None, None, None, None


def smooth(
    field: Tensor, sigma_vox: Sequence[float], scale: float = 1.0, window: str = "gaussian"
) -> Tensor:
    """`reference.smooth` with all axes in one pass over memory, and so its gradient."""
    used = reference.widths(field, sigma_vox, window)
    if not any(used):
        return field if scale == 1 else field * scale
    sigma = (0.0,) * (3 - len(used)) + tuple(used)
    return _Smooth.apply(field, sigma, float(scale), window == "box", False)  # pyright: ignore
