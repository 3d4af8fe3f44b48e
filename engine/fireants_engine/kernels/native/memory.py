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
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from fireants_engine.errors import OutOfMemoryError
from fireants_engine.kernels.native.library import library

_SMALLEST = 1 << 20
"""Bytes below which torch's own memory is as good."""

_PAGE = 1 << 21

_LARGEST_SPLIT = 4
"""How many times as large a block may be that is lent in parts."""


@dataclass(frozen=True)
class _Split:
    """A block lent in `count` parts of `size` bytes; those not lent are `idle`."""

    address: int
    whole: int
    size: int
    count: int
    idle: deque[int]


class Lender:
    """Blocks by size. What comes back is kept while more is lent than kept.

    A kept block serves smaller requests in parts, and is whole again when they are back: the
    scalar volumes of a step live in the memory of its vector fields.
    """

    def __init__(self) -> None:
        self._free: defaultdict[int, deque[int]] = defaultdict(deque)
        self._splits: list[_Split] = []
        self._taking = Lock()
        self.lent = 0
        self.kept = 0

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An uninitialised dense tensor; raises OutOfMemoryError."""
        size = math.prod(shape) * dtype.itemsize
        if size < _SMALLEST:
            return torch.empty(tuple(shape), dtype=dtype)
        whole = -(-size // _PAGE) * _PAGE
        with self._taking:
            address, home = self._take(whole)
            self.lent += whole
        memory = (c_byte * whole).from_address(address)
        # torch holds the buffer as long as any tensor looks at it
        weakref.finalize(memory, self._back, address, whole, home).atexit = False
        flat = torch.frombuffer(memory, dtype=dtype, count=math.prod(shape))
        return flat.view(tuple(shape))

    def trim(self) -> None:
        """Give what is not lent back to the system."""
        with self._taking:
            self._trim()

    def _trim(self) -> None:
        for split in list(self._splits):
            self._join(split)
        for size in list(self._free):
            self._drop(size)

    def _drop(self, size: int) -> None:
        blocks = self._free[size]
        while blocks:
            library().fireants_release(blocks.pop())
            self.kept -= size

    def _take(self, size: int) -> tuple[int, deque[int]]:
        """A block, and where it goes when it comes back."""
        home = self._free[size]
        if home:
            self.kept -= size
            return home.pop(), home
        part = self._part(size)
        if part is not None:
            self.kept -= size
            return part.idle.pop(), part.idle
        if any(split.whole == size and self._join(split) for split in list(self._splits)):
            self.kept -= size
            return home.pop(), home
        return self._fresh(size), home

    def _part(self, size: int) -> _Split | None:
        """A split with an idle part of this size, made of a kept block if need be."""
        for split in self._splits:
            if split.size == size and split.idle:
                return split
        larger = [whole for whole, kept in list(self._free.items()) if kept and whole >= 2 * size]
        if not larger or min(larger) > _LARGEST_SPLIT * size:
            return None
        whole = min(larger)
        address, count = self._free[whole].pop(), whole // size
        parts = deque(address + k * size for k in reversed(range(count)))
        split = _Split(address, whole, size, count, parts)
        self._splits.append(split)
        self.kept -= whole - count * size
        return split

    def _join(self, split: _Split) -> bool:
        """Make a block of its parts again, if none is lent."""
        if len(split.idle) < split.count:
            return False
        self._splits.remove(split)
        self._free[split.whole].append(split.address)
        self.kept += split.whole - split.count * split.size
        return True

    def _fresh(self, size: int) -> int:
        if self.kept > self.lent:
            self._trim()
        for smaller in list(self._free):  # from now on parts of this block can serve for those
            if 2 * smaller <= size <= _LARGEST_SPLIT * smaller:
                self._drop(smaller)
        address = library().fireants_allocate(size)
        if not address:
            self._trim()
            address = library().fireants_allocate(size)
        if not address:
            raise OutOfMemoryError(
                f"Not enough memory for {size / 2**20:.0f} MiB; start at a coarser level, or "
                "close other programs."
            )
        return address

    def _back(self, address: int, size: int, home: deque[int]) -> None:
        # runs whenever a tensor dies, on any thread, also in the middle of `_take`: no lock, only
        # an append, which is atomic
        self.lent -= size
        self.kept += size
        home.append(address)


LENDER = Lender()
"""The process's one lender: memory is the process's, whichever run has used it."""


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised dense tensor; on the CPU of memory that was touched before, if there is."""
    if device.type != "cpu":
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    return LENDER.empty(shape, dtype)
