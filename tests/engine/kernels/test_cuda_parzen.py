"""The CUDA text of mutual information, run on the CPU, against plain torch."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor

from fireants_engine.kernels import parzen as reference
from fireants_engine.kernels.cuda import parzen as launches
from fireants_engine.kernels.native import parzen as fast
from fireants_engine.kernels.parzen import HISTOGRAMS, PAD
from tests.engine.kernels.cases import WIDE, both, pair, rand
from tests.engine.kernels.shim import cuda_kernels

__all__ = ["cuda_kernels"]

WINDOWS = sorted(PAD)
SINGLE = torch.float32
BINS = 12  # every other number is one more compilation
KINDS = [(window, WIDE, histogram) for window in WINDOWS for histogram in HISTOGRAMS]
KINDS += [*((window, SINGLE, "exact") for window in WINDOWS), ("bspline", SINGLE, "approximate")]


def agree(dtype: torch.dtype, *given, **how) -> None:
    """Values within a share of a nat or of their size, gradients of their largest."""
    rel = 1e-10 if dtype == WIDE else 1e-5
    for found, truth in zip(*(both(k, *given, **how) for k in (fast, reference)), strict=True):
        assert found.shape == truth.shape
        assert found.dtype == truth.dtype == dtype
        size = truth.abs().max().clamp(min=1e-6 if truth.ndim > 1 else 1)  # entropies cancel
        assert float((found - truth).abs().max()) <= rel * float(size)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds NaN: whatever is not written shows."""

    def empty(shape, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.full(tuple(shape), torch.nan, dtype=dtype, device=device)

    monkeypatch.setattr(fast, "empty", empty)


@pytest.mark.parametrize(("window", "dtype", "histogram"), KINDS)
def test_values_and_gradients(window: str, dtype: torch.dtype, histogram: str) -> None:
    how = {"window": window, "histogram": histogram}
    for size in ((1, 1), (7, 9), (3, 9, 31)):
        images = pair(size, dtype, 2, 2)
        for rows in (None, 1, 2):
            weight = None if rows is None else 9 * rand(rows, 1, *size, seed=3, dtype=dtype)
            agree(dtype, *images, weight, BINS, normalised=rows == 1, **how)


@pytest.mark.parametrize("dtype", [WIDE, SINGLE])
def test_the_same_bits_however_many_blocks_count(monkeypatch, dtype: torch.dtype) -> None:
    images = pair((9, 35, 37), dtype)
    weight = rand(1, 1, 9, 35, 37, seed=3, dtype=dtype)
    agree(dtype, *images, weight, BINS)
    usual = both(fast, *images, weight, BINS)
    for most, least in ((1, 1), (7, 64), (512, 300)):
        monkeypatch.setattr(launches, "PARTS", most)
        monkeypatch.setattr(launches, "LEAST", least)
        monkeypatch.setattr(launches, "MOST", least)
        assert all(map(torch.equal, both(fast, *images, weight, BINS), usual))


@pytest.mark.parametrize(("dtype", "bins"), [(WIDE, BINS), (SINGLE, BINS), (WIDE, 110)])
def test_no_sum_is_too_large(monkeypatch, dtype: torch.dtype, bins: int) -> None:
    """Of more samples of one cell than one word of the sum holds, in a row as well; with many bins
    straight in the device's memory."""
    monkeypatch.setattr(launches, "PARTS", 1)
    image = torch.zeros(1, 1, 1, 12 << 15, dtype=dtype)
    image[..., 9 << 15 :] = 1  # a quarter
    ends = torch.tensor([[0, 1]], dtype=dtype)
    weight = 1.9 * torch.ones_like(image)
    value = fast.parzen_mi(image, image, ends, ends, weight, bins, window="linear")
    entropy = log(4) - 0.75 * log(3)
    assert float(value) == pytest.approx(entropy, abs=1e-12 if dtype == WIDE else 1e-6)


@pytest.mark.parametrize("dtype", [WIDE, SINGLE])
def test_a_histogram_that_shared_memory_does_not_hold(dtype: torch.dtype) -> None:
    images = pair((9, 10, 11), dtype, 2, 2)
    weight = rand(1, 1, 9, 10, 11, seed=3, dtype=dtype)
    agree(dtype, *images, weight, 110)


@pytest.mark.parametrize("size", [1e-37, 1e-9, 1e30])
def test_weights_of_any_size(size: float) -> None:
    images = pair((5, 6, 7), SINGLE)
    weight = rand(1, 1, 5, 6, 7, seed=3, dtype=SINGLE)
    weight[..., :3] = 0
    found, truth, nothing = (both(fast, *images, factor * weight, BINS) for factor in (size, 1, 0))
    assert float(found[0]) == pytest.approx(float(truth[0]), rel=1e-5)
    assert float(nothing[0]) == 0 == float(nothing[1].abs().max())


@pytest.mark.parametrize("top", [14, 22, 255, 1000])
@pytest.mark.parametrize(("window", "dtype"), [(w, d) for w, d, h in KINDS if h != "exact"])
def test_whole_numbers_fall_in_the_bins_of_torch(window: str, dtype: torch.dtype, top: int) -> None:
    """On the halves between bins too."""
    fixed = torch.arange(top + 1).to(dtype)[None, None, None]
    ends = torch.tensor([[0, top]], dtype=dtype)
    how = {"window": window, "histogram": "approximate"}
    found, truth = (
        float(k.parzen_mi(fixed, fixed, ends, ends, None, BINS, **how)) for k in (fast, reference)
    )
    assert found == pytest.approx(truth, rel=1e-12 if dtype == WIDE else 1e-6)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("histogram", HISTOGRAMS)
@pytest.mark.parametrize("which", ["moving", "fixed", "weight", "range"])
def test_what_is_no_number_makes_the_pairs_value_none(window, histogram, which) -> None:
    moving, fixed, m_range, f_range = pair((5, 30), WIDE, 2)
    weight = rand(2, 1, 5, 30)
    spoilt = {"moving": moving, "fixed": fixed, "weight": weight, "range": f_range}[which]
    spoilt[1].view(-1)[-1] = torch.nan
    how = {"window": window, "histogram": histogram}
    for kernels in (fast, reference):
        value, grad = both(kernels, moving, fixed, m_range, f_range, weight, BINS, **how)
        assert torch.isnan(value).tolist() == [False, True]
        assert bool(torch.isfinite(grad[0]).all())


@pytest.mark.parametrize("window", WINDOWS)
def test_infinite_samples_are_clamped(window: str) -> None:
    moving, fixed, m_range, f_range = pair((5, 30), WIDE)
    for image in (moving, fixed):
        image.view(-1)[3], image.view(-1)[70] = torch.inf, -torch.inf
    agree(WIDE, moving, fixed, m_range, f_range, None, BINS, window=window)
    _, grad = both(fast, moving, fixed, m_range, f_range, None, BINS, window=window)
    assert float(grad.view(-1)[3]) == 0 == float(grad.view(-1)[70])


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", [WIDE, SINGLE])
def test_a_constant_image_tells_nothing_and_pulls_nowhere(window: str, dtype) -> None:
    _, fixed, _, f_range = pair((6, 40), dtype)
    flat, ends = torch.full_like(fixed, 0.3), torch.full_like(f_range, 0.3)
    value, grad = both(fast, flat, fixed, ends, f_range, None, BINS, window=window)
    assert float(value) == pytest.approx(0, abs=1e-6)
    assert float(grad.abs().max()) == 0
