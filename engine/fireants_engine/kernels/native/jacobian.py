"""Jacobian determinants and folds by the fused kernels; what they are: `kernels.jacobian`."""

from __future__ import annotations

from ctypes import Structure, c_int32, c_int64

import torch
from torch import Tensor

from fireants_engine.kernels.native.library import call, checked, sizes3
from fireants_engine.kernels.native.memory import empty


class JacobianShape(Structure):
    """`struct JacobianShape` of shapes.h."""

    _fields_ = [("rows", c_int64), ("size", c_int64 * 3), ("dim", c_int32), ("threads", c_int32)]


def _run(name: str, u: Tensor, kind: torch.dtype | None) -> Tensor:
    """`fireants_{name}` of u: one number of type `kind`, or of u's, per voxel."""
    (field,) = checked(name, u)
    assert field is not None
    rows, dim, *size = field.shape if field.ndim > 1 else (0, 0)
    if dim not in (2, 3) or len(size) != dim:
        raise ValueError(f"{name}: u of shape {tuple(u.shape)} is no field of 2 or 3 axes")
    shape = JacobianShape(rows, sizes3(tuple(size)), dim, torch.get_num_threads())
    out = empty((rows, 1, *size), kind or field.dtype, field.device)
    call(name, field.dtype, shape, field, out)
    return out


def jacobian_determinant(u: Tensor) -> Tensor:
    """`kernels.jacobian.jacobian_determinant` of every row in one pass, without gradient.

    u: (B, d, *spatial) voxels -> (B, 1, *spatial). Raises ValueError for another shape, TypeError
    for another device or precision than float32 and float64.
    """
    return _run("jacobian", u, None)


def strict_fold_mask(u: Tensor) -> Tensor:
    """`kernels.jacobian.strict_fold_mask` of every row in one pass, the same bits.

    u: (B, d, *spatial) voxels -> (B, 1, *spatial) bool. Raises as `jacobian_determinant`.
    """
    return _run("folds", u, torch.uint8).view(torch.bool)
