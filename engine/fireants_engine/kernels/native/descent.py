"""Directions of descent by the fused kernels; what they compute: `kernels.descent`."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, c_int64

import torch
from torch import Tensor

from fireants_engine.kernels import descent
from fireants_engine.kernels.descent import Direction
from fireants_engine.kernels.native.library import call, checked, sizes3, threads_for
from fireants_engine.kernels.native.memory import empty


class DescentShape(Structure):
    """`struct DescentShape` of shapes.h."""

    _fields_ = [(name, c_int64) for name in ("pairs", "halves", "channels", "samples", "threads")]


class TileShape(Structure):
    """`struct TileShape` of descent.cpp."""

    _fields_ = [("size", c_int64 * 3), ("width", c_int64), ("axes", c_int64)]


def _shape(grad: Tensor, pairs: int) -> DescentShape:
    rows, channels = grad.shape[:2]
    samples = grad[0, 0].numel()
    return DescentShape(pairs, rows // pairs, channels, samples, threads_for(grad.numel()))


def adam(
    grad: Tensor,
    first: Tensor | None,
    second: Tensor,
    counts: Sequence[int],
    beta1: float,
    beta2: float,
    eps_rel: float,
) -> Direction:
    """`descent.adam`, the direction in place of the gradient."""
    if not all(moment is None or moment.is_contiguous() for moment in (first, second)):
        raise ValueError("adam: moments have to be dense tensors")  # they are written in place
    shapes = [tuple(t.shape) for t in (grad, first, second) if t is not None]
    if grad.ndim < 2 or len(set(shapes)) > 1:
        raise ValueError(f"adam: gradient and moments of shapes {shapes}; all have to be alike")
    if not counts or len(grad) % len(counts) or min(counts) < 1:
        raise ValueError(f"adam: counts {tuple(counts)[:8]} do not fit {len(grad)} rows")
    own, mean, power = checked("adam", grad, first, second)
    assert own is not None
    peaks = own.new_empty(own.shape[:2])
    steps = torch.tensor(list(counts), dtype=torch.float64, device=own.device)
    shape = _shape(own, len(counts))
    call("adam", own.dtype, shape, own, mean, power, steps, beta1, beta2, eps_rel, peaks)
    return Direction(own, peaks)


def levenberg_marquardt(grad: Tensor, damping: Tensor, tile: int) -> Direction:
    """`descent.levenberg_marquardt`; with tile 1 in place of the gradient, which is overwritten.

    On a CUDA device tiles beyond 9 are the reference's.
    """
    descent.check_tile(grad, damping, tile)
    (own,) = checked("levenberg_marquardt", grad)
    assert own is not None
    peaks = own.new_empty(own.shape[:2])
    level = damping.detach().to(torch.float64).contiguous()
    shape = _shape(own, damping.numel())
    if tile == 1:
        call("levenberg_marquardt", own.dtype, shape, own, level, peaks)
        return Direction(own, peaks)
    size = tuple(own.shape[2:])
    tiles = TileShape(sizes3(size), tile, len(size))
    out = empty(own.shape, own.dtype, own.device)
    call("levenberg_marquardt_tiles", own.dtype, shape, tiles, own, level, out, peaks)
    return Direction(out, peaks)
