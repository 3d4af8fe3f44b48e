"""Moving a layer by hand: what is seen, what is handed on, and where it comes to rest."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from napari_fireants._layers import index_to_mm, places_mm
from napari_fireants._nudge import Hand, mirror, scale, shift, turn


def layer(unit: str = "mm") -> Image:
    return Image(
        np.zeros((6, 8, 10), np.float32), scale=(2.0, 1.5, 1.0), translate=(5.0, -3.0, 7.0),
        units=(unit,) * 3,
    )  # fmt: skip


def moved(matrix: np.ndarray, point: np.ndarray) -> np.ndarray:
    return (matrix @ np.append(point, 1.0))[:-1]


def test_matrices_move_points_as_they_say() -> None:
    centre, x, y, z = np.array([1.0, 2.0, 3.0]), *np.eye(3)
    np.testing.assert_allclose(moved(shift([1, 0, -2]), centre), [2, 2, 1])
    np.testing.assert_allclose(moved(turn((0, 1), 90, centre), centre + x), centre + y)
    np.testing.assert_allclose(moved(scale(2, centre), centre + y), centre + 2 * y)
    np.testing.assert_allclose(moved(mirror(2, centre), centre + x + z), centre + x - z)


@pytest.mark.parametrize("unit", ["mm", "um"])
def test_buttons_move_what_is_seen_by_mm(unit: str) -> None:
    told: list[int] = []
    item = layer(unit)
    hand = Hand(item, lambda: told.append(1))
    voxel = np.array([[3.0, 2.0, 4.0]])
    before = places_mm(item, voxel)[0]
    wish = turn((0, 1), 30, np.array([1.0, 0, 2])) @ shift([0.4, -0.2, 0.1])
    hand.move(wish)
    np.testing.assert_allclose(places_mm(item, voxel)[0], moved(wish, before), atol=1e-6)
    np.testing.assert_allclose(hand.pending, wish, atol=1e-6)
    assert told == [1]


def test_a_drag_is_seen_and_what_was_sent_comes_to_rest() -> None:
    told: list[int] = []
    item = layer()
    home = index_to_mm(item)
    hand = Hand(item, lambda: told.append(1))
    assert hand.pending is None
    affine = np.eye(4)
    affine[:3, 3] = (0.0, 2.0, 3.0)  # z, y, x
    item.affine = affine
    assert told == [1]
    first = hand.pending
    assert first is not None
    np.testing.assert_allclose(first, shift([3, 2, 0]), atol=1e-9)
    hand.sent(first)
    assert hand.pending is None
    hand.move(shift([0, 0, 1]))  # before the data have come
    second = hand.pending
    hand.settled()
    np.testing.assert_allclose(index_to_mm(item), shift([0, 0, 1]) @ home, atol=1e-9)
    np.testing.assert_allclose(hand.pending, second, atol=1e-9)
    hand.put_back()
    np.testing.assert_allclose(index_to_mm(item), home, atol=1e-9)
    hand.release()
    item.affine = affine
    assert told == [1, 1]
