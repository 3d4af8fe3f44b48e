"""Axes in another order: every sample stays where it is."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fireants_engine.geometry import Grid
from fireants_engine.geometry.orientation import array_axes, nearest_order, reordered

TILT = Rotation.from_euler("xyz", [8, -12, 15], degrees=True).as_matrix()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_samples_stay_where_they_are(order: tuple[int, ...]) -> None:
    direction = (TILT @ np.diag([1, -1, -1]))[:, list(order)]
    grid = Grid((4, 5, 6), (1.0, 2.0, 3.5), (7.0, -8.0, 9.0), direction)
    found = nearest_order(direction)
    turned = reordered(grid, found)
    assert (np.argmax(np.abs(turned.direction), axis=0) == [0, 1, 2]).all()
    places = grid.points_mm().reshape(*grid.shape, 3)
    expected = np.transpose(places, (*array_axes(found), 3))
    np.testing.assert_allclose(turned.points_mm().reshape(*turned.shape, 3), expected, atol=1e-9)
    assert nearest_order(grid.direction, grid.direction) == (0, 1, 2)


def test_2d_and_ties() -> None:
    quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
    assert nearest_order(quarter) == (1, 0)
    half = Rotation.from_euler("z", 45, degrees=True).as_matrix()
    assert nearest_order(half) == (0, 1, 2)
