"""Local operations on tensors, one frozen table per backend; see `table`.

`ops`, the same as operators of torch, is imported by those who want it.
"""

from fireants_engine.kernels.descent import Direction
from fireants_engine.kernels.reference import length
from fireants_engine.kernels.table import (
    BACKENDS,
    REFERENCE,
    KernelTable,
    chosen_for,
    describe,
    load,
    missing,
    select,
)

__all__ = [
    "BACKENDS",
    "REFERENCE",
    "Direction",
    "KernelTable",
    "chosen_for",
    "describe",
    "length",
    "load",
    "missing",
    "select",
]
