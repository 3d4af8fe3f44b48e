"""Local normalised cross-correlation on CUDA; the operation and its struct: `native.lncc`."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from fireants_engine.kernels.cuda.launch import PARTS, Kernels, blocks
from fireants_engine.kernels.cuda.smooth import factors

_WIDEST = {torch.float32: 5, torch.float64: 4}
"""Largest radii whose windows fit into shared memory; beyond, an axis at a time."""

_WIDE, _HIGH = 32, 8
"""Samples and lines of a block's tile, the lines per line of a thread."""

_FEW, _MOST = 38, 64
"""Most registers of float32 for what a line of windows keeps: for two lines a thread; at all."""

_AT_ONCE = 256
"""Blocks that a large device runs at once: how deep a block marches is chosen for it."""


class _Inputs(ctypes.Structure):
    """`struct Inputs` of lncc_score.cuh."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in ("moving", "fixed", "mask", "moving_scaling", "fixed_scaling")
    ]


@lru_cache(maxsize=64)
def _weights(radius: int, reach: int, gaussian: bool) -> tuple[float, ...]:
    """Of the samples of a window along an axis, up to `reach` from its middle."""
    offsets = range(-reach, reach + 1)
    return tuple(math.exp(-2 * (k / max(radius, 1)) ** 2) if gaussian else 1.0 for k in offsets)


@lru_cache(maxsize=64)
def _on_device(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(numbers, dtype=dtype).to(device)


@lru_cache(maxsize=64)
def _counts(
    weights: tuple[float, ...], size: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """One over the sum of the weights that lie in the image, for each place along an axis."""
    return factors(torch.tensor(weights, dtype=torch.float64), size).to(device, dtype)


@lru_cache(maxsize=64)
def _all_counts(
    weights: tuple[float, ...], sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    return torch.cat([_counts(weights, size, dtype, device) for size in sizes])


@lru_cache(maxsize=64)
def _depth(planes: int, columns: int, around: int) -> int:
    """Planes of a block: `columns` blocks side by side, each also sums `around` planes beyond."""

    def cost(depth: int) -> int:
        waves = -(-columns * -(-planes // depth) // _AT_ONCE)
        return waves * (depth + around)

    return min(range(planes, 0, -1), key=cost)


@dataclass
class _Call:
    """One call: its tensors (those of the moving image first) and what kernels are told."""

    shape: ctypes.Structure
    images: tuple[Tensor, Tensor, Tensor | None]
    scalings: tuple[Tensor | None, Tensor | None]
    weight: Tensor
    grads: tuple[Tensor | None, Tensor | None]
    sizes: tuple[int, int, int] = field(init=False)
    weights: tuple[float, ...] = field(init=False)
    inputs: _Inputs = field(init=False)

    def __post_init__(self) -> None:
        shape = self.shape
        self.sizes = tuple(shape.size)
        reach = min(shape.radius, max(self.sizes) - 1)
        self.weights = _weights(shape.radius, reach, bool(shape.gaussian))
        tensors = (*self.images, *self.scalings)
        self.inputs = _Inputs(*(None if t is None else t.data_ptr() for t in tensors))

    @property
    def radius(self) -> int:
        return len(self.weights) // 2

    @property
    def volumes(self) -> int:
        return self.shape.rows * self.shape.channels

    @property
    def sums(self) -> int:
        return 5 if self.images[2] is None else 6

    @property
    def slopes(self) -> int:
        return 0 if self.grads[0] is None else 3 if self.grads[1] is None else 5

    @property
    def exact(self) -> bool:
        return bool(self.shape.exact) or not self.slopes

    @property
    def defines(self) -> tuple[tuple[str, object], ...]:
        named = {"MASK": self.sums == 6, "SLOPES": self.slopes, "EXACT": self.exact}
        named["SQUARED"] = bool(self.shape.squared)
        return tuple((name, int(value)) for name, value in named.items())

    def words(self, fields: int, volumes: int) -> int:
        """Numbers that a thread keeps for windows over so many fields made of so many volumes."""
        ahead = 0 if self.sizes[0] == 1 else 2 * self.radius * fields
        return ahead + 4 * volumes

    @property
    def both(self) -> tuple[int, int]:
        """`words` of the first and of the second pass."""
        return self.words(self.sums, self.sums - 3), self.words(self.slopes, self.slopes)

    @property
    def tiled(self) -> bool:
        """Whether everything stays in registers and shared memory."""
        dtype = self.weight.dtype
        fits = dtype == torch.float64 or max(self.both) <= _MOST
        return fits and self.radius <= _WIDEST[dtype]

    def grid(self, lines: int) -> tuple[int, tuple[int, int, int]]:
        """Planes of a block, and the blocks."""
        nz, ny, nx = self.sizes
        tiles = -(-nx // _WIDE) * -(-ny // (_HIGH * lines))
        depth = _depth(nz, tiles * self.volumes, 2 * self.radius if nz > 1 else 0)
        return depth, (tiles, -(-nz // depth), self.volumes)


def _tiled(call: _Call) -> Tensor:
    """Windows in registers and shared memory; parts (volumes, count) of the values."""
    nz, ny, nx = call.sizes
    dtype, device = call.weight.dtype, call.weight.device
    lines, back = (2 if dtype == torch.float32 and n <= _FEW else 1 for n in call.both)
    told: dict[str, object] = {
        "RADIUS": call.radius,
        "FLAT": int(nz == 1),
        "GAUSSIAN": int(call.shape.gaussian),
    }
    told |= {"ROWS": lines, "BACK_ROWS": back}
    told["INDEX"] = "unsigned" if ny * nx < 2**32 - 1 else "long long"
    run = Kernels("lncc", call.weight, (*told.items(), *call.defines))
    real = ctypes.c_float if dtype == torch.float32 else ctypes.c_double
    taps = (real * len(call.weights))(*call.weights)
    counts = _all_counts(call.weights, call.sizes, dtype, device)
    depth, grid = call.grid(lines)
    parts = run.parts(call.volumes, grid[1] * grid[0], dtype=torch.float64)
    given = call.shape, depth, taps, counts, call.inputs, call.weight, parts
    if not (call.slopes and call.exact):
        run("lncc_windows", grid, *given, *call.grads)
        return parts
    slopes = run.parts(call.slopes, call.volumes, nz, ny, nx)
    run("lncc_windows", grid, *given, slopes, None)
    depth, grid = call.grid(back)
    run("lncc_gradients", grid, call.shape, depth, taps, call.inputs, slopes, *call.grads)
    return parts


def _along_all(call: _Call, state: Tensor, spare: Tensor, *, adjoint: bool) -> Tensor:
    """Window means of fields (F, z, y, x), with a mask sums, or their adjoint; in one of both."""
    dtype, device = state.dtype, state.device
    weight, run = _on_device(call.weights, dtype, device), Kernels("smooth", state)
    for axis, size in enumerate(call.sizes):
        if size == 1:
            continue
        if call.sums == 6:
            factor = _on_device((1.0,) * size, dtype, device)
        else:
            factor = _counts(call.weights, size, dtype, device)
        stride, count = math.prod(call.sizes[axis + 1 :]), state.numel()
        given = count, size, stride, call.radius, int(adjoint), weight, factor, state, spare
        run("smooth_axis", (blocks(count),), *given)
        state, spare = spare, state
    return state


def _untiled(call: _Call) -> Tensor:
    """As `_tiled`, by passes over memory."""
    run = Kernels("lncc_wide", call.weight, call.defines)
    voxels = math.prod(call.sizes)
    both = run.parts(2, call.sums, *call.sizes)
    parts = run.parts(call.volumes, blocks(voxels, PARTS), dtype=torch.float64)
    for volume in range(call.volumes):
        given = call.shape, volume, call.inputs
        run("lncc_products", (blocks(voxels),), *given, both[0])
        state = _along_all(call, both[0], both[1], adjoint=False)
        run("lncc_correlate", (parts.shape[1],), *given, call.weight, state, parts, *call.grads)
        if call.slopes and call.exact:
            spare = both[1 if state.data_ptr() == both.data_ptr() else 0]
            cut = slice(call.slopes)
            slopes = _along_all(call, state[cut], spare[cut], adjoint=True)
            run("lncc_gradients", (blocks(voxels),), *given, slopes, *call.grads)
    return parts


def _lncc(
    _dtype, shape, moving, fixed, mask, moving_scaling, fixed_scaling, weight, value, *grads
) -> None:
    images, scalings = (moving, fixed), (moving_scaling, fixed_scaling)
    if grads[0] is None and grads[1] is not None:  # the images may change places
        images, scalings, grads = images[::-1], scalings[::-1], grads[::-1]
    call = _Call(shape, (*images, mask), scalings, weight, grads)
    parts = _tiled(call) if call.tiled else _untiled(call)
    count = parts.numel() // shape.rows
    Kernels("reduce", value)("sums", (shape.rows,), count, 1, parts, value)


ENTRIES = {"lncc": _lncc}
