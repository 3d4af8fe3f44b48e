"""The LNCC term where both images move, its windows, gradients and radii per level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.autograd import gradcheck

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.geometry import Grid
from fireants_engine.similarity import LNCC

CTX = ExecutionContext()


def structure(shape: tuple[int, ...] = (20, 24), seed: int = 0) -> Tensor:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 1.5)
    return torch.from_numpy(smooth / smooth.std()).float()[None, None]


def pair_of(fixed: Tensor, moving: Tensor, **masks: Tensor) -> Pair:
    grid = Grid.identity(tuple(fixed.shape[:1:-1]))
    return Pair(fixed, moving, grid, grid, **masks)


def value(term: LNCC, fixed: Tensor, moving: Tensor) -> float:
    return float(term.bind(pair_of(fixed, moving), CTX)(Views(fixed, moving)))


# ------------------------------------------------------------------------- both images
@pytest.mark.parametrize("window", ["box", "gaussian"])
@pytest.mark.parametrize("shape", [(6, 7), (4, 3, 5)])
def test_gradient_in_both_images(shape: tuple[int, ...], window) -> None:
    fixed = structure(shape).double()
    moving = fixed + 0.5 * structure(shape, seed=1).double()
    mask = structure(shape, seed=2).double().abs().clamp(max=1)
    leaves = [(image + 0.01).requires_grad_(True) for image in (fixed, moving)]
    term = LNCC(radius_vox=1, window=window)
    for pair, weight in (
        (pair_of(fixed, moving), None),
        (pair_of(fixed, moving, fixed_mask=mask), mask),
        (pair_of(fixed, moving, moving_mask=mask), mask),
    ):
        loss = term.bind(pair, CTX)
        assert gradcheck(lambda f, m, s=loss, w=weight: s(Views(f, m, w, w)), leaves)


def test_swapping_the_images_swaps_the_gradients() -> None:
    fixed, moving = structure(), structure() + 0.5 * structure(seed=1)
    leaves = [image.clone().requires_grad_(True) for image in (fixed, moving)]
    there = LNCC().bind(pair_of(fixed, moving), CTX)(Views(leaves[0], leaves[1]))
    back = LNCC().bind(pair_of(moving, fixed), CTX)(Views(leaves[1], leaves[0]))
    torch.testing.assert_close(there, back)
    for a, b in zip(
        torch.autograd.grad(there, leaves), torch.autograd.grad(back, leaves), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
        assert float(a.abs().max()) > 1e-5


def test_a_fixed_image_that_stays_gets_no_gradient() -> None:
    fixed, moving = structure(), structure(seed=1)
    still = fixed.requires_grad_(True)
    loss = LNCC().bind(pair_of(still.detach(), moving), CTX)
    (grad,) = torch.autograd.grad(loss(Views(still, moving)), still)
    assert float(grad.abs().max()) > 0  # another tensor than the pair's: it moves
    pair = pair_of(fixed.detach(), moving)
    leaf = moving.clone().requires_grad_(True)
    torch.autograd.grad(LNCC().bind(pair, CTX)(Views(pair.fixed, leaf)), leaf)
    assert pair.fixed.grad is None


# ------------------------------------------------------------------- windows, gradients
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e4])
def test_gaussian_windows_ignore_brightness_and_contrast(scale: float, squared: bool) -> None:
    """LESSONS 2."""
    fixed, moving = structure(), structure() + 0.7 * structure(seed=1)
    term = LNCC(window="gaussian", squared=squared)
    truth = value(term, fixed, moving)
    assert -0.95 < truth < -0.2
    assert value(term, scale * (fixed - 7), moving) == pytest.approx(truth, abs=2e-4)
    assert value(term, fixed, scale * (moving + 5)) == pytest.approx(truth, abs=2e-4)


def test_a_gaussian_window_is_another_score_than_a_box() -> None:
    fixed, moving = structure(), structure() + 0.7 * structure(seed=1)
    box, gaussian = value(LNCC(), fixed, moving), value(LNCC(window="gaussian"), fixed, moving)
    assert abs(box - gaussian) > 0.01
    assert value(LNCC(window="gaussian"), fixed, fixed.clone()) == pytest.approx(-1, abs=0.01)


def test_a_mask_of_ones_changes_no_gaussian_window() -> None:
    fixed, moving = structure(), structure() + 0.7 * structure(seed=1)
    ones, term = torch.ones(1, 1, 20, 24), LNCC(window="gaussian")
    loss = term.bind(pair_of(fixed, moving, moving_mask=ones), CTX)
    got = float(loss(Views(fixed, moving, ones, ones)))
    assert got == pytest.approx(value(term, fixed, moving), rel=1e-5)


def test_the_approximate_gradient_is_of_the_same_score() -> None:
    fixed, moving = structure(), structure() + 0.7 * structure(seed=1)
    leaf = moving.clone().requires_grad_(True)
    seen = []
    for gradient in ("exact", "approximate"):
        loss = LNCC(gradient=gradient).bind(pair_of(fixed, moving), CTX)(Views(fixed, leaf))
        seen.append((loss.detach(), torch.autograd.grad(loss, leaf)[0].flatten()))
    torch.testing.assert_close(seen[0][0], seen[1][0], rtol=0, atol=0)
    assert 0.8 < float(torch.cosine_similarity(seen[0][1], seen[1][1], 0)) < 0.999


def test_the_approximate_gradient_reaches_one_window_only() -> None:
    fixed, moving = structure(), structure(seed=1)
    term = LNCC(gradient="approximate")
    assert term.reach_vox == 2
    assert LNCC().reach_vox == 4
    loss = term.bind(pair_of(fixed, moving), CTX)

    def slope(image: Tensor) -> float:
        leaf = image.clone().requires_grad_(True)
        return float(torch.autograd.grad(loss(Views(fixed, leaf)), leaf)[0][0, 0, 10, 10])

    far, near = moving + 1.0, moving.clone()
    far[..., 8:13, 8:13] = moving[..., 8:13, 8:13]
    near[0, 0, 8, 8] += 1.0
    assert slope(far) == pytest.approx(slope(moving), rel=1e-5)
    assert slope(near) != pytest.approx(slope(moving), rel=1e-3)


# -------------------------------------------------------------------------------- levels
def test_radius_per_level() -> None:
    term = LNCC(radius_vox=3, level_radii_vox=(4, 2), window="gaussian", weight=2.0)
    assert [term.at(level).radius_vox for level in range(4)] == [4, 2, 2, 2]
    assert term.at(0) == replace(term, radius_vox=4, level_radii_vox=())
    assert term.at(0).at(1) == term.at(0)  # a level's term is already of that level
    assert term.at(1).reach_vox == 4
    assert term.reach_vox == 8  # the widest that may come
    assert LNCC(radius_vox=3).at(5) == LNCC(radius_vox=3)


def test_radius_and_weight_per_level() -> None:
    term = LNCC(weight=2.0, level_weights=(0.5, 0.25), level_radii_vox=(4, 2, 1))
    assert term.at(0) == LNCC(weight=1.0, radius_vox=4)
    assert term.at(1) == LNCC(weight=0.5, radius_vox=2)
    assert term.at(9) == LNCC(weight=0.5, radius_vox=1)


@pytest.mark.parametrize(
    "wrong",
    [{"window": "hann"}, {"gradient": "none"}, {"radius_vox": 0}, {"level_radii_vox": (2, 0)}],
)
def test_what_does_not_exist_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"LNCC"):
        LNCC(**wrong)
