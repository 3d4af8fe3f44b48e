"""MIND-SSC: what it ignores, what it sees, and how it registers across contrasts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Rigid, Source
from fireants_engine.features import MIND
from fireants_engine.features.mind import neighbour_pairs
from fireants_engine.geometry import Grid, Image
from fireants_engine.optimise import Adam
from fireants_engine.pipeline import Level, Plan, Pyramid, RunFinished, Stage, run_plan
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.recipe import Recipe
from fireants_engine.similarity import SSD
from fireants_engine.transforms import Affine
from fireants_engine.workflows.registration import register
from tests.engine.workflows import exvivo_phantom as phantom

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


# ------------------------------------------------------------------ images that lie turned
def seen_through(turn: np.ndarray, data: Tensor, **options: int) -> Tensor:
    """The descriptor of an image in which the fixed image's axes run as `turn`, z, y, x order."""
    extract = MIND(**options).turned(turn)
    return extract(data, Grid.identity(data.shape[:1:-1]), lambda t: t)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_turn_is_the_same_to_the_bit(shape: tuple[int, ...]) -> None:
    image, dim = structure(shape), len(shape)
    tiny = np.eye(dim) + 1e-11 * np.ones((dim, dim))
    assert MIND().turned(tiny) == MIND()
    assert torch.equal(seen_through(tiny, image), described(image))


@pytest.mark.parametrize("axes", [(0, 1), (1, 2), (0, 2)])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_is_the_turned_descriptor(axes: tuple[int, int], quarters: int) -> None:
    image = structure((11, 11, 11))
    turn = np.eye(3)
    a, b = axes
    for _ in range(quarters):  # rot90 takes axis a to b, and b to -a
        step = np.eye(3)
        step[[a, b, a, b], [a, a, b, b]] = (0, 1, -1, 0)
        turn = step @ turn
    far = tuple(axis + 2 for axis in axes)
    got = seen_through(turn, torch.rot90(image, quarters, far), radius_vox=1, dilation_vox=2)
    torch.testing.assert_close(got, torch.rot90(described(image), quarters, far), atol=2e-5, rtol=0)
    assert (described(torch.rot90(image, quarters, far)) - got).abs().max() > 0.2


def test_an_image_stored_the_other_way_round_is_seen_as_it_lies() -> None:
    """Mirrored and exchanged axes."""
    grid = Grid((10, 11, 9), (1.0, 1.0, 1.0), (3.0, -4.0, 5.0), np.eye(3))
    image = Image(structure(grid.shape)[0], grid, name="a")
    corner = np.array([12.0, -4.0, 5.0])
    mirrored = Grid(grid.size, grid.spacing_mm, tuple(corner), np.diag([-1.0, 1, 1]))
    swapped = Grid((9, 11, 10), grid.spacing_mm, grid.origin_mm, np.eye(3)[:, [2, 1, 0]])
    source = Source(features=MIND())
    ctx = ExecutionContext()
    for other, back in (
        (Image(image.data.flip(3), mirrored), lambda t: t.flip(4)),
        (Image(image.data.transpose(1, 3), swapped), lambda t: t.transpose(2, 4)),
    ):
        pair = Prepared.create(image, other, ctx).level(1.0, 4, [source]).of(source)
        torch.testing.assert_close(back(pair.moving), pair.fixed, atol=1e-4, rtol=0)


TURNED = {
    "name": "greedy", "deformation": {"kind": "greedy", "sigma_grad_mm": 4, "sigma_warp_mm": 1},
    "terms": [{"kind": "ssd", "features": {"kind": "mind"}}],
    "pyramid": {"levels": [{"shrink": 2, "max_steps": 40}, {"shrink": 1, "max_steps": 10}],
                "min_size": 6},
}  # fmt: skip


def test_greedy_stays_at_the_true_pose_of_a_turned_brain(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 degrees about an oblique axis; other contrast. Voxels of 2 mm."""
    recipe = Recipe.from_dict({"start": {"kind": "identity"}, "stages": [TURNED]})
    fixed = phantom.invivo()
    points = fixed.grid.points_mm()
    points = points[phantom.tissue(points) > 0]

    def leaves(turn: Affine) -> np.ndarray:
        found = register(fixed, phantom.exvivo("whole", turn), recipe, initial=turn)
        return np.linalg.norm(found.transform(points) - turn(points), axis=1)

    angle = Rotation.from_rotvec(np.radians([17.0, -20.0, 14.0])).as_matrix()
    true, straight = (
        Affine.about(linear, np.array([2.0, -3, 1]), np.zeros(3)) for linear in (angle, np.eye(3))
    )
    gap = leaves(true)
    assert gap.mean() < 2.0
    assert gap.mean() < leaves(straight).mean() + 0.3  # a turn costs nothing
    monkeypatch.setattr(MIND, "turned", lambda self, _axes: self)
    before = leaves(true)
    assert before.mean() > 6.0
    assert before.max() > 15.0
