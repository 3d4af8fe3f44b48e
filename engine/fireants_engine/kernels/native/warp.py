"""Sampler and composition by the fused kernels; what they compute: `kernels.reference`."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, c_int32, c_int64

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fireants_engine.kernels.native.library import call, checked, runs_in_cpp, sizes3
from fireants_engine.kernels.native.memory import empty
from fireants_engine.kernels.reference import scaled

WIDE = torch.float64
"""Of matrices: the offsets of large images need it."""


class WarpShape(Structure):
    """`struct WarpShape` of shapes.h."""

    _fields_ = [
        *((name, c_int64) for name in ("rows", "channels", "image_rows", "matrix_rows", "u_rows")),
        ("in_", c_int64 * 3),
        ("out", c_int64 * 3),
        *((name, c_int32) for name in ("dim", "border", "nearest", "threads")),
    ]


def _shape(
    image: Tensor, matrix_rows: int, out: Sequence[int], u: Tensor | None, border: bool, mode: bool
) -> WarpShape:
    dim = len(out)
    if dim not in (2, 3) or min(out) < 1:
        raise ValueError(f"warp: a grid of shape {tuple(out)}; it has 2 or 3 axes with samples")
    if image.ndim != dim + 2:
        raise ValueError(f"warp: an image of shape {tuple(image.shape)} has no {dim} axes")
    if u is not None and tuple(u.shape[1:]) != (dim, *out):
        raise ValueError(f"warp: u of shape {tuple(u.shape)} does not fit the grid {tuple(out)}")
    u_rows = 1 if u is None else len(u)
    rows = max(len(image), matrix_rows, u_rows)
    for name, count in (("image", len(image)), ("matrix", matrix_rows), ("u", u_rows)):
        if count not in (1, rows):
            raise ValueError(f"warp: {count} rows of {name} do not fit a batch of {rows}")
    if 0 in image.shape[2:] or max(*image.shape[2:], *out) >= 2**31:
        raise ValueError(f"warp: no samples, or too many, along an axis of {tuple(image.shape)}")
    three = sizes3(tuple(image.shape[2:])), sizes3(tuple(out))
    threads = torch.get_num_threads()
    channels = image.shape[1]
    return WarpShape(
        rows, channels, len(image), matrix_rows, u_rows, *three, dim, border, mode, threads
    )


def _summed(grad: Tensor, rows: int) -> Tensor:
    """The gradient of an argument that served all rows."""
    return grad if len(grad) == rows else grad.sum(0, keepdim=True)


def _keeps_slopes(ctx, shape: WarpShape, image: Tensor) -> bool:
    """Whether the gradient by u is prepared while the corners of a sample are at hand.

    It takes the memory that the gradient takes later, and saves the backward pass its look-ups.
    """
    image_too, _, by_u = ctx.needs_input_grad[:3]
    plain = shape.channels == 1 and not shape.nearest and runs_in_cpp(image)
    return by_u and not image_too and plain


class _Warp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, matrix, u, out, border, nearest):
        dim = len(out)
        plain, field = checked("warp", image, u)
        assert plain is not None
        if matrix.shape[-2:] != (dim, dim + 1) or matrix.ndim > 3:
            raise ValueError(
                f"warp: a matrix of shape {tuple(matrix.shape)}; for {dim} axes it is "
                f"(d, d + 1) or (rows, d, d + 1), d = {dim}"
            )
        if matrix.device != image.device:
            raise TypeError(f"warp: the matrix is on {matrix.device}, the image on {image.device}")
        maps = matrix.detach().to(WIDE).reshape(-1, dim, dim + 1).contiguous()
        shape = _shape(plain, len(maps), out, field, border, nearest)
        result = empty((shape.rows, shape.channels, *out), plain.dtype, plain.device)
        slopes = None
        if _keeps_slopes(ctx, shape, plain):
            slopes = empty((shape.rows, dim, *out), plain.dtype, plain.device)
        call("warp", plain.dtype, shape, plain, maps, field, result, slopes)
        ctx.save_for_backward(plain, maps, field)
        ctx.slopes = slopes
        ctx.out, ctx.border, ctx.nearest, ctx.matrix = out, border, nearest, matrix
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        image, maps, u = ctx.saved_tensors
        if ctx.nearest:  # piecewise constant in the map
            raise RuntimeError("warp: nearest neighbours have no gradient; use linear sampling")
        want_image, want_matrix, want_u = ctx.needs_input_grad[:3]
        (grad,) = checked("warp", grads[0].to(image.dtype))
        shape = _shape(image, len(maps), ctx.out, u, ctx.border, False)
        rows, dim = shape.rows, len(ctx.out)
        grad_image = empty(image.shape, image.dtype, image.device) if want_image else None
        grad_maps = maps.new_empty((rows, dim, dim + 1)) if want_matrix else None
        grad_u, ctx.slopes = ctx.slopes, None  # once: the gradient is written in their place
        if grad_u is not None:
            call("warp_slopes", image.dtype, shape, grad, maps, u, grad_u, grad_maps)
        else:
            if want_u:
                grad_u = empty((rows, dim, *ctx.out), image.dtype, image.device)
            call(
                *("warp_backward", image.dtype, shape, grad, image, maps, u),
                *(grad_image, grad_u, grad_maps),
            )
        if grad_u is not None:
            grad_u = _summed(grad_u, len(u))
        if grad_maps is not None:
            kind = ctx.matrix
            grad_maps = _summed(grad_maps, len(maps)).to(kind.dtype).reshape(kind.shape)
        return grad_image, grad_maps, grad_u, None, None, None


def warp(
    image: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    u: Tensor | None = None,
    *,
    nearest: bool = False,
    border: bool = False,
) -> Tensor:
    """`reference.warp` in one pass: no coordinates are stored, the gradients are computed from the
    images again. A NaN coordinate takes no sample: its value is NaN, its gradient 0."""
    return _Warp.apply(image, matrix, u, tuple(shape), border, nearest)  # pyright: ignore


def _per_row(factor: Tensor, rows: int) -> Tensor:
    """One number per row, of (N,) for the k N rows of N pairs."""
    if factor.ndim != 1 or len(factor) == 0 or rows % len(factor):
        raise ValueError(
            f"compose: factors of shape {tuple(factor.shape)} do not fit {rows} rows; give one "
            "number per row"
        )
    return factor.repeat_interleave(rows // len(factor))


def compose(v: Tensor, u: Tensor, scale: Tensor | None = None) -> Tensor:
    """`reference.compose`: `s v + u(x + s v(x))` in one pass, s per row; 0 for no move at all."""
    asked = any(t is not None and t.requires_grad for t in (v, u, scale))
    if torch.is_grad_enabled() and asked:
        moved = v if scale is None else scaled(v, scale)
        dim = u.shape[1]
        eye = torch.eye(dim, dim + 1, dtype=torch.float64, device=u.device)
        return warp(u, eye, u.shape[2:], moved, border=True) + moved
    step, field, factor = checked("compose", v, u, scale)
    assert step is not None
    assert field is not None
    if field.ndim < 2 or field.shape[1] != field.ndim - 2 or step.shape[1:] != field.shape[1:]:
        raise ValueError(
            f"compose: v of shape {tuple(v.shape)} and u of {tuple(u.shape)}; both are "
            "(rows, d, *spatial)"
        )
    if factor is not None:
        factor = _per_row(factor, max(len(step), len(field)))
    shape = _shape(field, 1, field.shape[2:], step, True, False)
    out = empty((shape.rows, *field.shape[1:]), field.dtype, field.device)
    call("compose", field.dtype, shape, field, step, factor, out, None)
    return out
