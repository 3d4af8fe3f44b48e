"""Rigid and affine: what is shown is what comes out, steps in mm, rotations stay rotations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import AffineMap, Pair, Rigid, Similarity, Translation
from fireants_engine.deformations.linear import Linear
from fireants_engine.geometry import Grid, Image
from fireants_engine.kernels import Direction
from fireants_engine.ops import warp_image
from fireants_engine.transforms import Affine, Chain, Displacement

CTX, WIDE = ExecutionContext(), ExecutionContext(dtype=torch.float64)
MODELS = pytest.mark.parametrize(
    "model",
    [Translation(), Rigid(), Similarity(), AffineMap()],
    ids=lambda m: type(m).__name__,
)
TURN = Rotation.from_euler("xyz", [20, -15, 40], degrees=True).as_matrix()
FLAT = Rotation.from_euler("z", 25, degrees=True).as_matrix()[:2, :2]
GRIDS = {
    "2D": (
        Grid((7, 5), (1.0, 1.4), (3.0, -2.0), FLAT),
        Grid((6, 9), (1.3, 0.8), (2.0, -3.0), np.diag([1.0, -1.0])),
    ),
    "3D": (
        Grid((5, 4, 3), (1.0, 1.5, 2.0), (10.0, -5.0, 3.0), TURN),
        Grid((6, 5, 4), (1.2, 1.3, 1.9), (9.0, -4.0, 2.0), np.eye(3)),
    ),
    "one slice": (
        Grid((7, 6, 1), (1.0, 1.1, 4.0), (0.0, 0.0, 0.0), np.eye(3)),
        Grid((8, 7, 1), (0.9, 1.0, 4.0), (0.2, -0.3, 0.1), np.eye(3)),
    ),
    "one row": (
        Grid((9, 1), (1.0, 2.0), (0.0, 0.0), np.eye(2)),
        Grid((8, 1), (1.1, 2.0), (0.3, 0.1), np.eye(2)),
    ),
}
EVERY_GRID = pytest.mark.parametrize("grids", GRIDS.values(), ids=GRIDS)


def pair(grids: tuple[Grid, Grid], dtype: torch.dtype = torch.float32) -> Pair:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand((1, 2, *g.shape), generator=generator, dtype=dtype) for g in grids]
    return Pair(*images, *grids)


def start(both: Pair) -> Affine:
    """A generic map that brings the centres of both fields of view near each other."""
    shift = both.moving_grid.centre_mm - both.fixed_grid.centre_mm + 0.13
    scale = np.diag([1.05, 0.95, 1.02][: len(shift)])
    return Affine.about(scale, shift, both.fixed_grid.centre_mm)


def params(model: Linear, both: Pair, size: float = 0.7) -> Tensor:
    count = both.fixed_grid.dim + model.extra(both.fixed_grid.dim)
    generator = torch.Generator().manual_seed(3)
    return size * (2 * torch.rand(1, count, generator=generator, dtype=torch.float64) - 1)


# ------------------------------------------------------------------- shown and handed over
@MODELS
@EVERY_GRID
def test_the_transform_is_what_the_views_show(model: Linear, grids) -> None:
    both = pair(grids)
    state = model.with_variable(model.init(both, start(both), CTX), params(model, both).float())
    transform = model.transform(both, state)
    shown = model.views(both, state, CTX)
    handed = warp_image(Image(both.moving[0], grids[1]), transform, grids[0])
    to_voxel = np.linalg.inv(grids[1].matrix("voxel", "mm"))
    voxels = transform(grids[0].points_mm()) @ to_voxel[:-1, :-1].T + to_voxel[:-1, -1]
    inside = ((voxels > -0.5) & (voxels < np.array(grids[1].shape) - 0.5)).all(axis=1)
    assert inside.mean() > 0.3
    gap = (shown.moving[0] - handed.data).reshape(2, -1)[:, torch.from_numpy(inside)]
    assert float(gap.abs().max()) < 2e-5
    assert shown.fixed is both.fixed
    assert shown.mask is None
    size = np.array(grids[1].shape)
    far = ((voxels < -1) | (voxels > size)).any(axis=1)
    near = ((voxels > 0) & (voxels < size - 1)).all(axis=1)
    known = shown.weight.reshape(-1).numpy()
    np.testing.assert_allclose(known[near], 1, atol=1e-5)  # the field of view decides what counts
    np.testing.assert_allclose(known[far], 0, atol=1e-5)
    moved = transform(grids[0].points_mm()) - start(both)(grids[0].points_mm())
    assert np.abs(moved).max() > 0.2


@MODELS
@EVERY_GRID
def test_no_parameter_is_no_change(model: Linear, grids) -> None:
    both = pair(grids)
    base = start(both)
    state = model.init(both, base, CTX)
    assert float(model.variable(state).abs().max()) == 0
    np.testing.assert_allclose(model.transform(both, state).matrix, base.matrix, atol=1e-12)


@MODELS
def test_a_chain_of_linear_maps_is_a_start_too(model: Linear) -> None:
    both = pair(GRIDS["3D"])
    first, second = Affine.about(TURN, np.ones(3), np.zeros(3)), start(both)
    state = model.init(both, Chain([first, second]), CTX)
    matrix = second.matrix @ first.matrix
    np.testing.assert_allclose(model.transform(both, state).matrix, matrix, atol=1e-12)


@MODELS
@pytest.mark.parametrize("name", ["2D", "3D"])
def test_a_linear_stage_moves_what_a_warp_has_brought(model: Linear, name: str) -> None:
    """The warp of the start stays as it is; the linear map acts after it."""
    both = pair(GRIDS[name])
    dim = both.fixed_grid.dim
    wavy = 0.8 * torch.sin(torch.arange(dim * both.fixed_grid.voxels).float() / 7)
    warp = Displacement(wavy.view(1, dim, *both.fixed_grid.shape), both.fixed_grid)
    before = Chain([warp, start(both)])
    state = model.init(both, before, CTX)
    points = both.fixed_grid.points_mm()
    np.testing.assert_allclose(model.transform(both, state)(points), before(points), atol=1e-4)
    shown = model.views(both, state, CTX).moving[0, 0]
    truth = warp_image(Image(both.moving[0], both.moving_grid), before, both.fixed_grid)
    inside = model.views(both, state, CTX).weight
    assert inside is not None
    far_in = inside[0, 0] > 0.999
    assert int(far_in.sum()) > 20
    np.testing.assert_allclose(shown[far_in], truth.data[0][far_in], atol=1e-3)
    direction = torch.zeros_like(state.params)
    direction[0, 0] = 1.0
    later = model.retract(both, state, Direction.of(direction), 1.0, CTX)
    moved = model.transform(both, later)(points)
    shift = np.zeros(dim)
    shift[0] = 0.5 * float(np.mean(both.fixed_grid.spacing_mm))
    np.testing.assert_allclose(moved, before(points) + shift, atol=1e-4)


@MODELS
def test_translation_and_the_rest_have_their_own_step_scales(model: Linear) -> None:
    both = pair(GRIDS["3D"])
    uneven = replace(model, translation_scale=0.25, linear_scale=2.0)
    state = model.init(both, start(both), CTX)
    direction = torch.linspace(-1, 1, state.params.numel())[None]
    plain = model.retract(both, state, Direction.of(direction), 0.5, CTX).params
    scaled = uneven.retract(both, state, Direction.of(direction), 0.5, CTX).params
    torch.testing.assert_close(scaled[:, :3], 0.25 * plain[:, :3])
    torch.testing.assert_close(scaled[:, 3:], 2.0 * plain[:, 3:])


# ------------------------------------------------------------------------------ gradients
@MODELS
@pytest.mark.parametrize("name", ["2D", "3D"])
def test_views_have_the_gradient_of_their_parameters(model: Linear, name: str) -> None:
    both = pair(GRIDS[name], torch.float64)
    state = model.init(both, start(both), WIDE)

    def moving(values: Tensor) -> Tensor:
        return model.views(both, model.with_variable(state, values), WIDE).moving

    assert torch.autograd.gradcheck(moving, params(model, both).requires_grad_(True))


@MODELS
def test_the_gradient_exists_at_the_start(model: Linear) -> None:
    """The matrix exponential of zero is where every run begins."""
    both = pair(GRIDS["3D"], torch.float64)
    state = model.init(both, start(both), WIDE)
    zero = torch.zeros(params(model, both).shape, dtype=torch.float64, requires_grad=True)
    views = model.views(both, model.with_variable(state, zero), WIDE)
    (grad,) = torch.autograd.grad((views.moving * both.fixed[:, :, :3, :4, :5]).sum(), zero)
    assert bool(torch.isfinite(grad).all())
    assert bool((grad != 0).all())


# ---------------------------------------------------------------------------------- steps
@MODELS
@EVERY_GRID
@pytest.mark.parametrize("step", [0.3, 1.0])
def test_one_step_moves_the_image_at_most_so_many_half_voxels(model, grids, step) -> None:
    """Along any one parameter; root mean square over the field of view, in mm."""
    both = pair(grids)
    state = model.init(both, Affine.identity(both.fixed_grid.dim), CTX)
    points = grids[0].points_mm()
    limit = step * 0.5 * np.mean(grids[0].spacing_mm)
    largest = 0.0
    for k in range(model.variable(state).numel()):
        direction = torch.zeros(model.variable(state).shape)
        direction[0, k] = -40.0
        later = model.retract(both, state, Direction.of(direction), step, CTX)
        assert float(model.variable(later).abs().max()) == pytest.approx(limit, rel=1e-5)
        moved = model.transform(both, later)(points) - points
        size = np.sqrt((moved**2).sum(axis=1).mean())
        largest = max(largest, size)
        assert size <= limit * 1.001
    assert largest == pytest.approx(limit, rel=1e-4)  # a translation takes all of it


@MODELS
def test_small_directions_make_small_steps(model: Linear) -> None:
    both = pair(GRIDS["3D"])
    state = model.init(both, start(both), CTX)
    direction = torch.full_like(model.variable(state), 0.2)
    later = model.retract(both, state, Direction.of(direction), 0.5, CTX)
    moved = model.variable(later) - model.variable(state)
    torch.testing.assert_close(moved, torch.full_like(moved, 0.2 * 0.5 * 0.5 * 1.5))


@pytest.mark.parametrize("name", ["2D", "3D", "one slice"])
def test_rigid_stays_a_rotation_however_far_it_goes(name: str) -> None:
    both, model = pair(GRIDS[name]), Rigid()
    dim = both.fixed_grid.dim
    state, turned = model.init(both, Affine.identity(dim), CTX), 0.0
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        noise = torch.randn(model.variable(state).shape, generator=generator)
        state = model.retract(both, state, Direction.of(noise + 1), 1.0, CTX)
        linear = model.transform(both, state).matrix[:dim, :dim]
        np.testing.assert_allclose(linear.T @ linear, np.eye(dim), atol=1e-10)
        assert np.linalg.det(linear) == pytest.approx(1)
        turned = max(turned, np.abs(linear - np.eye(dim)).max())
    assert turned > 1


@pytest.mark.parametrize("dim", [2, 3])
def test_rotations_are_about_the_centre_by_mm_over_the_radius(dim: int) -> None:
    """Exponential coordinates: against scipy, at the centre of the field of view."""
    both, model = pair(GRIDS[f"{dim}D"]), Rigid()
    base = start(both)
    state = model.init(both, base, CTX)
    mm = torch.tensor([0.9] if dim == 2 else [0.9, -0.5, 0.3])
    values = torch.cat([torch.zeros(dim), mm])[None]
    found = model.transform(both, model.with_variable(state, values))
    sides = np.array(both.fixed_grid.size) * both.fixed_grid.spacing_mm
    angles = mm.double().numpy() / np.sqrt((sides**2).sum() / 12)
    vector = np.array([0, 0, angles[0]]) if dim == 2 else angles
    rotation = Rotation.from_rotvec(vector).as_matrix()[:dim, :dim]
    relative = found.matrix @ base.inverse().matrix
    np.testing.assert_allclose(relative[:dim, :dim], rotation, atol=1e-7)
    centre = base(both.fixed_grid.centre_mm[None])
    np.testing.assert_allclose(found(both.fixed_grid.centre_mm[None]), centre, atol=1e-9)


@pytest.mark.parametrize("dim", [2, 3])
def test_affine_reaches_every_matrix(dim: int) -> None:
    """d (d + 1) parameters that are independent, in comparable units."""
    both, model = pair(GRIDS[f"{dim}D"]), AffineMap()
    state = model.init(both, Affine.identity(dim), CTX)
    count = dim * (dim + 1)
    assert model.variable(state).shape == (1, count)
    changes = [
        model.transform(both, model.with_variable(state, row[None])).matrix[:dim]
        - np.eye(dim, dim + 1)
        for row in torch.eye(count, dtype=torch.float64)
    ]
    assert np.linalg.matrix_rank(np.reshape(changes, (count, -1))) == count


@MODELS
def test_far_from_the_origin_the_views_are_the_same(model: Linear) -> None:
    """Metres away float32 products of the origin would move the image by voxels."""
    near, far = pair(GRIDS["2D"]), np.array([3.0e6, -2.0e6])

    def moved(grid: Grid) -> Grid:
        return Grid(grid.size, grid.spacing_mm, tuple(grid.origin_mm + far), grid.direction)

    away = Pair(near.fixed, near.moving, moved(near.fixed_grid), moved(near.moving_grid))
    shown = []
    for both in (near, away):
        state = model.init(both, start(both), CTX)
        state = model.with_variable(state, params(model, both).float())
        shown.append(model.views(both, state, CTX).moving)
    torch.testing.assert_close(*shown, rtol=0, atol=1e-4)


# ---------------------------------------------------------------------- levels and masks
@MODELS
def test_parameters_and_memory_cross_levels_as_they_are(model: Linear) -> None:
    coarse, fine = pair(GRIDS["2D"]), pair((GRIDS["2D"][0].resized((14, 10)), GRIDS["2D"][1]))
    state = model.with_variable(model.init(coarse, start(coarse), CTX), params(model, coarse))
    before = model.transform(coarse, state).matrix
    for power in (-1, 1, 2):
        same = model.resample(model.variable(state), power, coarse, fine)
        assert torch.equal(same, model.variable(state))
    np.testing.assert_allclose(model.transform(fine, state).matrix, before)
    gradient = params(model, coarse)
    assert torch.equal(model.precondition(coarse, state, gradient, CTX), gradient)


@MODELS
def test_both_masks_weigh_the_samples(model: Linear) -> None:
    grids = GRIDS["3D"]
    both = pair(grids)
    fixed_mask = torch.ones(1, 1, *grids[0].shape)
    fixed_mask[..., 0] = 0
    moving_mask = torch.ones(1, 1, *grids[1].shape)
    moving_mask[..., :2, :] = 0
    masked = Pair(both.fixed, both.moving, *grids, fixed_mask, moving_mask)
    state = model.with_variable(model.init(masked, start(both), CTX), params(model, both).float())
    weight = model.views(masked, state, CTX).weight
    image = Image(moving_mask[0], grids[1])
    transform = model.transform(masked, state)
    truth = fixed_mask[0] * warp_image(image, transform, grids[0]).data
    to_voxel = np.linalg.inv(grids[1].matrix("voxel", "mm"))
    voxels = transform(grids[0].points_mm()) @ to_voxel[:-1, :-1].T + to_voxel[:-1, -1]
    within = ((voxels >= 0) & (voxels <= np.array(grids[1].shape) - 1)).all(axis=1)
    gap = (weight[0] - truth).reshape(-1)[torch.from_numpy(within)]
    assert float(gap.abs().max()) < 1e-5
    assert float(weight[..., 0].max()) == 0
    assert 0 < float(weight.max()) <= 1 + 1e-6
