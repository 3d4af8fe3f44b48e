"""Folds of a sampled warp are smoothed away where they are, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fireants_engine.kernels import REFERENCE
from fireants_engine.ops import count_folds, strict_fold_mask
from fireants_engine.ops.unfold import unfold


def folded_field(*shape: int, peak: float = 1.5) -> Tensor:
    """A smooth field with a rough patch in its middle that folds."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.randn((1, len(shape), *shape), generator=generator)
    smooth = REFERENCE.smooth(rough, [3.0] * len(shape)) * 5
    middle = (slice(None), slice(None), *[slice(n // 2 - 2, n // 2 + 2) for n in shape])
    smooth[middle] += peak * rough[middle].sign()
    return smooth


@pytest.mark.parametrize("shape", [(40, 36), (24, 26, 22)])
def test_the_folds_go_and_the_rest_stays_to_the_bit(shape: tuple[int, ...]) -> None:
    u = folded_field(*shape)
    kept = u.clone()
    number = count_folds(u)[0]
    assert number > 5
    out, before, after = unfold(u)
    assert (before, after) == (number, 0)
    assert count_folds(out)[0] == 0
    torch.testing.assert_close(u, kept, rtol=0, atol=0)  # the input is left alone
    where = strict_fold_mask(u)[0, 0].nonzero()
    low, high = where.amin(0) - 6, where.amax(0) + 7
    outside = torch.ones(shape, dtype=torch.bool)
    outside[tuple(map(slice, low.clamp(min=0).tolist(), high.tolist()))] = False
    assert torch.equal(out[0][:, outside], u[0][:, outside])
    assert float((out - u).abs().max()) > 0


def test_a_field_without_folds_is_returned_itself() -> None:
    u = 0.1 * folded_field(20, 22)
    out, before, after = unfold(u)
    assert out is u
    assert (before, after) == (0, 0)


def test_folds_at_the_border_go_too() -> None:
    u = torch.zeros(1, 2, 16, 18)
    u[0, 0, 0, 4], u[0, 1, 9, 17] = 2.5, -2.5
    out, before, after = unfold(u)
    assert before > 0
    assert after == 0
    assert count_folds(out)[0] == 0


def test_what_cannot_be_undone_in_the_rounds_given_is_counted() -> None:
    u = folded_field(30, 32, peak=12.0)
    out, _, after = unfold(u, rounds=1)
    assert after == count_folds(out)[0] > 0


@pytest.mark.parametrize("thin", [1, 2])
def test_a_volume_of_few_slices_is_unfolded_too(thin: int) -> None:
    flat = folded_field(40, 36)
    u = torch.cat([torch.zeros_like(flat[:, :1]), flat], 1)[:, :, None].repeat(1, 1, thin, 1, 1)
    assert count_folds(u)[0] > 5
    out, _, after = unfold(u)
    assert after == count_folds(out)[0] == 0
