"""Parzen mutual information: the closed-form gradient, and the value against a full table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor
from torch.autograd import gradcheck

from fireants_engine.kernels import load, missing
from fireants_engine.kernels.parzen import PAD

WINDOWS = sorted(PAD)


@pytest.fixture(params=["reference", "native"], autouse=True)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Every test is one of plain torch and of the CPU library."""
    if why := missing().get(request.param):
        pytest.skip(why)
    table = load(request.param)
    monkeypatch.setitem(USED, "parzen_mi", table.parzen_mi)
    return table


USED: dict = {}


def parzen_mi(moving, fixed, weight, bins: int, *, window: str = "bspline", **how) -> Tensor:
    """Of one pair of images whose intensities are bin coordinates."""
    pad = PAD.get(window, 0)
    ends = torch.tensor([[pad, bins - 1 - pad]], dtype=moving.dtype)
    images = (t.reshape(1, 1, *moving.shape).to(moving.dtype) for t in (moving, fixed))
    weight = weight.reshape(1, 1, *moving.shape).to(moving.dtype)
    return USED["parzen_mi"](*images, ends, ends, weight, bins, window=window, **how)[0]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def problem(shape: tuple[int, ...], bins: int, window: str) -> tuple[Tensor, Tensor, Tensor]:
    """Moving bin coordinates between the knots, fixed bins that depend on them, weights."""
    pad = PAD[window]
    moving = pad + rand(*shape) * (bins - 1 - 2 * pad)
    low = moving.floor().clamp(max=bins - 2 - pad)
    moving = low + 0.1 + 0.8 * (moving - low).clamp(max=1)
    noise = rand(*shape, seed=1) * 3
    fixed = (0.7 * moving + noise).round().to(torch.int64).clamp(pad, bins - 1 - pad)
    return moving, fixed, 0.2 + rand(*shape, seed=2)


def parzen_table(moving: np.ndarray, bins: int, window: str) -> np.ndarray:
    """(samples, bins) weights of every bin."""
    distance = moving.ravel()[:, None] - np.arange(bins)
    if window == "gaussian":
        first = np.floor(moving.ravel())[:, None] - 1
        near = (np.arange(bins) >= first) & (np.arange(bins) < first + 4)
        table = np.exp(-0.5 * (distance / 0.5) ** 2) * near
        return table / table.sum(1, keepdims=True)
    knots = [-2, -1, 0, 1, 2] if window == "bspline" else [-1, 0, 1]
    basis = BSpline.basis_element(knots, extrapolate=False)
    return np.nan_to_num(basis(distance))


def by_table(moving, fixed, weight, bins: int, window: str, normalised: bool = False) -> float:
    """(Normalised) mutual information from the whole samples x bins table."""
    parzen = parzen_table(moving.numpy(), bins, window)
    one_hot = np.eye(bins)[fixed.numpy().ravel()]
    joint = one_hot.T @ (parzen * weight.numpy().ravel()[:, None])
    joint /= joint.sum()

    def entropy(p: np.ndarray) -> float:
        return float(-(p[p > 0] * np.log(p[p > 0])).sum())

    ends = entropy(joint.sum(0)) + entropy(joint.sum(1))
    return ends / entropy(joint) if normalised else ends - entropy(joint)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("shape", "bins"), [((1, 9, 7), 8), ((1, 5, 4, 6), 16), ((1, 31), 32)])
@pytest.mark.parametrize("normalised", [False, True])
def test_value_is_that_of_the_full_parzen_table(shape, bins, window, normalised) -> None:
    moving, fixed, weight = problem(shape, bins, window)
    truth = by_table(moving, fixed, weight, bins, window, normalised)
    for numbers in (fixed, fixed.double(), fixed.float()):
        got = parzen_mi(moving, numbers, weight, bins, window=window, normalised=normalised)
        assert float(got) == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("shape", "bins"), [((1, 9, 7), 8), ((1, 5, 4, 6), 12)])
@pytest.mark.parametrize("normalised", [False, True])
def test_gradient(shape: tuple[int, ...], bins: int, window: str, normalised: bool) -> None:
    moving, fixed, weight = problem(shape, bins, window)
    moving.requires_grad_(True)
    how = {"window": window, "normalised": normalised}
    assert gradcheck(lambda m: -3 * parzen_mi(m, fixed, weight, bins, **how), (moving,))


@pytest.mark.parametrize("window", WINDOWS)
def test_weights_of_zero_remove_samples(window: str) -> None:
    moving, fixed, weight = problem((1, 60), 16, window)
    some = weight.clone()
    some[:, 40:] = 0
    cut = parzen_mi(moving[:, :40], fixed[:, :40], weight[:, :40], 16, window=window)
    leaf = moving.requires_grad_(True)
    whole = parzen_mi(leaf, fixed, some, 16, window=window)
    torch.testing.assert_close(whole.detach(), cut)
    (grad,) = torch.autograd.grad(whole, leaf)
    assert float(grad[:, 40:].abs().max()) == 0


@pytest.mark.parametrize("bins", [8, 32])
def test_of_an_image_with_itself_it_is_the_entropy(bins: int) -> None:
    """Exactly, for the linear window on bin centres (LESSONS 3)."""
    values = torch.randint(0, bins, (1, 4000), generator=torch.Generator().manual_seed(0))
    counts = np.bincount(values[0].numpy(), minlength=bins) / 4000
    entropy = -(counts[counts > 0] * np.log(counts[counts > 0])).sum()
    got = parzen_mi(values.double(), values, torch.ones(1, 4000).double(), bins, window="linear")
    assert float(got) == pytest.approx(entropy, abs=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
def test_of_independent_images_it_is_nearly_zero_and_never_negative(window: str) -> None:
    n, bins = 40000, 8
    moving = 2 + rand(1, n) * 3
    fixed = torch.randint(2, 6, (1, n), generator=torch.Generator().manual_seed(3))
    got = float(parzen_mi(moving, fixed, torch.ones(1, n).double(), bins, window=window))
    assert 0 <= got < bins * bins / n


@pytest.mark.parametrize("window", WINDOWS)
def test_the_ends_of_the_range_stay_in_the_table(window: str) -> None:
    low, high = (0.0, 7.0) if window == "linear" else (2.0, 5.0)
    moving = torch.tensor([[low, high, low, high]], dtype=torch.float64, requires_grad=True)
    fixed = moving.detach().to(torch.int64)
    value = parzen_mi(moving, fixed, torch.ones(1, 4).double(), 8, window=window)
    value.backward()
    assert torch.isfinite(moving.grad).all()
    truth = by_table(moving.detach(), fixed, torch.ones(1, 4), 8, window)
    assert float(value.detach()) == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize("normalised", [False, True])
def test_without_any_weight_nothing_is_known(normalised: bool) -> None:
    moving, fixed, weight = problem((1, 20), 8, "bspline")
    moving.requires_grad_(True)
    value = parzen_mi(moving, fixed, 0 * weight, 8, normalised=normalised)
    value.backward()
    assert float(value.detach()) == (1 if normalised else 0)
    assert float(moving.grad.abs().max()) == 0


@pytest.mark.parametrize("window", WINDOWS)
def test_of_constant_images_nothing_is_known(window: str) -> None:
    moving = torch.full((1, 30), 3.0, dtype=torch.float64, requires_grad=True)
    weight = torch.ones(1, 30, dtype=torch.float64)
    how = {"window": window, "normalised": True}
    value = parzen_mi(moving, torch.full((1, 30), 3), weight, 8, **how)
    (grad,) = torch.autograd.grad(value, moving)
    if window == "linear":  # the other windows spread a constant: H(M) = H(F, M) > 0
        assert float(grad.abs().max()) == 0
    assert float(value.detach()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("bins", [8, 32])
def test_nmi_of_an_image_with_itself_is_two_and_of_independent_ones_one(bins: int) -> None:
    values = torch.randint(0, bins, (1, 4000), generator=torch.Generator().manual_seed(0))
    weight = torch.ones(1, 4000, dtype=torch.float64)
    how = {"window": "linear", "normalised": True}
    same = parzen_mi(values.double(), values, weight, bins, **how)
    assert float(same) == pytest.approx(2, abs=1e-12)
    every = torch.cartesian_prod(torch.arange(bins), torch.arange(bins)).T  # each pair once
    ones = torch.ones(bins * bins, dtype=torch.float64)
    apart = parzen_mi(every[0].double(), every[1], ones, bins, **how)
    assert float(apart) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
def test_an_invalid_image_gives_an_invalid_value_not_a_crash(window: str) -> None:
    moving, fixed, weight = problem((1, 20), 8, window)
    moving[0, 3] = torch.nan
    assert torch.isnan(parzen_mi(moving, fixed, weight, 8, window=window))


def test_samples_just_below_a_knot_leave_no_negative_share() -> None:
    """(1 - f)^3 as a sum of powers rounds to either side of 0 there; an entropy of it is NaN."""
    knots = torch.arange(3, 6, dtype=torch.float64)
    for below in (1e-6, 3e-7, 1e-7, 3e-8, 1e-8):
        moving, weight = (knots - below)[None], torch.ones(1, 3, dtype=torch.float64) / 3
        nmi = parzen_mi(moving, knots.long()[None], weight, 9, normalised=True)
        assert 1 < float(nmi) <= 2


def test_a_window_that_does_not_exist_is_refused() -> None:
    moving, fixed, weight = problem((1, 20), 8, "linear")
    with pytest.raises(ValueError, match="'hann'"):
        parzen_mi(moving, fixed, weight, 8, window="hann")


def test_inputs_are_left_alone() -> None:
    moving, fixed, weight = problem((1, 20), 8, "bspline")
    kept = [t.clone() for t in (moving, fixed, weight)]
    leaf = moving.requires_grad_(True)
    for window in WINDOWS:
        parzen_mi(leaf, fixed, weight, 8, window=window).backward()
    for now, before in zip((moving.detach(), fixed, weight), kept, strict=True):
        torch.testing.assert_close(now, before, rtol=0, atol=0)


@pytest.mark.parametrize("window", WINDOWS)
def test_the_approximate_histogram_is_exact_on_bin_centres_and_close_elsewhere(window: str) -> None:
    moving, fixed, weight = problem((1, 40, 40), 16, window)
    centred = moving.round()
    both = [
        [
            parzen_mi(m, fixed, weight, 16, window=window, histogram=h)
            for h in ("exact", "approximate")
        ]
        for m in (centred, moving)
    ]
    torch.testing.assert_close(*both[0])
    exact, approximate = both[1]
    assert float(exact) != float(approximate)
    assert float(approximate) == pytest.approx(float(exact), rel=0.15)


@pytest.mark.parametrize("histogram", ["exact", "approximate"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("normalised", [False, True])
def test_batches_channels_units_and_weights_by_all_kernels(kernels, window, normalised, histogram):
    """Held against plain torch pair by pair and channel by channel."""
    moving, fixed = rand(2, 2, 5, 6, 7) * 50 - 10, rand(2, 2, 5, 6, 7, seed=1).add(1).square()
    fixed = fixed + 0.01 * moving
    ends = [torch.stack(image.flatten(1).aminmax(dim=1), 1) for image in (moving, fixed)]
    ends[0][:, 1] -= 5  # some samples lie beyond
    how = {"window": window, "normalised": normalised, "histogram": histogram}
    for weight in (None, rand(1, 1, 5, 6, 7, seed=2), rand(2, 1, 5, 6, 7, seed=3)):
        leaf = moving.clone().requires_grad_()
        found = kernels.parzen_mi(leaf, fixed, *ends, weight, 12, **how)
        (grad,) = torch.autograd.grad(found @ torch.tensor([1.0, -2.0]).double(), leaf)
        for n in range(2):
            own = None if weight is None else weight[n % len(weight)][None]
            one = moving[n : n + 1].clone().requires_grad_()
            parts = [
                load("reference").parzen_mi(
                    *(image[:, c : c + 1] for image in (one, fixed[n : n + 1])),
                    *(e[n : n + 1] for e in ends),
                    *(own, 12),
                    **how,
                )
                for c in range(2)
            ]
            value = torch.stack(parts).sum()
            torch.testing.assert_close(found[n], value, rtol=1e-10, atol=1e-12)
            (truth,) = torch.autograd.grad(value * (1, -2)[n], one)
            size = float(truth.abs().max())
            assert float((grad[n] - truth[0]).abs().max()) <= 1e-10 * size


def test_single_precision_and_any_number_of_threads(kernels) -> None:
    moving, fixed = rand(1, 1, 20, 30, 40), rand(1, 1, 20, 30, 40, seed=1)
    fixed = 0.5 * fixed + moving.square()
    ends = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.5]])
    (truth,) = load("reference").parzen_mi(moving, fixed, *(e.double() for e in ends), None, 32)
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            found.append(kernels.parzen_mi(moving.float(), fixed.float(), *ends, None, 32))
    finally:
        torch.set_num_threads(threads)
    assert float(found[0]) == pytest.approx(float(truth), rel=1e-5)
    if kernels.name == "native":
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fixed": rand(1, 1, 4, 5)}, "images of shape"),
        ({"moving_range": torch.zeros(2, 2)}, r"ranges have to be \(1, 2\)"),
        ({"weight": rand(3, 1, 4, 4)}, "does not fit images"),
        ({"bins": 3}, "3 bins do not fit"),
        ({"histogram": "guess"}, "not 'guess'"),
    ],
)
def test_what_does_not_fit_is_refused(kernels, change: dict, told: str) -> None:
    given = {"moving": rand(1, 1, 4, 4), "fixed": rand(1, 1, 4, 4), "weight": None, "bins": 8}
    given |= {"moving_range": torch.tensor([[0.0, 1.0]]), "fixed_range": torch.tensor([[0.0, 1.0]])}
    with pytest.raises(ValueError, match=told):
        kernels.parzen_mi(**(given | change))
