"""Initial alignment by moments: orientations, background, honesty about ambiguity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fireants_engine.context import ExecutionContext
from fireants_engine.geometry import Grid, Image
from fireants_engine.pipeline import Centre, InitialAlignment, Moments
from fireants_engine.pipeline.initialise import initialise, mass, moments
from fireants_engine.pipeline.prepare import Prepared


def turn(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


def moved(rotation: np.ndarray, shift: np.ndarray):
    """The inverse of y = R x + t, as `Blobs.image` wants it."""
    return lambda y: (y - shift) @ rotation


def align(fixed: Image, moving: Image, spec, ctx) -> InitialAlignment:
    return initialise(spec, Prepared.create(fixed, moving, ctx), ctx)


def angle(found: np.ndarray, truth: np.ndarray) -> float:
    """Degrees of the rotation between two rotations."""
    relative = found @ truth.T
    dim = len(relative)
    return float(np.degrees(np.arccos(np.clip((np.trace(relative) - (dim == 3)) / 2, -1, 1))))


# ---------------------------------------------------------------- order 2, the 2D circle
@pytest.mark.parametrize("degrees", range(0, 360, 15))
def test_every_angle_in_the_plane_is_found(degrees, blobs, centred_grid, ctx) -> None:
    """LESSONS 7: 0 and 180 degrees are both tried, so that none of 24 angles is lost."""
    shape, grid = blobs(2), centred_grid((64, 60), (1.0, 1.1))
    truth, shift = turn(degrees), np.array([3.0, -2.0])
    found = align(shape.image(grid), shape.image(grid, moved(truth, shift)), Moments(2), ctx)
    assert np.linalg.det(found.affine.matrix[:2, :2]) == pytest.approx(1)
    assert angle(found.affine.matrix[:2, :2], truth) < 3
    points = shape.inside_mm()
    gap = found.affine(points) - (points @ truth.T + shift)
    assert np.linalg.norm(gap, axis=1).mean() < 1.0


@pytest.mark.parametrize("seed", range(6))
def test_every_orientation_in_space_is_found(seed, blobs, centred_grid, ctx) -> None:
    shape, grid = blobs(3), centred_grid((40, 40, 20), (1.0, 1.0, 2.0))
    truth, shift = Rotation.random(rng=seed).as_matrix(), np.array([2.0, -1.0, 1.5])
    found = align(shape.image(grid), shape.image(grid, moved(truth, shift)), Moments(2), ctx)
    assert np.linalg.det(found.affine.matrix[:3, :3]) == pytest.approx(1)
    assert angle(found.affine.matrix[:3, :3], truth) < 6


@pytest.mark.parametrize("pedestal", [0.0, 0.05, 0.3])
def test_a_background_pedestal_changes_nothing(pedestal, blobs, centred_grid, ctx) -> None:
    """LESSONS 8: 5% of background gave 29 degrees of error elsewhere."""
    shape, grid, errors = blobs(2), centred_grid((64, 60), (1.0, 1.1)), []
    for degrees in (20, 75, 140, 250):
        truth = turn(degrees)
        pair = (shape.image(grid), shape.image(grid, moved(truth, np.zeros(2))))
        raised = [Image(i.data + pedestal, grid) for i in pair]
        errors.append(angle(align(*raised, Moments(2), ctx).affine.matrix[:2, :2], truth))
    assert max(errors) < 3


def test_noise_in_the_background_does_not_turn_it(blobs, centred_grid, ctx) -> None:
    """A wide, shallow noise floor on an oblong field of view must not pull the axes."""
    shape, grid = blobs(2), centred_grid((100, 60), (1.0, 1.0))
    truth, generator = turn(75), torch.Generator().manual_seed(0)
    pair = (shape.image(grid), shape.image(grid, moved(truth, np.zeros(2))))
    noisy = [
        Image(i.data + 0.04 * torch.rand(i.data.shape, generator=generator), grid) for i in pair
    ]
    assert angle(align(*noisy, Moments(2), ctx).affine.matrix[:2, :2], truth) < 4


def test_hounsfield_units_are_no_negative_mass(blobs, centred_grid, ctx) -> None:
    shape, grid, truth = blobs(2), centred_grid((64, 60), (1.0, 1.1)), turn(110)
    pair = (shape.image(grid), shape.image(grid, moved(truth, np.zeros(2))))
    hounsfield = [Image((i.data * 1500 - 1000).to(torch.int16), grid) for i in pair]
    assert angle(align(*hounsfield, Moments(2), ctx).affine.matrix[:2, :2], truth) < 3


def test_contrast_may_differ_when_ranked_by_information(blobs, centred_grid, ctx) -> None:
    shape, grid, truth = blobs(2), centred_grid((64, 60), (1.0, 1.1)), turn(160)
    fixed, moving = shape.image(grid), shape.image(grid, moved(truth, np.zeros(2)))
    other = Image((moving.data > 0.05) * (1.6 - moving.data), grid)
    found = align(fixed, other, Moments(2, "mi"), ctx)
    assert angle(found.affine.matrix[:2, :2], truth) < 15


# ------------------------------------------------------------------------------ honesty
def test_no_candidate_is_a_reflection_even_for_a_mirrored_image(blobs, centred_grid, ctx) -> None:
    shape, grid = blobs(2), centred_grid((64, 60), (1.0, 1.1))
    mirror = shape.image(grid, lambda y: y * [-1, 1])
    found = align(shape.image(grid), mirror, Moments(2), ctx)
    assert len(found.candidates) == 4  # as stored, centred, 0 and 180 degrees
    for candidate in found.candidates:
        assert np.linalg.det(candidate.affine.matrix[:2, :2]) == pytest.approx(1)


def test_candidates_come_best_first_with_their_scores(blobs, centred_grid, ctx) -> None:
    shape, grid = blobs(3), centred_grid((24, 24, 20), (1.7, 1.7, 2.0))
    found = align(shape.image(grid), shape.image(grid), Moments(2), ctx)
    scores = [c.score for c in found.candidates]
    assert len(scores) == 6  # as stored, centred, and the four proper matches of the axes
    assert scores == sorted(scores, reverse=True)
    assert found.affine is found.candidates[0].affine
    assert scores[0] == pytest.approx(1, abs=1e-3)


def test_an_ambiguous_orientation_is_reported(centred_grid, ctx) -> None:
    """An ellipse looks the same upside down: no silent guess (LESSONS 9)."""
    grid = centred_grid((64, 60), (1.0, 1.1))
    x, y = grid.points_mm().T
    ellipse = 1 / (1 + np.exp(2 * ((x / 20) ** 2 + (y / 11) ** 2 - 1) * 5))
    image = Image.from_numpy(ellipse.reshape(grid.shape), grid)
    found = align(image, image, Moments(2), ctx)
    assert any("ambiguous" in note for note in found.notes)
    assert found.margin is not None
    assert found.margin < 0.02


def test_a_clear_orientation_is_not_called_ambiguous(blobs, centred_grid, ctx) -> None:
    """The margin is that between orientations: 'as stored' and its own axes are one."""
    shape, grid = blobs(2, seed=4), centred_grid((64, 60), (1.0, 1.1))
    found = align(shape.image(grid), shape.image(grid), Moments(2), ctx)
    assert not any("ambiguous" in note for note in found.notes)
    assert found.margin is not None
    assert found.margin > 0.02
    assert found.to_dict()["margin"] == found.margin


def test_nearly_equal_axes_are_reported(centred_grid, ctx) -> None:
    grid = centred_grid((64, 64), (1.0, 1.0))
    x, y = grid.points_mm().T
    image = Image.from_numpy((x**2 + y**2 < 400).astype(float).reshape(grid.shape), grid)
    notes = align(image, image, Moments(2), ctx).notes
    assert any("nearly equal" in note for note in notes)


# ------------------------------------------------------------------------------- pieces
def test_moments_are_those_of_the_samples() -> None:
    from fireants_engine.geometry import Grid

    direction = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
    grid = Grid((7, 6, 5), (1.0, 2.0, 0.5), (10.0, -4.0, 3.0), direction)
    weights = torch.rand(grid.shape, generator=torch.Generator().manual_seed(0))
    centre, covariance = moments(weights, grid)
    flat = weights.double().numpy().ravel()
    points = grid.points_mm()
    np.testing.assert_allclose(centre, np.average(points, axis=0, weights=flat))
    np.testing.assert_allclose(covariance, np.cov(points.T, aweights=flat, bias=True), atol=1e-9)


def test_mass_is_never_negative_and_respects_the_mask() -> None:
    image = torch.randn(1, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 6, 7)
    mask[..., 3:] = 1
    got = mass(image, mask)
    assert float(got.min()) == 0
    assert float(got[:, :3].max()) == 0
    assert float(mass(0.02 * torch.ones(1, 1, 4, 4), None).max()) == 0


def test_masks_choose_what_has_moments(blobs, centred_grid, ctx) -> None:
    """A bright thing beside the object, outside the masks, does not pull the centre."""
    shape, grid = blobs(2, radius_mm=12), centred_grid((64, 60), (1.0, 1.0))
    image = shape.image(grid)
    spoilt = image.data.clone()
    spoilt[:, 50:56, 54:60] = 2.0
    near = (np.linalg.norm(grid.points_mm(), axis=1) < 16).reshape(grid.shape)
    mask = Image.from_numpy(near, grid)

    def shift(fixed: Image, moving: Image) -> float:
        candidates = align(fixed, moving, Moments(1), ctx).candidates
        (centred,) = [c for c in candidates if c.name == "centred"]
        return float(np.linalg.norm(centred.affine.matrix[:2, 2]))

    assert shift(Image(spoilt, grid).with_mask(mask), image.with_mask(mask)) < 0.3
    assert shift(Image(spoilt, grid), image) > 2


@pytest.mark.parametrize("order", [1, 2])
def test_where_the_scans_lie_in_the_world_is_a_candidate(order, blobs, centred_grid, ctx) -> None:
    """Two scans of one session: half of the object is cut off in one, so its centre is not."""
    shape, grid = blobs(2), centred_grid((64, 60), (1.0, 1.1))
    whole = shape.image(grid)
    half = Grid((30, 60), grid.spacing_mm, tuple(grid.origin_mm), grid.direction)
    found = align(shape.image(half), whole, Moments(order), ctx)
    assert found.candidates[0].name == "as stored"
    np.testing.assert_array_equal(found.affine.matrix, np.eye(3))


def test_centres_of_the_fields_of_view(blobs, centred_grid, ctx) -> None:
    shape = blobs(2)
    grid = centred_grid((40, 36), (1.0, 1.0))
    away = Grid((30, 50), (1.2, 0.9), (100.0, -70.0), turn(30))
    other = Image.from_numpy(np.random.default_rng(0).random(away.shape), away)
    found = align(shape.image(grid), other, Centre(), ctx)
    np.testing.assert_allclose(found.affine(grid.centre_mm[None])[0], away.centre_mm)
    np.testing.assert_array_equal(found.affine.matrix[:2, :2], np.eye(2))


def test_without_a_start_nothing_moves(small_pair, ctx: ExecutionContext) -> None:
    found = align(*small_pair, None, ctx)
    np.testing.assert_array_equal(found.affine.matrix, np.eye(3))
    assert found.margin is None


@pytest.mark.parametrize("order", [1, 2])
def test_one_slice_and_thin_volumes(order, blobs, centred_grid, ctx) -> None:
    """LESSONS 5: the plane of a single slice stays its plane."""
    shape = blobs(2)
    for slices in (1, 3):
        flat = centred_grid((48, 44), (1.0, 1.1))
        grid = centred_grid((48, 44, slices), (1.0, 1.1, 2.0))
        stack = [
            shape.image(flat).data,
            shape.image(flat, moved(turn(0), np.array([4.0, -3.0]))).data,
        ]
        fixed, moving = (
            Image(d[:, None].expand(1, slices, *flat.shape).contiguous(), grid) for d in stack
        )
        found = align(fixed, moving, Moments(order), ctx).affine
        np.testing.assert_allclose(found.matrix[:3, 2], [0, 0, 1], atol=0.02)
        points = np.c_[shape.inside_mm(), np.zeros(500)]
        assert np.linalg.norm(found(points) - points - [4, -3, 0], axis=1).mean() < 1
