"""Fits of paired points: exact where they can be, least squares or refused where not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fireants_engine.errors import InputError
from fireants_engine.geometry import Landmarks
from fireants_engine.transforms import Affine, fit_points

KINDS = ("rigid", "similarity", "affine")


def turn(dim: int, degrees: float = 40.0) -> np.ndarray:
    if dim == 3:
        return Rotation.from_rotvec(np.radians(degrees) * np.array([2.0, -1, 2]) / 3).as_matrix()
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


def known(kind: str, dim: int) -> Affine:
    linear = turn(dim)
    if kind == "similarity":
        linear = 0.7 * linear
    if kind == "affine":
        linear = linear @ np.diag([1.2, 0.9, 1.1][:dim]) + 0.1 * np.eye(dim)[::-1]
    return Affine.about(linear, np.array([5.0, -70, 30])[:dim], np.array([10.0, 20, -40])[:dim])


def cloud(dim: int, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-80, 80, (count, dim))


def cost(matrix: np.ndarray, pairs: Landmarks) -> float:
    gap = Affine(matrix)(pairs.fixed_mm) - pairs.moving_mm
    assert pairs.weights is not None
    return float(pairs.weights @ np.square(gap).sum(axis=1))


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_known_map_comes_back_from_as_few_points_as_it_needs(kind: str, dim: int) -> None:
    count = dim + 1 if kind == "affine" else dim
    fixed = cloud(dim, count)
    told = known(kind, dim)
    found = fit_points(Landmarks(fixed, told(fixed)), kind)
    np.testing.assert_allclose(found.matrix, told.matrix, atol=1e-9)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_no_map_nearby_is_better(kind: str, dim: int) -> None:
    """Along every direction in which maps of the kind can go, the cost rises."""
    rng = np.random.default_rng(3)
    fixed = cloud(dim, 9)
    moving = known(kind, dim)(fixed) + rng.normal(0, 4, fixed.shape)
    pairs = Landmarks(fixed, moving, rng.uniform(0.1, 3, 9))
    best = fit_points(pairs, kind)
    least = cost(best.matrix, pairs)
    steps = [np.eye(dim + 1)[:, [k]] * np.eye(dim + 1)[dim] for k in range(dim)]  # translations
    for i in range(dim):
        for j in range(dim):
            one = np.zeros((dim + 1, dim + 1))
            if kind == "affine":
                one[i, j] = 0.01
            elif i < j:
                one[i, j], one[j, i] = 0.01, -0.01
            elif i == j == 0 and kind == "similarity":
                one[:dim, :dim] = 0.01 * np.eye(dim)
            steps.append(one)
    for step in steps:
        for sign in (-1, 1):
            change = np.eye(dim + 1) + sign * step
            if kind != "affine":  # back onto rotations
                u, d, vt = np.linalg.svd(change[:dim, :dim])
                change[:dim, :dim] = d.mean() ** (kind == "similarity") * (u @ vt)
            assert cost(change @ best.matrix, pairs) >= least - 1e-9


def test_rotations_agree_with_scipy() -> None:
    rng = np.random.default_rng(1)
    fixed = cloud(3, 7, seed=2)
    moving = known("rigid", 3)(fixed) + rng.normal(0, 5, fixed.shape)
    weights = rng.uniform(0.2, 2, 7)
    found = fit_points(Landmarks(fixed, moving, weights), "rigid")
    share = weights / weights.sum()
    told, _ = Rotation.align_vectors(moving - share @ moving, fixed - share @ fixed, weights)
    np.testing.assert_allclose(found.matrix[:3, :3], told.as_matrix(), atol=1e-9)


def test_weights_count_as_repeated_points_and_those_of_zero_not_at_all() -> None:
    fixed = cloud(3, 6)
    moving = known("affine", 3)(fixed) + np.random.default_rng(5).normal(0, 6, fixed.shape)
    twice = np.vstack([fixed, fixed[:2]]), np.vstack([moving, moving[:2]])
    weights = np.array([2.0, 2, 1, 1, 1, 1])
    for kind in KINDS:
        one = fit_points(Landmarks(fixed, moving, weights), kind)
        other = fit_points(Landmarks(*twice), kind)
        np.testing.assert_allclose(one.matrix, other.matrix, atol=1e-9)
        astray = Landmarks(np.vstack([fixed, [[9.0, 9, 9]]]), np.vstack([moving, [[900.0, 0, 0]]]),
                           np.append(weights, 0))  # fmt: skip
        np.testing.assert_allclose(fit_points(astray, kind).matrix, one.matrix, atol=1e-9)


@pytest.mark.parametrize("dim", [2, 3])
def test_mirrors_only_when_asked(dim: int) -> None:
    fixed = cloud(dim, 6)
    mirror = np.diag([-1.0, *[1.0] * (dim - 1)])
    pairs = Landmarks(fixed, fixed @ mirror)
    for kind in ("rigid", "similarity"):
        assert np.linalg.det(fit_points(pairs, kind).matrix[:dim, :dim]) > 0
        told = fit_points(pairs, kind, reflections=True).matrix[:dim, :dim]
        np.testing.assert_allclose(told, mirror, atol=1e-9)
    with pytest.raises(InputError, match="mirrors the image"):
        fit_points(pairs, "affine")
    assert np.linalg.det(fit_points(pairs, "affine", reflections=True).matrix) < 0


@pytest.mark.parametrize(
    ("kind", "dim", "count", "what"),
    [
        ("rigid", 2, 1, "needs at least 2 landmarks; 1 count"),
        ("rigid", 3, 2, "needs at least 3 landmarks; 2 count"),
        ("similarity", 3, 2, "needs at least 3 landmarks"),
        ("affine", 2, 2, "needs at least 3 landmarks"),
        ("affine", 3, 3, "needs at least 4 landmarks; 3 count"),
    ],
)
def test_too_few_points(kind: str, dim: int, count: int, what: str) -> None:
    fixed = cloud(dim, count)
    with pytest.raises(InputError, match=what):
        fit_points(Landmarks(fixed, fixed), kind)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("kind", "kept", "what"),
    [("rigid", 0, "at one place"), ("rigid", 1, "on one line"), ("affine", 2, "in one plane")],
)
def test_points_that_do_not_determine_the_map(kind: str, kept: int, what: str) -> None:
    fixed = cloud(3, 8)
    flat = fixed.copy()
    flat[:, kept:] = 7.0
    flat = flat @ turn(3).T
    for own, other, role in ((flat, fixed, "fixed"), (fixed, flat, "moving")):
        with pytest.raises(InputError, match=f"{role} landmarks lie {what}"):
            fit_points(Landmarks(own, other), kind)  # pyright: ignore[reportArgumentType]


def test_a_plane_is_enough_for_a_rotation() -> None:
    fixed = cloud(3, 5)
    fixed[:, 2] = 12.0
    told = known("rigid", 3)
    found = fit_points(Landmarks(fixed, told(fixed)), "rigid")
    np.testing.assert_allclose(found.matrix, told.matrix, atol=1e-9)


def test_pairs_without_any_relation() -> None:
    fixed = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    moving = np.array([[1.0, 0], [-1, 0], [1, 0], [-1, 0]])  # no turn is better than another
    with pytest.raises(InputError, match="swapped"):
        fit_points(Landmarks(fixed, moving))


def test_an_unknown_kind() -> None:
    with pytest.raises(InputError, match="choose rigid"):
        fit_points(Landmarks(cloud(2, 3), cloud(2, 3)), "elastic")  # pyright: ignore[reportArgumentType]
