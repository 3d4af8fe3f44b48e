"""Points are checked at the door."""

from __future__ import annotations

import numpy as np
import pytest

from fireants_engine.errors import InputError
from fireants_engine.geometry import as_points


def test_lists_become_float64_rows() -> None:
    out = as_points([[1, 2, 3], [4, 5, 6]], 3)
    assert out.dtype == np.float64
    np.testing.assert_array_equal(out, [[1, 2, 3], [4, 5, 6]])
    assert as_points([1, 2], 2).shape == (1, 2)
    assert as_points([], 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([[1, 2]], "landmarks.*expected 3"),
        ([[1, 2, np.nan]], "landmarks.*finite"),
        ([[1, 2, np.inf]], "landmarks.*finite"),
        ([["a", "b", "c"]], "landmarks.*numbers"),
        ([[1, 2, 3], [4, 5]], "landmarks.*numbers"),
        (np.zeros((2, 2, 3)), "landmarks.*expected 3"),
    ],
)
def test_unusable_points_are_refused(points: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        as_points(points, 3, "landmarks")
