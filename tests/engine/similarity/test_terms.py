"""The similarity terms as a stage uses them: invariance, masks, real ranges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.geometry import Grid, Image
from fireants_engine.kernels.parzen import to_bins
from fireants_engine.pipeline.prepare import normalise
from fireants_engine.similarity import LNCC, NCC, SSD, MutualInformation, Term

CTX = ExecutionContext()
SCALES = [1e-3, 1.0, 30.0, 1e4]


def structure(shape: tuple[int, ...] = (20, 24), seed: int = 0) -> Tensor:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 1.5)
    return torch.from_numpy(smooth / smooth.std()).float()[None, None]


def value(term: Term, fixed: Tensor, moving: Tensor, weight: Tensor | None = None) -> float:
    grid = Grid.identity(fixed.shape[:1:-1])
    pair = Pair(fixed, moving, grid, grid)
    return float(term.bind(pair, CTX)(Views(fixed, moving, weight, weight)))


def normalised(array: np.ndarray) -> Tensor:
    return normalise(Image.from_numpy(array), CTX)


# --------------------------------------------------------------------------------- LNCC
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("shape", [(20, 24), (9, 10, 11)])
def test_lncc_of_equals_is_minus_one(shape: tuple[int, ...], squared: bool) -> None:
    image = structure(shape)
    assert value(LNCC(squared=squared), image, image.clone()) == pytest.approx(-1, abs=0.01)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("offset", [0.0, 5.0, -20.0])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("which", ["fixed", "moving", "both"])
def test_lncc_ignores_brightness_and_contrast(which, scale, offset, squared) -> None:
    """LESSONS 2: a I + b for a in 1e-3..1e4, on either image."""
    fixed, moving = structure(), structure() + 0.7 * structure(seed=1)
    truth = value(LNCC(squared=squared), fixed, moving)
    assert -0.9 < truth < -0.2
    if which != "moving":
        fixed = scale * (fixed + offset)
    if which != "fixed":
        moving = scale * (moving + offset)
    assert value(LNCC(squared=squared), fixed, moving) == pytest.approx(truth, abs=2e-4)


def test_lncc_of_opposite_contrast() -> None:
    image = structure()
    assert value(LNCC(squared=True), image, -image) == pytest.approx(-1, abs=0.01)
    assert value(LNCC(squared=False), image, -image) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("scale", SCALES)
def test_lncc_of_flat_windows_is_zero_not_a_match(scale: float, squared: bool) -> None:
    """LESSONS 2: where both images are flat nothing matches; only the structure scores."""
    image = structure()
    image[..., :12, :] = 0.4  # the upper half is background
    image = scale * image
    flat = torch.zeros(1, 1, 20, 24)
    flat[..., :9, :] = 1.0  # windows of radius 2 that see background only
    term = LNCC(squared=squared)
    assert value(term, image, image.clone(), flat) == pytest.approx(0, abs=1e-4)
    whole = value(term, image, image.clone())
    assert whole == pytest.approx(-11 / 20, abs=0.08)  # rows 10 to 19 see structure, not all 20


def test_lncc_of_ct_in_hounsfield_units() -> None:
    """Through the pipeline's own normalisation: -1024..2000 and 0..1 score alike."""
    image = structure((24, 26)).numpy()[0, 0]
    other = image + 0.5 * structure((24, 26), seed=1).numpy()[0, 0]
    hounsfield = (other * 400 - 600).astype(np.int16)
    truth = value(LNCC(), normalised(image), normalised(other))
    assert value(LNCC(), normalised(image), normalised(hounsfield)) == pytest.approx(
        truth, abs=5e-3
    )
    assert truth < -0.5


def test_lncc_of_a_constant_image_is_zero() -> None:
    assert value(LNCC(), structure(), torch.full((1, 1, 20, 24), 0.3)) == pytest.approx(0, abs=1e-6)


def test_lncc_depends_on_no_sample_beyond_its_reach() -> None:
    """The gradient at a voxel: windows around it, and all that those windows hold."""
    fixed, moving = structure(), structure(seed=1)
    term = LNCC(radius_vox=2)
    assert term.reach_vox == 4
    grid = Grid.identity((24, 20))
    loss = term.bind(Pair(fixed, moving, grid, grid), CTX)

    def slope(image: Tensor) -> float:
        leaf = image.clone().requires_grad_(True)
        (grad,) = torch.autograd.grad(loss(Views(fixed, leaf)), leaf)
        return float(grad[0, 0, 10, 10])

    truth = slope(moving)
    far = moving + 1.0
    far[..., 6:15, 6:15] = moving[..., 6:15, 6:15]
    assert slope(far) == pytest.approx(truth, rel=1e-5)
    near = moving.clone()
    near[0, 0, 6, 6] += 1.0  # the corner of the outermost window
    assert slope(near) != pytest.approx(truth, rel=1e-5)


def test_lncc_ignores_what_a_mask_leaves_out() -> None:
    fixed, moving, mask = structure(), structure(seed=1), torch.ones(1, 1, 20, 24)
    mask[..., :10] = 0
    spoilt = moving.clone()
    spoilt[..., :10] = 3.0
    grid = Grid.identity((24, 20))
    for masks in ({"fixed_mask": mask}, {"moving_mask": mask}):
        loss = LNCC().bind(Pair(fixed, moving, grid, grid, **masks), CTX)
        clean = loss(Views(fixed, moving, mask, mask))
        assert float(loss(Views(fixed, spoilt, mask, mask))) == pytest.approx(
            float(clean), rel=1e-5
        )


# ----------------------------------------------------------------------------------- MI
@pytest.mark.parametrize("scale", [0.01, 100.0, -100.0])
@pytest.mark.parametrize("window", ["bspline", "gaussian", "linear"])
def test_mi_survives_different_ranges(scale: float, window) -> None:
    """LESSONS 3: MI(x, 100 x) is MI(x, x), neither 0 nor clamped."""
    x = structure()
    term = MutualInformation(window=window)
    truth = value(term, x, x.clone())
    assert truth < -1
    assert value(term, x, scale * x) == pytest.approx(truth, abs=2e-3)
    assert value(term, scale * x, x.clone()) == pytest.approx(truth, abs=2e-3)


def test_mi_of_ct_in_hounsfield_units() -> None:
    x = structure((30, 32)).numpy()[0, 0]
    hounsfield = np.where(x > 1.2, 1500, np.where(x > 0, 40, -1000)).astype(np.int16)
    ours = value(MutualInformation(), normalised(x), normalised(hounsfield))
    shares = np.unique(hounsfield, return_counts=True)[1] / hounsfield.size
    entropy = -(shares * np.log(shares)).sum()  # what x knows about a function of x, at most
    assert -entropy < ours < -0.7 * entropy


@pytest.mark.parametrize("bins", [8, 32])
def test_mi_of_an_image_with_itself_is_its_entropy(bins: int) -> None:
    levels = torch.randint(0, bins, (1, 1, 40, 40), generator=torch.Generator().manual_seed(0))
    image = levels * (7.0 / (bins - 1)) - 3.0  # values on bin centres in some unit
    counts = np.bincount(levels.flatten().numpy(), minlength=bins) / 1600
    entropy = -(counts[counts > 0] * np.log(counts[counts > 0])).sum()
    term = MutualInformation(bins=bins, window="linear")
    assert value(term, image, image.clone()) == pytest.approx(-entropy, abs=1e-4)


def test_mi_is_lower_for_the_aligned_pair() -> None:
    x = structure()
    for contrast in (x, -x, (x - 0.3).abs()):
        aligned = value(MutualInformation(), x, contrast)
        assert aligned < value(MutualInformation(), x, contrast.roll(3, -1)) - 0.2


def test_mi_adds_up_channels() -> None:
    a, b = structure(), structure(seed=1)
    # every channel is binned over the range of the whole image: let them share it
    wide = [t / t.abs().amax() for t in (a, b, a.roll(1, -1), b.roll(2, -1))]
    for t in wide:
        t[0, 0, 0, 0], t[0, 0, 0, 1] = -1, 1
    together = value(MutualInformation(), torch.cat(wide[:2], 1), torch.cat(wide[2:], 1))
    apart = [value(MutualInformation(), wide[c], wide[c + 2]) for c in (0, 1)]
    assert together == pytest.approx(sum(apart), abs=1e-5)


def test_bins_stay_in_the_table() -> None:
    image = torch.tensor([-1e9, -1.0, 0.0, 0.5, 1.0, 1e9])
    got = to_bins(image, torch.tensor(0.0), torch.tensor(1.0), 32, 2)
    assert float(got.min()) == 2
    assert float(got.max()) == 29
    assert float(got[3]) == pytest.approx(15.5)


# ---------------------------------------------------------------------------------- SSD
def test_ssd_is_the_weighted_mean_of_squares() -> None:
    fixed, moving = structure(), structure(seed=1)
    plain = ((fixed - moving) ** 2).mean()
    assert value(SSD(), fixed, moving) == pytest.approx(float(plain), rel=1e-5)
    weight = torch.rand(1, 1, 20, 24, generator=torch.Generator().manual_seed(0))
    weighted = ((fixed - moving) ** 2 * weight).sum() / weight.sum()
    assert value(SSD(), fixed, moving, weight) == pytest.approx(float(weighted), rel=1e-5)
    two = value(SSD(), torch.cat([fixed] * 2, 1), torch.cat([moving] * 2, 1), weight)
    assert two == pytest.approx(float(weighted), rel=1e-5)


# ---------------------------------------------------------------------------------- NCC
def test_ncc_is_the_correlation_coefficient() -> None:
    fixed, moving = structure(), structure() + 0.7 * structure(seed=1)
    truth = np.corrcoef(fixed.numpy().ravel(), moving.numpy().ravel())[0, 1]
    assert value(NCC(), fixed, moving) == pytest.approx(-truth, abs=1e-5)
    assert value(NCC(squared=True), fixed, moving) == pytest.approx(-(truth**2), abs=1e-5)


@pytest.mark.parametrize(("gain", "offset"), [(1e-3, 0.0), (1e4, 5.0), (1.0, -30.0)])
def test_ncc_survives_gain_and_offset(gain: float, offset: float) -> None:
    fixed, moving = structure(), structure() + 0.7 * structure(seed=1)
    truth = value(NCC(), fixed, moving)
    assert value(NCC(), fixed, gain * moving + offset) == pytest.approx(truth, abs=2e-4)
    assert value(NCC(), fixed, -moving) == pytest.approx(-truth, abs=1e-5)
    assert value(NCC(squared=True), fixed, -moving) < -0.2


def test_ncc_of_a_constant_image_is_zero() -> None:
    assert value(NCC(), structure(), torch.full((1, 1, 20, 24), 0.3)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("squared", [False, True])
def test_ncc_gradient(squared: bool) -> None:
    fixed, moving = structure((6, 7)).double(), structure((6, 7), seed=1).double()
    weight = structure((6, 7), seed=2).double().abs()
    grid = Grid.identity((7, 6))
    loss = NCC(squared=squared).bind(Pair(fixed, moving, grid, grid), CTX)
    leaf = moving.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda m: loss(Views(fixed, m, weight)), (leaf,))


# -------------------------------------------------------------------------------- masks
@pytest.mark.parametrize(
    "term", [SSD(), NCC(), LNCC(), MutualInformation()], ids=lambda t: type(t).__name__
)
def test_what_lies_outside_the_weight_does_not_count(term: Term) -> None:
    """Same range, other content: only the weighted part of the images may matter."""
    fixed, moving = structure(), structure() + 0.5 * structure(seed=1)
    fixed[0, 0, 0, :2] = torch.tensor([-4.0, 4.0])  # pin the ranges
    moving[0, 0, 0, :2] = torch.tensor([-4.0, 4.0])
    weight = torch.zeros(1, 1, 20, 24)
    weight[..., 10:, :] = 1.0
    grid = Grid.identity((24, 20))
    loss = term.bind(Pair(fixed, moving, grid, grid), CTX)
    spoilt = moving.clone()
    spoilt[..., 1:7, :] = structure(seed=7)[..., 1:7, :]  # further away than any window reaches
    truth = float(loss(Views(fixed, moving, weight, weight)))
    assert float(loss(Views(fixed, spoilt, weight, weight))) == pytest.approx(truth, rel=1e-6)
    assert float(loss(Views(fixed, moving, 3 * weight, 3 * weight))) == pytest.approx(
        truth, rel=1e-5
    )


@pytest.mark.parametrize(
    "term", [SSD(), NCC(), LNCC(), MutualInformation()], ids=lambda t: type(t).__name__
)
def test_a_model_that_moves_the_fixed_image_too_is_scored_on_what_it_shows(term: Term) -> None:
    """Views whose fixed image is another tensor than the pair's (symmetric models)."""
    fixed, moving = structure(), structure() + 0.5 * structure(seed=1)
    grid = Grid.identity((24, 20))
    loss = term.bind(Pair(fixed, moving, grid, grid), CTX)
    same = float(loss(Views(fixed, moving)))
    assert float(loss(Views(fixed.clone(), moving))) == pytest.approx(same, rel=1e-6)
    assert float(loss(Views(fixed.roll(4, -1), moving))) > same + 0.05
