"""Slicewise: what is shown is what comes out, slices stay in their planes, and are found again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Slicewise
from fireants_engine.deformations.slicewise import SlicewiseState
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.kernels import Direction
from fireants_engine.ops import warp_image
from fireants_engine.optimise import Adam
from fireants_engine.pipeline import Case, Extras, Level, Plan, Pyramid, RunFinished, Stage
from fireants_engine.pipeline import run_batch as run_plan_batch
from fireants_engine.regularise import Diffusion
from fireants_engine.similarity import NCC
from fireants_engine.transforms import Affine, Chain, Displacement

CTX, WIDE = ExecutionContext(), ExecutionContext(dtype=torch.float64)
TURN = Rotation.from_euler("xyz", [20, -15, 40], degrees=True).as_matrix()
FIXED = Grid((9, 7, 4), (1.0, 1.4, 3.0), (10.0, -5.0, 3.0), TURN)
MOVING = Grid((11, 9, 10), (1.2, 1.3, 1.4), (6.0, -8.0, -1.0), np.eye(3))
MODELS = pytest.mark.parametrize("model", [Slicewise(), Slicewise("affine")], ids=lambda m: m.model)


def pair(fixed: Grid = FIXED, dtype: torch.dtype = torch.float32) -> Pair:
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.rand((1, 2, *g.shape), generator=generator, dtype=dtype) for g in (fixed, MOVING)
    ]
    return Pair(*images, fixed, MOVING)


def start(both: Pair) -> Affine:
    shift = both.moving_grid.centre_mm - both.fixed_grid.centre_mm + 0.13
    return Affine.about(np.diag([1.05, 0.95, 1.02]), shift, both.fixed_grid.centre_mm)


def moved(model: Slicewise, both: Pair, size: float = 0.8) -> SlicewiseState:
    """A state with other numbers in every slice."""
    state = model.init(both, start(both), CTX)
    generator = torch.Generator().manual_seed(3)
    values = 2 * torch.rand(state.params.shape, generator=generator) - 1
    return model.with_variable(state, size * values)


# ------------------------------------------------------------------- the map
def test_the_map_of_a_slice_is_a_turn_about_its_centre_in_mm() -> None:
    """By its definition, point by point, in the plane of a turned grid with oblong pixels."""
    both, model = pair(), Slicewise()
    state = moved(model, both)
    points = FIXED.points_mm()
    radius = np.sqrt((8 + 1) ** 2 + (7 * 1.4) ** 2) / np.sqrt(12)
    own = (points - FIXED.origin_mm) @ TURN
    number = np.rint(own[:, 2] / 3).astype(int)
    shift_i, shift_j, angle = state.params[0].double().numpy()[:, number]
    angle = angle / radius
    x, y = own[:, 0] - 4 * 1.0, own[:, 1] - 3 * 1.4
    own[:, 0] = 4 * 1.0 + np.cos(angle) * x - np.sin(angle) * y + shift_i
    own[:, 1] = 3 * 1.4 + np.sin(angle) * x + np.cos(angle) * y + shift_j
    wanted = start(both)(own @ TURN.T + FIXED.origin_mm)
    np.testing.assert_allclose(model.transform(both, state)(points), wanted, atol=1e-5)


@MODELS
def test_the_transform_is_what_the_views_show(model: Slicewise) -> None:
    both = pair()
    state = moved(model, both)
    transform = model.transform(both, state)
    shown = model.views(both, state, CTX)
    handed = warp_image(Image(both.moving[0], MOVING), transform, FIXED)
    assert shown.weight is not None
    inside = shown.weight[0, 0] > 0.9999
    assert 0.3 < float(inside.float().mean()) <= 1
    assert float((shown.moving[0] - handed.data)[:, inside].abs().max()) < 1e-4
    (u,) = shown.motion.warps  # a regulariser sees it
    assert float(u[:, 0].abs().max()) == 0  # held in the plane
    assert float(u[:, 1:].abs().max()) > 0.3


@MODELS
def test_no_parameter_is_no_change(model: Slicewise) -> None:
    both = pair()
    state = model.init(both, start(both), CTX)
    assert float(model.variable(state).abs().max()) == 0
    points = FIXED.points_mm()
    np.testing.assert_allclose(model.transform(both, state)(points), start(both)(points), atol=1e-9)


@MODELS
def test_the_gradient_is_that_of_the_loss(model: Slicewise) -> None:
    both = pair(dtype=torch.float64)
    state = moved(model, both)
    values = state.params.double().requires_grad_(True)

    def loss(params: Tensor) -> Tensor:
        u = model.field(model.with_variable(state, params), FIXED, torch.float64)
        return (u * torch.linspace(0, 1, u.numel()).view_as(u)).square().sum()

    assert torch.autograd.gradcheck(loss, (values,))


@MODELS
def test_a_deformable_start_acts_before_and_stays(model: Slicewise) -> None:
    """S_z(W(x)) with the z of x, where the section's pixel lies."""
    both = pair()
    wavy = 0.8 * torch.sin(torch.arange(3 * FIXED.voxels).float() / 7)
    warp = Displacement(wavy.view(1, 3, *FIXED.shape), FIXED)
    state = model.init(both, Chain([warp, start(both)]), CTX)
    points = FIXED.points_mm()
    before = start(both)(warp(points))
    np.testing.assert_allclose(model.transform(both, state)(points), before, atol=1e-4)
    params = moved(model, both).params
    turned = model.transform(both, model.with_variable(state, params))(points)
    alone = model.field(moved(model, both), FIXED, torch.float32)
    onto = (points - FIXED.origin_mm) @ TURN / FIXED.spacing_mm
    after = onto + np.moveaxis(wavy.view(3, -1).numpy(), 0, -1)[:, ::-1]
    for z in range(4):
        here = np.rint(onto[:, 2]) == z
        # the linear map of this slice, read off its own field by its values at three pixels
        u = alone[0, :, z].double().numpy()
        slope_i, slope_j = u[::-1, 0, 1] - u[::-1, 0, 0], u[::-1, 1, 0] - u[::-1, 0, 0]
        add = u[::-1, 0, 0] + after[here, :1] * slope_i + after[here, 1:2] * slope_j
        wanted = start(both)((after[here] + add) * FIXED.spacing_mm @ TURN.T + FIXED.origin_mm)
        np.testing.assert_allclose(turned[here], wanted, atol=1e-3)


# ------------------------------------------------------------------- steps
@MODELS
def test_no_step_moves_a_parameter_by_more_than_half_a_voxel(model: Slicewise) -> None:
    both = pair()
    state = moved(model, both)
    way = torch.linspace(-7, 5, state.params.numel()).view_as(state.params)
    later = model.retract(both, state, Direction.of(way), 0.5, CTX)
    far = float((later.params - state.params).abs().max())
    assert far == pytest.approx(0.25 * 1.2)  # mean pixel 1.2 mm; the slices' distance is no bound


def test_translation_and_turn_have_their_own_step_scales() -> None:
    both = pair()
    state = Slicewise().init(both, start(both), CTX)
    way = Direction.of(torch.linspace(-1, 1, state.params.numel()).view_as(state.params))
    plain = Slicewise().retract(both, state, way, 0.5, CTX).params
    uneven = Slicewise(translation_scale=0.25, linear_scale=2.0)
    scaled = uneven.retract(both, state, way, 0.5, CTX).params
    torch.testing.assert_close(scaled[:, :2], 0.25 * plain[:, :2])
    torch.testing.assert_close(scaled[:, 2:], 2.0 * plain[:, 2:])


def test_updates_are_smoothed_along_the_stack_in_slices_of_the_fixed_image() -> None:
    both = pair(Grid((9, 7, 12), (1.0, 1.4, 3.0), (0.0, 0.0, 0.0), np.eye(3)))
    model = Slicewise(sigma_slices=2.0)
    state = model.init(both, Affine.identity(3), CTX)
    grad = torch.zeros(state.params.shape)
    grad[0, 1, 6] = 1.0
    smooth = model.precondition(both, state, grad, CTX)
    assert float(smooth[0, 0].abs().max()) == 0
    spread = smooth[0, 1] / smooth[0, 1].max()
    assert float(spread[8]) == pytest.approx(np.exp(-0.5), abs=0.03)
    fine = Pair(both.fixed, both.moving, both.fixed_grid, MOVING, zooms_mm=((1.5, 1, 1), (1, 1, 1)))
    half = model.precondition(fine, state, grad, CTX)  # two slices to one of the level's
    assert float(half[0, 1, 7] / half[0, 1, 6]) == pytest.approx(np.exp(-0.5), abs=0.03)
    alone = Slicewise().precondition(both, state, grad, CTX)
    torch.testing.assert_close(alone, 12 * grad)


@MODELS
def test_a_level_with_fewer_slices_has_their_means(model: Slicewise) -> None:
    both = pair(Grid((9, 7, 8), (1.0, 1.4, 3.0), (0.0, 0.0, 0.0), np.eye(3)))
    few = pair(both.fixed_grid.resized((5, 4, 4)))
    state = model.init(both, Affine.identity(3), CTX)
    ramp = torch.arange(8.0).expand(state.params.shape)
    coarse = model.carry(model.with_variable(state, ramp.contiguous()), both, few)
    torch.testing.assert_close(coarse.params[0, 0], torch.tensor([0.5, 2.5, 4.5, 6.5]))
    again = model.carry(coarse, few, both)
    torch.testing.assert_close(again.params[0, 0, 1:7], torch.arange(1.0, 7.0))


def test_useless_maps_of_a_slice_are_told() -> None:
    both, model = pair(), Slicewise("affine")
    state = model.init(both, start(both), CTX)
    assert model.problem(state) is None
    radius = state.radii_mm[0]
    for value, words in ((-2.0, "mirror slice 3"), (4.0, "scale slice 3 by 1 to 5")):
        params = torch.zeros_like(state.params)
        params[0, 2, 2] = value * radius
        assert words in str(model.problem(model.with_variable(state, params)))


def test_a_flat_image_is_no_stack() -> None:
    flat = Grid.identity((6, 5))
    image = torch.rand(1, 1, 5, 6)
    with pytest.raises(InputError, match="2D; give a 3D stack of sections"):
        Slicewise().init(Pair(image, image, flat, flat), Affine.identity(2), CTX)


@MODELS
def test_realigned_replaces_the_affine_part_alone(model: Slicewise) -> None:
    both = pair()
    state = moved(model, both)
    shift = Affine.about(np.eye(3), np.array([1.0, 2.0, -3.0]), np.zeros(3))
    later = model.realigned(state, lambda affine: shift.after(affine))
    points = FIXED.points_mm()
    gap = model.transform(both, later)(points) - model.transform(both, state)(points)
    np.testing.assert_allclose(gap, np.broadcast_to([1.0, 2.0, -3.0], gap.shape), atol=1e-5)


# ------------------------------------------------------------------- on the one loop
SECTIONS = 7


def jittered(noise: float, seed: int, drift: bool = False) -> tuple[Image, Image, np.ndarray]:
    """A smooth volume (standard deviation 1/6), seven sections of it with `noise`, and the true
    places (S, n, 3) mm of their pixels: each out of place by about 1 mm and 4 degrees at random,
    or, with drift, by as much, but little between neighbours."""
    rng = np.random.default_rng(seed)
    volume = gaussian_filter(rng.normal(size=(28, 40, 40)), 3.0, mode="nearest")
    volume = 0.5 + volume / volume.std() / 6
    moving = Image(torch.from_numpy(volume[None].astype(np.float32)), Grid.identity((40, 40, 28)))
    grid = Grid((28, 28, SECTIONS), (1.0, 1.0, 3.0), (6.0, 6.0, 5.0), np.eye(3))
    shifts, turns = rng.normal(0, 1.0, (SECTIONS, 2)), np.radians(rng.normal(0, 4.0, SECTIONS))
    if drift:
        phase = np.arange(SECTIONS) / SECTIONS * np.pi + seed
        shifts = 1.6 * np.stack([np.sin(phase), np.cos(phase + seed)], axis=1)
        turns = np.radians(5.0) * np.sin(phase + 2 * seed)
    places = grid.points_mm().reshape(SECTIONS, -1, 3)
    middle = grid.centre_mm[:2]
    for k, (shift, a) in enumerate(zip(shifts, turns, strict=True)):
        turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        places[k, :, :2] = (places[k, :, :2] - middle) @ turn.T + middle + shift
    seen = map_coordinates(volume, places.reshape(-1, 3)[:, ::-1].T, order=1)
    seen = seen + rng.normal(0, noise, seen.shape)
    fixed = Image(torch.from_numpy(seen.reshape(1, *grid.shape).astype(np.float32)), grid)
    return fixed, moving, places


def aligned(fixed: Image, moving: Image, model: Slicewise, together: float = 0.0) -> np.ndarray:
    """(S, n, 3): where each pixel comes to, in mm; together: weight of smoothness between
    neighbouring sections."""
    terms = (Diffusion(weight=together, axis_weights=(0.0, 0.0, 1.0)),) if together else ()
    pyramid = Pyramid((Level(2, 60), Level(1, 40)), SECTIONS)
    stage = Stage("sections", model, (NCC(), *terms), Adam(0.5, decay=0.1), pyramid)
    case = Case(fixed, moving, Extras(), Affine.identity(3))
    *_, last = run_plan_batch(Plan((stage,), None, "range"), [case], CTX)
    assert isinstance(last, RunFinished)
    points = last.result[0].transform(fixed.grid.points_mm())
    return points.reshape(SECTIONS, -1, 3)


def off(found: np.ndarray, places: np.ndarray) -> float:
    """Root of the mean squared distance from the true places, mm."""
    return float(np.sqrt(((found - places) ** 2).sum(2).mean()))


@MODELS
def test_sections_out_of_place_are_found_again(model: Slicewise) -> None:
    """0.008 mm (rigid) and 0.016 mm (affine) of 1.8 mm are left: a hundredth of a pixel."""
    fixed, moving, places = jittered(0.0, 1)
    still = fixed.grid.points_mm().reshape(places.shape)
    assert off(still, places) > 1.7
    found = aligned(fixed, moving, model)
    assert off(found, places) < 0.03
    np.testing.assert_allclose(found[..., 2], still[..., 2], atol=1e-6)


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize(("drift", "weight", "left"), [(False, 0.01, 0.85), (True, 0.03, 0.7)])
def test_neighbours_help_where_the_images_are_noisy(
    drift: bool, weight: float, left: float, seed: int
) -> None:
    """Noise of 2.4 times the contrast. Sections each on their own, then held together:
    independent jitter 0.82 -> 0.66 and 1.08 -> 0.79 mm; drift 1.13 -> 0.67, 1.60 -> 0.65 mm."""
    fixed, moving, places = jittered(0.4, seed, drift)
    alone = off(aligned(fixed, moving, Slicewise()), places)
    assert 0.5 < alone < 2.0
    assert off(aligned(fixed, moving, Slicewise(), weight), places) < left * alone


def test_a_section_without_anything_follows_its_neighbours() -> None:
    """Nothing pulls at an empty section but the smoothness between it and the next ones."""
    fixed, moving, places = jittered(0.0, 2, drift=True)
    mask = torch.ones(fixed.grid.shape, dtype=torch.bool)
    mask[3] = False
    fixed = Image(fixed.data * mask, fixed.grid, mask)
    still = fixed.grid.points_mm().reshape(places.shape)
    lost = aligned(fixed, moving, Slicewise())
    np.testing.assert_allclose(lost[3], still[3], atol=1e-3)
    found = aligned(fixed, moving, Slicewise(), 0.001)
    assert off(found[3:4], places[3:4]) < 0.3 * off(still[3:4], places[3:4])
