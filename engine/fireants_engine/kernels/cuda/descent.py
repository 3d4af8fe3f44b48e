"""Directions of descent on CUDA; the operations and their struct: `native.descent`."""

from __future__ import annotations

import torch
from torch import Tensor

from fireants_engine.kernels import descent
from fireants_engine.kernels.cuda.launch import PARTS, Kernels, blocks, largest
from fireants_engine.kernels.cuda.smooth import CHUNK, columns

_WIDEST = 4
"""Largest radius of a window whose sums fit into registers: tile 9, where recipes end at 7."""


def _sums(run: Kernels, shape, grad: Tensor, second: Tensor | None, beta2: float) -> Tensor:
    """Per pair: the sum of the second moment as it will be, or of the squared gradient."""
    channels = shape.pairs * shape.halves * shape.channels
    count = blocks(shape.samples, PARTS)
    parts = run.parts(channels, count, dtype=torch.float64)
    run("powers", (count, channels), shape.samples, float(beta2), grad, second, parts)
    sums = run.parts(shape.pairs, dtype=torch.float64)
    each = shape.halves * shape.channels * count
    Kernels("reduce", grad)("sums", (shape.pairs,), each, 1, parts, sums)
    return sums


def _adam(dtype, shape, grad, first, second, counts, beta1, beta2, eps_rel, peaks) -> None:
    run = Kernels("descent", grad)
    sums = _sums(run, shape, grad, second, beta2)
    channels, count = peaks.numel(), blocks(shape.samples, PARTS)
    parts = run.parts(channels, count)
    tiny = torch.finfo(dtype).tiny
    run(
        *("adam", (count, channels), shape, beta1, beta2, eps_rel, tiny, counts, sums),
        *(grad, first, second, parts),
    )
    Kernels("reduce", grad)("largest", (channels,), count, parts, peaks)


def _levenberg_marquardt(dtype, shape, grad, damping, peaks) -> None:
    run = Kernels("descent", grad)
    sums = _sums(run, shape, grad, None, 0.0)
    count, rows = blocks(shape.samples, PARTS), shape.pairs * shape.halves
    parts = run.parts(peaks.numel(), count) if shape.channels <= 3 else None
    tiny = torch.finfo(dtype).tiny
    run("levenberg_marquardt", (count, rows), shape, tiny, damping, sums, grad, parts)
    if parts is None:
        largest(grad, peaks.numel(), peaks)
    else:
        Kernels("reduce", grad)("largest", (peaks.numel(),), count, parts, peaks)


def _tiles(dtype, shape, tiles, grad, damping, out, peaks) -> None:
    sizes = tuple(tiles.size)
    radii = [min(tiles.width // 2, n - 1) for n in sizes]
    if max(radii) > _WIDEST:
        way = descent.levenberg_marquardt(grad, damping, tiles.width)
        out.copy_(way.values)
        peaks.copy_(way.peaks)
        return
    sums = _sums(Kernels("descent", grad), shape, grad, None, 0.0)
    defines = zip(("RZ", "RY", "RX", "CHANNELS"), (*radii, shape.channels), strict=True)
    run, grid = Kernels("descent_tiles", grad, tuple(defines)), columns(sizes, len(grad))
    count, share = grid[0] * grid[1], float(tiles.width) ** -tiles.axes
    parts = run.parts(peaks.numel(), count)
    run(
        *("levenberg_marquardt_tiles", grid, shape, *sizes, CHUNK, share),
        *(torch.finfo(dtype).tiny, damping, sums, grad, out, parts),
    )
    Kernels("reduce", grad)("largest", (peaks.numel(),), count, parts, peaks)


ENTRIES = {
    "adam": _adam,
    "levenberg_marquardt": _levenberg_marquardt,
    "levenberg_marquardt_tiles": _tiles,
}
