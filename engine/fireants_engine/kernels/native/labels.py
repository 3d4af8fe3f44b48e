"""Labels between the samples by the fused kernels; what they compute: `kernels.labels`."""

from __future__ import annotations

from ctypes import Structure, c_int32, c_int64

import torch
from torch import Tensor

from fireants_engine.kernels import labels as reference
from fireants_engine.kernels.native.library import call, checked, sizes3
from fireants_engine.kernels.native.memory import empty

_KINDS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""In the order of `enum LabelKind` of shapes.h."""


class LabelShape(Structure):
    """`struct LabelShape` of shapes.h."""

    _fields_ = [
        ("size", c_int64 * 3),
        ("samples", c_int64),
        *((name, c_int32) for name in ("dim", "kind", "threads")),
    ]


def label_vote(labels: Tensor, coords: Tensor) -> Tensor:
    """`labels.label_vote` in one pass; other types of whole numbers are the reference's."""
    reference.check(labels, coords)
    if labels.dtype not in _KINDS:
        return reference.label_vote(labels, coords)
    (places,) = checked("label_vote", coords)
    assert places is not None
    if max(labels.shape) >= 2**31:
        raise ValueError(
            f"label_vote: no more than 2^31 - 1 labels along an axis, not {tuple(labels.shape)}"
        )
    size, slab = tuple(labels.shape), coords.shape[1:]
    shape = LabelShape(
        sizes3(size),
        slab.numel(),
        *(labels.ndim, _KINDS.index(labels.dtype), torch.get_num_threads()),
    )
    out = empty(slab, labels.dtype, labels.device)
    call("label_vote", places.dtype, shape, labels.contiguous(), places, out)
    return out
