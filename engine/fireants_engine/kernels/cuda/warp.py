"""Sampler and composition on CUDA; the operations and their structs: `native.warp`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fireants_engine.kernels.cuda.launch import PARTS, Kernels, blocks, largest


def _kernels(shape, like: Tensor) -> tuple[Kernels, int, int]:
    """The file for these sizes; voxels of an image and of the output."""
    sizes = math.prod(shape.in_), math.prod(shape.out)
    index = "int" if max(sizes) < 2**31 else "long long"
    return Kernels("warp", like, (("DIM", shape.dim), ("INDEX", index))), *sizes


def _warp(dtype: torch.dtype, shape, image, matrix, u, out, slopes) -> None:
    assert slopes is None  # the C++ kernels alone prepare them
    run, _, voxels = _kernels(shape, out)
    kernel = "warp_nearest" if shape.nearest else "warp"
    run(kernel, (blocks(voxels), shape.rows), shape, image, matrix, u, out)


def _backward(dtype, shape, grad, image, matrix, u, grad_image, grad_u, grad_matrix) -> None:
    run, _, voxels = _kernels(shape, grad)
    given = shape, grad, image, matrix, u
    if grad_u is not None:
        run("warp_backward_u", (blocks(voxels), shape.rows), *given, grad_u)
    if grad_matrix is not None:
        count, terms = blocks(voxels, PARTS), shape.dim * (shape.dim + 1)
        parts = run.parts(shape.rows, count, terms, dtype=torch.float64)
        run("warp_backward_matrix", (count, shape.rows), *given, parts)
        results = shape.rows * terms
        Kernels("reduce", grad)("sums", (results,), count, terms, parts, grad_matrix)
    if grad_image is not None:
        unit = run.parts(1)
        largest(grad, 1, unit)
        sums = torch.zeros(grad_image.shape, dtype=torch.int64, device=grad.device)
        run("warp_backward_image", (blocks(voxels), shape.rows), shape, grad, matrix, u, unit, sums)
        total = grad_image.numel()
        run("from_fixed_point", (blocks(total),), total, unit, sums, grad_image)


def _compose(dtype, shape, u, v, scale, out, peaks) -> None:
    run, _, voxels = _kernels(shape, out)
    if peaks is None:
        run("compose", (blocks(voxels), shape.rows), shape, u, v, scale, out, None)
        return
    count = blocks(voxels, PARTS)
    parts = run.parts(shape.rows, shape.dim, count)
    run("compose", (count, shape.rows), shape, u, v, scale, out, parts)
    Kernels("reduce", out)("largest", (shape.rows * shape.dim,), count, parts, peaks)


ENTRIES = {"warp": _warp, "warp_backward": _backward, "compose": _compose}
