"""Memory for the kernels' results, lent again when a tensor is gone.

A fresh volume of more than 32 MiB costs a page fault per 4 KiB at its first touch, ten times what
writing it costs; torch gives such memory back to the system with every tensor.
"""

from __future__ import annotations

import math
import weakref
from collections import defaultdict, deque
from collections.abc import Sequence
from ctypes import c_byte

import torch
from torch import Tensor

from fireants_engine.errors import OutOfMemoryError
from fireants_engine.kernels.native.library import library

_SMALLEST = 1 << 20
"""Bytes below which torch's own memory is as good."""

_PAGE = 1 << 21


class Lender:
    """Blocks by size. What comes back is kept while more is lent than kept."""

    def __init__(self) -> None:
        self._free: defaultdict[int, deque[int]] = defaultdict(deque)
        self.lent = 0
        self.kept = 0

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An uninitialised dense tensor; raises OutOfMemoryError."""
        size = math.prod(shape) * dtype.itemsize
        if size < _SMALLEST:
            return torch.empty(tuple(shape), dtype=dtype)
        whole = -(-size // _PAGE) * _PAGE
        address = self._take(whole)
        memory = (c_byte * whole).from_address(address)
        # torch holds the buffer as long as any tensor looks at it
        weakref.finalize(memory, self._back, address, whole).atexit = False
        self.lent += whole
        flat = torch.frombuffer(memory, dtype=dtype, count=math.prod(shape))
        return flat.view(tuple(shape))

    def trim(self) -> None:
        """Give what is not lent back to the system."""
        for blocks in list(self._free.values()):
            while blocks:
                self._drop(blocks)
        self._free.clear()
        self.kept = 0

    def _take(self, whole: int) -> int:
        try:
            address = self._free[whole].pop()
        except IndexError:
            if self.kept > self.lent:
                self.trim()
            address = library().fireants_allocate(whole)
            if not address:
                self.trim()
                address = library().fireants_allocate(whole)
            if not address:
                raise OutOfMemoryError(
                    f"Not enough memory for {whole / 2**20:.0f} MiB; start at a coarser level, or "
                    "close other programs."
                ) from None
            return address
        self.kept -= whole
        return address

    def _back(self, address: int, whole: int) -> None:
        # runs whenever a tensor dies, on any thread: no lock, deques are atomic
        self.lent -= whole
        self.kept += whole
        self._free[whole].append(address)

    @staticmethod
    def _drop(blocks: deque[int]) -> None:
        try:
            library().fireants_release(blocks.pop())
        except IndexError:
            return


LENDER = Lender()
"""The process's one lender: memory is the process's, whichever run has used it."""


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised dense tensor; on the CPU of memory that was touched before, if there is."""
    if device.type != "cpu":
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    return LENDER.empty(shape, dtype)
