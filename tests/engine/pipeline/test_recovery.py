"""Known maps are found again, in mm: rigid, affine and greedy, in 2D, 3D and thin images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fireants_engine.deformations import (
    AffineMap,
    Compositive,
    Deformation,
    Rigid,
    Similarity,
    Translation,
)
from fireants_engine.geometry import Grid, Image
from fireants_engine.ops import count_folds, warp_image
from fireants_engine.optimise import SGD, Adam, Descent
from fireants_engine.pipeline import (
    Level,
    LevelFinished,
    Moments,
    Plan,
    Pyramid,
    RunFinished,
    Stage,
)
from fireants_engine.similarity import LNCC, NCC, SSD, MutualInformation, Term
from fireants_engine.transforms import Chain, Displacement

OBLIQUE = Rotation.from_euler("xyz", [20, -15, 40], degrees=True).as_matrix()
STRETCH = np.array([1.15, 0.9, 1.05])


def turn(dim: int, degrees: float = 20.0) -> np.ndarray:
    axis = np.array([1.0, 2.0, -1.5]) / np.linalg.norm([1.0, 2.0, -1.5])
    if dim == 3:
        return Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix()
    return Rotation.from_euler("z", degrees, degrees=True).as_matrix()[:2, :2]


def plan(deformation: Deformation, *steps: int, term: Term | None = None, start=None) -> Plan:
    """One stage whose levels shrink by ... 4, 2, 1."""
    levels = [Level(2.0 ** (len(steps) - 1 - k), n) for k, n in enumerate(steps)]
    decay = 1.0 if isinstance(deformation, Compositive) else 0.1
    descent, pyramid = Adam(0.5, decay), Pyramid(tuple(levels), 8)
    return Plan((Stage("stage", deformation, (term or SSD(),), descent, pyramid),), start)


def linear_error(shape, ran, grids, linear, shift, deformation, steps, term) -> np.ndarray:
    """mm by which the found map misses the true one, at points of the object."""
    inverse = np.linalg.inv(linear)
    fixed = shape.image(grids[0], name="fixed")
    moving = shape.image(grids[1], lambda y: (y - shift) @ inverse.T, name="moving")
    found = ran(plan(deformation, *steps, term=term, start=Moments(1)), fixed, moving)
    points = shape.inside_mm()
    truth = points @ linear.T + shift
    before = np.linalg.norm(truth - points, axis=1).mean()
    error = np.linalg.norm(found.output.transform(points) - truth, axis=1)
    assert error.mean() < before / 20
    return error


# ------------------------------------------------------------------------------- linear
@pytest.mark.parametrize(
    "term", [SSD(), LNCC(), MutualInformation()], ids=lambda t: type(t).__name__
)
def test_rigid_in_the_plane(term: Term, blobs, centred_grid, ran) -> None:
    grid = centred_grid((56, 52), (1.0, 1.1))
    shift = np.array([5.0, -4.0])
    error = linear_error(blobs(2), ran, (grid, grid), turn(2), shift, Rigid(), (60, 40, 40), term)
    assert error.mean() < 0.2


def test_affine_in_the_plane(blobs, centred_grid, ran) -> None:
    grid, linear = centred_grid((56, 52), (1.0, 1.1)), turn(2) @ np.diag(STRETCH[:2])
    shift = np.array([5.0, -4.0])
    error = linear_error(
        blobs(2), ran, (grid, grid), linear, shift, AffineMap(), (60, 40, 40), SSD()
    )
    assert error.mean() < 0.2


@pytest.mark.parametrize("term", [SSD(), MutualInformation()], ids=lambda t: type(t).__name__)
def test_rigid_in_space(term: Term, blobs, centred_grid, ran) -> None:
    grid, shift = centred_grid((36, 34, 30), (1.2, 1.2, 1.4)), np.array([4.0, -3.0, 2.0])
    shape = blobs(3, 12.5)
    steps = (60, 40, 20) if isinstance(term, SSD) else (60, 40)
    error = linear_error(shape, ran, (grid, grid), turn(3), shift, Rigid(), steps, term)
    assert error.mean() < 0.2


@pytest.mark.parametrize("dim", [2, 3])
def test_a_similarity_finds_scale_and_rotation(dim: int, blobs, centred_grid, ran) -> None:
    grids = {2: ((56, 52), (1.0, 1.1)), 3: ((36, 34, 30), (1.2, 1.2, 1.4))}
    grid, linear = centred_grid(*grids[dim]), 1.15 * turn(dim)
    shift, shape = np.array([4.0, -3.0, 2.0])[:dim], blobs(dim, 12.0)
    steps = (80, 60, 40)
    error = linear_error(
        shape, ran, (grid, grid), linear, shift, Similarity(), steps, NCC()
    )  # fmt: skip
    assert error.mean() < 0.2


def test_a_translation_only_shifts(blobs, centred_grid, ran) -> None:
    grid, shape, shift = centred_grid((56, 52), (1.0, 1.1)), blobs(2), np.array([5.0, -4.0])
    moving = shape.image(grid, lambda y: (y - shift) @ turn(2, 5))
    found = ran(plan(Translation(), 60, 40, 40), shape.image(grid), moving).output.transform
    np.testing.assert_allclose(found.matrix[:2, :2], np.eye(2), atol=1e-6)
    assert np.linalg.norm(found.matrix[:2, 2] - shift) < 1.0


@pytest.mark.parametrize(
    "descent", [SGD(), Adam(0.5, beta1=0.0)], ids=["momentum", "without momentum"]
)
def test_greedy_by_other_descents(descent: Descent, centred_grid, ran) -> None:
    grid = centred_grid((64, 60), (1.0, 1.0))
    fixed, moving = disc(grid, (23.0, 15.0)), disc(grid, (18.0, 18.0))
    recipe = plan(Compositive(), 80, 60, 60)
    recipe = replace(recipe, stages=(replace(recipe.stages[0], descent=descent),))
    found = ran(recipe, fixed, moving)
    assert ssd_left(found, fixed, moving) < 0.05
    assert count_folds(warp_of(found).u) == (0, 0.0)


@pytest.mark.parametrize("deformation", [Rigid(), AffineMap()], ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("oblique", ["fixed", "moving"])
def test_in_space_between_oblique_anisotropic_grids(
    oblique, deformation, blobs, centred_grid, ran
) -> None:
    straight = centred_grid((36, 34, 30), (1.2, 1.2, 1.4))
    tilted = centred_grid((30, 36, 18), (1.4, 1.1, 2.2), OBLIQUE)
    grids = (tilted, straight) if oblique == "fixed" else (straight, tilted)
    linear = turn(3) if isinstance(deformation, Rigid) else turn(3) @ np.diag(STRETCH)
    shift = np.array([4.0, -3.0, 2.0])
    steps = (60, 40, 20) if isinstance(deformation, Rigid) else (100, 60, 40)
    error = linear_error(blobs(3, 12.5), ran, grids, linear, shift, deformation, steps, SSD())
    assert error.mean() < 0.2


def test_far_from_the_origin_of_the_world(blobs, centred_grid, ran) -> None:
    """Slide scanners put images metres away: float32 products of such origins would show."""
    near = centred_grid((56, 52), (1.0, 1.1))
    offset = np.array([3.0e5, -2.0e5])
    grid = Grid(near.size, near.spacing_mm, tuple(near.origin_mm + offset), near.direction)
    shape, rotation, shift = blobs(2), turn(2, 8), np.array([2.0, -1.0])
    fixed = shape.image(grid, lambda y: y - offset)
    moving = shape.image(grid, lambda y: (y - offset - shift) @ rotation)
    found = ran(plan(Rigid(), 50, 40), fixed, moving).output.transform
    points = shape.inside_mm()
    gap = found(points + offset) - (points @ rotation.T + shift + offset)
    assert np.linalg.norm(gap, axis=1).mean() < 0.2


# ------------------------------------------------------------------------------- greedy
def disc(grid: Grid, half_axes: tuple[float, float]) -> Image:
    x, y = grid.points_mm().T
    inside = np.sqrt((x / half_axes[0]) ** 2 + (y / half_axes[1]) ** 2)
    values = 1 / (1 + np.exp(12 * (inside - 1)))
    return Image.from_numpy(values.reshape(grid.shape).astype(np.float32), grid)


def ssd_left(found, fixed: Image, moving: Image) -> float:
    """Sum of squares after, as a share of that before."""
    after = warp_image(moving, found.output.transform, fixed.grid).numpy() - fixed.numpy()
    return float((after**2).sum() / ((moving.numpy() - fixed.numpy()) ** 2).sum())


def warp_of(found) -> Displacement:
    transform = found.output.transform
    parts = transform.parts if isinstance(transform, Chain) else (transform,)
    (warp,) = [p for p in parts if isinstance(p, Displacement)]
    return warp


@pytest.mark.parametrize("term", [SSD(), LNCC(radius_vox=4)], ids=lambda t: type(t).__name__)
def test_greedy_turns_a_disc_into_an_ellipse(term: Term, centred_grid, ran) -> None:
    grid = centred_grid((64, 60), (1.0, 1.0))
    fixed, moving = disc(grid, (23.0, 15.0)), disc(grid, (18.0, 18.0))
    found = ran(plan(Compositive(), 80, 60, 60, term=term), fixed, moving)
    assert ssd_left(found, fixed, moving) < 0.05
    assert count_folds(warp_of(found).u) == (0, 0.0)
    assert all(level.folds == 0 for level in found.of(LevelFinished))


def test_greedy_undoes_a_warp_in_space(blobs, centred_grid, ran) -> None:
    grid, shape = centred_grid((36, 34, 30), (1.2, 1.2, 1.4)), blobs(3, 12.5)

    def bend(y: np.ndarray) -> np.ndarray:
        return y + 2.0 * np.sin(y[:, [1, 2, 0]] / 7.0)

    fixed, moving = shape.image(grid), shape.image(grid, bend)
    found = ran(plan(Compositive(grad_floor_vox=2), 60, 60, 40), fixed, moving)
    assert ssd_left(found, fixed, moving) < 0.05
    assert count_folds(warp_of(found).u) == (0, 0.0)
    points = shape.inside_mm()
    before = np.linalg.norm(bend(points) - points, axis=1).mean()  # bend takes moving to fixed
    after = np.linalg.norm(bend(found.output.transform(points)) - points, axis=1).mean()
    assert after < 0.35 * before


def test_greedy_between_oblique_anisotropic_grids(blobs, centred_grid, ran) -> None:
    straight = centred_grid((36, 34, 30), (1.2, 1.2, 1.4))
    tilted = centred_grid((34, 38, 20), (1.3, 1.1, 2.0), OBLIQUE)
    shape = blobs(3, 12.5)
    fixed = shape.image(tilted)
    moving = shape.image(straight, lambda y: y + 1.5 * np.sin(y[:, [1, 2, 0]] / 7.0))
    found = ran(plan(Compositive(), 60, 60, 30), fixed, moving)
    unmoved = warp_image(moving, Chain([Displacement(0 * warp_of(found).u, tilted)]), tilted)
    after = warp_image(moving, found.output.transform, tilted).numpy() - fixed.numpy()
    before = unmoved.numpy() - fixed.numpy()
    assert (after**2).sum() < 0.1 * (before**2).sum()
    assert count_folds(warp_of(found).u) == (0, 0.0)


# --------------------------------------------------------------------- thin and small
THIN = {
    "20 x 64 x 64": ((64, 64, 20), (0.6, 0.6, 1.4)),
    "one slice": ((52, 48, 1), (0.8, 0.8, 3.0)),
    "two slices": ((52, 48, 2), (0.8, 0.8, 3.0)),
    "2D": ((52, 48), (0.8, 0.8)),
    "small 3D": ((11, 9, 7), (4.0, 4.5, 4.2)),
    "one row": ((52, 1), (0.8, 0.8)),
}


@pytest.mark.parametrize(
    "deformation", [Rigid(), AffineMap(), Compositive()], ids=lambda d: type(d).__name__
)
@pytest.mark.parametrize("case", THIN)
def test_thin_and_small_images(
    case: str, deformation: Deformation, blobs, centred_grid, ran
) -> None:
    """LESSONS 5: nothing crashes, and a shift within the plane of 1.5 mm is mostly undone."""
    size, spacing = THIN[case]
    grid, shape = centred_grid(size, spacing), blobs(2, 12.0)
    flat = grid.points_mm()[:, :2]
    shift = np.array([1.5, -1.0 if size[1] > 1 else 0.0])
    fixed, moving = (
        Image.from_numpy(shape(flat - t).reshape(grid.shape).astype(np.float32), grid)
        for t in (np.zeros(2), shift)
    )
    found = ran(plan(deformation, 40, 30), fixed, moving)
    points = np.c_[0.8 * shape.inside_mm(), np.zeros((500, grid.dim - 2))]
    if size[1] == 1:
        points[:, 1] = 0
    mapped = found.output.transform(points)
    assert np.isfinite(mapped).all()
    if case == "small 3D":
        return  # 11 x 9 x 7 voxels of 4 mm hold too little to be precise
    miss = np.linalg.norm((mapped - points)[:, :2] - shift, axis=1).mean()
    assert miss < (0.25 if not isinstance(deformation, Compositive) else 0.7) * np.linalg.norm(
        shift
    )
    if grid.dim == 3:
        assert np.abs((mapped - points)[:, 2]).mean() < 0.1 * spacing[2]


@pytest.mark.parametrize(
    "term", [SSD(), LNCC(), MutualInformation()], ids=lambda t: type(t).__name__
)
def test_one_slice_stays_in_its_plane_with_every_term(term: Term, blobs, centred_grid, ran) -> None:
    """A slice of another brightness must not be tilted or lifted out of its plane to match."""
    grid, shape = centred_grid((52, 48, 1), (0.8, 0.8, 3.0)), blobs(2, 12.0)
    flat = grid.points_mm()[:, :2]
    fixed, moving = (
        Image.from_numpy((gain * shape(flat - t)).reshape(grid.shape).astype(np.float32), grid)
        for t, gain in ((np.zeros(2), 1.0), (np.array([1.5, -1.0]), 1.3))
    )
    found = ran(plan(Rigid(), 40, 30, term=term), fixed, moving)
    points = np.c_[shape.inside_mm(), np.zeros(500)]
    move = found.output.transform(points) - points
    assert np.linalg.norm(move[:, :2] - [1.5, -1.0], axis=1).mean() < 0.3
    assert np.abs(move[:, 2]).max() < 0.3


@pytest.mark.parametrize("deformation", [Rigid(), AffineMap()], ids=lambda d: type(d).__name__)
def test_one_slice_of_a_microscope_in_mm(
    deformation: Deformation, blobs, centred_grid, ran
) -> None:
    """10 um pixels and a nominal slice of 1 mm: the thickness must not set step and radius."""
    grid, shape = centred_grid((52, 48, 1), (0.01, 0.01, 1.0)), blobs(2, 0.15)
    flat, shift = grid.points_mm()[:, :2], np.array([0.02, -0.012])
    fixed, moving = (
        Image.from_numpy(shape(flat - t).reshape(grid.shape).astype(np.float32), grid)
        for t in (np.zeros(2), shift)
    )
    found = ran(plan(deformation, 60, 40), fixed, moving)
    points = np.c_[shape.inside_mm(), np.zeros(500)]
    miss = (found.output.transform(points) - points)[:, :2] - shift
    assert np.linalg.norm(miss, axis=1).mean() < 0.003


# -------------------------------------------------------------------------------- masks
@pytest.mark.parametrize("which", ["fixed", "moving"])
@pytest.mark.parametrize("deformation", [Rigid(), Compositive()], ids=lambda d: type(d).__name__)
@pytest.mark.parametrize(
    "term", [SSD(), LNCC(), MutualInformation()], ids=lambda t: type(t).__name__
)
def test_what_a_mask_leaves_out_is_ignored(
    which, deformation, term, blobs, centred_grid, ran
) -> None:
    """A bright artefact in one image, masked there, changes nothing; unmasked it does."""
    grid, shape = centred_grid((56, 52), (1.0, 1.1)), blobs(2)
    shift = np.array([2.0, -1.5])
    pair = {
        "fixed": shape.image(grid, name="fixed"),
        "moving": shape.image(grid, lambda y: y - shift, name="moving"),
    }
    away = np.linalg.norm(grid.points_mm() - [9.0, 6.0], axis=1).reshape(grid.shape)
    clean = pair[which]
    spoilt = clean.data.clone()
    spoilt[:, torch.from_numpy(away < 5)] = 3.0
    mask = Image.from_numpy((away > 6.5).astype(np.uint8), grid)
    recipe, points = plan(deformation, 30, 20, term=term), shape.inside_mm()

    def moved(image: Image) -> np.ndarray:
        images = {**pair, which: image}
        return ran(recipe, images["fixed"], images["moving"]).output.transform(points)

    artefact = Image(spoilt, grid, name=which)
    truth = moved(clean.with_mask(mask))
    np.testing.assert_allclose(moved(artefact.with_mask(mask)), truth, atol=1e-4)
    assert np.abs(moved(artefact) - truth).max() > 0.05


def test_a_run_ends_with_its_transform(small_pair, ran) -> None:
    found = ran(plan(Rigid(), 10), *small_pair)
    (last,) = found.of(RunFinished)
    assert last.result is found.output
