"""MIND-SSC: what it ignores, what it sees, and how it registers across contrasts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Rigid, Source
from fireants_engine.features import MIND
from fireants_engine.features.mind import neighbour_pairs
from fireants_engine.geometry import Grid, Image
from fireants_engine.optimise import Adam
from fireants_engine.pipeline import Level, Plan, Pyramid, RunFinished, Stage, run_plan
from fireants_engine.similarity import SSD

SHAPES = [(20, 24), (9, 10, 11)]


def structure(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 1.5)
    return torch.from_numpy(smooth / smooth.std()).float()[None, None]


def described(data: Tensor, **options: int) -> Tensor:
    return MIND(**options)(data, Grid.identity(data.shape[:1:-1]), lambda t: t)


def slow(image: np.ndarray, radius: int, dilation: int) -> np.ndarray:
    """The definition, by scipy: one channel per pair of neighbours."""
    dim = image.ndim

    def moved(axis: int, by: int) -> np.ndarray:
        index = np.clip(np.arange(image.shape[axis]) + by, 0, image.shape[axis] - 1)
        return np.take(image, index, axis)

    inside = ndimage.uniform_filter(np.ones_like(image), 2 * radius + 1, mode="constant")
    out = []
    for a in range(dim):
        for b in range(a + 1, dim):
            for p in (-dilation, dilation):
                for q in (-dilation, dilation):
                    square = (moved(a, p) - moved(b, q)) ** 2
                    total = ndimage.uniform_filter(square, 2 * radius + 1, mode="constant")
                    out.append(total / inside)
    d = np.stack(out)
    d -= d.min(0)
    v = d.mean(0)
    return np.exp(-d / np.clip(v, 0.001 * v.mean(), 1000 * v.mean()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("radius", "dilation"), [(0, 1), (1, 2), (2, 1)])
def test_it_is_the_published_descriptor(shape, radius: int, dilation: int) -> None:
    image = structure(shape)
    got = described(image, radius_vox=radius, dilation_vox=dilation)[0].numpy()
    truth = slow(image[0, 0].double().numpy(), radius, dilation)
    assert got.shape == truth.shape
    np.testing.assert_allclose(got, truth, atol=2e-4)
    assert got.max() == 1  # the most alike pair
    assert got.std() > 0.1


@pytest.mark.parametrize(("dim", "count"), [(2, 4), (3, 12)])
def test_pairs_lie_on_different_axes(dim: int, count: int) -> None:
    pairs = neighbour_pairs(dim)
    assert len(set(pairs)) == count
    assert all(a // 2 < b // 2 < dim for a, b in pairs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("gain", "offset"), [(1e-3, 0.0), (300.0, 5.0), (-1.0, 1.0), (-40.0, 3.0)])
def test_gain_offset_and_inverted_contrast_change_nothing(shape, gain, offset) -> None:
    image = structure(shape)
    torch.testing.assert_close(
        described(gain * image + offset), described(image), atol=2e-3, rtol=0
    )


def test_another_structure_changes_it() -> None:
    gap = described(structure((20, 24))) - described(structure((20, 24), seed=1))
    assert float(gap.abs().mean()) > 0.1


@pytest.mark.parametrize("shape", [*SHAPES, (1, 8, 9), (1, 1, 6), (3, 2)])
def test_flat_and_thin_images_stay_finite(shape: tuple[int, ...]) -> None:
    flat = described(torch.full((1, 1, *shape), 7.0))
    assert bool((flat == 1).all())
    half = structure(shape)
    half[..., : shape[-1] // 2] = 0.3
    seen = described(half)
    assert bool(torch.isfinite(seen).all())
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 1


def test_channels_follow_each_other_and_the_level_is_described() -> None:
    a, b = structure((20, 24)), structure((20, 24), seed=1)
    both = described(torch.cat([a, b], 1))
    torch.testing.assert_close(both, torch.cat([described(a), described(b)], 1))
    halved = MIND()(a, Grid.identity((24, 20)), lambda t: t[..., ::2, ::2])
    torch.testing.assert_close(halved, described(a[..., ::2, ::2].contiguous()))


def test_the_image_is_left_alone() -> None:
    image = structure((9, 10))
    before = image.clone()
    described(image)
    assert torch.equal(image, before)


@pytest.mark.parametrize("bad", [{"radius_vox": -1}, {"dilation_vox": 0}])
def test_bad_settings_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="radius_vox"):
        MIND(**bad)


def test_it_registers_across_contrasts_where_intensities_do_not() -> None:
    """Inverted and bent contrast, 3 voxels apart: SSD of intensities goes astray."""
    scene = structure((48, 60), seed=3)[0, 0].numpy()
    fixed = Image.from_numpy(scene[4:44, 6:54].copy(), name="fixed")
    moving = Image.from_numpy(np.exp(-scene[6:46, 3:51]).astype(np.float32), name="moving")
    errors = {}
    for name, features in (("intensity", None), ("mind", MIND())):
        term = SSD(source=Source(features=features))
        pyramid = Pyramid((Level(2, 40), Level(1, 40)), 16)
        plan = Plan((Stage("s", Rigid(), (term,), Adam(0.5), pyramid),))
        *_, last = run_plan(plan, fixed, moving, ExecutionContext())
        assert isinstance(last, RunFinished)
        middle = fixed.grid.centre_mm[None]
        gap = last.result.transform(middle) - middle - [3.0, -2.0]
        errors[name] = float(np.linalg.norm(gap))
    assert errors["mind"] < 0.5
    assert errors["intensity"] > 2


def test_terms_with_equal_features_share_them() -> None:
    assert Source(features=MIND()) == Source(features=MIND())
    assert len({Source(features=MIND()), Source(features=MIND()), Source()}) == 2
