"""Every orientation: axes, reflections, scales, degenerate moments and the search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fireants_engine.geometry import Image
from fireants_engine.pipeline import InitialAlignment, Moments
from fireants_engine.pipeline.initialise import bodies_of, initialise, ranked
from fireants_engine.pipeline.moments import Body, axis_matches, foreground, mass_of, unsure
from fireants_engine.pipeline.orientation import Candidate, Search, many, score
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.pipeline.rotations import covering, degrees_between
from fireants_engine.transforms import Affine

MIRROR = np.diag([-1.0, 1.0, 1.0])


def align(fixed: Image, moving: Image, spec, ctx) -> InitialAlignment:
    return initialise(spec, Prepared.create(fixed, moving, ctx), ctx)


def carried(linear: np.ndarray):
    """The inverse of y = A x, as `Blobs.image` wants it."""
    back = np.linalg.inv(linear)
    return lambda y: y @ back.T


def found_in(result: InitialAlignment) -> np.ndarray:
    return result.affine.matrix[:-1, :-1]


def half_of(shape, grid, inverse=lambda y: y) -> Image:
    """The blobs on one side of an oblique cut: as a hemisphere, unlike its mirror image."""
    points = inverse(grid.points_mm())
    side = 1 / (1 + np.exp(-(points @ [0.5, 0.9, -0.7] + 2)))
    return Image.from_numpy((shape(points) * side).reshape(grid.shape), grid)


@pytest.fixture(scope="module")
def grid(centred_grid):
    return centred_grid((30, 28, 26), (1.5, 1.6, 1.7))


# ------------------------------------------------------------------ reflections (LESSONS 9)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_reflection_is_told_where_it_can_be(seed, mirrored, blobs, grid, ctx) -> None:
    shape = blobs(3)
    truth = Rotation.random(rng=seed).as_matrix() @ (MIRROR if mirrored else np.eye(3))
    spec = Moments(improper=True)
    images = [half_of(shape, grid), half_of(shape, grid, carried(truth))]
    found = align(*images, spec, ctx)
    assert found.candidates[0].det == (-1 if mirrored else 1)
    assert degrees_between(found_in(found), truth) < 6
    assert any("reflection" in note for note in found.notes) == mirrored
    assert not any("ambiguous" in note for note in found.notes)


def test_a_symmetric_thing_is_never_mirrored_silently(blobs, grid, ctx) -> None:
    """A rotation and a reflection fit equally: the rotation is taken and the doubt is said."""
    points = grid.points_mm() * [1, 1, 1]
    both = blobs(3)(points) + blobs(3)(points * [-1, 1, 1])
    image = Image.from_numpy(both.reshape(grid.shape), grid)
    found = align(image, image, Moments(improper=True), ctx)
    assert found.candidates[0].det == 1
    assert any("ambiguous" in note for note in found.notes)
    assert found.runner_up is not None
    assert found.runner_up.det == -1
    assert {c["det"] for c in found.to_dict()["candidates"]} == {1, -1}


def test_the_rotation_is_chosen_where_a_reflection_is_hardly_better() -> None:
    near = [Candidate("r", Affine(np.diag([-1.0, 1, 1, 1])), 0.91), Candidate("p", _eye(), 0.90)]
    clear = [Candidate("r", Affine(np.diag([-1.0, 1, 1, 1])), 0.99), Candidate("p", _eye(), 0.90)]
    assert ranked(near).candidates[0].name == "p"
    assert ranked(clear).candidates[0].name == "r"


def _eye() -> Affine:
    return Affine.identity(3)


@pytest.mark.parametrize("degrees", range(0, 360, 45))
@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_every_angle_and_flip_in_the_plane(degrees, flip, blobs, centred_grid, ctx) -> None:
    """H3: correlation of at least .99 and the right determinant."""
    a = np.radians(degrees)
    truth = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.diag([flip, 1.0])
    shape, grid = blobs(2), centred_grid((96, 92), (0.7, 0.75))
    moving = shape.image(grid, carried(truth))
    found = align(shape.image(grid), moving, Moments(improper=True), ctx)
    assert found.candidates[0].det == flip
    assert found.candidates[0].score >= 0.99


# ------------------------------------------------------------------ scale (H2)
@pytest.mark.parametrize("seed", range(3))
def test_scales_along_the_principal_axes_are_recovered(seed, blobs, centred_grid, ctx) -> None:
    rng = np.random.default_rng(seed)
    shape, grid = blobs(3), centred_grid((44, 44, 44), (1.0, 1.0, 1.0))
    image = shape.image(grid)
    fixed, _ = bodies_of(Prepared.create(image, image, ctx).level(1, 1), "intensity")
    axes, sizes = np.linalg.eigh(fixed.covariance)[1], rng.uniform(0.85, 1.2, 3)
    truth = Rotation.random(rng=seed).as_matrix() @ axes @ np.diag(sizes) @ axes.T
    found = align(image, shape.image(grid, carried(truth)), Moments(scale=True), ctx)
    got = np.linalg.norm(found_in(found) @ axes, axis=0)
    np.testing.assert_allclose(got, sizes, rtol=0.01)
    assert degrees_between(found_in(found), truth) < 3


def test_axes_are_paired_by_their_order_and_in_every_other() -> None:
    fixed = Body(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    moving = Body(np.zeros(3), np.diag([16.0, 1.0, 9.0]))
    usual = list(axis_matches(fixed, moving))
    assert len(usual) == 4
    assert all(np.linalg.det(linear) == pytest.approx(1) for _, linear in usual)
    assert len(list(axis_matches(fixed, moving, improper=True))) == 8
    assert len({name for name, _ in axis_matches(fixed, moving, reorder=True)}) == 24
    for _, linear in axis_matches(fixed, moving, scale=True):
        np.testing.assert_allclose(linear @ fixed.covariance @ linear.T, moving.covariance)


# ------------------------------------------------------------------ background (LESSONS 8)
def test_foreground_is_the_filled_largest_piece_above_the_noise(centred_grid) -> None:
    grid = centred_grid((40, 36, 30), (1.0, 1.0, 1.0))
    r = np.linalg.norm(grid.points_mm(), axis=1).reshape(grid.shape)
    noise = 0.05 * np.random.default_rng(0).standard_normal(grid.shape)
    shell = torch.from_numpy(((r < 12) & (r > 5)) * 0.8 + noise)[None, None].float()
    shell[..., 1:3, 1:3, 1:3] = 1.0
    inside = foreground(shell).numpy()
    assert (inside == (r < 12)).mean() > 0.995
    assert not foreground(torch.from_numpy(noise)[None, None]).any()
    assert not foreground(torch.zeros(1, 1, 5, 5)).any()
    mask = torch.zeros_like(shell)
    mask[..., :20] = 1
    assert not foreground(shell, mask)[..., 20:].any()


@pytest.mark.parametrize("kind", ["foreground", "mind"])
def test_mass_is_the_same_for_every_contrast(kind, blobs, grid, ctx) -> None:
    """Unlike intensity, whose moments go with the contrast."""
    shape = blobs(3)
    image = shape.image(grid)
    inverted = Image((image.data > 0.1) * (1.2 - 0.6 * image.data), grid)
    pair = Prepared.create(image, inverted, ctx).level(1, 1)
    apart = {}
    for one in ("intensity", kind):
        a, b = bodies_of(pair, one)
        apart[one] = np.linalg.norm(a.centre_mm - b.centre_mm)
    assert apart[kind] < 0.6 * apart["intensity"]
    assert float(mass_of(pair.fixed, None, grid, kind).min()) >= 0


@pytest.mark.parametrize("measure", ["lncc", "mi", "mind"])
def test_other_contrasts_are_ranked_rightly(measure, blobs, grid, ctx) -> None:
    shape, truth = blobs(3), Rotation.random(rng=11).as_matrix()
    fixed, moving = shape.image(grid), shape.image(grid, carried(truth))
    other = Image((moving.data > 0.1) * (1.2 - 0.6 * moving.data), grid)
    found = align(fixed, other, Moments(2, measure, "foreground", search="auto"), ctx)
    assert degrees_between(found_in(found), truth) < 12


# ------------------------------------------------------------------ the search
@pytest.mark.parametrize("degrees", [20.0, 24.0])
def test_rotations_are_spread_evenly(degrees) -> None:
    turns = covering(3, degrees)
    np.testing.assert_allclose(turns[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    asked = Rotation.random(300, rng=0).as_matrix()
    traces = np.einsum("nij,mij->nm", asked, turns).max(1)
    assert np.degrees(np.arccos((traces - 1) / 2)).max() < 0.7 * degrees
    plane = covering(2, 90)
    assert len(plane) == 4
    np.testing.assert_allclose(plane[1], [[0, -1], [1, 0]], atol=1e-12)
    with pytest.raises(ValueError, match="positive"):
        covering(3, 0)


@pytest.mark.parametrize("measure", ["ncc", "mi"])
def test_many_scores_are_those_of_each(measure, blobs, grid, ctx) -> None:
    shape = blobs(3)
    mask = Image.from_numpy(np.linalg.norm(grid.points_mm(), axis=1).reshape(grid.shape) < 18, grid)
    image = shape.image(grid).with_mask(mask)
    pair = Prepared.create(image, shape.image(grid, carried(MIRROR)), ctx).level(1, 1)
    turns = [Affine.about(turn, np.zeros(3), np.zeros(3)) for turn in covering(3, 90)[:5]]
    together = many(pair, turns, measure, ctx)
    alone = [many(pair, [one], measure, ctx)[0] for one in turns]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    if measure == "ncc":
        each = [score(pair, one, "ncc", ctx) for one in turns]
        np.testing.assert_allclose(together, each, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_search_needs_no_axes(mirrored, blobs, grid, ctx) -> None:
    shape = blobs(3)
    truth = Rotation.random(rng=5).as_matrix() @ (MIRROR if mirrored else np.eye(3))
    prepared = Prepared.create(shape.image(grid), shape.image(grid, carried(truth)), ctx)
    pair = prepared.level(1.5, 1)
    search = Search(
        prepared.level(2, 1), pair, bodies_of(pair, "intensity"), "ncc", ctx, 1.0, mirrored
    )
    found = search.run()
    assert degrees_between(found[0].matrix[:3, :3], truth) < 3
    apart = [degrees_between(found[0].matrix[:3, :3], o.matrix[:3, :3]) for o in found[1:]]
    assert min(apart) > 20


def test_a_ball_with_a_spot_is_turned_by_search_alone(centred_grid, ctx) -> None:
    """Equal axes say nothing; `auto` notices, says so and searches."""
    grid = centred_grid((30, 30, 30), (1.0, 1.0, 1.0))

    def ball(points: np.ndarray) -> np.ndarray:
        out = 0.5 / (1 + np.exp(2 * (np.linalg.norm(points, axis=1) - 11)))
        for spot, height in (([7, 0, 0], 0.6), ([0, 6, 2], 0.4), ([0, 0, -7], 0.3)):
            out = out + height * np.exp(-((points - spot) ** 2).sum(1) / 8)
        return out

    truth = Rotation.random(rng=3).as_matrix()
    images = [
        Image.from_numpy(ball(points).reshape(grid.shape), grid)
        for points in (grid.points_mm(), grid.points_mm() @ truth)
    ]
    spec = Moments(mass="foreground", search="auto")
    found = align(*images, spec, ctx)
    assert found.candidates[0].name.startswith("search")
    assert degrees_between(found_in(found), truth) < 4
    assert any("searched, because two principal axes are nearly equal" in n for n in found.notes)
    never = align(*images, Moments(mass="foreground"), ctx)
    assert degrees_between(found_in(never), truth) > 10


def test_a_search_is_worth_it_where_axes_or_shapes_do_not_fit() -> None:
    plain = Body(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    assert unsure(plain, Body(np.zeros(3), 4 * plain.covariance)) is None
    assert "equal" in str(unsure(plain, Body(np.zeros(3), np.diag([1.0, 1.1, 9.0]))))
    assert "shape" in str(unsure(plain, Body(np.zeros(3), np.diag([1.0, 2.0, 9.0]))))
