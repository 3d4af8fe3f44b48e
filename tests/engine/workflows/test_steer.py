"""A run that is changed on its way: what follows, what is refused, and the same again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fireants_engine as fe
from fireants_engine.geometry import Image, Landmarks
from fireants_engine.pipeline import Edit, Edited, Iteration, LevelStarted, Outcome, RunFinished
from fireants_engine.pipeline import Warning as Sentence
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Affine, affine_factor
from fireants_engine.workflows.replay import replay
from fireants_engine.workflows.rundir import read_report
from fireants_engine.workflows.steer import edit

When = tuple[str, int, int]
"""Stage, level and number of steps after which something is done."""


def steered(
    pair: tuple[Image, Image], recipe: Recipe, plan: dict[When, Any], **given: Any
) -> tuple[fe.Result, list[Any]]:
    """Run, and do to the control what `plan` says when an Iteration has come so far."""
    control, events = fe.Control(), []
    for event in fe.run(*pair, recipe, control=control, **given):
        events.append(event)
        if isinstance(event, Iteration):
            action = plan.pop((event.stage, event.level, event.step), None)
            if isinstance(action, Edit):
                control.update(action)
            elif action is not None:
                action(control)
    assert not plan, "a place that the run never came to"
    assert isinstance(events[-1], RunFinished)
    return events[-1].result, events


def of(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def pair(make_pair: Callable[..., Any]) -> tuple[Image, Image]:
    fixed, moving, *_ = make_pair("flipped")
    return fixed, moving


def apart(a: fe.Result, b: fe.Result) -> float:
    """Largest distance of two results in mm over the fixed grid."""
    points = a.grid.points_mm()
    return float(np.abs(a.transform(points) - b.transform(points)).max())


# ------------------------------------------------------------------ what follows
def test_values_count_from_the_next_step_on(pair: Any, recipe: Recipe) -> None:
    values = {
        "descent.step": 1e-6,
        "deformation.sigma_warp_mm": 0.0,
        "deformation.warp_floor_vox": 0.0,
    }
    still = recipe.with_values({f"stages.greedy.{path}": value for path, value in values.items()})
    change = edit("Held.", recipe=still)
    found, events = steered(pair, recipe, {("greedy", 1, 5): change})
    (told,) = of(events, Edited)
    assert (told.stage, told.index, told.level, told.step) == ("greedy", 1, 1, 5)
    assert told.values["recipe"] == still.to_dict()
    there, _ = steered(pair, recipe, {("greedy", 1, 5): lambda control: control.stop()})
    assert apart(found, there) < 0.05
    assert apart(fe.register(*pair, recipe), there) > 0.1
    steps = [e.step for e in of(events, Iteration) if (e.stage, e.level) == ("greedy", 1)]
    assert max(steps) > 10  # the steps of the level are counted anew


def test_a_nudge_moves_what_is_seen_by_as_much(pair: Any, linear_recipe: Recipe) -> None:
    held = linear_recipe.with_values({"stages.0.descent.step": 1e-9})
    shift = np.array([2.0, -1.0, 0.5])
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    found, _ = steered(pair, held, {("affine", 0, 5): edit("Moved.", nudge=Affine(matrix))})
    points = np.array([[0.0, 0, 0], [8.0, -5.0, 3.0]])
    # what was seen at x is seen at x + shift: T'(x + shift) = T(x)
    np.testing.assert_allclose(found.transform(points + shift), points, atol=1e-4)


@pytest.mark.parametrize(
    "kind", ["greedy", "symmetric", "stationary_velocity", "free_form", "rigid", "similarity"]
)
def test_a_nudge_keeps_the_warp(pair: Any, recipe: Recipe, kind: str) -> None:
    data = recipe.to_dict()
    stage = {**data["stages"][1], "name": "last", "deformation": {"kind": kind}}
    steps = Recipe.from_dict({**data, "stages": [stage]})
    turn = Affine.about(_turned(0.2), np.array([1.0, 0, 0]), pair[0].grid.centre_mm)

    def nudge_and_stop(control: fe.Control) -> None:
        control.update(edit("Turned.", nudge=turn))
        control.stop()

    before, _ = steered(pair, steps, {("last", 1, 5): lambda control: control.stop()})
    after, _ = steered(pair, steps, {("last", 1, 5): nudge_and_stop})
    points = POINTS if before.warp_field is None else before.warp_field(POINTS)
    right = before.affine(turn.inverse()(points))
    np.testing.assert_allclose(after.transform(POINTS), right, atol=1e-3)
    assert np.abs(right - before.transform(POINTS)).max() > 0.5


POINTS = np.array([[3.0, 2.0, 1.0], [-4.0, 5.0, 2.0], [6.0, -3.0, -2.0]])


def _turned(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def test_landmarks_pull_from_where_they_are_given(pair: Any, recipe: Recipe) -> None:
    fixed = pair[0].grid.centre_mm + np.array([[0.0, 0, 0], [6.0, 0, 0], [0, 6.0, 0]])
    marks = Landmarks(fixed, fixed + np.array([4.0, 0.0, 0.0]))
    data = recipe.to_dict()
    data["stages"][1]["terms"].append({"kind": "landmarks", "weight": 5.0})
    pulled = edit("Landmarks.", recipe=Recipe.from_dict(data), landmarks=marks)
    found, events = steered(pair, recipe, {("greedy", 0, 10): pulled})
    assert [e.what for e in of(events, Edited)] == ["Landmarks."]

    def error(result: fe.Result) -> float:
        return float(np.linalg.norm(result.transform(fixed) - marks.moving_mm, axis=1).mean())

    assert error(found) < 0.5 * error(fe.register(*pair, recipe))


def test_landmarks_can_be_brought_together_at_once(pair: Any, recipe: Recipe) -> None:
    fixed = pair[0].grid.centre_mm + np.array([[0.0, 0, 0], [6.0, 0, 0], [0, 6, 0], [0, 0, 5.0]])
    turn = Affine.about(_turned(0.3), np.array([2.0, 1.0, 0]), pair[0].grid.centre_mm)
    marks = Landmarks(fixed, turn(fixed))

    def align_and_stop(control: fe.Control) -> None:
        control.update(edit("Aligned.", landmarks=marks, align="rigid"))
        control.stop()

    found, events = steered(pair, recipe, {("greedy", 1, 5): align_and_stop})
    assert [e.values["align"] for e in of(events, Edited) if "align" in e.values] == ["rigid"]
    error = np.linalg.norm(found.transform(fixed) - marks.moving_mm, axis=1)
    assert error.max() < 1.0  # what the warp bends, no rigid map takes back
    _, events = steered(pair, recipe, {("greedy", 1, 5): edit("Without.", align="rigid")})
    assert [e.message for e in of(events, Sentence) if "no landmarks" in e.message]


def test_a_mask_counts_from_where_it_is_given(pair: Any, recipe: Recipe) -> None:
    fixed, moving = pair
    spoiled = moving.data.clone()
    spoiled[..., : spoiled.shape[-1] // 3] = float(spoiled.max())
    moving = replace(moving, data=spoiled, path=None)
    keep = torch.ones_like(fixed.data)
    keep[..., : keep.shape[-1] // 3 + 2] = 0
    mask = Image(keep, fixed.grid, name="keep")
    masks = {"fixed_mask": mask}
    at = {("affine", 0, 5): edit("Ignored.", masks=masks)}
    found, _ = steered((fixed, moving), recipe, at)
    from_start = fe.register(fixed.with_mask(mask), moving, recipe)
    without = fe.register(fixed, moving, recipe)
    assert apart(found, from_start) < 0.6 * apart(without, from_start)


def test_a_stage_can_be_sent_back_to_a_coarse_level(pair: Any, recipe: Recipe) -> None:
    back = edit("Once more.", level=0)
    found, events = steered(pair, recipe, {("greedy", 1, 5): back})
    levels = [(e.stage, e.level) for e in of(events, LevelStarted)]
    assert levels == [("affine", 0), ("greedy", 0), ("greedy", 1), ("greedy", 0), ("greedy", 1)]
    assert found.outcome in (Outcome.MAX_STEPS, Outcome.CONVERGED)
    assert float(found.warp_field.u.abs().max()) > 0


def test_a_paused_run_takes_edits_and_shows_them(pair: Any, linear_recipe: Recipe) -> None:
    control = fe.Control()
    shown: list[Any] = []
    matrix = np.eye(4)
    matrix[0, 3] = 3.0

    def act() -> None:
        time.sleep(0.1)
        control.update(edit("Moved.", nudge=Affine(matrix)))
        control.request_preview(fe.PreviewRequest(points_mm=POINTS))
        time.sleep(0.3)
        control.resume()

    hand = threading.Thread(target=act)
    for event in fe.run(*pair, linear_recipe, control=control):
        if isinstance(event, Iteration) and event.step == 5:
            control.pause()
            before, level = time.perf_counter(), event.seconds
            hand.start()
        if type(event).__name__ == "Preview":
            shown.append((time.perf_counter() - before, event.points_mm))
        if isinstance(event, Iteration) and event.step > 5 and len(shown) == 1:
            shown.append((time.perf_counter() - before, event.seconds - level))
    hand.join()
    assert len(shown) == 2, "the preview came while the run was paused"
    assert shown[0][0] < 0.35
    assert shown[1][0] >= 0.4
    assert shown[1][1] < 0.35, "a pause is no part of the run's time"


# ------------------------------------------------------------------ what is refused
def test_what_does_not_fit_is_said_and_left_out(pair: Any, recipe: Recipe) -> None:
    far = Landmarks(np.array([[900.0, 0, 0]]), np.array([[0.0, 0, 0]]))
    other = recipe.with_values({"stages.greedy.deformation": {"kind": "symmetric"}})
    gone = recipe.with_values({"stages.greedy.enabled": False})
    plan = {
        ("greedy", 0, 5): edit("Far.", landmarks=far),
        ("greedy", 0, 10): edit("Other.", recipe=other),
        ("greedy", 0, 15): edit("Gone.", recipe=gone),
        ("greedy", 1, 5): edit("Deep.", level=7),
    }
    found, events = steered(pair, recipe, plan)
    said = [e.message for e in of(events, Sentence) if e.message.startswith("Not followed")]
    assert len(said) == 4
    assert "lie outside the fixed image" in said[0]
    assert "stays as it is" in said[1]
    assert "cannot be taken out" in said[2]
    assert "no level 8" in said[3]
    assert of(events, Edited) == []
    assert apart(found, fe.register(*pair, recipe)) == 0.0


def test_a_later_stage_may_be_taken_out(pair: Any, recipe: Recipe) -> None:
    gone = recipe.with_values({"stages.greedy.enabled": False})
    found, events = steered(pair, recipe, {("affine", 0, 5): edit("Affine only.", recipe=gone)})
    assert {e.stage for e in of(events, LevelStarted)} == {"affine"}
    assert found.warp_field is None


# ------------------------------------------------------------------ the same again
def test_a_steered_run_is_replayed_to_the_bit(pair: Any, recipe: Recipe, tmp_path: Path) -> None:
    fixed, moving = pair
    marks = Landmarks(fixed.grid.centre_mm[None], fixed.grid.centre_mm[None] + 1.0, names=("a",))
    data = recipe.with_values({"stages.greedy.deformation.sigma_grad_mm": 2.0}).to_dict()
    data["stages"][1]["terms"].append({"kind": "landmarks", "weight": 1.0})
    keep = torch.ones_like(fixed.data)
    keep[..., :4] = 0
    turn = Affine.about(_turned(0.05), np.array([1.0, 0, 0]), fixed.grid.centre_mm)
    plan = {
        ("affine", 0, 5): edit("Nudged.", nudge=turn),
        ("greedy", 0, 10): edit("Landmarks.", recipe=Recipe.from_dict(data), landmarks=marks),
        ("greedy", 1, 5): edit("Mask.", masks={"fixed_mask": Image(keep, fixed.grid)}, level=0),
    }
    found, _ = steered(pair, recipe, plan)
    folder = found.save(tmp_path / "out")
    report = read_report(folder)
    assert [item["what"] for item in report["edits"]] == ["Nudged.", "Landmarks.", "Mask."]
    assert (folder / "edit3_fixed_mask.nii.gz").exists()
    again = replay(folder, fixed=fixed, moving=moving)
    assert apart(found, again) == 0.0
    assert [e.what for e in of(list(again.events), Edited)] == ["Nudged.", "Landmarks.", "Mask."]
    assert report["quality"]["tre_mm"]["points"] == 1
    unsteered = fe.register(*pair, recipe)
    assert apart(found, unsteered) > 0.1


@pytest.mark.parametrize("where", [("affine", 0, 5), ("greedy", 0, 15), ("greedy", 1, 5)])
def test_a_stop_is_replayed_where_it_was(
    pair: Any, recipe: Recipe, tmp_path: Path, where: When
) -> None:
    found, _ = steered(pair, recipe, {where: lambda control: control.stop()})
    assert found.outcome is Outcome.STOPPED
    again = replay(found.save(tmp_path / "out"), fixed=pair[0], moving=pair[1])
    assert again.outcome is Outcome.STOPPED
    assert apart(found, again) == 0.0
    assert affine_factor(again.forward).matrix.tolist() == found.affine.matrix.tolist()


def test_a_mask_that_came_from_no_file_is_kept_and_replayed(
    pair: Any, recipe: Recipe, tmp_path: Path
) -> None:
    fixed, moving = pair
    keep = torch.ones_like(fixed.data)
    keep[..., :5] = 0
    found = fe.register(fixed.with_mask(Image(keep, fixed.grid)), moving, recipe)
    folder = found.save(tmp_path / "out")
    assert (folder / "fixed_mask.nii.gz").exists()
    again = replay(folder, fixed=fixed, moving=moving)
    assert apart(found, again) == 0.0
    assert apart(found, fe.register(fixed, moving, recipe)) > 0
    fe.register(fixed, moving, recipe).save(folder)
    assert not (folder / "fixed_mask.nii.gz").exists()
