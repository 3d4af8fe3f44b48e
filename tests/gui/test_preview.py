"""Pacing and composition of pictures."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fireants._preview import (
    Mailbox,
    Pace,
    checker_mask,
    checkerboard,
    enlarge,
    grey,
    robust_limits,
    to_bytes,
)


def test_the_mailbox_keeps_the_newest_frame_only() -> None:
    box = Mailbox()
    assert box.take() is None
    box.put({0: np.zeros(1)})
    box.put({1: np.zeros(1)})
    assert list(box.take()) == [1]
    assert box.take() is None


def test_pace_allows_eight_a_second_and_rests_after_costly_ones() -> None:
    pace = Pace()
    assert pace.due(10.0)
    pace.asked(10.0)
    assert not pace.due(10.12)
    assert pace.due(10.125)
    pace.cost(0.03, 10.2)
    assert not pace.due(11.1)
    assert pace.due(11.2)


def test_checkers_are_squares_in_space_not_in_voxels() -> None:
    mask = checker_mask((4, 16), (4.0, 1.0), 4)  # 16 mm x 16 mm, squares of 4 mm
    np.testing.assert_array_equal(mask[0], np.repeat([False, True, False, True], 4))
    np.testing.assert_array_equal(mask[:, 0], [False, True, False, True])
    a, b = np.zeros((4, 16), np.uint8), np.full((4, 16), 9, np.uint8)
    board = checkerboard(a, b, (4.0, 1.0), 4)
    assert board.dtype == np.uint8
    assert board.mean() == 4.5


def test_bytes_limits_grey_and_enlarge() -> None:
    np.testing.assert_array_equal(to_bytes(np.array([-5, 0, 5, 10, 99]), (0, 10)),
                                  [0, 0, 127, 255, 255])  # fmt: skip
    assert robust_limits(np.full(5, 3.0)) == (3.0, 4.0)
    assert robust_limits(np.array([np.nan, 1.0, 2.0])) == pytest.approx((1.0, 2.0), abs=0.01)
    assert grey(np.ones((4, 5, 3)), 2).shape == (4, 5)
    np.testing.assert_array_equal(enlarge(np.array([[1, 2]]), (2, 4)), [[1, 1, 2, 2]] * 2)
