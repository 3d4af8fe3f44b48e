"""LNCC: the closed-form gradients in float64, and the value against a loop over windows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from fireants_engine.kernels.lncc import Scaling, lncc, window_stats
from fireants_engine.kernels.reference import smooth

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


# ------------------------------------------------------------------ windows, both images
def scored(moving: Tensor, fixed: Tensor, mask: Tensor | None, radius: int, **how) -> Tensor:
    """As a model that moves both images scores them."""
    window = how.pop("window", "box")
    weight = torch.full_like(fixed[:1, :1], 0.3) if mask is None else 0.3 * mask
    stats = window_stats(fixed, radius, EPSILON, mask, window=window)
    return lncc(moving, fixed, stats, weight, radius, EPSILON, **how)


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    fixed = rand(1, 2, *shape)
    return 0.5 * fixed + rand(1, 2, *shape, seed=1), fixed


def some_masks(*shape: int) -> tuple[Tensor | None, ...]:
    return None, half_mask(*shape), rand(1, 1, *shape, seed=2).abs().clamp(max=1)


@pytest.mark.parametrize("window", ["box", "gaussian"])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize(("shape", "radius"), [((6, 5), 1), ((7, 4), 3), ((3, 4, 4), 1)])
def test_gradient_in_both_images(shape, radius, squared, window) -> None:
    moving, fixed = (image.requires_grad_(True) for image in pair(*shape))
    for mask in some_masks(*shape):
        how = {"squared": squared, "window": window}
        assert gradcheck(lambda m, f, w=mask, h=how: scored(m, f, w, radius, **h), (moving, fixed))


@pytest.mark.parametrize("gradient", ["exact", "approximate"])
@pytest.mark.parametrize("window", ["box", "gaussian"])
def test_the_two_gradients_change_places_with_the_images(window: str, gradient: str) -> None:
    moving, fixed = (image.requires_grad_(True) for image in pair(6, 5))
    how = {"window": window, "gradient": gradient, "squared": False}
    there = scored(moving, fixed, half_mask(6, 5), 2, **how)
    back = scored(fixed, moving, half_mask(6, 5), 2, **how)
    torch.testing.assert_close(there, back)
    m, f = torch.autograd.grad(there, (moving, fixed))
    f_back, m_back = torch.autograd.grad(back, (fixed, moving))
    torch.testing.assert_close(m, m_back)
    torch.testing.assert_close(f, f_back)
    assert float((m - f).abs().max()) > 1e-3


def test_only_the_gradients_asked_for_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Window sums backward: three for one image, five for both, none for the approximation."""
    from fireants_engine.kernels import lncc as module

    calls: list[int] = []
    real = module.box_sum
    monkeypatch.setattr(module, "box_sum", lambda *a: (calls.append(1), real(*a))[1])
    moving, fixed = pair(6, 5)
    for movable, gradient, sums in (
        ((moving,), "exact", 3),
        ((fixed,), "exact", 3),
        ((moving, fixed), "exact", 5),
        ((moving, fixed), "approximate", 0),
    ):
        for image in (moving, fixed):
            image.requires_grad_(any(image is m for m in movable))
        value = scored(moving, fixed, None, 1, gradient=gradient)
        calls.clear()
        grads = torch.autograd.grad(value, movable)
        assert len(calls) == sums
        assert all(float(g.abs().max()) > 0 for g in grads)


def test_statistics_are_constants_of_the_level() -> None:
    stats = window_stats(rand(1, 1, 6, 5).requires_grad_(True), 1, EPSILON)
    assert not stats.mean.requires_grad
    assert not stats.var.requires_grad


def test_a_second_derivative_is_refused_not_wrong() -> None:
    moving, fixed = pair(6, 5)
    moving.requires_grad_(True)
    value = scored(moving, fixed, None, 1)
    (grad,) = torch.autograd.grad(value, moving, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        grad.sum().backward()


def gaussian_by_loop(moving: np.ndarray, fixed: np.ndarray, radius: int) -> np.ndarray:
    """Squared correlation per window with weights exp(-2 |k / radius|^2), two-pass."""
    out = np.empty(moving.shape)
    shape = moving.shape[1:]
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    for c, *place in itertools.product(*map(range, moving.shape)):
        away = grid - np.reshape(place, (-1, *[1] * len(shape)))
        w = np.exp(-0.5 * (away / (radius / 2)) ** 2).prod(0) * (np.abs(away) <= radius).all(0)
        w = w / w.sum()
        f, m = fixed[c] - (fixed[c] * w).sum(), moving[c] - (moving[c] * w).sum()
        bottom = ((f * f * w).sum() + EPSILON) * ((m * m * w).sum() + EPSILON)
        out[(c, *place)] = (f * m * w).sum() ** 2 / bottom
    return out


@pytest.mark.parametrize("radius", [1, 2, 5])
@pytest.mark.parametrize("shape", [(7, 5), (4, 6, 5), (1, 6, 5)])
def test_gaussian_windows_by_loop(shape: tuple[int, ...], radius: int) -> None:
    moving, fixed = pair(*shape)
    truth = 0.3 * gaussian_by_loop(moving[0].numpy(), fixed[0].numpy(), radius).sum()
    got = scored(moving, fixed, None, radius, window="gaussian")
    assert float(got) == pytest.approx(truth, rel=1e-10)
    ones = torch.ones(1, 1, *shape, dtype=torch.float64)
    assert float(scored(moving, fixed, ones, radius, window="gaussian")) == pytest.approx(
        truth, rel=1e-10
    )


def test_gaussian_windows_see_nothing_outside_the_mask() -> None:
    moving, fixed, mask = rand(1, 2, 8, 9), rand(1, 2, 8, 9, seed=1), half_mask(8, 9)
    other = moving + 5 * rand(1, 2, 8, 9, seed=2) * (1 - mask)
    plain = scored(moving, fixed, mask, 2, window="gaussian")
    torch.testing.assert_close(scored(other, fixed, mask, 2, window="gaussian"), plain)
    inside = scored(moving[..., 4:], fixed[..., 4:], None, 2, window="gaussian")
    torch.testing.assert_close(inside, plain)


# -------------------------------------------------------------------- approximate gradient
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("window", ["box", "gaussian"])
def test_the_approximate_gradient_is_that_of_the_own_window(window: str, squared: bool) -> None:
    """Weight times dcc/dJ of the window around the sample, by float64 autograd of that window
    alone, times its count over its middle weight (1)."""
    moving, fixed = pair(6, 7)
    leaf = moving.clone().requires_grad_(True)
    how = {"window": window, "squared": squared}
    (got,) = torch.autograd.grad(scored(leaf, fixed, None, 2, gradient="approximate", **how), leaf)
    stats = window_stats(fixed, 2, EPSILON, window=window)
    for place in ((0, 0), (2, 3), (5, 6)):
        one = torch.zeros(1, 1, 6, 7, dtype=torch.float64)
        one[(0, 0, *place)] = 0.3
        value = lncc(leaf, fixed, stats, one, 2, EPSILON, squared=squared)
        (grad,) = torch.autograd.grad(value, leaf)
        truth = grad[(0, slice(None), *place)] * stats.count[(0, 0, *place)]
        torch.testing.assert_close(got[(0, slice(None), *place)], truth)


@pytest.mark.parametrize("window", ["box", "gaussian"])
@pytest.mark.parametrize("radius", [2, 4])
def test_the_approximate_gradient_points_nearly_where_the_exact_one_does(window, radius) -> None:
    """Within 30 degrees on a smooth pair (25 and 18 were measured for radius 2 and 4)."""
    fixed = smooth(rand(1, 1, 40, 40, 40), [2.0] * 3)
    moving = fixed + 0.3 * smooth(rand(1, 1, 40, 40, 40, seed=1), [2.0] * 3)
    fixed, moving = fixed / fixed.std(), (moving / moving.std()).requires_grad_(True)
    exact, near = (
        torch.autograd.grad(
            scored(moving, fixed, None, radius, window=window, gradient=gradient), moving
        )[0].flatten()
        for gradient in ("exact", "approximate")
    )
    angle = float(torch.rad2deg(torch.arccos(torch.cosine_similarity(exact, near, 0))))
    assert 1 < angle < 30
    assert 0.6 < float(near.norm() / exact.norm()) < 1.2


# --------------------------------------------------------------------------------- scaling
@pytest.mark.parametrize("window", ["box", "gaussian"])
@pytest.mark.parametrize("squared", [True, False])
def test_scalings_are_those_of_the_images_beforehand(window: str, squared: bool) -> None:
    """Value, and gradients by the images as they were given."""
    fixed = rand(2, 1, 6, 5)
    moving = 0.5 * fixed + rand(2, 1, 6, 5, seed=1)
    weight = torch.full((1, 1, 1, 1), 0.3).double()
    center, factor = rand(2, 2, seed=2), 0.5 + rand(2, 2, seed=3).abs()
    of_fixed, of_moving = Scaling(center[0], factor[0]), Scaling(center[1], factor[1])
    leaves = [image.requires_grad_(True) for image in (moving, fixed)]

    stats = window_stats(fixed, 1, EPSILON, window=window, scaling=of_fixed)
    how = {"squared": squared}
    got = lncc(moving, fixed, stats, weight, 1, EPSILON, scaling=of_moving, **how)
    m, f = (
        (image - s.center[:, None, None, None]) * s.factor[:, None, None, None]
        for image, s in ((moving, of_moving), (fixed, of_fixed))
    )
    truth = lncc(m, f, window_stats(f, 1, EPSILON, window=window), weight, 1, EPSILON, **how)
    torch.testing.assert_close(got, truth)
    grads = (torch.autograd.grad(value.sum(), leaves) for value in (got, truth))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)
