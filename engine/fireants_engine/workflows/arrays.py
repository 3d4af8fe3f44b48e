"""Arrays of a run that is only thought through: what a process holds of them, and when most.

Plain numbers, no torch. The allocators that stand between a run and the system are imitated,
because what they keep counts as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MIB = 2**20

_PAGE = 2 * MIB
_LENT = MIB
"""Bytes from which a kernel's result is lent (`kernels.native.memory`)."""
_MOST_PARTS = 4


@dataclass(frozen=True)
class Habits:
    """How memory is given and taken back.

    lends: results of kernels are lent (native kernels on the CPU). heap_below: bytes below which
    freed arrays stay in the process's heap, 0 where all go back (or are kept for all alike, as on
    a GPU). scattered: how much larger the heap becomes than what lies in it at once.
    """

    lends: bool
    heap_below: int = 0
    scattered: float = 1.0


@dataclass(eq=False)
class Block:
    """One array; size in bytes. whole: bytes of the block it is lent, 0 where it is torch's."""

    label: str
    size: int
    whole: int = 0


@dataclass
class _Heap:
    """The C library's heap, and the system's own pages for large arrays.

    As glibc does it: an array lies in the heap where there is room, or when one of its size has
    been freed before and it is below `below` bytes; the lender's only where there is room. What
    is freed in the heap stays with the process until twice the largest of such arrays is free.
    """

    below: int
    scattered: float
    live: int = 0
    most: int = 0
    mapped: int = 0
    largest: int = 0
    inside: Counter[int] = field(default_factory=Counter)

    @property
    def held(self) -> int:
        return round(self.most * self.scattered) + self.mapped

    def take(self, size: int, lender: bool = False) -> None:
        fits = size <= self.most - self.live
        if fits or (size < self.below and size <= self.largest and not lender):
            self.inside[size] += 1
            self.live += size
            self.most = max(self.live, self.most)
        else:
            self.mapped += size

    def give(self, size: int, lender: bool = False) -> None:
        if not self.inside[size]:
            self.mapped -= size
            if size < self.below and not lender:
                self.largest = max(self.largest, size)
            return
        self.inside[size] -= 1
        self.live -= size
        if self.most - self.live >= 2 * self.largest and self.scattered == 1:
            self.most = self.live


@dataclass
class _Lent:
    """`kernels.native.memory.Lender` in numbers: what is kept, by size, and split in parts."""

    heap: _Heap
    lent: int = 0
    kept: Counter[int] = field(default_factory=Counter)
    parts: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def idle(self) -> int:
        whole = sum(size * count for size, count in self.kept.items())
        return whole + sum(w - (n - i) * s for s, (w, n, i) in self.parts.items())

    def take(self, size: int) -> None:
        if self.kept[size]:
            self.kept[size] -= 1
        elif not self._part(size):
            self._join()
            if self.kept[size]:
                self.kept[size] -= 1
            else:
                self._make_room(size)
        self.lent += size

    def back(self, size: int) -> None:
        self.lent -= size
        if size in self.parts and self.parts[size][2] < self.parts[size][1]:
            whole, count, idle = self.parts[size]
            self.parts[size] = (whole, count, idle + 1)
        else:
            self.kept[size] += 1

    def trim(self) -> None:
        self._join()
        for size in list(self.kept):
            self._drop(size)

    def _drop(self, size: int) -> None:
        for _ in range(self.kept.pop(size)):
            self.heap.give(size, lender=True)

    def _part(self, size: int) -> bool:
        """A part of a larger kept block serves, and so do its other parts later."""
        if size in self.parts:
            whole, count, idle = self.parts[size]
            if idle:
                self.parts[size] = (whole, count, idle - 1)
                return True
            return False
        larger = [w for w, n in self.kept.items() if n and 2 * size <= w <= _MOST_PARTS * size]
        if not larger:
            return False
        whole = min(larger)
        self.kept[whole] -= 1
        self.parts[size] = (whole, whole // size, whole // size - 1)
        return True

    def _join(self) -> None:
        for size, (whole, count, idle) in list(self.parts.items()):
            if idle == count:
                del self.parts[size]
                self.kept[whole] += 1

    def _make_room(self, size: int) -> None:
        if self.idle > self.lent:
            self.trim()
        for smaller in list(self.kept):
            if 2 * smaller <= size <= _MOST_PARTS * smaller:
                self._drop(smaller)
        self.heap.take(size, lender=True)


class Book:
    """Arrays in use; `peak` bytes at the worst moment so far, and `parts` of it by label."""

    def __init__(self, habits: Habits) -> None:
        self.habits = habits
        self.peak = 0
        self.parts: dict[str, int] = {}
        self._heap = _Heap(habits.heap_below, habits.scattered)
        self._lent = _Lent(self._heap)
        self._live: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """Bytes that the process holds now."""
        return self._heap.held

    def take(self, label: str, size: float, lent: bool = False) -> Block:
        """One more array; lent: a kernel's result."""
        block = Block(label, int(size))
        if lent and self.habits.lends and block.size >= _LENT:
            block.whole = -(-block.size // _PAGE) * _PAGE
            self._lent.take(block.whole)
        else:
            self._heap.take(block.size)
        self._live[label] += block.whole or block.size
        self._look()
        return block

    def give(self, *blocks: Block) -> None:
        """These arrays are gone."""
        for block in blocks:
            self._live[block.label] -= block.whole or block.size
            if block.whole:
                self._lent.back(block.whole)
            else:
                self._heap.give(block.size)

    def load(self, label: str, size: int) -> None:
        """Code and constants, which stay."""
        self._heap.mapped += size
        self._live[label] += size
        self._look()

    @contextmanager
    def passing(self, label: str, *sizes: float, lent: bool = False) -> Iterator[None]:
        """Arrays that are there for a while."""
        blocks = [self.take(label, size, lent) for size in sizes]
        yield
        self.give(*blocks)

    def touch(self, label: str, *sizes: float, lent: bool = False) -> None:
        """Arrays that are there at once, and gone."""
        with self.passing(label, *sizes, lent=lent):
            pass

    def trim(self) -> None:
        """What is not lent goes back, as at the end of a run."""
        self._lent.trim()

    def _look(self) -> None:
        if self.held > self.peak:
            self.peak = self.held
            live = {label: size for label, size in self._live.items() if size > 0}
            kept = self.peak - sum(live.values())
            self.parts = {**live, "kept for reuse": kept} if kept > 0 else live
