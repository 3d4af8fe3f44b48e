"""Mutual information as a stage uses it: windows, NMI, both images moving."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.autograd import gradcheck

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.geometry import Grid
from fireants_engine.kernels.parzen import PAD, to_bins
from fireants_engine.similarity import MutualInformation

CTX = ExecutionContext()
TERMS = [
    MutualInformation(window=window, normalised=normalised)
    for window in ("bspline", "gaussian", "linear")
    for normalised in (False, True)
]


def named(term: MutualInformation) -> str:
    return f"{term.window}-{'nmi' if term.normalised else 'mi'}"


def structure(shape: tuple[int, ...] = (20, 24), seed: int = 0) -> Tensor:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 1.5)
    return torch.from_numpy(smooth / smooth.std()).float()[None, None]


def pair_of(fixed: Tensor, moving: Tensor) -> Pair:
    grid = Grid.identity(tuple(fixed.shape[:1:-1]))
    return Pair(fixed, moving, grid, grid)


def value(term: MutualInformation, fixed: Tensor, moving: Tensor) -> float:
    return float(term.bind(pair_of(fixed, moving), CTX)(Views(fixed, moving)))


def levels(bins: int) -> Tensor:
    """Values on the centres of the bins, in some unit."""
    numbers = torch.randint(0, bins, (1, 1, 40, 40), generator=torch.Generator().manual_seed(0))
    return numbers * (7.0 / (bins - 1)) - 3.0


# --------------------------------------------------------------------------- the values
@pytest.mark.parametrize("term", TERMS, ids=named)
@pytest.mark.parametrize(("gain", "offset"), [(1e-3, 0.0), (1e4, 5.0), (1.0, -300.0), (-2.0, 9.0)])
def test_gain_and_offset_change_nothing(term: MutualInformation, gain, offset) -> None:
    """LESSONS 3."""
    fixed, moving = structure(), structure() + 0.5 * structure(seed=1)
    truth = value(term, fixed, moving)
    assert value(term, fixed, gain * moving + offset) == pytest.approx(truth, abs=2e-3)
    assert value(term, gain * fixed + offset, moving) == pytest.approx(truth, abs=2e-2)
    # rounding half bins of the fixed image to even is not symmetric: hence the wider bound


@pytest.mark.parametrize("bins", [8, 32])
def test_nmi_of_an_image_with_itself_is_two(bins: int) -> None:
    image = levels(bins)
    term = MutualInformation(bins=bins, window="linear", normalised=True)
    assert value(term, image, image.clone()) == pytest.approx(-2, abs=1e-4)
    assert value(term, image, 5 - image) == pytest.approx(-2, abs=1e-4)


def test_nmi_of_independent_images_is_one() -> None:
    x = torch.arange(16.0).repeat(16, 1)[None, None]
    term = MutualInformation(bins=16, window="linear", normalised=True)
    assert value(term, x, x.transpose(2, 3)) == pytest.approx(-1, abs=1e-4)


@pytest.mark.parametrize("term", TERMS, ids=named)
def test_the_aligned_pair_scores_best(term: MutualInformation) -> None:
    x = structure()
    for contrast in (x, -x, (x - 0.3).abs()):
        shifted = [value(term, x, contrast.roll(k, -1)) for k in range(-3, 4)]
        assert int(np.argmin(shifted)) == 3


@pytest.mark.parametrize("term", TERMS, ids=named)
def test_a_constant_image_tells_nothing(term: MutualInformation) -> None:
    x, flat = structure(), torch.full((1, 1, 20, 24), 0.3)
    nothing = -1 if term.normalised else 0
    assert value(term, x, flat) == pytest.approx(nothing, abs=1e-5)
    assert value(term, flat, x) == pytest.approx(nothing, abs=1e-5)
    assert value(term, flat, flat.clone()) == pytest.approx(nothing, abs=1e-5)


def test_bins_of_a_constant_image_are_finite() -> None:
    flat = torch.full((1, 1, 4, 4), 0.3)
    got = to_bins(flat, flat.amin(), flat.amax(), 32, 2)
    assert float(got.min()) == float(got.max()) == 2


def test_the_brightest_sample_is_not_cut_off() -> None:
    """Rounding must not push it beyond the range, where it has no gradient."""
    image = structure().requires_grad_(True)
    got = to_bins(image, image.detach().amin(), image.detach().amax(), 32, 2)
    assert float(got.detach().max()) == 29
    (grad,) = torch.autograd.grad(got.sum(), image)
    torch.testing.assert_close(grad, torch.full_like(grad, float(grad.mean())))


@pytest.mark.parametrize("window", ["bspline", "gaussian", "linear"])
def test_the_approximate_histogram_is_another_value_close_by(window) -> None:
    """It is the exact one of images on bin centres; off them it takes samples to the nearest."""
    fixed, moving = structure((40, 48)), structure((40, 48)) + 0.5 * structure((40, 48), seed=1)
    exact = MutualInformation(window=window)
    assert exact.histogram == "exact"
    approximate = MutualInformation(window=window, histogram="approximate")
    values = [value(term, fixed, moving) for term in (exact, approximate)]
    assert values[0] != values[1]
    assert values[1] == pytest.approx(values[0], rel=0.1)
    image, other = levels(16), levels(16).roll(1, -1)
    on_centres = [
        value(MutualInformation(bins=16, window="linear", histogram=h), image, other)
        for h in ("exact", "approximate")
    ]
    assert on_centres[0] == pytest.approx(on_centres[1], abs=1e-4)


def test_the_gradient_of_the_approximate_histogram_points_the_same_way() -> None:
    """In bins that hold enough samples; what a single one does to its cell differs."""
    fixed, moving = structure((40, 48)), structure((40, 48)) + 0.5 * structure((40, 48), seed=1)
    grads = []
    for histogram in ("exact", "approximate"):
        leaf = moving.clone().requires_grad_()
        loss = MutualInformation(bins=16, histogram=histogram).bind(pair_of(fixed, moving), CTX)
        grads += torch.autograd.grad(loss(Views(fixed, leaf)), leaf)
    assert float(torch.cosine_similarity(*(g.flatten() for g in grads), dim=0)) > 0.98


# ------------------------------------------------------------------------ both images
def between_knots(shape: tuple[int, ...], bins: int, pad: int, seed: int) -> Tensor:
    """Values whose bin coordinates lie off the knots and off the halves; range 0..1."""
    generator = torch.Generator().manual_seed(seed)
    steps = bins - 1 - 2 * pad
    whole = torch.randint(0, steps, shape, generator=generator).double()
    frac = torch.rand(shape, generator=generator).double() * 0.3 + 0.1
    flip = torch.randint(0, 2, shape, generator=generator)
    image = (whole + torch.where(flip == 1, frac, 1 - frac)) / steps
    return image


@pytest.mark.parametrize("window", ["bspline", "gaussian", "linear"])
@pytest.mark.parametrize("normalised", [False, True])
def test_gradient_in_both_images(window, normalised: bool) -> None:
    """Each image's gradient is that of the half in which it is spread; by finite differences the
    other half, where it is binned to the nearest, is constant off the halves."""
    bins = 12
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    images = [between_knots((1, 2, 7, 6), bins, PAD[window], seed) for seed in (0, 1)]
    pair = pair_of(*(torch.cat([image.flatten(), ends])[None, None, None] for image in images))
    weight = torch.rand(1, 1, 7, 6, generator=torch.Generator().manual_seed(2)).double()
    loss = MutualInformation(bins=bins, window=window, normalised=normalised).bind(pair, CTX)
    leaves = [image.requires_grad_(True) for image in images]
    assert gradcheck(lambda f, m: loss(Views(f, m, weight)), leaves)
    assert all(
        float(g.abs().max()) > 1e-4
        for g in torch.autograd.grad(loss(Views(*leaves, weight)), leaves)
    )


@pytest.mark.parametrize("term", TERMS, ids=named)
def test_swapping_the_images_gives_the_same_loss(term: MutualInformation) -> None:
    fixed, moving = structure(), structure() + 0.5 * structure(seed=1)
    leaves = [image.clone().requires_grad_(True) for image in (fixed, moving)]
    there = term.bind(pair_of(fixed, moving), CTX)(Views(*leaves))
    back = term.bind(pair_of(moving, fixed), CTX)(Views(*leaves[::-1]))
    torch.testing.assert_close(there, back)
    one_sided = (value(term, fixed, moving), value(term, moving, fixed))
    assert one_sided[0] != pytest.approx(one_sided[1], abs=1e-5)
    assert float(there.detach()) == pytest.approx(sum(one_sided) / 2, rel=1e-5)
    for a, b in zip(
        torch.autograd.grad(there, leaves), torch.autograd.grad(back, leaves), strict=True
    ):
        torch.testing.assert_close(a, b)
        assert float(a.abs().max()) > 1e-5


def test_a_moved_fixed_image_scores_the_same_without_gradients() -> None:
    """The last loss of a level is taken without gradients and compared with those before it."""
    fixed, moving = structure(), structure() + 0.5 * structure(seed=1)
    loss = MutualInformation().bind(pair_of(fixed, moving), CTX)
    leaf = fixed.clone().requires_grad_(True)
    with_grad = float(loss(Views(leaf * 1, moving)).detach())
    with torch.no_grad():
        assert float(loss(Views(leaf * 1, moving))) == pytest.approx(with_grad, rel=1e-6)


def test_without_a_moving_fixed_image_the_loss_is_one_sided() -> None:
    fixed, moving = structure(), structure() + 0.5 * structure(seed=1)
    loss = MutualInformation().bind(pair_of(fixed, moving), CTX)
    assert float(loss(Views(fixed.clone(), moving))) == float(loss(Views(fixed, moving)))


@pytest.mark.parametrize(
    "wrong",
    [{"window": "hann"}, {"bins": 5}, {"window": "linear", "bins": 1}, {"histogram": "guess"}],
)
def test_what_does_not_exist_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"windows are|too few|Histograms are"):
        MutualInformation(**wrong)
