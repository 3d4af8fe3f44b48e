"""Jacobian determinants and strict folds on CUDA; the operations: `native.jacobian`."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fireants_engine.kernels.cuda.launch import THREADS, Kernels

PLANES = 16
"""That a thread marches through: of the planes it reads, two are its neighbours' too."""


def _run(kernel: str, dtype: torch.dtype, shape, u: Tensor, out: Tensor) -> None:
    width = 32 if shape.dim == 3 else THREADS
    depth, height, across = shape.size if shape.dim == 3 else (shape.size[1], 1, shape.size[2])
    tiles = -(-across // width) * -(-height // (THREADS // width)) * -(-depth // PLANES)
    run = Kernels("jacobian", u, (("DIM", shape.dim), ("WIDTH", width), ("PLANES", PLANES)))
    run(kernel, (tiles, shape.rows), shape, u, out)


ENTRIES = {name: partial(_run, name) for name in ("jacobian", "folds")}
