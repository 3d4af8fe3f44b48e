"""Memory that is lent to tensors and taken back."""

from __future__ import annotations

import random
from threading import Thread

import pytest
import torch

from fireants_engine.kernels.native import library, memory

if why := library.problem():
    pytest.skip(why, allow_module_level=True)


def test_memory_is_lent_again_and_given_back() -> None:
    lender = memory.Lender()
    first = lender.empty((512, 1024), torch.float32)
    address = first.data_ptr()
    assert address % (1 << 21) == 0
    view = first[3:]
    del first
    assert lender.lent == 1 << 21  # a view holds it
    del view
    assert (lender.lent, lender.kept) == (0, 1 << 21)
    again = lender.empty((256, 1024), torch.float64)
    assert again.data_ptr() == address
    del again
    lender.trim()
    assert (lender.lent, lender.kept) == (0, 0)


def test_small_volumes_live_in_the_memory_of_large_ones() -> None:
    """Kept small blocks make room for a large one, which then serves in parts for them."""
    lender = memory.Lender()
    one, page = (1024, 1024), 1 << 21
    small = [lender.empty(one, torch.float32) for _ in range(2)]
    del small
    large = lender.empty((3, *one), torch.float32)
    assert (lender.lent, lender.kept) == (6 * page, 0)
    address = large.data_ptr()
    del large
    parts = [lender.empty(one, torch.float32) for _ in range(3)]
    assert sorted(p.data_ptr() - address for p in parts) == [0, 2 * page, 4 * page]
    for k, part in enumerate(parts):
        part.fill_(k)
    assert [float(part.mean()) for part in parts] == [0, 1, 2]
    other = lender.empty((3, *one), torch.float32)
    assert other.data_ptr() != address  # its parts are lent
    del part, other
    parts.pop()
    lender.trim()
    assert (lender.lent, lender.kept) == (4 * page, 2 * page)  # not a part of what is lent
    parts.clear()
    assert lender.empty((3, *one), torch.float32).data_ptr() == address  # whole again
    lender.trim()
    assert (lender.lent, lender.kept) == (0, 0)


def test_no_two_tensors_share_memory() -> None:
    """Random sizes lent and given back on two threads, every one with its own value in it."""
    lender = memory.Lender()
    wrong: list[float] = []

    def work(seed: int) -> None:
        rng, held = random.Random(seed), []
        for k in range(100):
            tensor = lender.empty((rng.choice((1, 2, 3, 4)), 1 << 18), torch.float32)
            held.append((tensor.fill_(seed * 1000 + k), seed * 1000 + k))
            if len(held) > 6:
                old, value = held.pop(rng.randrange(len(held)))
                wrong.extend(old[(old != value)].tolist())

    threads = [Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    lender.trim()
    assert lender.kept == 0
