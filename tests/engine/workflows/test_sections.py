"""Sections of unlike stains, turned, flipped, torn and in other units, come onto each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fireants_engine.errors import InputError, StoppedError
from fireants_engine.geometry import Grid, Image
from fireants_engine.io.images import save_image
from fireants_engine.pipeline import Control
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Affine
from fireants_engine.workflows import sections as w
from fireants_engine.workflows import sections_folder
from fireants_engine.workflows.rundir import load_run
from fireants_engine.workflows.sections_folder import (
    Given,
    load_section,
    save_match,
    unsized_note,
    warped,
)
from tests.engine.workflows.section_phantom import (
    BROWN,
    GLASS,
    SIDE,
    error,
    points_inside,
    section,
    turned,
)

POINTS = points_inside()
TURN = turned(30)


@pytest.fixture(scope="module")
def quick() -> Recipe:
    data = w.sections_recipe().to_dict()
    data["stages"][0]["pyramid"]["levels"] = [
        {"shrink": 3, "max_steps": 40}, {"shrink": 1.5, "max_steps": 20}
    ]  # fmt: skip
    data["stages"][1]["pyramid"]["levels"] = [{"shrink": 2, "max_steps": 15}]
    return Recipe.from_dict(data)


def gap(found: w.Match, true: Affine) -> float:
    """Median error in fixed pixels, in those of the moving section."""
    return float(np.median(np.linalg.norm(found.result.transform(POINTS) - true(POINTS), axis=1)))


def test_a_search_ends_when_it_is_told(quick: Recipe) -> None:
    control = Control()
    control.stop()
    with pytest.raises(StoppedError, match="during the search"):
        w.match(section(), section(TURN, colour=BROWN), recipe=quick, control=control)


@pytest.mark.parametrize("mirrored", [False, True])
def test_another_stain_turned_and_flipped(quick: Recipe, mirrored: bool) -> None:
    true = turned(140, mirrored)
    found = w.match(section(), section(true, colour=BROWN), recipe=quick)
    assert found.candidates[0].mirrored == mirrored
    assert gap(found, true) < 0.7
    assert np.median(error(found.result.affine, true, POINTS)) < 1.0
    assert found.margin is not None
    assert found.margin > w.AMBIGUOUS * found.candidates[0].score
    assert not found.notes


def test_torn_tissue_and_pixels_of_another_unit(quick: Recipe) -> None:
    zoom = Affine(np.diag([0.002, 0.002, 1.0]))
    true = zoom.after(turned(-70))
    torn = section(turned(-70), bite=0.08)
    moving = replace(torn, grid=Grid.identity((SIDE, SIDE), 0.002))
    found = w.match(section(), moving, recipe=quick)
    assert gap(found, true) / 0.002 < 1.0
    assert any("times as large" in note for note in found.notes)
    back = found.result.inverse(found.result.transform(POINTS))
    assert np.abs(back - POINTS).max() < 0.1
    assert found.result.moving.grid.same_space(moving.grid)


def test_the_flip_can_be_said(quick: Recipe) -> None:
    a = w.section_of(section())
    found = w.starts(a, a, "yes")
    assert all(one.mirrored for one in found)
    with pytest.raises(InputError, match="choose auto, yes or no"):
        w.match(a, a, flip="maybe")  # type: ignore[arg-type]


def disc(spots: tuple[float, ...]) -> Image:
    """A round section with dark spots at these angles in degrees."""
    places = Grid.identity((120, 120)).points_mm().reshape(120, 120, 2) - 59.5
    dense = np.where(np.hypot(*np.moveaxis(places, -1, 0)) < 40, 0.4, 0.0)
    for angle in np.radians(spots):
        away = places - 24 * np.array([np.cos(angle), np.sin(angle)])
        dense[np.hypot(*np.moveaxis(away, -1, 0)) < 7] = 0.02
    rgb = GLASS * np.exp(-dense[..., None] * BROWN * 1.6)
    return Image.from_numpy(rgb.astype(np.uint8), channels=True, name="disc")


def test_round_sections_are_told_by_what_is_in_them(quick: Recipe) -> None:
    found = w.match(disc((0, 50, 100)), disc((110, 160, 210)), flip="no", recipe=quick)
    assert abs(found.candidates[0].turn_deg - 110) < 3


def test_a_symmetric_section_is_ambiguous(quick: Recipe) -> None:
    found = w.match(disc((0, 180)), disc((60, 240)), recipe=quick)
    assert found.margin is not None
    assert found.margin < w.AMBIGUOUS
    assert "ambiguous" in found.notes[0]


def test_a_given_start_is_taken(quick: Recipe) -> None:
    true = turned(140)
    found = w.match(section(), section(true), start=turned(138), recipe=quick)
    assert [one.source for one in found.candidates] == ["given"]
    assert gap(found, true) < 0.7


def test_masks_leave_out(quick: Recipe) -> None:
    mask = torch.ones(SIDE, SIDE, dtype=torch.bool)
    mask[:, :60] = False
    found = w.section_of(replace(section(), mask=mask))
    assert found.tissue.mask[:, :55].sum() == 0
    assert found.image.mask is not None
    assert not found.image.mask[:, :60].any()


def test_opacity_is_no_colour() -> None:
    image = section()
    opaque = torch.cat([image.data, torch.full_like(image.data[:1], 255)])
    assert torch.equal(w.without_alpha(replace(image, data=opaque)).data, image.data)
    made = w.section_of(replace(image, data=opaque)).image.data
    assert torch.equal(made, w.section_of(image).image.data)


# ------------------------------------------------------------------ files and folder
def test_the_folder(tmp_path: Path, quick: Recipe) -> None:
    true = turned(30)
    fixed = section(side=SIDE)
    found = w.match(w.section_of(fixed, pixels=100), w.section_of(section(true), pixels=100),
                    recipe=quick)  # fmt: skip
    out = save_match(found, tmp_path / "out")
    names = {file.name for file in out.iterdir()}
    assert {"warped.tif", "candidates.json", "candidate-1.png", "tissue.png", "warped.nii.gz",
            "1Warp.nii.gz", "report.json"} <= names  # fmt: skip
    saved = load_run(out)
    assert np.abs(saved.transform(POINTS) - found.result.transform(POINTS)).max() < 1e-3
    picture = load_section(out / "warped.tif").image
    assert picture.grid.size == fixed.grid.size
    assert picture.data.dtype == torch.uint8
    assert picture.data[:, 2, 2].tolist() == pytest.approx(GLASS.tolist(), abs=6)
    inner = (slice(None), slice(50, 110), slice(50, 110))
    gap = (picture.data[inner].float() - fixed.data[inner].float()).abs().mean()
    assert gap < 0.3 * fixed.data[inner].float().std()
    report = json.loads((out / "candidates.json").read_text())
    assert report["chosen"] == 0
    assert report["candidates"][0]["score"] >= report["candidates"][-1]["score"]
    assert report["fixed_tissue"]["kind"] == "light"
    assert set(report["pictures"]) <= names
    assert torch.equal(warped(found).data, picture.data)


def test_slides_are_warped_whole(
    tmp_path: Path, quick: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections_folder, "LARGEST", 120)
    paths = [save_image(section(t), tmp_path / f"{k}.png") for k, t in enumerate((None, TURN))]
    given = load_section(paths[0], 0.01), load_section(paths[1], 0.01)
    assert [one.reduced for one in given] == [True, True]
    assert max(given[0].image.grid.size) == 120
    start = Affine(np.diag([0.01, 0.01, 1])).after(TURN).after(Affine(np.diag([100, 100, 1.0])))
    found = w.match(*(one.image for one in given), start=start, recipe=quick)
    out = save_match(found, tmp_path / "out", given=given)
    monkeypatch.undo()
    picture, fixed = load_section(out / "warped.tif").image, section()
    assert picture.grid.size == (SIDE, SIDE)
    inner = (slice(None), slice(50, 110), slice(50, 110))
    gap = (picture.data[inner].float() - fixed.data[inner].float()).abs().mean()
    assert gap < 0.3 * fixed.data[inner].float().std()


def test_pixels_of_pictures(tmp_path: Path) -> None:
    path = save_image(section(), tmp_path / "a.png")
    plain, sized = load_section(path), load_section(path, 0.01)
    assert not plain.sized
    assert plain.image.grid.spacing_mm == (1.0, 1.0)
    assert sized.sized
    assert sized.image.grid.spacing_mm == (0.01, 0.01)
    note = unsized_note(plain, sized)
    assert note is not None
    assert "1 pixel is 1 unit" in note
    assert unsized_note(sized, sized) is None
    with pytest.raises(InputError, match="is no size"):
        load_section(path, -1)


def test_a_volume_of_one_slice_is_a_slice(tmp_path: Path) -> None:
    data = np.zeros((1, 20, 30), np.float32)
    data[0, 5:15, 5:25] = 1
    one = Image.from_numpy(data, Grid.identity((30, 20, 1), (0.5, 0.6, 3.0)))
    given = load_section(save_image(one, tmp_path / "one.nii.gz"))
    assert isinstance(given, Given)
    assert given.sized
    assert given.image.grid.spacing_mm == pytest.approx((0.5, 0.6))
    deep = save_image(Image.from_numpy(np.ones((4, 5, 6), np.float32)), tmp_path / "deep.nii.gz")
    with pytest.raises(InputError, match=r"volume of 4 slices.*histology slice"):
        load_section(deep)


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    path = save_image(section(), tmp_path / "a.png")
    mask = save_image(Image.from_numpy(np.ones((9, 9), np.uint8)), tmp_path / "m.png")
    with pytest.raises(InputError, match="9 x 9 pixels"):
        load_section(path, mask=mask)
