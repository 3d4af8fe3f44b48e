"""The CUDA text of the label vote, run on the CPU, against plain torch."""

from __future__ import annotations

import pytest
import torch

from fireants_engine.kernels import labels as reference
from fireants_engine.kernels.native import labels as fast
from tests.engine.kernels.cases import label_map, places
from tests.engine.kernels.shim import cuda_kernels

__all__ = ["cuda_kernels"]

KINDS = [(dtype, torch.float32) for dtype in fast._KINDS]
KINDS += [(torch.uint8, torch.float64), (torch.int64, torch.float64)]
SIZES = [(7, 9), (1, 40), (1, 1), (5, 6, 7), (9, 1, 34), (4, 18, 65)]


@pytest.mark.parametrize(("dtype", "real"), KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_the_labels_of_plain_torch(size: tuple[int, ...], dtype, real: torch.dtype) -> None:
    labels = label_map(size, dtype, 120)
    for steps in (0, 2):  # ties are among those on halves
        coords = places(size, (3, 11, 17), steps).to(real)
        found = fast.label_vote(labels, coords)
        assert found.dtype == dtype
        assert torch.equal(found, reference.label_vote(labels, coords))


def test_labels_of_any_value_and_maps_of_any_layout() -> None:
    wide = torch.tensor([[-(2**62), 2**62], [5, -7]])
    coords = torch.tensor([[0.0, 0.2, 0.5], [0.0, 0.9, 0.5]])
    assert fast.label_vote(wide, coords).tolist() == [-(2**62), 2**62, -(2**62)]
    assert fast.label_vote(wide.T, coords.double()).tolist() == [-(2**62), 5, -(2**62)]
    assert fast.label_vote(wide, coords[:, :0]).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_place_leads_out_of_the_map(dtype: torch.dtype) -> None:
    labels = label_map((4, 5, 6), count=100)
    for far in (torch.inf, 1e30, -1e30, -torch.inf, torch.nan):
        coords = torch.full((3, 7), 2.0, dtype=dtype)
        coords[1] = far
        assert torch.equal(fast.label_vote(labels, coords), reference.label_vote(labels, coords))


def test_what_has_no_kernel() -> None:
    labels, coords = label_map((4, 5)), places((4, 5), (7,))
    with pytest.raises(TypeError, match="label_vote: native kernels take float32 and float64"):
        fast.label_vote(labels, coords.half())
    with pytest.raises(ValueError, match="label_vote: no more than"):
        fast.label_vote(labels[:1].expand(2**31, 5), coords)
