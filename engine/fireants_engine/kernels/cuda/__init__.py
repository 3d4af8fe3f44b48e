"""The kernels on CUDA devices: what `native.library.call` runs where the tensors lie on one.

Wrappers, structs and gradients are those of `kernels.native`; here stands how an operation becomes
launches of the kernels in `fireants_kernels`' `.cuh` files.
"""

from __future__ import annotations

import torch

from fireants_engine.kernels.cuda import descent, jacobian, labels, lncc, parzen, smooth, warp
from fireants_engine.kernels.cuda.launch import problem

ENTRIES = {
    **warp.ENTRIES,
    **smooth.ENTRIES,
    **descent.ENTRIES,
    **jacobian.ENTRIES,
    **labels.ENTRIES,
    **lncc.ENTRIES,
    **parzen.ENTRIES,
}
"""Operation -> function of (dtype, *arguments of the C function of that name)."""

__all__ = ["ENTRIES", "call", "problem"]


def call(name: str, dtype: torch.dtype, *arguments) -> None:
    """As `native.library.call`, on a CUDA device and on torch's current stream there."""
    ENTRIES[name](dtype, *arguments)
