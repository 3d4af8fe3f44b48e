"""The label vote on CUDA; the operation and its struct: `native.labels`."""

from __future__ import annotations

import torch
from torch import Tensor

from fireants_engine.kernels.cuda.launch import Kernels, blocks

_LABELS = ("unsigned char", "signed char", "short", "int", "long long")
"""In the order of `enum LabelKind` of shapes.h."""


def _label_vote(dtype: torch.dtype, shape, labels: Tensor, places: Tensor, out: Tensor) -> None:
    run = Kernels("labels", places, (("DIM", shape.dim), ("LABEL", _LABELS[shape.kind])))
    run("label_vote", (blocks(shape.samples),), shape, labels, places, out)


ENTRIES = {"label_vote": _label_vote}
