"""Chains: order, associativity, inverse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fireants_engine.geometry import Grid
from fireants_engine.transforms import Affine, Chain, Displacement, linear_part


def affine(dim: int, seed: int) -> Affine:
    rng = np.random.default_rng(seed)
    linear = np.eye(dim) + 0.2 * rng.normal(size=(dim, dim))
    return Affine.about(linear, rng.normal(size=dim), rng.normal(size=dim))


def gentle(dim: int, seed: int) -> Displacement:
    """A smooth warp of about a voxel on a grid of (20, 24(, 16)) that is zero at the border."""
    shape = (16, 24, 20)[-dim:]
    x = np.stack(np.meshgrid(*[np.linspace(0, np.pi, n) for n in shape], indexing="ij"))
    bump = np.prod(np.sin(x), axis=0) ** 2
    size = np.random.default_rng(seed).uniform(-1, 1, dim).reshape(-1, *[1] * dim)
    return Displacement(torch.from_numpy(size * bump)[None], Grid.identity(shape[::-1], 1.5))


def inside(dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(6, 16, (50, dim))


@pytest.mark.parametrize("dim", [2, 3])
def test_then_applies_self_first(dim: int) -> None:
    a, b, x = affine(dim, 0), gentle(dim, 1), inside(dim)
    np.testing.assert_allclose(a.then(b)(x), b(a(x)))
    np.testing.assert_allclose(b.then(a)(x), a(b(x)))
    assert np.abs(a.then(b)(x) - b.then(a)(x)).max() > 1e-3


@pytest.mark.parametrize("dim", [2, 3])
def test_chaining_is_associative_and_flat(dim: int) -> None:
    a, b, c, x = gentle(dim, 0), affine(dim, 1), gentle(dim, 2), inside(dim)
    left, right = a.then(b).then(c), a.then(b.then(c))
    assert left.parts == right.parts == (a, b, c)
    np.testing.assert_array_equal(left(x), right(x))


@pytest.mark.parametrize("dim", [2, 3])
def test_the_inverse_of_a_chain_undoes_it(dim: int) -> None:
    small = Affine.about(np.eye(dim) * 1.02, np.full(dim, 0.3), np.full(dim, 10.0))
    chain, x = Chain([gentle(dim, 3), small, gentle(dim, 4)]), inside(dim, 5)
    back = chain.inverse()
    assert np.abs(back(chain(x)) - x).mean() < 0.03
    assert np.abs(chain(back(x)) - x).mean() < 0.03
    assert np.abs(chain(x) - x).mean() > 0.2  # there was something to undo


def test_displacement_of_a_grid_is_the_motion_of_its_samples() -> None:
    grid = Grid((5, 4, 3), (1.0, 2.0, 3.0), (-7.0, 1.0, 2.0), np.diag([1.0, -1.0, 1.0]))
    move = affine(3, 7)
    field = move.displacement(grid)
    assert field.shape == (3, 4, 5, 3)
    points = grid.points_mm()
    np.testing.assert_allclose(field.reshape(-1, 3), move(points) - points, atol=1e-5)


def test_linear_part_multiplies_affine_chains_only() -> None:
    a, b, x = affine(3, 1), affine(3, 2), inside(3)
    product = linear_part(Chain([a, b]))
    assert product is not None
    np.testing.assert_allclose(product(x), b(a(x)))
    assert linear_part(Chain([a, gentle(3, 0)])) is None


def test_chains_of_nothing_or_of_mixed_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Chain([])
    with pytest.raises(ValueError, match="same dimension"):
        Chain([affine(2, 0), affine(3, 0)])
