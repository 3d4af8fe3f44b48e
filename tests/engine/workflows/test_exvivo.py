"""Ex-vivo onto in-vivo: which half, how it lies, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fireants_engine.context import ExecutionContext
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.pipeline.rotations import degrees_between
from fireants_engine.transforms import Affine
from fireants_engine.workflows.exvivo import (
    Alignment,
    align,
    exvivo_recipe,
    orient,
)
from fireants_engine.workflows.exvivo_folder import save_alignment, sentence, to_dict
from fireants_engine.workflows.hemispheres import (
    SideLabels,
    part_of,
    plane_by_symmetry,
    plane_from_labels,
    sides_of,
)
from fireants_engine.workflows.rundir import load_run
from tests.engine.workflows import exvivo_phantom as phantom


@pytest.fixture(scope="module")
def living() -> Image:
    return phantom.invivo()


@pytest.fixture(scope="module")
def labels() -> Image:
    return phantom.labels()


def turned(found: Affine, truth: Affine) -> float:
    return degrees_between(found.matrix[:3, :3], truth.matrix[:3, :3])


# ------------------------------------------------------------------ the halves
def test_labels_part_the_halves(labels) -> None:
    plane = plane_from_labels(labels)
    assert np.degrees(np.arccos(plane.normal[0])) < 2
    assert abs(plane.distance(np.zeros((1, 3)))[0]) < phantom.SPACING
    assert plane.agreement > 0.99
    left = sides_of(labels) > 0
    assert left.any()
    assert (labels.grid.points_mm()[left.ravel(), 0] > 0).all()


def test_labels_of_any_numbers_part_the_halves_when_they_are_named(living, labels) -> None:
    """Those of a book: 1 and 7 left, 2 and 8 right, 20 on both sides."""
    other = labels.data.clone()
    for name, number in ((3, 1), (2, 7), (42, 2), (41, 8), (10, 20), (49, 20)):
        other[labels.data == name] = number
    book = Image(other, labels.grid, name="book")
    named = SideLabels(frozenset({1, 7}), frozenset({2, 8, 900}))
    plane = plane_from_labels(book, named)
    known = plane_from_labels(labels)
    np.testing.assert_allclose(plane.normal, known.normal, atol=0.02)
    half = part_of(living, "left", plane, book, named)
    assert torch.equal(half.data, part_of(living, "left", known, labels).data)
    with refused("--left-labels and --right-labels, give a segmentation"):
        plane_from_labels(book)
    with refused("by --left-labels and --right-labels, which part nothing; look at the numbers"):
        plane_from_labels(book, SideLabels(frozenset({1}), frozenset({77})))
    with refused("Label 7 is named as left and as right"):
        SideLabels(frozenset({1, 7}), frozenset({7}))
    with refused("give both --left-labels"):
        SideLabels(frozenset({1}), frozenset())
    with refused("give it with --labels"):
        orient(phantom.exvivo("left", phantom.pose()), living, side_labels=named)


def test_symmetry_parts_the_halves_of_a_tilted_head(living) -> None:
    tilt = Rotation.from_euler("yz", [12, -9], degrees=True).as_matrix()
    head = Affine.about(tilt, np.array([5.0, 0.0, 0.0]), np.zeros(3))
    grid = phantom.grid_of((48, 48, 44))
    kind = phantom.tissue(head.inverse()(grid.points_mm()))
    values = np.array([0.0, 60.0, 100.0, 75.0])[kind].reshape(grid.shape)
    plane = plane_by_symmetry(Image.from_numpy(values, grid), ExecutionContext())
    assert np.degrees(np.arccos(plane.normal @ tilt[:, 0])) < 1.5
    assert abs(plane.distance(np.array([[5.0, 0, 0]]))[0]) < 1.0
    assert plane.agreement > 0.95


def test_a_part_is_the_rest_of_the_brain_taken_away(living, labels) -> None:
    plane = plane_from_labels(labels)
    x = living.grid.points_mm()[:, 0].reshape(living.grid.shape)
    right = part_of(living, "right", plane)
    assert float(right.data[0][torch.from_numpy(x > 3)].abs().max()) == 0
    assert torch.equal(right.data[0][torch.from_numpy(x < -3)], living.data[0][x < -3])
    assert right.path is None
    whole = part_of(living, "whole", plane, labels)
    assert float(whole.data[labels.data == 0].abs().max()) == 0
    assert part_of(living, "whole") is living


# ------------------------------------------------------------------ orientation
@pytest.mark.parametrize("side", ["right", "whole"])
def test_the_part_and_its_pose_are_found(side, living, labels) -> None:
    truth = phantom.pose(seed=len(side))
    dead = phantom.exvivo(side, truth)
    found = orient(dead, living, labels=labels if side == "whole" else None)
    assert found.chosen.side == side
    assert found.margin is not None
    assert found.margin > 0.1
    assert turned(found.chosen.start.affine, truth) < 6
    assert all(one.det == 1 for _, one in found.candidates())
    assert f"{side} " in sentence(found)


def test_a_mirrored_half_is_told_when_asked(living) -> None:
    mirror = Affine(np.diag([-1.0, 1, 1, 1]))
    truth = phantom.pose(4).after(mirror)
    dead = phantom.exvivo("left", truth)
    found = orient(dead, living, hemisphere="left", improper=True)
    assert found.chosen.start.candidates[0].det == -1
    assert turned(found.chosen.start.affine, truth) < 6
    assert any("reflection" in note for note in found.notes)
    assert found.margin is None


def test_doubt_between_parts_is_said_and_both_are_there(living) -> None:
    """A brain without an inside, cut where both halves are the same but mirrored."""
    grid = phantom.grid_of((40, 40, 40))
    r = np.linalg.norm(grid.points_mm() / [22, 30, 18], axis=1).reshape(grid.shape)
    ball = Image.from_numpy((r < 1).astype(np.float32), grid, name="ball")
    half = Image(ball.data * torch.from_numpy(grid.points_mm()[:, 0].reshape(grid.shape) > 0), grid)
    found = orient(replace(half, name="half"), ball)
    assert {found.fits[0].side, found.fits[1].side} == {"left", "right"}
    assert any("stays in doubt" in note for note in found.notes)
    plain = to_dict(found)
    assert plain["hemisphere_margin"] < 0.02
    assert {one["hemisphere"] for one in plain["candidates"]} == {"left", "right", "whole"}


# ------------------------------------------------------------------ the whole way
@pytest.fixture(scope="module")
def aligned(living, labels) -> tuple[Alignment, Affine]:
    truth = phantom.pose(2)
    dead = phantom.exvivo("right", truth)
    shorter = {"stages.greedy.pyramid.levels": [{"shrink": 2, "max_steps": 20}]}
    recipe = exvivo_recipe().with_values(shorter)
    return align(dead, living, labels=labels, recipe=recipe), truth


def test_the_dead_half_lies_on_the_living_one(aligned, living) -> None:
    found, truth = aligned
    points = living.grid.points_mm()
    points = points[(phantom.tissue(points) > 0) & (points[:, 0] < -2)]
    gap = np.linalg.norm(found.result.transform(points) - truth(points), axis=1)
    assert gap.mean() < 1.0
    assert np.percentile(gap, 95) < 2.5


def test_the_folder_is_a_run_with_its_candidates(aligned, tmp_path: Path) -> None:
    found, _ = aligned
    folder = save_alignment(found, tmp_path / "out")
    saved = load_run(folder)
    points = np.array([[-10.0, 5.0, 3.0], [-20.0, -8.0, 0.0]])
    np.testing.assert_allclose(saved.transform(points), found.result.transform(points), atol=0.02)
    assert (folder / "fixed.nii.gz").is_file()
    plain = json.loads((folder / "candidates.json").read_text())
    assert plain["chosen"]["hemisphere"] == "right"
    assert plain["plane"]["found_by"] == "labels"
    scores = [one["score"] for one in plain["candidates"]]
    assert scores[1:] == sorted(scores[1:], reverse=True)
    pictures = [one["picture"] for one in plain["candidates"] if one["picture"]]
    assert "candidate-1.png" in pictures
    assert len(pictures) >= 3
    for name in pictures:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*partial"))


# ------------------------------------------------------------------ bad input
def refused(words: str):
    return pytest.raises(InputError, match=words)


def test_what_cannot_be_aligned_is_refused_in_a_sentence(living, labels) -> None:
    dead = phantom.exvivo("left", phantom.pose())
    other = Image(labels.data[:, :, :, 1:], phantom.grid_of((35, 48, 36)), name="seg")
    noise = torch.randn(dead.data.shape, generator=torch.Generator().manual_seed(0))
    numbered = Image(torch.where(labels.data > 0, 500, 0), labels.grid, name="seg")
    one = Image(torch.where(labels.data < 40, labels.data, 0), labels.grid, name="seg")
    mixed = Image((labels.data > 0) * torch.randint(2, 60, labels.data.shape), labels.grid)
    with refused("no tissue was found"):
        orient(Image(noise, dead.grid, name="noise"), living)
    with refused("another grid"):
        orient(dead, living, labels=other)
    for wrong in (numbered, one):
        with refused("SynthSeg or FreeSurfer"):
            orient(dead, living, labels=wrong)
    with refused("lie mixed"):
        orient(dead, living, labels=mixed)
    with refused("mirrored left half"):
        orient(dead, living, improper=True)
    with refused("auto, left, right or whole"):
        orient(dead, living, hemisphere="both")  # type: ignore[arg-type]
    with refused("2D"):
        orient(Image(dead.data[:, 0], Grid.identity((48, 48))), living)


def test_a_half_that_is_not_there_is_refused(living, labels) -> None:
    """Its labels know the half, but the scan shows nothing there."""
    x = living.grid.points_mm()[:, 0].reshape(living.grid.shape)
    scan = Image(living.data * torch.from_numpy(x < 0), living.grid, name="half scan")
    dead = phantom.exvivo("left", phantom.pose())
    with refused("half scan: shows no left hemisphere"):
        orient(dead, scan, hemisphere="left", labels=labels)


def test_labels_against_the_header_are_believed_and_said(living, labels) -> None:
    swapped = Image(labels.data.flip(-1), labels.grid, name="seg")
    dead = phantom.exvivo("left", phantom.pose())
    found = orient(dead, living, labels=swapped, hemisphere="right")
    assert found.chosen.score > 0.6
    assert any("what the header" in note for note in found.notes)


def test_the_start_may_be_another(living) -> None:
    dead = phantom.exvivo("whole", Affine.identity(3))
    recipe = exvivo_recipe().with_values({"start": {"kind": "centre"}})
    found = orient(dead, living, hemisphere="whole", recipe=recipe)
    assert found.chosen.start.candidates[0].name == "start"
