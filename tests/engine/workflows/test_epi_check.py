"""Directions that do not fit are found out; a sign is only called wrong where that can be known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding, Image
from fireants_engine.pipeline import Control
from fireants_engine.workflows import epi as w
from fireants_engine.workflows.epi_check import (
    BOTH_SIGNS,
    Check,
    Trial,
    candidates,
    try_directions,
    try_field,
    try_series,
)
from fireants_engine.workflows.epi_images import corrected, mean_of
from tests.engine.workflows.epi_phantom import READOUT, field_hz, pair, truth, volume


def told(volumes: list[w.Volume], *directions: str) -> list[w.Volume]:
    """The same images, said to be read out otherwise."""
    ways = [Encoding.parse(one, READOUT) for one in directions]
    return [replace(one, encoding=way) for one, way in zip(volumes, ways, strict=True)]


def names(check: Check) -> list[str]:
    return [trial.directions for trial in check.trials]


def test_right_directions_fit_best() -> None:
    seen = []
    check = try_directions(pair(), on_trial=lambda done, count: seen.append((done, count)))
    assert names(check) == ["j and j-", "i and i-", "k and k-"]
    assert seen == [(0, 3), (1, 3), (2, 3)]
    assert check.suggested is None
    assert check.given.correlation > 0.98 > check.before
    assert max(trial.correlation for trial in check.trials[1:]) < 0.95
    assert check.sentence().startswith("The images fit j and j- (")
    assert BOTH_SIGNS in check.sentence()


@pytest.mark.parametrize("directions", [("i", "i-"), ("k-", "k"), ("j", "j")])
def test_the_axis_that_fits_is_suggested(directions: tuple[str, str]) -> None:
    check = try_directions(told(pair(), *directions))
    assert check.given.directions == " and ".join(directions)
    assert check.suggested is not None
    assert {one.direction for one in check.suggested.encodings} == {"j", "j-"}
    assert "agree better with j" in check.sentence()


def test_a_pair_does_not_tell_its_sign() -> None:
    right, turned = (try_directions(told(pair(), *way)) for way in (("j", "j-"), ("j-", "j")))
    assert turned.suggested is None
    assert turned.given.correlation == pytest.approx(right.given.correlation, abs=1e-3)


def test_unlike_readouts_along_one_way() -> None:
    volumes = [volume(truth(), field_hz(), "j", seconds) for seconds in (0.06, 0.02)]
    ways = [" and ".join(each.direction for each in one) for one in candidates(volumes)]
    assert ways == ["j and j", "j and j-", "i and i-", "k and k-"]
    assert try_directions(volumes).suggested is None


def test_a_field_map_tells_the_sign() -> None:
    volumes = pair()
    hz = Image(torch.as_tensor(field_hz(), dtype=torch.float32)[None], volumes[0].image.grid)
    known = w.given_field(volumes, hz).distortion
    assert try_field(volumes, known).suggested is None
    wrong = try_field(told(volumes, "j-", "j"), known)
    assert wrong.suggested is not None
    assert wrong.suggested.directions == "j and j-"


@pytest.mark.parametrize("direction", ["j-", "j"])
def test_the_field_of_a_pair_tells_the_sign_of_a_series(direction: str) -> None:
    volumes = pair()
    found = w.correct(volumes)
    reference = mean_of(corrected(found), "reference")
    one = volume(truth(), field_hz(), "j-", 0.04)
    encoding = Encoding.parse(direction, 0.04)
    check = try_series(one.image, encoding, found.distortion, reference)
    assert names(check)[0] == direction
    assert (check.suggested is None) == (direction == "j-")
    assert check.best.directions == "j-"


def test_images_that_nothing_brings_together() -> None:
    given = tuple(one.encoding for one in pair())
    assert "do they show the same object" in Check((Trial(given, 0.1),), 0.1).sentence()


def test_a_check_can_be_stopped_and_needs_two() -> None:
    control = Control()

    def stop(done: int, _: int) -> None:
        if done == 1:
            control.stop()

    assert len(try_directions(pair(), control=control, on_trial=stop).trials) == 1
    with pytest.raises(InputError, match="stopped before any"):
        try_directions(pair(), control=control)
    with pytest.raises(InputError, match="stopped before it found"):
        w.correct(pair(), control=control)
    with pytest.raises(InputError, match="with two volumes"):
        try_directions(pair(("j", "j-", "i")))
    with pytest.raises(InputError, match="two volumes"):
        try_field(pair()[:1], w.correct(pair()).distortion)
