"""Local operations on tensors, one frozen table per backend; see `table`."""

from fireants_engine.kernels.reference import length
from fireants_engine.kernels.table import BACKENDS, REFERENCE, KernelTable, describe, select

__all__ = ["BACKENDS", "REFERENCE", "KernelTable", "describe", "length", "select"]
