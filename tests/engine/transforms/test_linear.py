"""Affine maps: group laws, centres, refusal of singular matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fireants_engine.errors import InputError
from fireants_engine.transforms import Affine

laws = settings(derandomize=True, deadline=None, max_examples=50, database=None)


@st.composite
def affines(draw: st.DrawFn, dim: int) -> Affine:
    rng = np.random.default_rng(draw(st.integers(0, 2**31 - 1)))
    left, _, right = np.linalg.svd(rng.normal(size=(dim, dim)))
    linear = left @ np.diag(rng.uniform(0.3, 3, dim)) @ right
    return Affine.about(linear, rng.uniform(-50, 50, dim), rng.uniform(-200, 200, dim))


@laws
@given(st.data(), st.sampled_from([2, 3]))
def test_group_laws(data: st.DataObject, dim: int) -> None:
    a, b, c = (data.draw(affines(dim)) for _ in range(3))
    x = np.random.default_rng(0).uniform(-100, 100, (20, dim))
    np.testing.assert_allclose(a.inverse()(a(x)), x, atol=1e-8)
    np.testing.assert_allclose(a(a.inverse()(x)), x, atol=1e-8)
    np.testing.assert_allclose(a.after(b)(x), a(b(x)), atol=1e-8)
    left, right = a.after(b).after(c), a.after(b.after(c))
    np.testing.assert_allclose(left(x), right(x), atol=1e-7)
    np.testing.assert_allclose(Affine.identity(dim).after(a)(x), a(x), atol=1e-10)
    undone = a.after(b).inverse()
    np.testing.assert_allclose(undone(x), b.inverse()(a.inverse()(x)), atol=1e-6)


def test_about_turns_around_the_centre() -> None:
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    turn = Affine.about(quarter, np.array([2.0, 0.0]), np.array([10.0, 20.0]))
    np.testing.assert_allclose(turn(np.array([[10.0, 20.0], [11.0, 20.0]])), [[12, 20], [12, 21]])


def test_the_matrix_given_is_copied_and_locked() -> None:
    matrix = np.eye(3)
    move = Affine(matrix)
    matrix[0, 2] = 5
    assert move.matrix[0, 2] == 0
    with pytest.raises(ValueError, match="read-only"):
        move.matrix[0, 2] = 1


@pytest.mark.parametrize("bad", [np.diag([1.0, 0.0, 1.0]), np.diag([np.nan, 1.0, 1.0])])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_singular_or_invalid_matrices_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="singular or not finite"):
        Affine(bad)
