"""Images at given coordinates and the search for points by the fused kernels; what they compute:
`kernels.reference` and `kernels.points`."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int32, c_int64

import torch
from torch import Tensor

from fireants_engine.kernels import points, reference
from fireants_engine.kernels.native.library import call, checked, sizes3
from fireants_engine.kernels.native.memory import empty


class SampleShape(Structure):
    """`struct SampleShape` of shapes.h."""

    _fields_ = [
        *((name, c_int64) for name in ("rows", "channels", "image_rows", "coord_rows")),
        ("in_", c_int64 * 3),
        ("samples", c_int64),
        *((name, c_int32) for name in ("dim", "border", "threads")),
    ]


class PointShape(Structure):
    """`struct PointShape` of shapes.h."""

    _fields_ = [
        ("size", c_int64 * 3),
        ("samples", c_int64),
        ("tolerance", c_double),
        *((name, c_int32) for name in ("dim", "steps", "threads")),
    ]


def _check_size(name: str, image: Tensor, dim: int) -> None:
    if dim not in (2, 3) or image.ndim != dim + 2:
        raise ValueError(f"{name}: an image of shape {tuple(image.shape)} has no {dim} axes")
    if 0 in image.shape[2:] or max(image.shape[2:]) >= 2**31:
        raise ValueError(f"{name}: no samples, or too many, along an axis of {tuple(image.shape)}")


def sample(image: Tensor, coords: Tensor, *, nearest: bool = False, border: bool = False) -> Tensor:
    """`reference.sample` in one pass; a NaN coordinate takes no sample, its value is NaN.

    The reference does it where a gradient is asked for, for nearest neighbours, and on a GPU.
    """
    asked = torch.is_grad_enabled() and (image.requires_grad or coords.requires_grad)
    if asked or nearest or image.device.type == "cuda":
        return reference.sample(image, coords, nearest=nearest, border=border)
    plain, places = checked("sample", image, coords)
    assert plain is not None
    assert places is not None
    dim = coords.ndim - 2
    _check_size("sample", image, dim)
    if coords.shape[1] != dim:
        raise ValueError(
            f"sample: coordinates of shape {tuple(coords.shape)}; {dim} axes need {dim}"
        )
    rows = max(len(image), len(coords))
    if not {len(image), len(coords)} <= {1, rows}:
        raise ValueError(f"sample: {len(coords)} rows of coordinates for {len(image)} images")
    slab = coords.shape[2:]
    shape = SampleShape(
        *(rows, image.shape[1], len(image), len(coords), sizes3(tuple(image.shape[2:]))),
        *(slab.numel(), dim, border, torch.get_num_threads()),
    )
    out = empty((rows, image.shape[1], *slab), plain.dtype, plain.device)
    call("sample", plain.dtype, shape, plain, places, out)
    return out


def solve_points(
    u: Tensor, start: Tensor, target: Tensor, tol_vox: float = 1e-2, steps: int = 15
) -> Tensor:
    """`points.solve_points` point by point, by damped Newton steps from the beginning; the
    reference on a GPU."""
    if u.device.type == "cuda":
        return points.solve_points(u, start, target, tol_vox, steps)
    field, first, goal = checked("solve_points", u, start, target)
    assert field is not None
    assert first is not None
    dim = u.ndim - 2
    _check_size("solve_points", u, dim)
    points_fit = start.shape == target.shape and start.ndim == 2 and len(start) == dim
    if u.shape[:2] != (1, dim) or not points_fit:
        raise ValueError(
            f"solve_points: u of shape {tuple(u.shape)}, points of {tuple(start.shape)} for "
            f"{tuple(target.shape)}; they are (1, d, *spatial) and (d, n)"
        )
    shape = PointShape(
        *(sizes3(tuple(u.shape[2:])), start.shape[1], tol_vox),
        *(dim, steps, torch.get_num_threads()),
    )
    out = empty(start.shape, field.dtype, field.device)
    call("solve_points", field.dtype, shape, field, first, goal, out)
    return out
