"""Lost pieces of a section are found, left out and told; nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fireants_engine.geometry import Image
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Affine
from fireants_engine.workflows import sections as w
from fireants_engine.workflows.section_loss import without_lost
from tests.engine.workflows.section_phantom import BROWN, SIDE, points_inside, section, turned

TURN = turned(200, True)
SHARE = 0.12


@pytest.fixture(scope="module")
def quick() -> Recipe:
    data = w.sections_recipe().to_dict()
    data["stages"][0]["pyramid"]["levels"] = [{"shrink": 3, "max_steps": 40}]
    data["stages"][1]["pyramid"]["levels"] = [
        {"shrink": 3, "max_steps": 40}, {"shrink": 1.5, "max_steps": 20}
    ]  # fmt: skip
    return Recipe.from_dict(data)


def tissue_of(image: Image) -> Image:
    mask = w.section_of(image).tissue.mask
    return Image(mask[None].float(), image.grid)


def lost_of(whole: Image, torn: Image) -> np.ndarray:
    return (whole.data.float() - torn.data.float()).abs().mean(0).numpy() > 15


def test_a_bite_is_as_if_masked_by_hand(quick: Recipe) -> None:
    whole, torn = section(name="whole"), section(TURN, colour=BROWN, bite=SHARE, name="torn")
    points = points_inside(count=400)
    place = TURN(points).round().astype(int)
    lost = lost_of(section(TURN, colour=BROWN), torn)[place[:, 1], place[:, 0]]

    def off(fixed: Image) -> tuple[np.ndarray, w.Match]:
        found = w.match(fixed, torn, start=turned(199, True), recipe=quick)
        return np.linalg.norm(found.result.transform(points) - TURN(points), axis=1), found

    found, match = off(whole)
    at_place = lost_of(section(TURN, colour=BROWN), torn)
    y, x = np.mgrid[:SIDE, :SIDE]
    there = TURN(np.stack([x, y], -1).reshape(-1, 2).astype(float)).round().astype(int)
    there = there.clip(0, SIDE - 1)
    hand = torch.from_numpy(~at_place[there[:, 1], there[:, 0]].reshape(SIDE, SIDE))
    masked, _ = off(replace(whole, mask=hand))
    for share in (50, 95):
        limit = np.percentile(masked[~lost], share)
        assert np.percentile(found[~lost], share) <= 1.1 * limit
    (note,) = match.notes
    assert "of the tissue of whole has an empty slide opposite it in torn" in note
    said = int(note.split("%")[0]) / 100
    assert abs(said - SHARE) < 0.04


def test_what_is_lost_in_the_fixed_section() -> None:
    torn, whole = section(bite=SHARE, name="torn"), section(TURN, colour=BROWN, name="whole")
    counts, (note,) = without_lost(
        w.section_of(torn).image, w.section_of(whole).image, (tissue_of(torn), tissue_of(whole)),
        TURN,
    )  # fmt: skip
    assert note.endswith("is left out of the comparison.")
    assert "tissue of whole" in note
    assert counts.mask is not None
    lost = torch.from_numpy(lost_of(section(), torn))
    assert counts.mask[lost].float().mean() <= 0.05
    assert counts.mask.float().mean() > 0.85


def test_nothing_is_lost_in_shrunken_or_masked_tissue() -> None:
    whole, small = section(name="whole"), section(turned(0, stretch=1.0), name="small")
    a, b = w.section_of(whole).image, w.section_of(small).image
    shrunk = Affine.about(0.96 * np.eye(2), np.array([4.0, -3.0]), np.full(2, (SIDE - 1) / 2))
    tissues = tissue_of(whole), tissue_of(small)
    assert without_lost(a, b, tissues, shrunk) == (a, ())
    torn = section(bite=SHARE)
    known = replace(w.section_of(torn).image, mask=~torch.from_numpy(lost_of(whole, torn)))
    same = Affine.identity(2)
    kept, notes = without_lost(a, known, (tissue_of(whole), tissue_of(torn)), same)
    assert kept.mask is None
    assert not notes


def test_sections_that_do_not_fit_count_whole() -> None:
    whole = section()
    a = w.section_of(whole).image
    away = Affine.about(np.eye(2), np.array([60.0, 0.0]), np.zeros(2))
    assert without_lost(a, a, (tissue_of(whole),) * 2, away) == (a, ())
