"""The greedy warp: what is shown is what comes out, composition, smoothing in mm, levels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Compositive, Pair
from fireants_engine.deformations.dense import sigma_voxels
from fireants_engine.geometry import Grid, Image
from fireants_engine.kernels import REFERENCE, Direction
from fireants_engine.ops import count_folds, warp_image
from fireants_engine.transforms import Affine, Chain, Displacement

CTX, WIDE = ExecutionContext(), ExecutionContext(dtype=torch.float64)
BARE = Compositive(sigma_grad_mm=0, sigma_warp_mm=0, grad_floor_vox=0, warp_floor_vox=0)
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
    shift = both.moving_grid.centre_mm - both.fixed_grid.centre_mm + 0.13
    scale = np.diag([1.05, 0.95, 1.02][: len(shift)])
    return Affine.about(scale, shift, both.fixed_grid.centre_mm)


def field(shape: tuple[int, ...], size: float = 1.0, seed: int = 3, sigma: float = 0) -> Tensor:
    """(1, d, *shape) of random voxels, float64; smooth where sigma is given."""
    generator = torch.Generator().manual_seed(seed)
    u = 2 * torch.rand((1, len(shape), *shape), generator=generator, dtype=torch.float64) - 1
    u = REFERENCE.smooth(u, [sigma] * len(shape))
    return u * (size / u.abs().max())


# ------------------------------------------------------------------- shown and handed over
@EVERY_GRID
def test_the_transform_is_what_the_views_show(grids) -> None:
    both = pair(grids)
    state = BARE.init(both, start(both), CTX)
    state = BARE.with_variable(state, field(grids[0].shape, 0.5).float())
    transform = BARE.transform(both, state)
    shown = BARE.views(both, state, CTX)
    handed = warp_image(Image(both.moving[0], grids[1]), transform, grids[0])
    to_voxel = np.linalg.inv(grids[1].matrix("voxel", "mm"))
    voxels = transform(grids[0].points_mm()) @ to_voxel[:-1, :-1].T + to_voxel[:-1, -1]
    inside = ((voxels > -0.5) & (voxels < np.array(grids[1].shape) - 0.5)).all(axis=1)
    assert inside.sum() >= 4
    gap = (shown.moving[0] - handed.data).reshape(2, -1)[:, torch.from_numpy(inside)]
    assert float(gap.abs().max()) < 2e-5
    assert shown.fixed is both.fixed
    assert shown.weight is None
    assert isinstance(transform, Chain)
    assert [type(part) for part in transform.parts] == [Displacement, Affine]


@EVERY_GRID
def test_the_start_is_no_warp_on_the_affine_given(grids) -> None:
    both = pair(grids)
    first = Affine.about(np.eye(both.fixed_grid.dim) * 1.1, np.zeros(()), both.fixed_grid.centre_mm)
    state = BARE.init(both, Chain([first, start(both)]), CTX)
    assert float(state.u.abs().max()) == 0
    points = grids[0].points_mm()
    found = BARE.transform(both, state)(points)
    np.testing.assert_allclose(found, start(both)(first(points)), atol=1e-9)


@pytest.mark.parametrize("name", ["2D", "3D"])
def test_views_have_the_gradient_of_the_warp(name: str) -> None:
    both = pair(GRIDS[name], torch.float64)
    state = BARE.init(both, start(both), WIDE)

    def moving(u: Tensor) -> Tensor:
        return BARE.views(both, BARE.with_variable(state, u), WIDE).moving

    u = field(both.fixed_grid.shape, 0.8).requires_grad_(True)
    assert torch.autograd.gradcheck(moving, u)


def test_both_masks_weigh_the_samples_as_the_moving_one_is_warped() -> None:
    grids = GRIDS["2D"]
    both = pair(grids)
    fixed_mask, moving_mask = (torch.ones(1, 1, *g.shape) for g in grids)
    fixed_mask[..., 0] = 0
    moving_mask[..., :4, :] = 0
    masked = Pair(both.fixed, both.moving, *grids, fixed_mask, moving_mask)
    state = BARE.init(masked, start(both), CTX)
    state = BARE.with_variable(state, field(grids[0].shape).float().requires_grad_(True))
    weight = BARE.views(masked, state, CTX).weight
    assert not weight.requires_grad
    matrix = masked.voxel_matrix(start(both))
    places = np.indices(grids[0].shape) + state.u[0].detach().numpy()
    voxels = np.einsum("ij,j...->i...", matrix[:, :2], places) + matrix[:, 2, None, None]
    moved = map_coordinates(moving_mask[0, 0].numpy(), voxels, order=1, mode="grid-constant")
    np.testing.assert_allclose(weight[0, 0], fixed_mask[0, 0].numpy() * moved, atol=1e-5)
    assert 0 < float(weight.mean()) < 0.9


# ---------------------------------------------------------------------------------- steps
@pytest.mark.parametrize("step", [0.2, 1.0])
@pytest.mark.parametrize("size", [1.0, 50.0])
@EVERY_GRID
def test_one_step_moves_no_voxel_by_more_than_so_many_half_voxels(grids, size, step) -> None:
    both = pair(grids)
    state = BARE.init(both, start(both), CTX)
    direction = field(grids[0].shape, size).float()
    u = BARE.retract(both, state, Direction.of(direction), step, CTX).u
    assert float(u.abs().max()) == pytest.approx(0.5 * step)
    torch.testing.assert_close(u, direction * (0.5 * step / size))
    shifted = BARE.with_variable(state, torch.full_like(u, 1.7))
    moved = BARE.retract(both, shifted, Direction.of(direction), step, CTX).u - shifted.u
    assert float(moved.abs().max()) == pytest.approx(0.5 * step, rel=1e-5)


@pytest.mark.parametrize("shape", [(9, 11), (6, 7, 8)])
def test_steps_are_composed_not_added(shape: tuple[int, ...]) -> None:
    """phi o (id + v): u is looked up where the step leads, with scipy as the other reader."""
    grid = Grid.identity(shape[::-1])
    both = pair((grid, grid))
    u = field(shape, 2.5)
    direction = field(shape, 1.0, seed=8)
    state = BARE.with_variable(BARE.init(both, Affine.identity(len(shape)), WIDE), u)
    found = BARE.retract(both, state, Direction.of(direction), 0.8, WIDE).u[0].numpy()
    v = 0.4 * direction[0].numpy()
    places = np.indices(shape) + v
    looked_up = [map_coordinates(c, places, order=1, mode="nearest") for c in u[0].numpy()]
    np.testing.assert_allclose(found, v + np.stack(looked_up), atol=1e-12)
    assert np.abs(found - (u[0].numpy() + v)).max() > 0.1


def test_the_warp_is_smoothed_after_each_step_in_mm() -> None:
    """A spike of displacement spreads by the same mm along every axis of unequal voxels."""
    grid = Grid.identity((61, 41, 31), (0.5, 0.8, 1.1))
    both = Pair(*[torch.zeros(1, 1, *grid.shape)] * 2, grid, grid)
    model = Compositive(sigma_warp_mm=2.0, warp_floor_vox=0)
    state = model.init(both, Affine.identity(3), WIDE)
    spike = torch.zeros_like(state.u)
    spike[0, 0, 15, 20, 30] = 1.0
    state, still = model.with_variable(state, spike), Direction.of(0 * spike)
    u = model.retract(both, state, still, 1.0, WIDE).u[0, 0]
    assert float(u.sum()) == pytest.approx(1, rel=1e-2)
    np.testing.assert_allclose(spread_mm(u, grid), 2.0, rtol=0.05)


def spread_mm(values: Tensor, grid: Grid) -> list[float]:
    """Standard deviation along each array axis, in mm."""
    out = []
    for axis, spacing in enumerate(grid.spacing_zyx):
        line = values.sum(dim=[k for k in range(values.ndim) if k != axis]).double()
        x = torch.arange(len(line), dtype=torch.float64) * spacing
        mean = (line * x).sum() / line.sum()
        out.append(math.sqrt(float((line * (x - mean) ** 2).sum() / line.sum())))
    return out


def test_the_gradient_is_smoothed_in_mm_and_counted_per_voxel() -> None:
    grid = Grid.identity((61, 41, 31), (0.5, 0.8, 1.1))
    both = Pair(*[torch.zeros(1, 1, *grid.shape)] * 2, grid, grid)
    model = Compositive(sigma_grad_mm=2.0, grad_floor_vox=0)
    state = model.init(both, Affine.identity(3), WIDE)
    spike = torch.zeros_like(state.u)
    spike[0, 1, 15, 20, 30] = 1.0
    density = model.precondition(both, state, spike, WIDE)
    np.testing.assert_allclose(spread_mm(density[0, 1], grid), 2.0, rtol=0.05)
    assert float(density.sum()) == pytest.approx(grid.voxels, rel=1e-2)
    assert float(density[0, 0].abs().max()) == 0
    flat = torch.full_like(spike, 0.25)
    torch.testing.assert_close(model.precondition(both, state, flat, WIDE), flat * grid.voxels)


@pytest.mark.parametrize("shape", [(16, 16), (12, 12, 12)])
def test_the_gradient_of_a_mean_does_not_depend_on_the_size_of_the_level(shape) -> None:
    """Twice as many voxels of half the size: per mm the same force, per voxel half of it."""
    model, forces = Compositive(sigma_grad_mm=1.0, grad_floor_vox=0), []
    for factor in (1, 2):
        grid = Grid.identity(shape, 1.0).resized([factor * n for n in shape])
        x = torch.from_numpy(grid.points_mm()[:, 0].reshape(1, 1, *grid.shape))
        both = Pair(0 * x, x, grid, grid)
        state = model.init(both, Affine.identity(len(shape)), WIDE)
        u = state.u.requires_grad_(True)
        views = model.views(both, model.with_variable(state, u), WIDE)
        (grad,) = torch.autograd.grad((views.moving * views.moving.detach()).mean(), u)
        force = model.precondition(both, state, grad, WIDE)[0, -1]
        middle = tuple(slice(n // 4, 3 * n // 4) for n in grid.shape)
        forces.append(float(force[middle].mean()) * factor)
    assert forces[1] == pytest.approx(forces[0], rel=0.05)


@pytest.mark.parametrize(
    ("sigma_mm", "floor", "spacing", "expected"),
    [
        (2.0, 0.0, (0.5, 1.0, 4.0), (0.5, 2.0, 4.0)),
        (0.1, 1.0, (0.5, 1.0, 4.0), (2 ** (1 / 3) / 4, 2 ** (1 / 3), 2 ** (4 / 3))),
        (0.0, 0.0, (0.5, 1.0, 4.0), (0.0, 0.0, 0.0)),
        (3.0, 1.0, (2.0, 2.0, 2.0), (1.5, 1.5, 1.5)),
        (1.0, 1.5, (2.0, 2.0, 2.0), (1.5, 1.5, 1.5)),
    ],
)
def test_widths_are_in_mm_with_a_floor_in_mean_voxels(sigma_mm, floor, spacing, expected) -> None:
    grid = Grid.identity((9, 8, 7), spacing)
    np.testing.assert_allclose(sigma_voxels(sigma_mm, floor, grid), expected)


def test_the_thickness_of_one_slice_does_not_widen_its_plane() -> None:
    thin = Grid.identity((9, 8, 1), (0.01, 0.01, 1.0))
    assert sigma_voxels(0.0, 1.5, thin)[1:] == pytest.approx([1.5, 1.5])


# ------------------------------------------------------------------------ levels and folds
def test_displacements_cross_levels_in_mm() -> None:
    """A linear field is kept exactly between the outermost samples, whatever the ratio."""
    coarse = Grid((6, 9), (2.0, 1.4), (3.0, -2.0), FLAT)
    fine = coarse.resized((13, 10))
    old, new = pair((coarse, coarse)), pair((fine, coarse))
    slope = np.array([[0.1, -0.05], [0.08, 0.12]])
    mm = (coarse.points_mm() @ slope.T).reshape(*coarse.shape, 2)
    u = Displacement.from_mm(mm, coarse).u.double()
    bigger = BARE.resample(u, -1, old, new)
    assert bigger.shape == (1, 2, 10, 13)
    field_mm = Displacement(bigger, fine).field_mm()
    truth = (fine.points_mm() @ slope.T).reshape(*fine.shape, 2)
    np.testing.assert_allclose(field_mm[1:-1, 2:-2], truth[1:-1, 2:-2], atol=1e-6)


def test_gradients_and_their_squares_cross_levels_by_the_chain_rule() -> None:
    """Work u . g stays what it is, and the square of a first moment is a second moment."""
    coarse = Grid.identity((6, 9))
    fine = coarse.resized((15, 10))
    old, new = pair((coarse, coarse)), pair((fine, coarse))
    constant = torch.tensor([0.7, -1.3], dtype=torch.float64).view(1, 2, 1, 1)
    flat = constant.expand(1, 2, 9, 6)
    u, first = (BARE.resample(flat.clone(), power, old, new) for power in (-1, 1))
    second = BARE.resample(flat**2, 2, old, new)
    torch.testing.assert_close(u * first, (constant**2).expand_as(u))
    torch.testing.assert_close(first**2, second)
    np.testing.assert_allclose(u[0, :, 0, 0], [0.7 * 10 / 9, -1.3 * 15 / 6])


def test_one_slice_crosses_levels() -> None:
    coarse = Grid.identity((6, 5, 1), (2.0, 2.0, 4.0))
    fine = coarse.resized((12, 10, 1))
    u = BARE.resample(field((1, 5, 6)), -1, pair((coarse, coarse)), pair((fine, coarse)))
    assert u.shape == (1, 3, 1, 10, 12)
    assert bool(torch.isfinite(u).all())


def test_settling_removes_the_folds_and_counts_them() -> None:
    grid = Grid.identity((40, 36))
    both = pair((grid, grid))
    smooth = field(grid.shape, 2.0, sigma=4.0).float()
    smooth[..., 15:19, 17:21] += field((4, 4), 2.5, seed=5).float().sign() * 1.5
    state = BARE.with_variable(BARE.init(both, Affine.identity(2), CTX), smooth)
    number, _ = count_folds(smooth)
    assert number > 5
    settled, folds = BARE.settle(both, state)
    assert (folds.removed, folds.left, folds.fraction) == (number, 0, 0.0)
    assert count_folds(settled.u) == (0, 0.0)
    assert settled.affines is state.affines
    calm, none = BARE.settle(both, settled)
    assert none.removed == none.left == 0
    assert torch.equal(calm.u, settled.u)
