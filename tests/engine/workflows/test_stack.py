"""A stack of sections: the order, the image of all of them, and the whole route on a phantom."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.pipeline import Control
from fireants_engine.transforms import Affine, Chain
from fireants_engine.workflows import slices, stack
from fireants_engine.workflows.sheets import Sheet, middle_of, sheet_for, sheet_of
from fireants_engine.workflows.slices import Candidate, Plane, plane_of
from fireants_engine.workflows.stack_order import fit_order
from tests.engine.workflows.slice_phantom import brain, cut, errors_mm, true_affine

SPACING = 6.0
COUNT = 6


# ------------------------------------------------------------------ the order
def parallel(
    count: int = 7, tilt_deg: float = 1.0, off_mm: float = 0.3, step: float = 2.0
) -> tuple[list[Plane], np.ndarray]:
    """Planes of sections `step` mm apart, each found a little wrong, and their true normal."""
    rng = np.random.default_rng(4)
    turn = Rotation.from_euler("xyz", [8, -12, 70], degrees=True).as_matrix()
    planes = []
    for k in range(count):
        wrong = Rotation.from_rotvec(np.radians(rng.normal(0, tilt_deg, 3))).as_matrix()
        spin = Rotation.from_rotvec([0, 0, rng.uniform(0, 6)]).as_matrix()
        point = turn @ np.array([*rng.normal(0, 3, 2), 5 - step * k + rng.normal(0, off_mm)])
        planes.append(Plane(point, 1.04 * (wrong @ turn @ spin)[:, :2]))
    return planes, turn[:, 2]


def test_planes_are_fitted_whatever_the_turn_of_each_section() -> None:
    """The sections count down along their own normal: the order's normal follows the count."""
    planes, normal = parallel()
    order = fit_order(planes, 2.0)
    assert order.agreed == tuple(range(7))
    assert np.degrees(np.arccos(-order.normal @ normal)) < 1.0
    assert np.linalg.det(order.frame) == pytest.approx(1)
    for k, plane in enumerate(planes):
        assert (plane.point_mm - order.origin_mm) @ order.normal == pytest.approx(2 * k, abs=0.9)
    assert order.notes == ()
    mm = order.affine(np.array([[0.0, 0.0, 6.0]]))[0]
    assert (mm - order.origin_mm) @ order.normal == pytest.approx(6)


@pytest.mark.parametrize("what", ["side", "tilt", "place"])
def test_a_section_that_was_found_elsewhere_has_no_say(what: str) -> None:
    planes, normal = parallel()
    true = fit_order(planes, 2.0)
    odd = planes[2]
    if what == "side":
        planes[2] = Plane(odd.point_mm, odd.edges[:, ::-1])
    elif what == "tilt":
        turn = Rotation.from_rotvec(np.radians([25.0, 0, 0])).as_matrix()
        planes[2] = Plane(odd.point_mm, turn @ odd.edges)
    else:
        planes[2] = Plane(odd.point_mm + 20 * normal, odd.edges)
    order = fit_order([*planes, None], 2.0)
    assert order.agreed == (0, 1, 3, 4, 5, 6)
    assert np.degrees(np.arccos(order.normal @ true.normal)) < 1.0  # each is 1.7 degrees off
    assert abs((order.origin_mm - true.origin_mm) @ true.normal) < 0.3


def test_sections_that_do_not_agree_are_no_stack() -> None:
    planes, _ = parallel(5)
    turns = Rotation.from_rotvec(np.radians(40 * np.arange(5))[:, None] * [1, 0, 0]).as_matrix()
    spread = [Plane(p.point_mm, turn @ p.edges) for p, turn in zip(planes, turns, strict=True)]
    with pytest.raises(InputError, match="of 5 sections agree on one plane"):
        fit_order(spread, 2.0)
    with pytest.raises(InputError, match="needs two sections with a place, and 1 has"):
        fit_order([None, planes[0]], 2.0)


def test_another_distance_than_the_one_given_is_said() -> None:
    (note,) = fit_order(parallel(step=2.6, off_mm=0.02)[0], 2.0).notes
    assert float(note.split()[3]) == pytest.approx(2.6, abs=0.03)
    assert "not 2.00 mm" in note


def test_places_that_scatter_are_said() -> None:
    """Sections 2 mm apart that are each found 15 mm off at random."""
    (note,) = fit_order(parallel(off_mm=15.0)[0], 2.0).notes
    assert "from their places in the order" in note


def test_a_section_is_moved_onto_its_plane_along_the_normal() -> None:
    planes, _ = parallel()
    order = fit_order(planes, 2.0)
    matrix = np.eye(4)
    matrix[:3, :2], matrix[:3, 3] = planes[3].edges, planes[3].point_mm
    matrix[:3, 2] = planes[3].normal
    middle = np.array([4.0, 7.0, 0.0])
    moved = order.onto(Affine(matrix), 3, middle)
    corners = moved(np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [4, 7, 0]]))
    np.testing.assert_allclose((corners - order.origin_mm) @ order.normal, 6.0, atol=1e-9)
    gap = moved(middle[None])[0] - Affine(matrix)(middle[None])[0]
    np.testing.assert_allclose(np.cross(gap, order.normal), 0, atol=1e-9)


# ------------------------------------------------------------------ one image
def flat_sheet(value: float, at: tuple[int, int] = (10, 8)) -> Sheet:
    """A rectangle of 12 x 9 mm on a slide of 40 x 36 pixels of 1 mm, with a torn pixel row."""
    tissue = torch.zeros(36, 40, dtype=torch.bool)
    tissue[at[1] : at[1] + 9, at[0] : at[0] + 12] = True
    sheet = sheet_of(Image(value * tissue[None].float(), Grid.identity((40, 36))), tissue)
    mask = sheet.image.mask.clone()
    mask[0, at[1] + 4, at[0] + 5 : at[0] + 8] = False
    return replace(sheet, image=replace(sheet.image, mask=mask))


def test_sections_are_stacked_in_a_space_of_their_own() -> None:
    """Each through its own map, at equal brightness; what is torn or not there does not count."""

    def shift(x: float, y: float, k: int) -> Affine:
        return Affine.about(np.eye(3), np.array([x, y, 2.5 * k]), np.zeros(3))

    sheets = [flat_sheet(0.4), None, flat_sheet(2.0, (20, 15))]
    image = stack.stacked(sheets, [shift(0, 0, 0), None, shift(-10, -7, 2)], 2.5)
    assert image.grid.spacing_mm == (1.0, 1.0, 2.5)
    assert image.grid.origin_mm[2] == 0
    assert image.mask is not None
    assert image.data.shape[1] == 3
    first, empty, last = image.data[0]
    assert float(first.max()) == pytest.approx(1)
    assert float((first - last).abs().max()) < 1e-4  # one place, one brightness
    assert float(empty.abs().max()) == 0
    assert not bool(image.mask[1].any())
    torn = image.mask[0] & (first > 0.99)
    assert int((first > 0.99).sum()) - int(torn.sum()) in (3, 6, 9)
    fine = stack.stacked(sheets, [shift(0, 0, 0), None, shift(-10, -7, 2)], 2.5, pixel_mm=0.5)
    assert fine.grid.spacing_mm[:2] == (0.5, 0.5)


# ------------------------------------------------------------------ the whole route
@cache
def sections() -> list[tuple[Any, Sheet]]:
    """Parallel sections 6 mm apart of a brain of 3 mm voxels, each stretched and bent by itself."""
    volume = brain()
    inside = np.argwhere(volume.numpy() > 0)[:, 1] * 3.0
    low, high = np.percentile(inside, (1, 99))
    step = SPACING / np.cos(np.radians(4)) / np.cos(np.radians(5)) / (high - low)
    out = []
    for k in range(COUNT):
        section, image = cut(
            volume, seed=k + 10, position=0.4 + step * k, tilt_deg=(4.0, -5.0), flipped=False,
            turn_deg=20.0 + 5 * (-1) ** k,
        )  # fmt: skip
        out.append((section, sheet_for(image, volume)))
    return out


def near(k: int, rng: np.random.Generator) -> Affine:
    """The truth of section k, turned by some degrees and moved by some mm."""
    section, sheet = sections()[k]
    true = Affine(true_affine(section, section.rgb.shape))
    turn = Rotation.from_rotvec(np.radians(rng.normal(0, 2.4, 3))).as_matrix()
    about = Affine.about(turn, rng.normal(0, 1.8, 3), true(middle_of(sheet)[None])[0])
    return about.after(true)


def medians(maps: list[Any], numbers: list[int]) -> np.ndarray:
    return np.array([np.median(errors_mm(maps[k], sections()[k][0])) for k in numbers])


def test_sections_found_one_by_one_become_a_stack() -> None:
    """Starts 1 to 4 mm off; one of them 40 mm and 90 degrees; one section left out, one ruined."""
    rng = np.random.default_rng(1)
    starts = [near(k, rng) for k in range(COUNT)]
    wrong = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    starts[1] = Affine.about(wrong, np.array([5.0, 40.0, 0]), np.zeros(3)).after(starts[1])
    sheets: list[Sheet | None] = [sheet for _, sheet in sections()]
    ruined = sheets[4]
    assert ruined is not None
    values = torch.rand(ruined.image.data.shape, generator=torch.Generator().manual_seed(0))
    sheets[4] = replace(ruined, image=replace(ruined.image, data=values))
    found = stack.align_stack(sheets, brain(), SPACING, starts=starts, skip=[3])
    assert found.sections[3] is None
    assert found.order.agreed == (0, 2, 4, 5)
    assert [one is not None and one.flagged for one in found.sections] == [
        False, False, False, False, True, False,
    ]  # fmt: skip
    (note,) = found.notes
    assert "5 of 6" in note
    placed = found.sections[1]
    assert placed is not None
    assert not placed.agreed
    assert "Section 2 was not found" in placed.notes[0]
    kept = [0, 1, 2, 5]
    ends = medians([one and one.transform for one in found.sections], kept)
    assert ends.max() < 2.0  # mm, of voxels of 3 mm
    assert placed.plane.name == "coronal"
    assert placed.plane.tilt_deg == pytest.approx(6.4, abs=2.5)
    _check_a_section_by_itself(found, 2)
    with pytest.raises(InputError, match="Section 4 was left out"):
        stack.section_of(found, 3)
    listed = found.to_dict()
    assert [one and one["number"] for one in listed["sections"]] == [0, 1, 2, None, 4, 5]


def _check_a_section_by_itself(found: stack.Stack, number: int) -> None:
    """Its own map is that of the stack, both ways, and stays on its plane."""
    own, one = stack.section_of(found, number), found.sections[number]
    assert one is not None
    section = sections()[number][0]
    points = np.column_stack([section.points_mm, np.zeros(len(section.points_mm))])
    there = own.result.transform(points)
    assert np.linalg.norm(there - one.transform(points), axis=1).max() < 0.15  # of 1.5 mm pixels
    assert np.linalg.norm(own.result.inverse(there) - points, axis=1).max() < 0.05
    assert own.result.warp_field is not None
    assert bool((own.result.warp_field.u[:, 0] == 0).all())
    assert own.plane.sentence() == one.plane.sentence()
    assert own.result.moved.grid.size == one.sheet.image.grid.size


def test_sections_without_a_start_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    control, told = Control(), list[tuple[int, int]]()
    asked: list[dict[str, Any]] = []

    def search(sheet: Sheet, volume: Image, **how: Any) -> tuple[Candidate, ...]:
        asked.append(how)
        k = next(n for n, (_, own) in enumerate(sections()) if own is sheet)
        affine = near(k, rng)
        return (Candidate(affine, plane_of(affine, middle_of(sheet)), 1.0),)

    monkeypatch.setattr(slices, "search", search)
    monkeypatch.setattr(slices, "compared", lambda _s, _v, found, *_: found)
    sheets: list[Sheet | None] = [sheet for _, sheet in sections()[:3]]
    short = stack.stack_recipe().with_values(
        {"stages.sections.enabled": False, "stages.in-plane.enabled": False}
    )
    found = stack.align_stack(
        sheets, brain(), SPACING, starts=[near(0, rng), None, None], planes=["coronal"],
        recipe=short, control=control, on_section=lambda *which: told.append(which),
    )  # fmt: skip
    assert told == [(1, 3), (2, 3)]
    assert [how["planes"] for how in asked] == [["coronal"]] * 2
    assert [how["control"] for how in asked] == [control] * 2
    assert all(one is not None and isinstance(one.transform, Chain) for one in found.sections)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"spacing_mm": 0.0}, "give their distance"),
        ({"skip": [6]}, "no section 6 to skip"),
        ({"skip": [0, 1, 2, 3, 4]}, "at least two sections that count, not 1"),
        ({"starts": [None]}, "1 starts do not fit 6 sections"),
    ],
)
def test_what_is_no_stack_is_refused(how: dict[str, Any], words: str) -> None:
    sheets = [sheet for _, sheet in sections()]
    with pytest.raises(InputError, match=words):
        stack.align_stack(sheets, brain(), **{"spacing_mm": SPACING, **how})
