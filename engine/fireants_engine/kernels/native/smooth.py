"""Smoothing by the fused kernels; what it computes: `kernels.reference`."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, c_double, c_int64

import torch
from torch import Tensor

from fireants_engine.kernels import reference
from fireants_engine.kernels.native.library import call, checked, sizes3
from fireants_engine.kernels.native.memory import empty


class SmoothShape(Structure):
    """`struct SmoothShape` of smooth.cpp."""

    _fields_ = [
        ("volumes", c_int64),
        ("size", c_int64 * 3),
        ("sigma", c_double * 3),
        ("scale", c_double),
        ("threads", c_int64),
    ]


def smooth(field: Tensor, sigma_vox: Sequence[float], scale: float = 1.0) -> Tensor:
    """`reference.smooth` with all axes in one pass over memory.

    Where a gradient is asked for, the reference does it.
    """
    if torch.is_grad_enabled() and field.requires_grad:
        return reference.smooth(field, sigma_vox, scale)
    used = [
        0.0 if sigma < reference.SIGMA_MIN or size == 1 else float(sigma)
        for sigma, size in zip(sigma_vox, field.shape[2:], strict=True)
    ]
    if not any(used):
        return field if scale == 1 else field * scale
    (plain,) = checked("smooth", field)
    assert plain is not None
    size = sizes3(tuple(field.shape[2:]))
    sigma = (0.0,) * (3 - len(used)) + tuple(used)
    volumes = plain.shape[0] * plain.shape[1]
    out = empty(plain.shape, plain.dtype, plain.device)
    shape = SmoothShape(volumes, size, sigma, scale, torch.get_num_threads())
    call("smooth", plain.dtype, shape, plain, out)
    return out
