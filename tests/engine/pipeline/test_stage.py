"""The one loop: stopping, plateaus, pausing, progress, carrying over, folds, repeatability."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import (
    AffineMap,
    Compositive,
    Deformation,
    Folds,
    Pair,
    Rigid,
    Views,
)
from fireants_engine.geometry import Grid, Image
from fireants_engine.kernels import REFERENCE
from fireants_engine.ops import count_folds
from fireants_engine.optimise import Adam, Stop
from fireants_engine.pipeline import (
    Control,
    Iteration,
    Level,
    LevelFinished,
    LevelStarted,
    Outcome,
    Plan,
    Pyramid,
    RunFinished,
    Stage,
    StageFinished,
    Warning,
    run_plan,
)
from fireants_engine.pipeline.level import CHECK_EVERY
from fireants_engine.similarity import LNCC, SSD, Loss, MutualInformation, Term
from fireants_engine.transforms import Chain, Displacement, Transform

NEVER = Stop(tolerance=0)


def named(thing: object) -> str:
    return type(thing).__name__


def stage(*steps: int, term: Term | None = None, deformation: Deformation | None = None, **more):
    """A stage whose levels shrink by ... 4, 2, 1."""
    levels = tuple(Level(2.0 ** (len(steps) - 1 - k), n) for k, n in enumerate(steps))
    more = {"descent": Adam(0.5), "stop": NEVER, "name": "stage", **more}
    return Stage(
        deformation=deformation or Compositive(),
        terms=(term or SSD(),),
        pyramid=Pyramid(levels, 8),
        **more,
    )


@dataclass(frozen=True)
class Watched(Term):
    """Another term whose every evaluation is seen by `look(loss)`."""

    inner: Term
    look: Callable[[Tensor], Any]

    @property
    def reach_vox(self) -> int:
        return self.inner.reach_vox

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        loss = self.inner.bind(pair, ctx)

        def seen(views: Views) -> Tensor:
            value = loss(views)
            self.look(value.detach())
            return value

        return seen


# ---------------------------------------------------------------------------- stopping
@pytest.mark.parametrize("at", [0, 3, 4, 11])
def test_stop_takes_effect_within_one_step(at, scripted, small_pair, ran) -> None:
    """After the step in which stop was asked only the state that is kept is evaluated."""
    control, calls = Control(), []

    def script(call: int, shape: tuple[int, ...]) -> float:
        calls.append(call)
        if call == at:
            control.stop()
        return 1.0

    found = ran(Plan((stage(50, 50, term=scripted(script)),)), *small_pair, control)
    assert calls == list(range(at + 2))
    assert found.output.outcome is Outcome.STOPPED
    (end,) = found.of(LevelFinished)
    assert end.steps == at + 1
    assert end.reason == "stopped on request"


def test_stop_between_levels_keeps_the_level_before(small_pair, ctx) -> None:
    control, events = Control(), []
    for event in run_plan(Plan((stage(10, 10),)), *small_pair, ctx, control):
        events.append(event)
        if isinstance(event, LevelFinished):
            control.stop()
    assert len([e for e in events if isinstance(e, LevelStarted)]) == 1
    output = events[-1].result
    assert output.outcome is Outcome.STOPPED
    assert np.abs(output.transform.parts[0].u.numpy()).max() > 0.5


# ---------------------------------------------------------------------------- plateaus
def test_a_plateau_ends_the_level_and_says_why(small_pair, ran) -> None:
    """LESSONS 1: a test that fires only on a rise never fires on a plateau."""
    rigid = {"deformation": Rigid(), "descent": Adam(0.5, decay=0.05)}
    found = ran(Plan((stage(400, 10, stop=Stop(1e-3, 10), **rigid),)), *small_pair)
    first, second = found.of(LevelFinished)
    assert 30 <= first.steps < 200
    assert first.reason.startswith("plateau: the last 10 steps")
    assert second.reason == "all planned steps taken"
    assert found.output.outcome is Outcome.MAX_STEPS
    alone = ran(Plan((stage(400, stop=Stop(1e-3, 10), **rigid),)), *small_pair)
    assert alone.output.outcome is Outcome.CONVERGED
    through = ran(Plan((stage(first.steps + 40, 10, **rigid),)), *small_pair)
    assert through.of(LevelFinished)[0].steps == first.steps + 40


# ----------------------------------------------------------------------------- pulling
def test_pulling_is_running_and_not_pulling_pauses(scripted, small_pair, ctx) -> None:
    calls: list[int] = []
    term = scripted(lambda call, shape: calls.append(call) or 1.0)
    threads = threading.active_count()
    events = run_plan(Plan((stage(40, 40, term=term),)), *small_pair, ctx)
    assert calls == []
    seen = 0
    for event in events:
        assert len(calls) - seen <= CHECK_EVERY + 1  # one pull, one check (and a level's end)
        seen = len(calls)
        if isinstance(event, Iteration) and event.step == 20:
            break
    assert seen == 20
    assert threading.active_count() == threads
    events.close()
    assert len(calls) == seen
    assert next(events, None) is None


def test_closing_the_generator_frees_its_tensors(scripted, small_pair, ctx) -> None:
    """LESSONS 29: what a cancelled run held must die with it."""
    alive: list[weakref.ref] = []

    class Keeper(scripted):
        def bind(self, pair: Pair, context) -> Loss:
            alive.extend(map(weakref.ref, (pair.fixed, pair.moving)))
            return super().bind(pair, context)

    events = run_plan(Plan((stage(40, term=Keeper(lambda *_: 1.0)),)), *small_pair, ctx)
    assert any(isinstance(event, Iteration) for event in events)  # pulled up to the first
    assert all(ref() is not None for ref in alive)
    assert alive
    events.close()
    assert all(ref() is None for ref in alive)


# ---------------------------------------------------------------------------- progress
def test_fractions_and_seconds_only_grow_and_end_at_one(small_pair, ran) -> None:
    early = stage(300, 12, 7, stop=Stop(1e-2, 5), deformation=Rigid(), descent=Adam(0.5, 0.05))
    found = ran(Plan((early, stage(9, 11))), *small_pair)
    assert any("plateau" in e.reason for e in found.of(LevelFinished))
    fractions = [e.fraction for e in found.events]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert found.of(StageFinished)[-1].fraction == pytest.approx(1)
    seconds = [e.seconds for e in found.events]
    assert seconds == sorted(seconds)
    assert seconds[0] >= 0


def test_fractions_are_shares_of_the_planned_voxel_steps(small_pair, ran) -> None:
    found = ran(Plan((stage(10, 20),)), *small_pair)
    coarse, fine = (math.prod(e.shape) * e.max_steps for e in found.of(LevelStarted))
    assert coarse < fine
    middle = coarse / (coarse + fine)
    assert found.of(LevelFinished)[0].fraction == pytest.approx(middle)
    by_step = {(e.level, e.step): e.fraction for e in found.of(Iteration)}
    assert by_step[0, 5] == pytest.approx(middle / 2)
    assert by_step[1, 10] == pytest.approx(middle + (1 - middle) / 2)


def test_every_loss_appears_exactly_once(small_pair, ran) -> None:
    """Levels of 7, 10 and 3 steps: windows of five, and what is left at the end."""
    seen: list[Tensor] = []
    found = ran(Plan((stage(7, 10, 3, term=Watched(SSD(), seen.append)),)), *small_pair)
    values = [x.item() for x in seen]
    kept = values[:7] + values[8:18] + values[19:22]  # without the last look of each level
    assert found.losses == kept
    assert [(e.level, e.step) for e in found.of(Iteration)] == [
        (0, 5), (0, 7), (1, 5), (1, 10), (2, 3)
    ]  # fmt: skip
    assert [len(e.losses) for e in found.of(Iteration)] == [5, 2, 5, 5, 3]
    assert all(e.loss == e.losses[-1] for e in found.of(Iteration))


def test_the_losses_of_a_stopped_level_appear_too(small_pair, ran) -> None:
    """Seven steps were taken: a loss curve that shows five is two short."""
    control, seen = Control(), []

    def look(loss: Tensor) -> None:
        seen.append(loss.item())
        if len(seen) == 7:
            control.stop()

    found = ran(Plan((stage(20, term=Watched(SSD(), look)),)), *small_pair, control)
    assert found.of(LevelFinished)[0].steps == 7
    assert found.losses == seen[:7]


# ------------------------------------------------------------------------- carrying over
def carried(deformation: Deformation, small_pair, ran, ctx) -> tuple[Transform, Transform]:
    """A coarse level's map; the same after a finer level that stops before its first step."""
    both = stage(40, 10, deformation=deformation)
    coarse = replace(both, pyramid=Pyramid(both.pyramid.levels[:1], 8))
    control, last = Control(), None
    for event in run_plan(Plan((both,)), *small_pair, ctx, control):
        last = event
        if isinstance(event, LevelStarted) and event.level == 1:
            control.stop()
    assert isinstance(last, RunFinished)
    return ran(Plan((coarse,)), *small_pair).output.transform, last.result.transform


def test_the_warp_is_carried_over_in_mm(small_pair, ran, ctx) -> None:
    coarse, fine = carried(Compositive(), small_pair, ran, ctx)
    assert coarse.parts[0].grid.size == (22, 18)
    assert fine.parts[0].grid.size == (40, 36)
    points = small_pair[0].grid.points_mm()
    inner = points[(np.abs(points) < 15).all(axis=1)]
    moved = coarse(inner) - inner
    assert np.abs(moved).max() > 1.0
    np.testing.assert_allclose(fine(inner) - inner, moved, atol=0.06)


def test_a_linear_map_is_carried_over_unchanged(small_pair, ran, ctx) -> None:
    coarse, fine = carried(Rigid(), small_pair, ran, ctx)
    assert np.abs(coarse.matrix - np.eye(3)).max() > 0.5
    np.testing.assert_array_equal(fine.matrix, coarse.matrix)


@dataclass(frozen=True)
class Logged(Adam):
    """Adam that notes the state it is given at each step."""

    log: list[tuple[tuple[int, ...], int, Tensor, Tensor]] = field(default_factory=list)
    fresh: list[tuple[int, ...]] = field(default_factory=list)

    def init(self, variable: Tensor, pairs: int = 1):
        self.fresh.append(tuple(variable.shape))
        return super().init(variable, pairs)

    def direction(self, grad: Tensor, state, loss=None, kernels=REFERENCE):
        first, second = state.first.clone(), state.second.clone()
        self.log.append((tuple(grad.shape), *state.counts, first, second))
        return super().direction(grad, state, loss, kernels)


def test_the_descent_remembers_across_levels_in_the_new_voxel(small_pair, ran) -> None:
    """A gradient by displacements in voxels shrinks with the voxel, its square twice."""
    descent = Logged(0.5)
    found = ran(Plan((stage(30, 4, descent=descent),)), *small_pair)
    coarse, fine = (np.array(e.shape) for e in found.of(LevelStarted))
    assert len(descent.fresh) == 1
    shape, count, first, second = descent.log[30]
    assert shape == (1, 2, *fine)
    assert count == 30
    _, _, first_before, second_before = descent.log[29]
    for axis in range(2):
        ratio = coarse[axis] / fine[axis]
        grown = first[0, axis].norm() / math.sqrt(first[0, axis].numel())
        before = first_before[0, axis].norm() / math.sqrt(first_before[0, axis].numel())
        assert grown / before == pytest.approx(ratio, rel=0.15)
        squares = second[0, axis].mean() / second_before[0, axis].mean()
        assert squares == pytest.approx(ratio**2, rel=0.05)


# ---------------------------------------------------------------------- synchronisation
LOOKS = ("item", "tolist", "__float__", "__int__", "__bool__", "__index__", "cpu", "numpy")


@pytest.mark.parametrize("deformation", [Rigid(), AffineMap(), Compositive()], ids=named)
@pytest.mark.parametrize("term", [SSD(), LNCC(), MutualInformation()], ids=named)
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_no_step_between_two_checks_waits_for_the_device(
    masked, term, deformation, small_pair, ran, monkeypatch
) -> None:
    looks, at_step = [], []

    def counted(name: str, original: Callable) -> Callable:
        return lambda *args, **kwargs: (looks.append(name), original(*args, **kwargs))[1]

    for name in (*LOOKS, "nonzero"):
        monkeypatch.setattr(Tensor, name, counted(name, getattr(Tensor, name)))
    seen = Watched(term, lambda loss: at_step.append(len(looks)))
    pair = [with_half_mask(image) if masked else image for image in small_pair]
    ran(Plan((stage(12, term=seen, deformation=deformation),)), *pair)
    monkeypatch.undo()
    assert len(at_step) == 13
    for window in (at_step[0:5], at_step[5:10], at_step[10:12]):
        assert len(set(window)) == 1, looks[window[0] : window[-1]]
    assert at_step[5] > at_step[4]  # a check does look: the counting works
    assert at_step[10] > at_step[9]


def with_half_mask(image: Image) -> Image:
    inside = np.ones(image.grid.shape, np.uint8)
    inside[:, :6] = 0
    return image.with_mask(Image.from_numpy(inside, image.grid))


# -------------------------------------------------------------------------------- folds
def noise_pair() -> list[Image]:
    rng, grid = np.random.default_rng(0), Grid.identity((40, 36))
    return [Image.from_numpy(rng.random(grid.shape).astype(np.float32), grid) for _ in range(2)]


class Creased(Compositive):
    """A greedy warp whose folds nobody smooths away."""

    def settle(self, pair, state):
        left, fraction = count_folds(state.u)
        return state, Folds(0, left, fraction)


ROUGH = {"sigma_grad_mm": 0.0, "sigma_warp_mm": 0.0, "grad_floor_vox": 0.0, "warp_floor_vox": 0.0}


def test_folds_are_smoothed_away_at_the_end_of_a_level(ran) -> None:
    """The same run with and without: what would fold does not, and says how much it was."""
    settled = ran(Plan((stage(15, deformation=Compositive(**ROUGH)),)), *noise_pair())
    creased = ran(Plan((stage(15, deformation=Creased(**ROUGH)),)), *noise_pair())
    (end,), (would,) = settled.of(LevelFinished), creased.of(LevelFinished)
    assert would.folds > 20
    assert end.unfolded == would.folds
    assert end.folds == 0
    assert end.fold_fraction == 0
    assert count_folds(warp_of(settled.output).u)[0] == 0
    assert settled.of(Warning) == []


def test_folds_that_remain_are_told_when_they_rise(ran) -> None:
    found = ran(Plan((stage(15, 10, deformation=Creased(**ROUGH)),)), *noise_pair())
    ends, warnings = found.of(LevelFinished), found.of(Warning)
    assert 0 < ends[0].folds < ends[1].folds
    assert len(warnings) == 2
    voxels = (18 * 20, 36 * 40)
    for number, (end, warning) in enumerate(zip(ends, warnings, strict=True), start=1):
        assert f"level {number}" in warning.message
        assert f"{end.folds} voxel(s)" in warning.message
        assert end.fold_fraction == pytest.approx(end.folds / voxels[number - 1])
        assert found.events.index(warning) == found.events.index(end) + 1
    assert count_folds(warp_of(found.output).u)[0] == ends[1].folds


def test_folds_that_do_not_rise_are_not_told_again(ran, ctx) -> None:
    """A second level that takes no step leaves the folds of the first."""
    twice = replace(stage(deformation=Creased(**ROUGH)), pyramid=Pyramid((Level(1, 15),) * 2))
    control, events = Control(), []
    for event in run_plan(Plan((twice,)), *noise_pair(), ctx, control):
        events.append(event)
        if isinstance(event, LevelStarted) and event.level == 1:
            control.stop()
    first, second = [e for e in events if isinstance(e, LevelFinished)]
    assert first.folds == second.folds > 20
    assert len([e for e in events if isinstance(e, Warning)]) == 1


def test_what_cannot_fold_says_so(small_pair, ran) -> None:
    (end,) = ran(Plan((stage(5, deformation=Rigid()),)), *small_pair).of(LevelFinished)
    assert end.folds is None
    assert end.fold_fraction is None


def warp_of(output) -> Displacement:
    (warp,) = [p for p in Chain([output.transform]).parts if isinstance(p, Displacement)]
    return warp


# ------------------------------------------------------------------------ reproducibility
@pytest.mark.parametrize("term", [SSD(), LNCC(), MutualInformation()], ids=named)
def test_the_same_inputs_give_the_same_warp_to_the_bit(term, small_pair, ran) -> None:
    stages = (stage(10, deformation=Rigid(), term=term), stage(10, 5, term=term))
    first, second = (ran(Plan(stages), *small_pair) for _ in range(2))
    assert torch.equal(warp_of(first.output).u, warp_of(second.output).u)
    assert first.losses == second.losses
    assert float(warp_of(first.output).u.abs().max()) > 0.1
