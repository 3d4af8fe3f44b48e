"""Target registration error against distances made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fireants_engine.errors import InputError
from fireants_engine.evaluation import target_registration_error


def test_distances_and_their_summary() -> None:
    target = np.zeros((4, 3))
    mapped = [[3, 4, 0], [0, 0, 1], [0, 0, 0], [0, -2, 0]]
    result = target_registration_error(mapped, target)
    np.testing.assert_allclose(result.distances_mm, [5, 1, 0, 2])
    assert result.mean_mm == pytest.approx(2)
    assert result.median_mm == pytest.approx(1.5)
    assert result.p95_mm == pytest.approx(2 + 0.85 * 3)  # 0.95 * 3 = 2.85 along 0, 1, 2, 5


def test_a_translation_moves_every_point_alike_in_2d() -> None:
    points = np.random.default_rng(0).normal(size=(50, 2)) * 40
    result = target_registration_error(points + np.array([0.3, -0.4]), points)
    np.testing.assert_allclose(result.distances_mm, 0.5)


@pytest.mark.parametrize(
    ("mapped", "target", "message"),
    [
        (np.zeros((4, 3)), np.zeros((5, 3)), r"not \(4, 3\) and \(5, 3\)"),
        (np.zeros((4, 4)), np.zeros((4, 4)), r"\(n, 2\) or \(n, 3\)"),
        (np.zeros(3), np.zeros(3), r"\(n, 2\) or \(n, 3\)"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "no landmarks"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), "NaN or infinite"),
    ],
)
def test_bad_input_is_named(mapped: np.ndarray, target: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        target_registration_error(mapped, target)
