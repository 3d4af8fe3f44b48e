"""Joint histograms and their gradient on CUDA; the operations: `native.parzen`."""

from __future__ import annotations

import torch
from torch import Tensor

from fireants_engine.kernels.cuda.launch import PARTS, Kernels, blocks, largest

LEAST, MOST = 1 << 12, 1 << 15
"""Samples of a block: four for each cell that it clears and hands over, between these."""


def _run(shape, like: Tensor) -> tuple[Kernels, tuple[int, int], tuple[int, int]]:
    """The file; grids of one thread or more per sample, and of one per cell of a histogram."""
    names = ("APPROXIMATE", shape.approximate), ("BINS", shape.bins), ("WINDOW", shape.window)
    images, cells = shape.rows * shape.channels, shape.bins**2
    each = min(max(LEAST, 4 * cells), MOST)
    most = max(1, min(PARTS, 4 * PARTS // images))
    samples = min(-(-shape.voxels // each), most)
    return Kernels("parzen", like, names), (samples, images), (blocks(cells), images)


def _joint(dtype, shape, moving, fixed, weight, ranges, joint: Tensor) -> None:
    run, samples, cells = _run(shape, moving)
    unit = None
    if weight is not None:
        unit = run.parts(shape.weight_rows)
        largest(weight, shape.weight_rows, unit)
    words = 2 if dtype == torch.float64 else 1
    shape_of = *joint.shape[:2], words, *joint.shape[2:]
    totals = torch.zeros(shape_of, dtype=torch.int64, device=joint.device)
    spoilt = torch.zeros(joint.shape[:2], dtype=torch.int32, device=joint.device)
    given = shape, moving, fixed, weight, ranges
    run("parzen_joint", samples, *given, unit, totals, spoilt)
    run("parzen_totals", cells, shape, unit, totals, spoilt, joint)


def _grad(dtype, shape, moving, fixed, weight, ranges, slope, grad: Tensor) -> None:
    run, samples, cells = _run(shape, moving)
    table = run.parts(cells[1], 4, shape.bins, shape.bins)  # or fewer numbers per cell
    run("parzen_table", cells, shape, ranges, slope, table)
    run("parzen_grad", samples, shape, moving, fixed, weight, ranges, table, grad)


ENTRIES = {"parzen_joint": _joint, "parzen_grad": _grad}
