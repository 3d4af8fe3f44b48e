"""Small synthetic EPI pairs: what the start and a few steps find, and laws that hold for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, PhaseEncode
from fireants_engine.deformations.phase_encode import MAX_SLOPE
from fireants_engine.geometry import Encoding, Grid, Image
from fireants_engine.kernels import Direction
from fireants_engine.kernels.slopes import steepest
from fireants_engine.optimise import Adam
from fireants_engine.pipeline import Level, Plan, Pyramid, RunFinished, Stage, run_plan
from fireants_engine.regularise import StretchBarrier
from fireants_engine.similarity import SSD
from fireants_engine.transforms import Affine
from fireants_engine.transforms.distortion import Distortion
from tests.engine.workflows.epi_phantom import field_hz, laid, truth

CTX = ExecutionContext()
SHAPE = (36, 30)
GRID = Grid.identity(SHAPE[::-1], (2.0, 2.0))
LONG, PEAK = 0.05, 45.0
TERMS = (SSD(), StretchBarrier(weight=0.001))
PYRAMID = Pyramid((Level(2, 30), Level(1, 20)), 8)


def ways(*texts: str, readouts: tuple[float, ...] = ()) -> tuple[Encoding, ...]:
    times = readouts or (LONG,) * len(texts)
    return tuple(Encoding.parse(t, s) for t, s in zip(texts, times, strict=True))


def hz() -> np.ndarray:
    return field_hz(SHAPE, PEAK)


def seen(encoding: Encoding) -> np.ndarray:
    shift = hz() * encoding.signed_readout_s
    return laid(truth(shape=SHAPE), shift, encoding.array_axis(2)).astype(np.float32)


def inside() -> np.ndarray:
    place = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    return sum((x / 0.68) ** 2 for x in place) < 1


def images(volumes: tuple[Encoding, ...]) -> tuple[Image, Image]:
    shown = torch.as_tensor(np.stack([seen(one) for one in volumes]))
    if len(volumes) == 2:
        return Image(shown[:1], GRID), Image(shown[1:], GRID)
    return Image(shown, GRID), Image(shown.roll(-1, 0), GRID)


def run(volumes: tuple[Encoding, ...], pair: tuple[Image, Image], **more) -> Distortion:
    options = {"sigma_grad_mm": 3.0, "sigma_warp_mm": 1.0, "warp_floor_vox": 0.35} | more
    stage = Stage("field", PhaseEncode(volumes, **options), TERMS, Adam(0.5, decay=0.1), PYRAMID)
    *_, last = run_plan(Plan((stage,), intensities="signal"), *pair, CTX)
    assert isinstance(last, RunFinished)
    found = last.result.stages[0][1].found
    assert isinstance(found, Distortion)
    return found


def off_by(found: Distortion) -> np.ndarray:
    """Voxels at the longest readout, inside the object."""
    return np.abs(found.field_hz[0, 0].numpy() - hz())[inside()] * LONG


@pytest.mark.parametrize("start", ["transport", "zero"])
@pytest.mark.parametrize("texts", [("j", "j-"), ("i-", "i")], ids="".join)
def test_a_field_is_found(texts: tuple[str, ...], start: str) -> None:
    volumes = ways(*texts)
    off = off_by(run(volumes, images(volumes), start=start))
    assert off.mean() < 0.15
    assert np.percentile(off, 95) < 0.5


@pytest.mark.parametrize("readouts", [(0.05, 0.025), (0.02, 0.05), (0.05, 0.0)], ids=str)
def test_unlike_readouts(readouts: tuple[float, float]) -> None:
    volumes = ways("j", "j-", readouts=readouts)
    assert off_by(run(volumes, images(volumes))).mean() < 0.25


def test_one_direction_with_two_readouts() -> None:
    volumes = ways("j", "j", readouts=(0.05, 0.01))
    assert off_by(run(volumes, images(volumes))).mean() < 0.25


@pytest.mark.parametrize("texts", [("j", "j-", "i"), ("i", "j"), ("i", "j", "j-")], ids="".join)
def test_three_volumes_and_two_axes(texts: tuple[str, ...]) -> None:
    volumes = ways(*texts)
    assert off_by(run(volumes, images(volumes))).mean() < 0.3


def test_swapped_images_negate_the_field() -> None:
    """E7: with the encodings as they were, so that the field is the other way round."""
    volumes = ways("j", "j-")
    one, other = images(volumes)
    forth, back = run(volumes, (one, other)), run(volumes, (other, one))
    off = (forth.field_hz + back.field_hz)[0, 0].abs().numpy() * LONG
    assert np.percentile(off[inside()], 99) < 0.05
    assert float(forth.field_hz.abs().max()) * LONG > 1
    swapped = run(volumes[::-1], (other, one))  # the same two volumes in another order
    off = (forth.field_hz - swapped.field_hz)[0, 0].abs().numpy() * LONG
    assert np.percentile(off[inside()], 99) < 0.05


@pytest.mark.parametrize("start", ["transport", "zero"])
@pytest.mark.parametrize("with_motion", [False, True], ids=["still", "motion"])
def test_an_identical_pair_has_no_field(start: str, with_motion: bool) -> None:
    """E6."""
    image = Image(torch.as_tensor(truth(shape=SHAPE).astype(np.float32))[None], GRID)
    found = run(ways("j", "j-"), (image, image), start=start, with_motion=with_motion)
    assert float(found.field_hz.abs().max()) * LONG < 0.05
    assert np.abs(found.poses[1].matrix - np.eye(3)).max() < 0.05


def test_no_volume_folds() -> None:
    """Unlike images pull as they like: every stretch stays above 0."""
    generator = torch.Generator().manual_seed(0)
    wild = [Image(torch.rand((1, *SHAPE), generator=generator) ** 3, GRID) for _ in range(2)]
    found = run(ways("j", "j-"), (wild[0], wild[1]), sigma_grad_mm=0.0, grad_floor_vox=0.0,
                sigma_warp_mm=0.0, warp_floor_vox=0.0)  # fmt: skip
    v = found.field_hz * LONG
    assert float(v.abs().max()) > 0.5
    assert float(steepest(v, 0)) <= MAX_SLOPE * 1.001
    for encoding in found.volumes:
        assert float(found.stretch(encoding).min()) > 0


@pytest.mark.parametrize("step", [0.5, 1.0])
@pytest.mark.parametrize("smoothed", [False, True], ids=["rough", "smoothed"])
def test_no_step_folds_whatever_pulls(step: float, smoothed: bool) -> None:
    """`1 + s v'` stays above 0 after every step, not only where a level ends."""
    made = PhaseEncode(ways("j", "j-"), start="zero", sigma_warp_mm=1.0 * smoothed)
    zero = torch.zeros((1, 1, *SHAPE))
    both = Pair(zero, zero, GRID, GRID)
    state = made.init(both, Affine.identity(2), CTX)
    jump = torch.ones_like(state.u)
    jump[:, :, SHAPE[0] // 2 :] = -1  # everything towards the middle
    for _ in range(12):
        state = made.retract(both, state, Direction.of(jump), step, CTX)
        assert float(steepest(state.u, 0)) < 1


# ------------------------------------------------------------------ the start
def as_pair(volumes: tuple[Encoding, ...], dtype: torch.dtype = torch.float32) -> Pair:
    one, other = images(volumes)
    zooms = (GRID.spacing_zyx,) * 2
    return Pair(one.data[None].to(dtype), other.data[None].to(dtype), GRID, GRID, zooms_mm=zooms)


@pytest.mark.parametrize(
    ("texts", "readouts"),
    [(("j", "j-"), ()), (("i-", "i"), ()), (("j", "j-"), (0.05, 0.02)), (("i", "j-", "j"), ())],
)
def test_the_start_is_near(texts: tuple[str, ...], readouts: tuple[float, ...]) -> None:
    volumes = ways(*texts, readouts=readouts)
    both = as_pair(volumes)
    made = PhaseEncode(volumes)
    state = made.init(both, Affine.identity(2), CTX)
    off = off_by(made.distortion(both, state))
    assert off.mean() < 0.45 * (np.abs(hz())[inside()] * LONG).mean()
    assert float(steepest(state.u, volumes[-1].array_axis(2))) <= MAX_SLOPE * 1.001


def test_a_start_across_axes_is_zero() -> None:
    """Lines along different axes have no shares in common."""
    volumes = ways("i", "j")
    state = PhaseEncode(volumes).init(as_pair(volumes), Affine.identity(2), CTX)
    assert not state.u.any()


def test_a_start_of_a_batch_is_that_of_each() -> None:
    volumes = ways("j", "j-")
    one = as_pair(volumes)
    other = replace(one, fixed=one.moving, moving=one.fixed)
    made = PhaseEncode(volumes, with_motion=True)
    still = Affine.identity(2)
    whole = made.begin(Pair.stack([one, other]), [still, still], CTX)
    assert whole.u.shape == (4, 1, *SHAPE)
    assert len(whole.heads) == 2
    for k, alone in enumerate((one, other)):
        torch.testing.assert_close(whole.u[2 * k : 2 * k + 2], made.init(alone, still, CTX).u)


# ------------------------------------------------------------------ levels and memory
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [-1, 1, 2])
def test_buffers_on_the_next_level(power: int, dtype: torch.dtype) -> None:
    """Values by voxels, moments of the gradient by their inverse; motion is in mm on any level."""
    volumes = ways("i", "j", "j-")  # along i by the first of the longest
    made = PhaseEncode(volumes, start="zero", with_motion=True)
    coarse, fine = (
        Pair(z, z, g, g)
        for g in (GRID.resized((10, 9)), GRID)
        for z in (torch.zeros((1, 3, *g.shape), dtype=dtype),)
    )
    buffer = torch.zeros((4, 1, *coarse.fixed_grid.shape), dtype=dtype)
    buffer[0], buffer[2] = 2.0, -1.0
    buffer[1].flatten()[:6] = torch.arange(6, dtype=dtype) + 1
    buffer[3].flatten()[:6] = -1.0
    found = made.resample(buffer, power, coarse, fine)
    assert found.shape == (4, 1, *SHAPE)
    assert found.dtype == dtype
    ratio = (30 / 10) ** -power
    torch.testing.assert_close(found[0], torch.full_like(found[0], 2.0 * ratio))
    torch.testing.assert_close(found[2], torch.full_like(found[2], -1.0 * ratio))
    assert torch.equal(found[1].flatten()[:6], torch.arange(6, dtype=dtype) + 1)
    assert not found[1].flatten()[6:].any()
    assert torch.equal(found[3].flatten()[:6], torch.full((6,), -1.0, dtype=dtype))


def test_the_gradient_of_two_axes_three_volumes_and_motion() -> None:
    """Of the loss a run has, along any direction, in float64."""
    volumes = ways("j", "i-", "j-", readouts=(0.05, 0.03, 0.04))
    wide = ExecutionContext(dtype=torch.float64)
    both = as_pair(volumes, torch.float64)
    made = PhaseEncode(volumes, start="zero", with_motion=True)
    state = made.init(both, Affine.identity(2), wide)
    terms = [term.bind(both, wide) for term in TERMS]
    generator = torch.Generator().manual_seed(4)

    def random(size: float) -> Tensor:
        out = torch.zeros_like(state.u)
        noise = torch.randn((1, 1, *SHAPE), generator=generator, dtype=torch.float64)
        out[:1] = size * wide.kernels.smooth(noise, [1.0, 1.0])
        out[1].flatten()[:6] = size * torch.randn(6, generator=generator, dtype=torch.float64)
        return out

    # motion stays small enough for no border of a field of view to enter or leave
    where, way = random(0.4), random(1.0)

    def loss(t: Tensor) -> Tensor:
        views = made.views(both, made.with_variable(state, where + t * way), wide)
        views = replace(views, weight=None)  # no gradient by what is not known
        return sum(term(views).sum() for term in terms)  # type: ignore[return-value]

    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(t), t)
    h = 1e-6
    with torch.no_grad():
        numeric = (loss(t + h) - loss(t - h)) / (2 * h)
    assert float(slope) == pytest.approx(float(numeric), rel=1e-4)


# ------------------------------------------------------------------ motion
def test_motion_across_the_readout_is_found_beside_the_field() -> None:
    """E8: 2 mm along x and 2 degrees; along y, the readout, the field takes it."""
    from scipy import ndimage

    volumes = ways("j", "j-")
    first, second = images(volumes)
    turn = np.radians(2.0)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = (np.array(SHAPE) - 1) / 2
    offset = centre - matrix @ (centre + np.array([0.0, 1.0]))
    moved = ndimage.affine_transform(second.data[0].numpy(), matrix, offset, order=1)
    second = Image(torch.as_tensor(moved)[None], GRID)
    off = {m: off_by(run(volumes, (first, second), with_motion=m)).mean() for m in (False, True)}
    assert off[True] < 0.3
    assert off[True] < 0.7 * off[False]
    pose = run(volumes, (first, second), with_motion=True).poses[1].matrix
    assert abs(np.degrees(np.arctan2(pose[1, 0], pose[0, 0]))) == pytest.approx(2.0, abs=0.6)


def test_moves_of_two_axes_are_held_along_one_of_them_only() -> None:
    """The first volume that is read out unlike the first one does not shift along its own axis."""
    grid = Grid((9, 8, 7), (2.0, 2.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))
    zero = torch.zeros((1, 3, *grid.shape))
    both = Pair(zero, zero, grid, grid)
    made = PhaseEncode(ways("j", "j", "i"), start="zero", with_motion=True)
    moves = torch.ones((1, 2, 6))
    told = made._told(both, moves)
    assert torch.equal(told[0, 0], torch.ones(6))  # read out as the first
    assert torch.equal(told[0, 1], torch.tensor([0.0, 1, 1, 1, 1, 1]))
    assert torch.equal(moves, torch.ones((1, 2, 6)))


def test_a_start_from_a_pose_keeps_it() -> None:
    grid = Grid((9, 8, 7), (2.0, 2.0, 3.0), (4.0, 0.0, -9.0), np.eye(3))
    zero = torch.zeros((1, 1, *grid.shape))
    both = Pair(zero, zero, grid, grid)
    first = Affine.about(np.eye(3), np.array([1.0, 2.0, 3.0]), grid.centre_mm)
    for motion in (False, True):
        made = PhaseEncode(ways("j", "j-"), with_motion=motion)
        found = made.found(both, made.init(both, first, CTX))
        np.testing.assert_allclose(found.poses[0].matrix, np.eye(4))
        np.testing.assert_allclose(found.poses[1].matrix, first.matrix, atol=1e-6)
