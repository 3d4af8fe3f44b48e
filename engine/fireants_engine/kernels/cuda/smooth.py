"""Smoothing on CUDA; the operation and its struct: `native.smooth`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from fireants_engine.kernels.cuda.launch import Kernels, blocks
from fireants_engine.kernels.reference import taps

_TILE = (8, 32)
"""Lines and samples of a block's tile, kHigh and kWide of smooth.cuh and descent_tiles.cuh."""

_WIDEST = 8
"""Largest radius that the one-pass kernel is compiled for; beyond, an axis at a time."""

CHUNK = 32
"""Planes that one block marches through."""


def columns(sizes: Sequence[int], volumes: int) -> tuple[int, int, int]:
    """Blocks of a kernel that marches along z: tiles side by side, CHUNK planes each, volumes."""
    nz, ny, nx = sizes
    return -(-nx // _TILE[1]) * -(-ny // _TILE[0]), -(-nz // CHUNK), volumes


def factors(weight: Tensor, size: int) -> Tensor:
    """One over the sum of the weights that lie on an axis, for each of its samples."""
    radius = len(weight) // 2
    running = torch.cat((torch.zeros(1, dtype=torch.float64), weight.cumsum(0)))
    place = torch.arange(size)
    low, high = (radius - place).clamp(min=0), (radius + size - place).clamp(max=2 * radius + 1)
    return 1 / (running[high] - running[low])


@lru_cache(maxsize=64)
def _taps(
    sigma: float, size: int, scale: float, window: str, dtype: torch.dtype, device: torch.device
):
    """Radius, weights and factors of one axis, on the device: made once, then at hand."""
    weight = torch.ones(1, dtype=torch.float64)
    if sigma > 0 and size > 1:
        half = taps(torch.arange(size, dtype=torch.float64), sigma, window)
        half = half[: int((half > 0).sum())]
        weight = torch.cat([half[1:].flip(0), half])
    radius = len(weight) // 2
    return radius, weight.to(device, dtype), (scale * factors(weight, size)).to(device, dtype)


def _smooth(dtype, shape, field: Tensor, out: Tensor) -> None:
    sizes, scales = tuple(shape.size), (shape.scale, 1.0, 1.0)
    window = "box" if shape.box else "gaussian"
    axes = [
        _taps(sigma, size, scale, window, dtype, field.device)
        for sigma, size, scale in zip(shape.sigma, sizes, scales, strict=True)
    ]
    radii, weights, by = zip(*axes, strict=True)
    if max(radii) <= _WIDEST:
        defines = tuple(zip(("RZ", "RY", "RX"), radii, strict=True))
        run, grid = Kernels("smooth", field, defines), columns(sizes, shape.volumes)
        run("smooth_tile", grid, *sizes, CHUNK, shape.adjoint, *weights, *by, field, out)
        return
    run, source = Kernels("smooth", field), field
    for axis, (radius, weight, factor) in enumerate(axes):
        target = out if axis == 2 else torch.empty_like(out)
        stride = math.prod(sizes[axis + 1 :])
        given = out.numel(), sizes[axis], stride, radius, shape.adjoint
        run("smooth_axis", (blocks(out.numel()),), *given, weight, factor, source, target)
        source = target


ENTRIES = {"smooth": _smooth}
