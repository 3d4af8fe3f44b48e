"""Displacement fields against ITK's DisplacementFieldTransform, inside and outside."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.stats import special_ortho_group

from fireants_engine.geometry import Grid, apply_matrix
from fireants_engine.kernels import REFERENCE
from fireants_engine.transforms import Displacement, Transform

SIZES = {
    "2D": ((13, 9), (0.8, 2.5)),
    "3D": ((9, 7, 11), (1.0, 1.6, 0.7)),
    "one slice": ((9, 7, 1), (1.0, 1.6, 4.0)),
}


def a_grid(case: str, seed: int = 3) -> Grid:
    size, spacing = SIZES[case]
    dim = len(size)
    flip = np.diag([-1.0] + [1.0] * (dim - 1))
    direction = special_ortho_group.rvs(dim, random_state=seed) @ flip
    return Grid(size, spacing, tuple(np.random.default_rng(seed).uniform(-90, 90, dim)), direction)


def itk_transform(field_mm: np.ndarray, grid: Grid) -> sitk.DisplacementFieldTransform:
    image = sitk.GetImageFromArray(field_mm.astype(np.float64), isVector=True)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction.ravel().tolist())
    return sitk.DisplacementFieldTransform(image)


@pytest.mark.parametrize("case", SIZES)
def test_points_move_as_in_itk(case: str) -> None:
    grid = a_grid(case)
    rng = np.random.default_rng(0)
    field = rng.normal(size=(*grid.shape, grid.dim)).astype(np.float32)
    ours, truth = Displacement.from_mm(field, grid), itk_transform(field, grid)
    index = rng.uniform(-2, np.asarray(grid.size) + 1, (600, grid.dim))
    points = apply_matrix(grid.matrix("index", "mm"), index)
    expected = np.array([truth.TransformPoint(p.tolist()) for p in points])
    np.testing.assert_allclose(ours(points), expected, atol=2e-5)
    inside = np.all((index > -0.5) & (index < np.asarray(grid.size) - 0.5), axis=1)
    assert 50 < inside.sum() < 550
    np.testing.assert_array_equal(ours(points)[~inside], points[~inside])


@pytest.mark.parametrize("case", SIZES)
def test_mm_and_voxels_are_two_spellings(case: str) -> None:
    grid = a_grid(case)
    field = np.random.default_rng(1).normal(size=(*grid.shape, grid.dim)).astype(np.float32)
    warp = Displacement.from_mm(field, grid)
    np.testing.assert_allclose(warp.field_mm(), field, atol=1e-5)
    np.testing.assert_allclose(warp.displacement(grid), field, atol=2e-5)
    points = grid.points_mm()
    start = apply_matrix(grid.matrix("mm", "voxel"), points)
    end = apply_matrix(grid.matrix("mm", "voxel"), warp(points))
    u = warp.u[0].numpy().reshape(grid.dim, -1).T
    np.testing.assert_allclose(end - start, u, atol=1e-5)


@pytest.mark.parametrize("case", SIZES)
def test_the_inverse_undoes_it_inside(case: str) -> None:
    grid = a_grid(case)
    axes = [np.linspace(0, np.pi, n) if n > 1 else np.full(1, np.pi / 2) for n in grid.size]
    bump = np.prod(np.sin(np.meshgrid(*axes[::-1], indexing="ij")), axis=0)
    field = bump[..., None] * np.array([0.4, -0.6, 0.3])[: grid.dim]
    if grid.size[-1] == 1:
        field = field - (field @ grid.direction[:, 2])[..., None] * grid.direction[:, 2]
    warp = Displacement.from_mm(field, grid)
    index = np.random.default_rng(0).uniform(0.35, 0.65, (100, grid.dim))
    points = apply_matrix(grid.matrix("index", "mm"), index * (np.asarray(grid.size) - 1))
    moved = warp(points)
    assert np.linalg.norm(moved - points, axis=1).min() > 0.1
    to_voxel = grid.matrix("mm", "voxel")
    gap = apply_matrix(to_voxel, warp.inverse()(moved)) - apply_matrix(to_voxel, points)
    error = np.linalg.norm(gap, axis=1)
    assert error.mean() <= 0.05
    assert error.max() <= 0.5


def test_a_constant_field_is_a_shift_that_ends_at_the_border() -> None:
    grid = Grid.identity((4, 3), (2.0, 1.0))
    shift = Displacement.from_mm(np.broadcast_to([3.0, -1.0], (3, 4, 2)), grid)
    points = np.array(
        [[0.0, 0.0], [-0.99, 2.49], [6.99, 0.0], [-1.01, 0.0], [7.01, 0.0], [0, 2.51]]
    )
    moves = shift(points) - points
    np.testing.assert_allclose(moves[:3], [[3, -1]] * 3, atol=1e-6)
    np.testing.assert_array_equal(moves[3:], np.zeros((3, 2)))


def test_a_field_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Displacement(torch.zeros(1, 2, 4, 3), Grid.identity((4, 3)))


def rough_warp(seed: int = 0) -> Displacement:
    """A field that bends within few voxels, so that samples of its inverse are far apart."""
    grid = Grid((30, 28, 26), (1.0, 1.2, 1.5), (5.0, -3.0, 2.0), np.eye(3))
    generator = torch.Generator().manual_seed(seed)
    u = REFERENCE.smooth(torch.randn((1, 3, *grid.shape), generator=generator), [1.8] * 3)
    u = u * (2.2 / u.abs().max())
    edge = torch.zeros(grid.shape)
    edge[4:-4, 4:-4, 4:-4] = 1
    return Displacement(u * REFERENCE.smooth(edge[None, None], [1.0] * 3), grid)


def test_points_go_back_between_the_samples_too() -> None:
    warp = rough_warp()
    back, grid = warp.inverse(), warp.grid
    index = np.random.default_rng(0).uniform(0.1, 0.9, (2000, 3)) * (np.asarray(grid.size) - 1)
    points = apply_matrix(grid.matrix("index", "mm"), index)
    to_voxel = grid.matrix("mm", "voxel")[:-1, :-1]

    def gaps(inverse: Transform) -> np.ndarray:
        return np.linalg.norm((warp(inverse(points)) - points) @ to_voxel.T, axis=1)

    assert gaps(back.nearly).max() > 0.05  # linear interpolation of the inverse's samples
    assert gaps(back).max() <= 0.011
    assert back.inverse() is warp


def test_points_outside_the_grid_stay_where_they_are_both_ways() -> None:
    warp = rough_warp()
    away = np.array([[500.0, 0.0, 0.0], [6.0, -400.0, 3.0]])
    np.testing.assert_array_equal(warp.inverse()(away), away)
    both = np.concatenate([away, warp.grid.centre_mm[None]])
    assert np.linalg.norm(warp(warp.inverse()(both)) - both, axis=1).max() < 0.03


def test_a_preimage_beyond_the_grid_is_its_nearest_point_within() -> None:
    """The warp ends with its grid: beyond it T is the identity, and jumps there."""
    grid = Grid.identity((20, 18))
    inward = torch.zeros(1, 2, 18, 20)
    inward[:, 0] = 1.2  # everything moves by 1.2 voxels along y
    warp = Displacement(inward, grid)
    target = np.array([[9.0, 0.6], [9.0, 0.75], [9.0, 5.0]])  # came from y = -0.6, -0.45, 3.8
    found = warp.inverse()(target)
    np.testing.assert_allclose(found, [[9, -0.5], [9, -0.45], [9, 3.8]], atol=0.02)
    assert np.abs(warp(found) - target).max() < 0.12
