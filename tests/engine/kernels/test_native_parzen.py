"""Mutual information of the CPU library: its bins, its memory, its threads. What both kernels share
is in test_parzen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fireants_engine.kernels import parzen as reference
from fireants_engine.kernels.native import library
from fireants_engine.kernels.parzen import HISTOGRAMS, PAD

if why := library.problem():
    pytest.skip(why, allow_module_level=True)

from fireants_engine.kernels.native import memory
from fireants_engine.kernels.native import parzen as native
from tests.engine.kernels.cases import WIDE, both, pair, rand

SIZES = [(7, 9), (1, 65), (33, 3), (64, 1), (1, 1), (5, 6, 7), (1, 9, 20), (9, 1, 7), (3, 22, 31)]
WINDOWS = sorted(PAD)
CPU = torch.device("cpu")


def close(found: Tensor, truth: Tensor, rel: float) -> None:
    """Values within `rel` nats or of their size, gradients of their largest."""
    assert found.shape == truth.shape
    assert found.dtype == truth.dtype
    size = truth.abs().max().clamp(min=1e-6 if truth.ndim > 1 else 1)  # entropies cancel
    assert float((found - truth).abs().max()) <= rel * float(size)


@pytest.mark.parametrize("histogram", HISTOGRAMS)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients_of_any_size(size, window: str, histogram: str) -> None:
    for dtype, rel in ((WIDE, 1e-10), (torch.float32, 1e-5)):
        images = pair(size, dtype, 2, 2)
        for rows in (None, 1, 2):
            weight = None if rows is None else rand(rows, 1, *size, seed=3, dtype=dtype)
            for normalised in (False, True):
                how = {"window": window, "histogram": histogram, "normalised": normalised}
                found, truth = (both(k, *images, weight, 12, **how) for k in (native, reference))
                for a, b in zip(found, truth, strict=True):
                    close(a, b, rel)


@pytest.mark.parametrize("top", [54, 27, 255, 1000])
@pytest.mark.parametrize("dtype", [WIDE, torch.float32])
def test_whole_numbers_fall_in_the_bins_of_torch(top: int, dtype: torch.dtype) -> None:
    """On the halves between bins too, where one fused product would put them into the next."""
    values = torch.arange(top + 1).to(dtype)
    fixed, ends = values[None, None, None], torch.tensor([[0, top]], dtype=dtype)
    for window in WINDOWS:
        how = {"window": window, "histogram": "approximate"}
        found, truth = (
            k.parzen_mi(fixed, fixed, ends, ends, None, 32, **how) for k in (native, reference)
        )
        close(found, truth, 1e-12 if dtype == WIDE else 1e-6)


@pytest.mark.parametrize("histogram", HISTOGRAMS)
@pytest.mark.parametrize("window", WINDOWS)
def test_the_same_bits_for_any_number_of_threads(window: str, histogram: str) -> None:
    images = pair((40, 50, 61), torch.float32, 2)  # several pieces each
    weight = rand(1, 1, 40, 50, 61, seed=3, dtype=torch.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            found.append(both(native, *images, weight, 16, window=window, histogram=histogram))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_a_table_of_many_bins_in_several_groups() -> None:
    """Few partial histograms fit at a time: images take turns."""
    images = pair((9, 10, 11), WIDE, 3, 2)
    for bins in (7, 700):
        for a, b in zip(*(both(k, *images, None, bins) for k in (native, reference)), strict=True):
            close(a, b, 1e-10)


def test_nothing_is_left_of_what_the_memory_held() -> None:
    images = pair((40, 81, 101), torch.float32)
    spoilt = memory.empty(images[0].shape, torch.float32, CPU).fill_(torch.nan)
    where = spoilt.data_ptr()
    del spoilt
    _, grad = both(native, *images, None, 32)
    assert grad.data_ptr() == where
    assert bool(torch.isfinite(grad).all())


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("histogram", HISTOGRAMS)
@pytest.mark.parametrize("which", ["moving", "fixed", "weight", "range"])
@pytest.mark.parametrize("normalised", [False, True])
def test_what_is_no_number_makes_the_pairs_value_none(window, histogram, which, normalised):
    moving, fixed, m_range, f_range = pair((5, 30), WIDE, 2)
    weight = rand(2, 1, 5, 30)
    spoilt = {"moving": moving, "fixed": fixed, "weight": weight, "range": f_range}[which]
    spoilt[1].view(-1)[-1] = torch.nan
    how = {"window": window, "histogram": histogram, "normalised": normalised}
    for kernels in (native, reference):
        value, grad = both(kernels, moving, fixed, m_range, f_range, weight, 8, **how)
        assert torch.isnan(value).tolist() == [False, True]
        assert bool(torch.isfinite(grad[0]).all())


@pytest.mark.parametrize("window", WINDOWS)
def test_infinite_samples_are_clamped(window: str) -> None:
    moving, fixed, m_range, f_range = pair((5, 30), WIDE)
    for image in (moving, fixed):
        image.view(-1)[3], image.view(-1)[70] = torch.inf, -torch.inf
    found, truth = (
        both(k, moving, fixed, m_range, f_range, None, 8, window=window)
        for k in (native, reference)
    )
    for a, b in zip(found, truth, strict=True):
        close(a, b, 1e-10)
    assert float(found[1].view(-1)[3]) == 0


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", [WIDE, torch.float32])
def test_a_constant_image_tells_nothing_and_pulls_nowhere(window: str, dtype) -> None:
    _, fixed, _, f_range = pair((6, 40), dtype)
    flat, ends = torch.full_like(fixed, 0.3), torch.full_like(f_range, 0.3)
    for kernels in (native, reference):
        value, grad = both(kernels, flat, fixed, ends, f_range, None, 16, window=window)
        assert float(value) == pytest.approx(0, abs=1e-6)
        assert float(grad.abs().max()) == 0


def test_another_precision_is_refused() -> None:
    moving, fixed, *ends = pair((6, 7), WIDE)
    with pytest.raises(TypeError, match="float16"):
        native.parzen_mi(moving.half(), fixed.half(), *(e.half() for e in ends), None, 8)
    with pytest.raises(TypeError, match="use one of both"):
        native.parzen_mi(moving, fixed.float(), *ends, None, 8)
