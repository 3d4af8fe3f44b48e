"""LNCC: the closed-form gradient in float64, and the value against a loop over windows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from fireants_engine.kernels.lncc import lncc, window_stats

EPSILON = 1e-4


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def ours(moving: Tensor, fixed: Tensor, weight: Tensor, radius: int, squared: bool) -> Tensor:
    stats = window_stats(fixed, radius, EPSILON)
    return lncc(moving, fixed, stats, weight, radius, EPSILON, squared=squared)


def by_loop(moving: np.ndarray, fixed: np.ndarray, radius: int, squared: bool) -> np.ndarray:
    """Correlation per window, two-pass, over the samples inside the image; (C, *spatial)."""
    out = np.empty(moving.shape)
    for c, *place in itertools.product(*map(range, moving.shape)):
        window = (c, *[slice(max(0, i - radius), i + radius + 1) for i in place])
        f, m = fixed[window] - fixed[window].mean(), moving[window] - moving[window].mean()
        cross = (f * m).mean()
        bottom = ((f * f).mean() + EPSILON) * ((m * m).mean() + EPSILON)
        out[(c, *place)] = cross**2 / bottom if squared else cross / np.sqrt(bottom)
    return out


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("radius", [1, 2, 5])
@pytest.mark.parametrize("shape", [(2, 7, 5), (1, 4, 6, 5), (2, 1, 6, 5)])
def test_value_is_the_weighted_sum_over_all_windows(shape, radius, squared) -> None:
    fixed, moving = rand(1, *shape), rand(1, *shape, seed=1)
    weight = rand(1, 1, *shape[1:], seed=2).abs()
    got = ours(moving, fixed, weight, radius, squared)
    truth = (
        by_loop(moving[0].numpy(), fixed[0].numpy(), radius, squared) * weight[0].numpy()
    ).sum()
    assert float(got) == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize("shape", [(2, 7, 5), (1, 4, 6, 5)])
@pytest.mark.parametrize("radius", [1, 3])
def test_window_stats_by_loop(shape: tuple[int, ...], radius: int) -> None:
    image = rand(1, *shape)
    stats = window_stats(image, radius, EPSILON)
    for c, *place in itertools.product(*map(range, shape)):
        window = [slice(max(0, i - radius), i + radius + 1) for i in place]
        block = image[(0, c, *window)]
        assert stats.count[(0, 0, *place)] == block.numel()
        torch.testing.assert_close(stats.mean[(0, c, *place)], block.mean())
        variance = block.var(correction=0) + EPSILON
        torch.testing.assert_close(stats.var[(0, c, *place)], variance)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize(
    ("shape", "radius"),
    [((1, 2, 7, 5), 1), ((1, 1, 5, 9), 3), ((1, 2, 3, 5, 4), 1), ((1, 1, 4, 3, 5), 2)],
)
def test_gradient(shape: tuple[int, ...], radius: int, squared: bool) -> None:
    """Every window of the smaller shapes touches the border."""
    fixed = rand(*shape)
    moving = (0.5 * fixed + rand(*shape, seed=1)).requires_grad_(True)
    for weight in (
        rand(1, 1, *shape[2:], seed=2).abs(),
        torch.full((1,) * len(shape), 0.3).double(),
    ):
        assert gradcheck(lambda m, w=weight: ours(m, fixed, w, radius, squared), (moving,))


@pytest.mark.parametrize("squared", [True, False])
def test_gradient_is_scaled_by_what_follows(squared: bool) -> None:
    fixed, moving = rand(1, 1, 6, 5), rand(1, 1, 6, 5, seed=1).requires_grad_(True)
    one = torch.ones(1, 1, 6, 5, dtype=torch.float64)
    (plain,) = torch.autograd.grad(ours(moving, fixed, one, 2, squared), moving)
    (scaled,) = torch.autograd.grad(-3 * ours(moving, fixed, one, 2, squared), moving)
    torch.testing.assert_close(scaled, -3 * plain)


@pytest.mark.parametrize("squared", [True, False])
def test_inputs_and_kept_statistics_are_left_alone(squared: bool) -> None:
    fixed, moving = rand(1, 1, 6, 5), rand(1, 1, 6, 5, seed=1).requires_grad_(True)
    weight = torch.ones(1, 1, 6, 5, dtype=torch.float64)
    stats = window_stats(fixed, 2, EPSILON)
    kept = [t.clone() for t in (fixed, moving, weight, stats.mean, stats.var, stats.count)]
    first = lncc(moving, fixed, stats, weight, 2, EPSILON, squared=squared)
    first.backward()
    now = (fixed, moving, weight, stats.mean, stats.var, stats.count)
    for a, b in zip(now, kept, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_window_without_contrast_scores_nothing() -> None:
    """Half of each image is flat; there neither score nor gradient may appear."""
    fixed, moving = rand(1, 1, 12, 8), rand(1, 1, 12, 8, seed=1)
    fixed[..., :6, :], moving[..., :6, :] = 2.0, -1.0
    far = torch.zeros(1, 1, 12, 8, dtype=torch.float64)
    far[..., :5, :] = 1.0  # windows of radius 1 that lie wholly in the flat half
    moving.requires_grad_(True)
    for squared in (True, False):
        value = ours(moving, fixed, far, 1, squared)
        (grad,) = torch.autograd.grad(value, moving)
        assert abs(float(value.detach())) < 1e-9
        assert float(grad.abs().max()) < 1e-9


# ------------------------------------------------------------------------------- masked
def masked(moving: Tensor, fixed: Tensor, mask: Tensor, radius: int, squared: bool) -> Tensor:
    stats = window_stats(fixed, radius, EPSILON, mask)
    return lncc(moving, fixed, stats, mask, radius, EPSILON, squared=squared)


def half_mask(*shape: int) -> Tensor:
    mask = torch.ones(1, 1, *shape, dtype=torch.float64)
    mask[..., : shape[-1] // 2] = 0
    return mask


@pytest.mark.parametrize("squared", [True, False])
def test_what_the_mask_leaves_out_has_no_part(squared: bool) -> None:
    fixed, moving, mask = rand(1, 2, 8, 9), rand(1, 2, 8, 9, seed=1), half_mask(8, 9)
    other = moving + 5 * rand(1, 2, 8, 9, seed=2) * (1 - mask)
    plain = masked(moving, fixed, mask, 2, squared)
    torch.testing.assert_close(masked(other, fixed, mask, 2, squared), plain)
    inside = (moving[..., 4:], fixed[..., 4:], mask[..., 4:])
    torch.testing.assert_close(ours(*inside, 2, squared), plain)  # as if it were cut off


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("shape", [(7, 6), (4, 3, 5)])
def test_masked_gradient(shape: tuple[int, ...], squared: bool) -> None:
    fixed, soft = rand(1, 1, *shape), rand(1, 1, *shape, seed=2).abs().clamp(max=1)
    moving = (0.5 * fixed + rand(1, 1, *shape, seed=1)).requires_grad_(True)
    for mask in (half_mask(*shape), soft):
        assert gradcheck(lambda m, w=mask: masked(m, fixed, w, 1, squared), (moving,))
