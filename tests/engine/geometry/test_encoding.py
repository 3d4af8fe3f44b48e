"""Phase encodings: BIDS directions, their axis of an array, and what no scanner does."""

from __future__ import annotations

import numpy as np
import pytest

from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding


@pytest.mark.parametrize(
    ("text", "axis", "sign"),
    [("i", 0, 1), ("i-", 0, -1), ("j", 1, 1), ("j-", 1, -1), ("k", 2, 1), ("k-", 2, -1)],
)
def test_bids_directions(text: str, axis: int, sign: int) -> None:
    found = Encoding.parse(text, 0.05)
    assert (found.axis, found.sign, found.readout_s) == (axis, sign, 0.05)
    assert found.direction == text
    assert found.signed_readout_s == sign * 0.05
    assert Encoding.parse(found.direction, found.readout_s) == found
    assert str(found) == f"{text}, 0.05 s"


def test_a_plus_and_spaces_are_the_same() -> None:
    assert Encoding.parse(" j+ ", 0.03) == Encoding.parse("j", 0.03)
    assert Encoding.parse("k", 0).readout_s == 0


@pytest.mark.parametrize("text", ["", "x", "J", "AP", "-j", "j--", "ij", "j -", "1", "j\nk", "ｊ"])
def test_a_direction_is_never_guessed(text: str) -> None:
    with pytest.raises(InputError, match=r"is no phase-encoding direction; give one of i, i-") as e:
        Encoding.parse(text, 0.05)
    assert repr(text) in str(e.value)


@pytest.mark.parametrize("readout", [-0.01, 10.0, 50.0, float("nan"), float("inf")])
def test_a_readout_time_is_in_seconds(readout: float) -> None:
    with pytest.raises(InputError, match=r"readout time of \S+ s cannot be.*not milliseconds"):
        Encoding.parse("j", readout)


@pytest.mark.parametrize(("axis", "sign"), [(3, 1), (-1, 1), (1, 0), (1, 2)])
def test_an_axis_or_sign_that_is_none(axis: int, sign: int) -> None:
    with pytest.raises(InputError, match=f"axis {axis} with sign {sign} does not exist"):
        Encoding(axis, sign, 0.05)


def test_the_axis_of_an_array() -> None:
    assert [Encoding.parse(d, 0.05).array_axis(3) for d in "ijk"] == [2, 1, 0]
    assert [Encoding.parse(d, 0.05).array_axis(2) for d in "ij"] == [1, 0]
    with pytest.raises(InputError, match=r"along k does not fit a 2D image.*axes are i, j"):
        Encoding.parse("k-", 0.05).array_axis(2)


def test_a_stored_index_runs_along_it() -> None:
    """Index i of an image is the last axis of its array."""
    array = np.zeros((3, 4, 5))
    sizes = {d: array.shape[Encoding.parse(d, 0.05).array_axis(3)] for d in "ijk"}
    assert sizes == {"i": 5, "j": 4, "k": 3}
