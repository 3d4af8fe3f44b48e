"""A section is found in a volume: plane, side, affine map, and the deformation on the plane."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fireants_engine.errors import InputError, StoppedError
from fireants_engine.geometry import Grid, Image
from fireants_engine.pipeline import Control, Outcome
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Affine
from fireants_engine.workflows import slices
from fireants_engine.workflows.sheets import hull_of, sheet_for, sheet_of, without_missing
from fireants_engine.workflows.slice_search import PLANES, Poses, Search, best_of, frames_about
from fireants_engine.workflows.slices_folder import save_placement
from tests.engine.workflows.slice_phantom import brain, cut, errors_mm, true_affine


@pytest.fixture(scope="module")
def found() -> tuple[Any, slices.Placement]:
    """A torn coronal section, seen from either side, and where it was found."""
    section, image = cut(brain(), seed=1)
    sheet = sheet_for(image, brain())
    return section, slices.place(sheet, brain(), planes=["coronal"])


def short() -> Recipe:
    """The packaged recipe with a few steps."""
    levels = [{"shrink": 2, "max_steps": 4}]
    changes = {f"stages.{name}.pyramid.levels": levels for name in ("plane", "in-plane")}
    return slices.slice_recipe().with_values(changes)


# ------------------------------------------------------------------ the whole
def test_an_oblique_torn_section_is_found(found: Any) -> None:
    section, placement = found
    plane = placement.plane
    error = errors_mm(placement.result.forward, section)
    assert len(error) >= 200
    assert np.median(error) < 1.5  # half a voxel
    points = np.column_stack([section.points_mm, np.zeros(len(section.points_mm))])
    apart = placement.result.forward(points) - section.truth(section.points_mm)
    assert np.abs(apart @ section.plane[3]).mean() < 1.5  # off the plane
    cosine = abs(float(plane.normal @ section.plane[3]))
    assert np.degrees(np.arccos(min(1.0, cosine))) < 2  # half a voxel over 40 mm
    assert plane.name == "coronal"
    true = true_affine(section, section.rgb.shape)
    away = np.cross(true[:3, 0], true[:3, 1])
    assert plane.seen_from == ("anterior" if away[1] > 0 else "posterior")
    assert placement.margin is not None
    assert placement.margin > slices.AMBIGUOUS * placement.candidates[0].score
    assert not placement.notes


def test_the_deformation_stays_on_the_plane_and_does_not_fold(found: Any) -> None:
    _, placement = found
    warp = placement.result.warp_field
    assert warp is not None
    assert bool((warp.u[:, 0] == 0).all())  # along z, exactly
    assert float(warp.u[:, 1:].abs().max()) > 0.5
    assert placement.result.output.stages[-1][1].levels[-1].folds == 0


def test_the_folder_holds_candidates_and_reads_back(found: Any, tmp_path: Any) -> None:
    from fireants_engine.io import load_image
    from fireants_engine.workflows.rundir import load_run

    section, placement = found
    folder = save_placement(placement, tmp_path / "out")
    told = json.loads((folder / "candidates.json").read_text())
    assert told["margin"] == pytest.approx(placement.margin)
    scores = [one["score"] for one in told["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert (folder / "candidate-1.png").read_bytes().startswith(b"\x89PNG")
    points = np.column_stack([section.points_mm, np.zeros(len(section.points_mm))])
    np.testing.assert_allclose(
        load_run(folder).transform(points), placement.result.transform(points), atol=1e-3
    )
    warped = load_image(folder / "warped.tif")
    assert warped.grid.size == placement.sheet.image.grid.size[:2]
    assert warped.data[0].numpy() == pytest.approx(placement.result.moved.data[0, 0].numpy())


def test_a_known_start_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    section, image = cut(brain(), seed=2, elastic_px=0.0, tears=0, missing=0.0)
    start = Affine(true_affine(section, section.rgb.shape))
    monkeypatch.setattr(slices, "search", lambda *_, **__: pytest.fail("searched"))
    sheet = sheet_for(image, brain())
    labels = Image((brain().data > 60).to(torch.uint8), brain().grid, name="labels")
    placed = slices.place(sheet, brain(), start=start, recipe=short(), labels=labels)
    assert np.median(errors_mm(placed.result.forward, section)) < 3  # a voxel, at a few steps
    assert placed.margin is None
    unknown = replace(placed.candidates[0], score=float("nan"))
    assert unknown.to_dict()["score"] is None  # JSON knows no NaN
    assert placed.result.extras.moving_labels is labels


def test_an_unsure_place_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    section, image = cut(brain(), seed=2, elastic_px=0.0, tears=0, missing=0.0)
    sheet = sheet_for(image, brain())
    start = Affine(true_affine(section, section.rgb.shape))
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    mirror[0, 3] = 2 * slices.middle_of(sheet)[0]
    other = Affine(start.matrix @ mirror)
    both = tuple(
        slices.Candidate(a, slices.plane_of(a, slices.middle_of(sheet)), s)
        for a, s in ((start, 1.0), (other, 0.99))
    )
    monkeypatch.setattr(slices, "search", lambda *_, **__: both)
    monkeypatch.setattr(slices, "compared", lambda _s, _v, found, *_: found)
    placed = slices.place(sheet, brain(), recipe=short())
    (note,) = placed.notes
    assert "unsure" in note
    assert "--seen-from" in note
    assert placed.margin == pytest.approx(0.01)


def test_candidates_that_come_to_one_place_are_one(found: Any) -> None:
    _, placement = found
    best = placement.candidates[0]
    sheet = placement.sheet
    assert slices.elsewhere((best, replace(best, score=0.5)), sheet) is None
    both = slices.compared(sheet, brain(), (best, best))
    assert len(both) == 1
    corners = slices.corners_of(sheet)
    for k, one in enumerate(placement.candidates):
        for other in placement.candidates[:k]:
            gap = np.linalg.norm(one.affine(corners) - other.affine(corners), axis=1).max()
            assert gap > 1.5  # mm, half a voxel


# ------------------------------------------------------------------ the section
def test_tears_and_holes_do_not_count() -> None:
    tissue = torch.zeros(80, 80, dtype=torch.bool)
    tissue[10:70, 10:70] = True
    tissue[10:40, 38:40] = False  # a tear from the border
    tissue[50:56, 20:26] = False  # a hole
    sheet = sheet_of(Image(torch.ones(1, 80, 80), Grid.identity((80, 80))), tissue)
    counts = sheet.image.mask
    assert counts is not None
    assert not bool(counts[0, 20, 39])
    assert not bool(counts[0, 52, 22])
    assert bool(counts[0, 5, 5])  # the empty slide around it does
    assert bool(counts[0, 30, 30])
    assert float(sheet.image.data[0, 0, 20, 39]) == 0
    assert bool(hull_of(tissue)[14:70, 10:70].all())


def test_a_lost_piece_is_left_out_but_no_ring() -> None:
    grid = Grid.identity((60, 60))
    tissue = torch.zeros(60, 60, dtype=torch.bool)
    tissue[12:48, 12:48] = True
    tissue[12:26, 30:48] = False
    sheet = sheet_of(Image(torch.ones(1, 60, 60), grid), tissue)
    there = torch.zeros(1, 3, 60, 60)
    there[:, :, 11:49, 11:49] = 1
    volume = Image(there, Grid((60, 60, 3), (1.0, 1.0, 1.0), (0.0, 0.0, -1.0), np.eye(3)))
    mask = without_missing(sheet, volume, Affine.identity(3)).image.mask
    assert mask is not None
    assert not bool(mask[0, 18, 40])
    assert bool(mask[0, 11, 20])
    whole = sheet_of(Image(torch.ones(1, 60, 60), grid), there[0, 1] > 0)
    assert without_missing(whole, volume, Affine.identity(3)) is whole


def test_a_section_that_cannot_be_there_is_refused() -> None:
    _, image = cut(brain(), seed=1)
    with pytest.raises(InputError, match="larger than brain"):
        sheet_for(replace(image, grid=Grid.identity(image.grid.size, 15.0)), brain())
    with pytest.raises(InputError, match="no tissue was found"):
        sheet_for(Image.from_numpy(np.full((50, 50), 240, np.uint8), name="empty"), brain())
    with pytest.raises(InputError, match="is 3D"):
        sheet_for(brain(), brain())
    small = sheet_for(replace(image, grid=Grid.identity(image.grid.size, 0.3)), brain())
    with pytest.raises(InputError, match="check its pixel size"):
        slices.search(small, brain(), planes=["coronal"], tilt_deg=0)
    colour = Image(brain().data.repeat(3, 1, 1, 1), brain().grid, name="colour")
    with pytest.raises(InputError, match="one channel"):
        slices.place(small, colour)


# ------------------------------------------------------------------ the search
@pytest.fixture(scope="module")
def search() -> tuple[Any, Search]:
    section, image = cut(brain(), seed=3, elastic_px=0.0, tears=0, missing=0.0)
    sheet = sheet_for(image, brain())
    return section, slices._search_at(sheet, brain(), slices.brain_of(brain()), 54)


def pose_of(matrix: np.ndarray, centre_mm: np.ndarray) -> Poses:
    """One pose with the place, plane, turn and mean scale of an affine map of the section."""
    edges = matrix[:3, :2]
    scale = float(np.sqrt(np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]))))
    left, _, right = np.linalg.svd(edges, full_matrices=False)
    turned = left @ right
    normal = np.cross(turned[:, 0], turned[:, 1])
    frame = torch.from_numpy(np.column_stack([turned, normal])[None]).float()
    point = matrix[:3, :3] @ np.append(centre_mm, 0) + matrix[:3, 3]
    one = torch.ones(1)
    return Poses(frame, torch.from_numpy(point[None]).float(), one * 0, one * scale, one, one * 0)


def test_a_search_tells_how_far_it_is_and_ends_when_it_is_told() -> None:
    _, image = cut(brain(), seed=3, elastic_px=0.0, tears=0, missing=0.0)
    sheet = sheet_for(image, brain())
    control, told = Control(), list[float]()
    how: dict[str, Any] = {"planes": ["coronal"], "tilt_deg": 0.0, "seen_from": "anterior"}

    def stop_halfway(done: float) -> None:
        told.append(done)
        if done > 0.5:
            control.stop()

    with pytest.raises(StoppedError, match="during the search"):
        slices.search(sheet, brain(), **how, control=control, on_progress=stop_halfway)
    assert told == sorted(told)
    assert told[-2] <= 0.5 < told[-1]
    assert len(told) > 100  # it looks often enough
    told.clear()
    found = slices.search(sheet, brain(), **how, control=Control(), on_progress=told.append)
    assert told[-1] == pytest.approx(1)
    stopped = slices.compared(sheet, brain(), found, control=control)  # as far as they have come
    assert 0 < len(stopped) <= len(found)
    placed = slices.place(sheet, brain(), start=stopped[0].affine, recipe=short(), control=control)
    assert placed.result.outcome is Outcome.STOPPED


def test_where_no_place_stands_out_it_looks_once_more(monkeypatch: Any) -> None:
    ways, before, real = list[Any](), list[Poses](), slices._through

    def through(way: Any, *given: Any) -> Poses:
        ways.append(way)
        if way is slices._FIRST:
            before.append(real(way, *given))
        return before[-1]

    monkeypatch.setattr(slices, "_through", through)
    _, image = cut(brain(), seed=3, elastic_px=0.0, tears=0, missing=0.0)
    how: dict[str, Any] = {"planes": ["coronal"], "tilt_deg": 0.0}
    slices.search(sheet_for(image, brain()), brain(), **how, seen_from="anterior")
    assert ways == [slices._FIRST]
    ways.clear()
    values = brain().data
    even = replace(brain(), data=(values + values.flip(3)) / 2)  # its own mirror image
    _, image = cut(even, seed=3, elastic_px=0.0, tears=0, missing=0.0)
    found = slices.search(sheet_for(image, even), even, **how)
    assert ways == [slices._FIRST, slices._AGAIN]
    assert {one.plane.seen_from for one in found} == {"anterior", "posterior"}


def test_a_pose_is_an_affine_map() -> None:
    frames = torch.from_numpy(frames_about("axial", [(5.0, -8.0)])).float()
    pose = Poses(
        frames, torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([0.3]), torch.tensor([1.1]),
        torch.tensor([-1.0]), torch.zeros(1),
    )  # fmt: skip
    centre = np.array([10.0, 20.0])
    affine = pose.affine(0, centre)
    assert affine(np.array([[10.0, 20.0, 0.0]]))[0] == pytest.approx([1, 2, 3])
    assert np.linalg.det(affine.matrix[:3, :3]) == pytest.approx(-(1.1**2), rel=1e-5)
    assert affine.matrix[:3, :2] == pytest.approx(pose.edges()[0].numpy(), abs=1e-6)


def test_frames_are_turned_planes() -> None:
    for axis, plane in enumerate(PLANES):
        frames = frames_about(plane, [(0.0, 0.0), (10.0, 5.0)])
        assert np.abs(frames @ frames.transpose(0, 2, 1) - np.eye(3)).max() < 1e-12
        assert abs(frames[0, axis, 2]) == pytest.approx(1)
        assert np.degrees(np.arccos(abs(frames[1, axis, 2]))) == pytest.approx(11.17, abs=0.05)


def test_the_true_pose_scores_best_whatever_the_contrast(search: Any) -> None:
    section, fine = search
    true = pose_of(true_affine(section, section.rgb.shape), fine.centre_mm)
    away = replace(true, points=true.points + torch.tensor([0.0, 12.0, 0.0]))
    scores = [float(fine.scored(pose).scores) for pose in (true, away)]
    assert scores[0] > 1.5 * scores[1]
    near = fine.scored(true, samples=600).scores
    assert float(near) == pytest.approx(scores[0], abs=0.1)


def test_refining_never_makes_worse_and_finds_back(search: Any) -> None:
    section, fine = search
    true = pose_of(true_affine(section, section.rgb.shape), fine.centre_mm)
    starts = fine.scored(
        Poses.joined([replace(true, points=true.points + shift) for shift in torch.eye(3) * 7])
    )
    done = fine.refined(starts, (1.0, 0.7, 0.5, 0.3))
    assert bool((done.scores >= starts.scores).all())
    assert float((done.points - true.points).norm(dim=1).max()) < 3
    assert float(done.scores.min()) > 0.9 * float(fine.scored(true).scores)


def test_the_best_differ_from_each_other() -> None:
    n = 12
    frames = torch.from_numpy(frames_about("axial", [(0.0, 0.0)])).float().repeat(n, 1, 1)
    points = torch.zeros(n, 3)
    points[:, 2] = torch.arange(n) // 4 * 10.0 + torch.arange(n) % 2
    flips = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(3)
    poses = Poses(frames, points, torch.zeros(n), torch.ones(n), flips, torch.arange(n) / n)
    kept = best_of(poses, 2, 5.0, 4.0)
    assert kept.points[:, 2].tolist() == [21, 11, 21, 11]
    assert kept.flips.tolist() == [1, 1, -1, -1]
