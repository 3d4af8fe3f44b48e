"""Planes are cut and turned as people look at them."""

from __future__ import annotations

import numpy as np
import pytest

from fireants_engine.geometry import Grid
from fireants_engine.geometry.planes import plane_of


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_left_is_right_and_feet_are_down(signs: tuple[int, ...]) -> None:
    grid = Grid((4, 5, 6), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), np.diag(np.array(signs, float)))
    places = grid.points_mm().reshape(*grid.shape, 3)
    for axis, title, across, down, aspect in (
        (0, "axial 2", 0, (1, 1), 2.0),
        (1, "coronal 2", 0, (2, -1), 3.0),
        (2, "sagittal 2", 1, (2, -1), 1.5),
    ):
        plane = plane_of(grid, axis, 2)
        assert plane.title == title
        assert plane.aspect == pytest.approx(aspect)
        shown = plane.cut(places)
        assert (np.diff(shown[..., across], axis=1) > 0).all()
        assert (np.diff(shown[..., down[0]], axis=0) * down[1] > 0).all()


def test_places_are_found_again() -> None:
    grid = Grid((4, 5, 6), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), np.diag([-1.0, 1, 1]))
    for axis in range(3):
        plane = plane_of(grid, axis, 1)
        rest = [n for a, n in enumerate(grid.shape) if a != axis]
        numbers = np.arange(np.prod(rest)).reshape(rest)
        shown = plane.show(numbers)
        row, column = plane.shown_at((1, 2), (rest[0], rest[1]))
        assert shown[int(row), int(column)] == numbers[1, 2]
        assert plane.place_of((row, column), (rest[0], rest[1])) == (1, 2)
