"""The vote of labels: plain torch against counting by hand, native against plain torch."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from fireants_engine.kernels import labels as reference
from fireants_engine.kernels.native import labels as fast
from fireants_engine.kernels.native import library
from tests.engine.kernels.cases import SIZES, label_map, places

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
NATIVE = pytest.mark.skipif(library.problem() is not None, reason=str(library.problem()))
BOTH = [reference.label_vote, pytest.param(fast.label_vote, marks=NATIVE)]


def by_hand(labels: Tensor, place: list[float]) -> int:
    sums: dict[int, float] = {}
    low = [int(torch.tensor(c).floor()) for c in place]
    for corner in product((0, 1), repeat=len(place)):
        weight, index = 1.0, []
        for c, at, bit, n in zip(place, low, corner, labels.shape, strict=True):
            weight *= c - at if bit else 1 - (c - at)
            index.append(min(max(at + bit, 0), n - 1))
        name = int(labels[tuple(index)])
        sums[name] = sums.get(name, 0.0) + weight
    top = max(sums.values())
    return min(name for name, total in sums.items() if total > top - 1e-6)


@pytest.mark.parametrize("vote", BOTH)
@pytest.mark.parametrize("steps", [0, 2, 4])
@pytest.mark.parametrize("size", [(5, 6), (1, 7), (3, 4, 5)])
def test_the_largest_sum_of_weights_wins_and_of_equal_ones_the_smallest(vote, size, steps) -> None:
    labels, coords = label_map(size), places(size, (9, 11), steps)
    found = vote(labels, coords)
    truth = [by_hand(labels, place) for place in coords.flatten(1).T.tolist()]
    assert found.dtype == labels.dtype
    assert found.flatten().tolist() == truth


@NATIVE
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("steps", [0, 2])
def test_the_kernel_finds_what_plain_torch_finds(size, dtype: torch.dtype, steps: int) -> None:
    labels, coords = label_map(size, dtype, 120), places(size, (3, 40, 50), steps)
    for kind in (torch.float32, torch.float64):
        found, truth = (k.label_vote(labels, coords.to(kind)) for k in (fast, reference))
        assert found.dtype == dtype
        assert torch.equal(found, truth)


@pytest.mark.parametrize("vote", BOTH)
def test_labels_of_any_value_and_maps_of_any_layout(vote) -> None:
    wide = torch.tensor([[-(2**62), 2**62], [5, -7]])
    coords = torch.tensor([[0.0, 0.2, 0.5], [0.0, 0.9, 0.5]])
    assert vote(wide, coords).tolist() == [-(2**62), 2**62, -(2**62)]
    assert vote(wide.T, coords.double()).tolist() == [-(2**62), 5, -(2**62)]
    assert vote(wide, coords[:, :0]).shape == (0,)


@NATIVE
def test_any_number_of_threads_gives_the_same_bits() -> None:
    labels, coords = label_map((20, 30, 40)), places((20, 30, 40), (50, 400))
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            found.append(fast.label_vote(labels, coords))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


@pytest.mark.parametrize("vote", BOTH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_place_leads_out_of_the_map(vote, dtype: torch.dtype) -> None:
    """Beyond a border its labels go on, and what is no number counts as 0."""
    labels = label_map((4, 5, 6), count=100)
    for far, last in ((torch.inf, -1), (1e30, -1), (-1e30, 0), (-torch.inf, 0), (torch.nan, 0)):
        for axis in range(3):
            coords = torch.full((3, 7), 2.0, dtype=dtype)
            coords[axis] = far
            truth = labels.select(axis, last)[2, 2].expand(7)
            assert torch.equal(vote(labels, coords), truth)


@pytest.mark.parametrize("vote", BOTH)
def test_what_does_not_fit_is_refused(vote) -> None:
    labels, coords = label_map((4, 5)), places((4, 5), (7,))
    with pytest.raises(TypeError, match="labels are whole numbers"):
        vote(labels.float(), coords)
    with pytest.raises(ValueError, match="no map of 2 or 3 axes"):
        vote(labels[0], coords)
    with pytest.raises(ValueError, match="do not fit a map of 2 axes"):
        vote(labels, places((4, 5, 6), (7,)))
