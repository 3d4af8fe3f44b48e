"""Parzen mutual information: the closed-form gradient, and the value against a full table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor
from torch.autograd import gradcheck

from fireants_engine.kernels.parzen import parzen_mi


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def problem(shape: tuple[int, ...], bins: int, cubic: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Moving bin coordinates between the knots, fixed bins that depend on them, weights."""
    pad = 2 if cubic else 0
    moving = pad + rand(*shape) * (bins - 1 - 2 * pad)
    low = moving.floor().clamp(max=bins - 2 - pad)
    moving = low + 0.1 + 0.8 * (moving - low).clamp(max=1)
    noise = rand(*shape, seed=1) * 3
    fixed = (0.7 * moving + noise).round().to(torch.int64).clamp(pad, bins - 1 - pad)
    return moving, fixed, 0.2 + rand(*shape, seed=2)


def by_table(moving, fixed, weight, bins: int, cubic: bool) -> float:
    """Mutual information from the whole samples x bins table."""
    window = BSpline.basis_element([-2, -1, 0, 1, 2] if cubic else [-1, 0, 1], extrapolate=False)
    distance = moving.numpy().ravel()[:, None] - np.arange(bins)
    parzen = np.nan_to_num(window(distance))
    one_hot = np.eye(bins)[fixed.numpy().ravel()]
    joint = one_hot.T @ (parzen * weight.numpy().ravel()[:, None])
    joint /= joint.sum()
    outer = joint.sum(1)[:, None] * joint.sum(0)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / outer[there])).sum())


@pytest.mark.parametrize("cubic", [True, False])
@pytest.mark.parametrize(("shape", "bins"), [((1, 9, 7), 8), ((1, 5, 4, 6), 16), ((1, 31), 32)])
def test_value_is_that_of_the_full_parzen_table(shape, bins, cubic) -> None:
    moving, fixed, weight = problem(shape, bins, cubic)
    got = float(parzen_mi(moving, fixed, weight, bins, cubic=cubic))
    assert got == pytest.approx(by_table(moving, fixed, weight, bins, cubic), abs=1e-12)


@pytest.mark.parametrize("cubic", [True, False])
@pytest.mark.parametrize(("shape", "bins"), [((1, 9, 7), 8), ((1, 5, 4, 6), 12)])
def test_gradient(shape: tuple[int, ...], bins: int, cubic: bool) -> None:
    moving, fixed, weight = problem(shape, bins, cubic)
    moving.requires_grad_(True)
    assert gradcheck(lambda m: parzen_mi(m, fixed, weight, bins, cubic=cubic), (moving,))


@pytest.mark.parametrize("cubic", [True, False])
def test_weights_of_zero_remove_samples(cubic: bool) -> None:
    moving, fixed, weight = problem((1, 60), 16, cubic)
    some = weight.clone()
    some[:, 40:] = 0
    cut = parzen_mi(moving[:, :40], fixed[:, :40], weight[:, :40], 16, cubic=cubic)
    leaf = moving.requires_grad_(True)
    whole = parzen_mi(leaf, fixed, some, 16, cubic=cubic)
    torch.testing.assert_close(whole.detach(), cut)
    (grad,) = torch.autograd.grad(whole, leaf)
    assert float(grad[:, 40:].abs().max()) == 0


@pytest.mark.parametrize("bins", [8, 32])
def test_of_an_image_with_itself_it_is_the_entropy(bins: int) -> None:
    """Exactly, for the linear window on bin centres (LESSONS 3)."""
    values = torch.randint(0, bins, (1, 4000), generator=torch.Generator().manual_seed(0))
    counts = np.bincount(values[0].numpy(), minlength=bins) / 4000
    entropy = -(counts[counts > 0] * np.log(counts[counts > 0])).sum()
    got = parzen_mi(values.double(), values, torch.ones(1, 4000).double(), bins, cubic=False)
    assert float(got) == pytest.approx(entropy, abs=1e-12)


@pytest.mark.parametrize("cubic", [True, False])
def test_of_independent_images_it_is_nearly_zero_and_never_negative(cubic: bool) -> None:
    n, bins = 40000, 8
    moving = 2 + rand(1, n) * 3
    fixed = torch.randint(2, 6, (1, n), generator=torch.Generator().manual_seed(3))
    got = float(parzen_mi(moving, fixed, torch.ones(1, n).double(), bins, cubic=cubic))
    assert 0 <= got < bins * bins / n


def test_the_ends_of_the_range_stay_in_the_table() -> None:
    for cubic, low, high in ((True, 2.0, 5.0), (False, 0.0, 7.0)):
        moving = torch.tensor([[low, high, low, high]], dtype=torch.float64, requires_grad=True)
        fixed = moving.detach().to(torch.int64)
        value = parzen_mi(moving, fixed, torch.ones(1, 4).double(), 8, cubic=cubic)
        value.backward()
        assert torch.isfinite(moving.grad).all()
        assert float(value.detach()) == pytest.approx(
            by_table(moving.detach(), fixed, torch.ones(1, 4), 8, cubic)
        )


def test_without_any_weight_it_is_zero() -> None:
    moving, fixed, weight = problem((1, 20), 8, True)
    assert float(parzen_mi(moving, fixed, 0 * weight, 8)) == 0
