"""A whole run: order of events, resolved plan, stopping, running out of memory, plain records."""

from __future__ import annotations

import json
import math
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Compositive, Deformation, Pair, Rigid
from fireants_engine.errors import FireantsError, InputError, OutOfMemoryError
from fireants_engine.geometry import Grid, Image
from fireants_engine.kernels import missing
from fireants_engine.kernels.native.memory import LENDER
from fireants_engine.optimise import Adam, Stop
from fireants_engine.pipeline import (
    Control,
    Edited,
    Event,
    Iteration,
    Level,
    LevelFinished,
    LevelStarted,
    Moments,
    Outcome,
    Plan,
    Preview,
    PreviewRequest,
    Pyramid,
    RunFinished,
    RunStarted,
    Stage,
    StageFinished,
    StageStarted,
    Warning,
    run_plan,
)
from fireants_engine.pipeline.events import to_dict
from fireants_engine.similarity import SSD, Loss, MutualInformation, Term
from fireants_engine.transforms import Affine

LETTERS = {
    RunStarted: "R",
    Warning: "w",
    StageStarted: "S",
    LevelStarted: "L",
    Iteration: "i",
    Preview: "p",
    LevelFinished: "l",
    StageFinished: "s",
    RunFinished: "r",
    Edited: "e",
}


def stage(name: str, deformation: Deformation, *steps: int, term: Term | None = None) -> Stage:
    levels = tuple(Level(2.0 ** (len(steps) - 1 - k), n) for k, n in enumerate(steps))
    terms = (term or SSD(),)
    return Stage(name, deformation, terms, Adam(0.5), Pyramid(levels, 8), Stop(tolerance=0))


def two_stages(term: Term | None = None) -> Plan:
    return Plan(
        (stage("rigid", Rigid(), 12, 6), stage("greedy", Compositive(), 8, 4, term=term)),
        Moments(1),
    )


@dataclass(frozen=True)
class Failing(Term):
    """Does `act()` at its third evaluation; notes what was alive then."""

    act: Callable[[], Any]
    alive: list[weakref.ref]

    @property
    def reach_vox(self) -> int:
        return 0

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        calls = iter(range(10**6))

        def loss(views):
            if next(calls) == 2:
                self.alive.extend(weakref.ref(x) for x in (pair.fixed, pair.moving, views.moving))
                knot: list[Any] = [views.moving]
                knot.append(knot)  # dies only when cycles are collected
                self.act()
            return ((views.fixed - views.moving) ** 2).mean()

        return loss


def fail_with(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


# ------------------------------------------------------------------------------- events
def test_events_come_in_their_order(small_pair, ran) -> None:
    found = ran(two_stages(), *small_pair)
    told = "".join(LETTERS[type(e)] for e in found.events)
    assert re.fullmatch(r"Rw*(S(Li+lw?)+s)+r", told), told
    assert told.replace("w", "") == "R" + "SLiiilLiils" + "SLiilLils" + "r"


def test_events_name_their_place(small_pair, ran) -> None:
    found = ran(two_stages(), *small_pair)
    assert [(e.stage, e.index, e.stages) for e in found.of(StageStarted)] == [
        ("rigid", 0, 2),
        ("greedy", 1, 2),
    ]
    levels = [("rigid", 0), ("rigid", 1), ("greedy", 0), ("greedy", 1)]
    assert [(e.stage, e.level) for e in found.of(LevelStarted)] == levels
    assert [(e.stage, e.level) for e in found.of(LevelFinished)] == levels
    assert [e.levels for e in found.of(LevelStarted)] == [2] * 4
    assert [e.max_steps for e in found.of(LevelStarted)] == [12, 6, 8, 4]
    assert [e.steps for e in found.of(LevelFinished)] == [12, 6, 8, 4]
    last = {(e.stage, e.level): (e.step, e.max_steps) for e in found.of(Iteration)}
    assert list(last.values()) == [(12, 12), (6, 6), (8, 8), (4, 4)]


def test_the_plan_told_at_the_start_has_the_sizes_that_are_run(blobs, centred_grid, ran) -> None:
    """20 x 18 x 7 voxels of 1, 1.2 and 3 mm: shrunk towards isotropy, never below 8 samples."""
    shape, grid = blobs(3, 9.0), centred_grid((20, 18, 7), (1.0, 1.2, 3.0))
    fixed, moving = shape.image(grid), shape.image(grid, lambda y: y - 0.5)
    found = ran(Plan((stage("rigid", Rigid(), 3, 2, 1, term=MutualInformation()),)), fixed, moving)
    (start,) = found.of(RunStarted)
    (told,) = start.plan["stages"]
    assert told["name"] == "rigid"
    assert told["terms"] == ["MutualInformation"]
    assert [level["size"] for level in told["levels"]] == [[8, 8, 7], [10, 11, 7], [20, 18, 7]]
    assert [level["max_steps"] for level in told["levels"]] == [3, 2, 1]
    assert [level["shrink"] for level in told["levels"]] == [4, 2, 1]
    for level, event in zip(told["levels"], found.of(LevelStarted), strict=True):
        assert event.shape == tuple(level["size"][::-1])
        extent = np.multiply(level["size"], level["spacing_mm"])
        np.testing.assert_allclose(extent, [20.0, 21.6, 21.0])  # one field of view
    assert start.device == "cpu"
    assert start.kernels == "reference"


def test_the_context_says_why_it_was_chosen(small_pair) -> None:
    ctx = ExecutionContext(why="because it was there")
    start = next(run_plan(two_stages(), *small_pair, ctx))
    assert start.why == "because it was there"


def test_notes_of_the_start_are_warnings(centred_grid, ctx) -> None:
    grid = centred_grid((32, 32), (1.0, 1.0))
    x, y = grid.points_mm().T
    disc = Image.from_numpy((x**2 + y**2 < 100).astype(float).reshape(grid.shape), grid)
    plan = Plan((stage("rigid", Rigid(), 2),), Moments(2))
    events = list(run_plan(plan, disc, disc, ctx))
    told = [e.message for e in events if isinstance(e, Warning)]
    assert told
    assert told == list(events[-1].result.initial.notes)
    assert isinstance(events[1], Warning)


def test_the_output_is_yielded_and_returned(small_pair, ctx) -> None:
    events, last = run_plan(two_stages(), *small_pair, ctx), None
    while True:
        try:
            last = next(events)
        except StopIteration as end:
            output = end.value
            break
    assert isinstance(last, RunFinished)
    assert last.result is output
    assert [name for name, _ in output.stages] == ["rigid", "greedy"]
    assert output.transform is output.stages[-1][1].transform
    assert output.initial is not None
    assert output.outcome is last.outcome is Outcome.MAX_STEPS


def test_a_given_start_replaces_the_moments(small_pair, ran) -> None:
    """With no step worth taking (an empty pyramid) the start is the result."""
    shift = np.eye(3)
    shift[:2, 2] = [4.0, -2.5]
    found = ran(Plan((Stage("rigid", Rigid(), (SSD(),)),), Affine(shift)), *small_pair)
    np.testing.assert_array_equal(found.output.transform.matrix, shift)
    assert found.output.initial is None


# ----------------------------------------------------------------------------- stopping
def stop_at(kind: type[Event], pair, ctx) -> list[Event]:
    control, events = Control(), []
    for event in run_plan(two_stages(), *pair, ctx, control):
        events.append(event)
        if isinstance(event, kind):
            control.stop()
    return events


def test_stop_between_stages_keeps_the_stage_before(small_pair, ctx) -> None:
    events = stop_at(StageFinished, small_pair, ctx)
    assert "".join(LETTERS[type(e)] for e in events).endswith("ser")
    output = events[-1].result
    assert output.outcome is events[-1].outcome is Outcome.STOPPED
    assert [name for name, _ in output.stages] == ["rigid"]
    assert isinstance(output.transform, Affine)
    assert output.transform is output.stages[0][1].transform
    assert events[-1].fraction == 1


@pytest.mark.parametrize("kind", [RunStarted, StageStarted])
def test_stop_before_the_first_step_gives_the_start(kind, small_pair, ctx) -> None:
    events = stop_at(kind, small_pair, ctx)
    assert not [e for e in events if isinstance(e, Iteration | LevelStarted)]
    output = events[-1].result
    assert output.outcome is Outcome.STOPPED
    assert output.transform is output.initial.affine


def test_a_control_that_is_stopped_already_runs_nothing(small_pair, ctx) -> None:
    control = Control()
    control.stop()
    events = list(run_plan(two_stages(), *small_pair, ctx, control))
    assert [type(e) for e in events if not isinstance(e, Warning)] == [
        RunStarted,
        Edited,
        RunFinished,
    ]


# -------------------------------------------------------------------------------- memory
OUT = {
    "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 12 bytes"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 9.07 GB)"),
    "numpy": MemoryError("Unable to allocate 8.00 GiB for an array with shape (1073741824,)"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    "without a word": torch.OutOfMemoryError(),
}


@pytest.mark.parametrize("kind", OUT)
def test_out_of_memory_becomes_one_sentence_and_no_runtime_error(kind, small_pair, ran) -> None:
    """LESSONS 28: napari's workers swallow a RuntimeError."""
    with pytest.raises(OutOfMemoryError) as caught:
        ran(two_stages(Failing(fail_with(OUT[kind]), [])), *small_pair)
    error = caught.value
    assert isinstance(error, FireantsError)
    assert not isinstance(error, RuntimeError)
    assert error.__cause__ is error.__context__ is None
    assert str(error).startswith("Out of memory on cpu: start the finest level")
    assert "\n" not in str(error)


def test_tensors_are_dead_after_running_out_of_memory(small_pair, ran) -> None:
    """LESSONS 29; by an allocation that no address space holds."""
    alive: list[weakref.ref] = []
    with pytest.raises(OutOfMemoryError) as caught:
        ran(two_stages(Failing(lambda: torch.empty(2**50), alive)), *small_pair)
    assert len(alive) == 3
    assert all(ref() is None for ref in alive)
    assert caught.value is not None  # the error itself is still held


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        RuntimeError(
            "unsupported operation: some elements of the input tensor and the written-to tensor "
            "refer to a single memory location. Please clone() the tensor before performing the "
            "operation."
        ),
        ValueError("out of memory"),
        InputError("The landmarks are gone."),
    ],
    ids=["shape", "aliased memory", "ValueError", "InputError"],
)
def test_other_errors_pass_through_unchanged(error, small_pair, ran) -> None:
    with pytest.raises(type(error)) as caught:
        ran(two_stages(Failing(fail_with(error), [])), *small_pair)
    assert caught.value is error


def test_a_pair_that_cannot_be_registered_is_refused_before_any_event(small_pair, ctx) -> None:
    flat = Image.from_numpy(np.zeros((8, 8)), name="flat")
    with pytest.raises(InputError, match="flat"):
        next(run_plan(two_stages(), small_pair[0], flat, ctx))


# ------------------------------------------------------------------------------- records
def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(k) is str and plain(v) for k, v in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    finite = not isinstance(value, float) or math.isfinite(value)
    return type(value) in (str, int, float, bool, type(None)) and finite


def test_events_are_plain_json_without_arrays_and_nan(small_pair, ctx) -> None:
    """With a preview, and with a stop before the first step, whose loss is unknown."""
    control = Control()
    control.request_preview(PreviewRequest(volume_shrink=2.0))
    events = list(run_plan(two_stages(), *small_pair, ctx, control))
    events += stop_at(StageStarted, small_pair, ctx)
    assert any(math.isnan(e.loss) for e in events if isinstance(e, StageFinished))
    assert {type(e) for e in events} >= set(LETTERS) - {Warning}
    events.append(Warning(message="mind", fraction=np.float32(0.5)))
    for event in events:
        record = to_dict(event)
        assert plain(record), record
        assert json.loads(json.dumps(record, allow_nan=False)) == record
        assert record["event"] == type(event).__name__
        assert not {"frames", "result"} & set(record)
    by_name = {r["event"]: r for r in map(to_dict, events)}
    assert by_name["RunFinished"]["outcome"] == "STOPPED"
    assert by_name["StageFinished"]["loss"] is None
    assert by_name["Iteration"]["losses"]
    assert by_name["LevelStarted"]["shape"] == [36, 40]


def test_the_images_given_are_never_modified(small_pair, ran) -> None:
    mask = np.ones(small_pair[0].grid.shape, np.uint8)
    mask[:9] = 0
    fixed, moving = (i.with_mask(Image.from_numpy(mask, i.grid)) for i in small_pair)
    short = Image((fixed.data * 1000).to(torch.int16), fixed.grid, fixed.mask)
    wide = Image(moving.data.double(), moving.grid, moving.mask)
    plan = two_stages()
    for pair in ((fixed, moving), (short, wide)):
        before = [(i.data.clone(), i.mask.clone(), i.grid) for i in pair]
        ran(plan, *pair)
        for image, (data, kept, grid) in zip(pair, before, strict=True):
            assert torch.equal(image.data, data)
            assert torch.equal(image.mask, kept)
            assert image.grid is grid


def test_the_result_shares_no_memory_with_the_images(ran) -> None:
    """Float32 images in the unit range go through the preparation without a change of value."""
    ramp = np.linspace(0, 1, 24 * 20, dtype=np.float32).reshape(20, 24)
    image = Image.from_numpy(ramp, Grid.identity((24, 20)))
    before = image.data.clone()
    ran(Plan((stage("greedy", Compositive(), 4),)), image, image)
    assert torch.equal(image.data, before)


@pytest.mark.skipif("native" in missing(), reason="only native kernels lend memory")
@pytest.mark.parametrize("closed", [False, True])
def test_a_run_keeps_no_memory_that_nothing_uses(closed: bool) -> None:
    """Neither one that ends nor one that is closed on its way; larger than what is lent."""
    y, x = np.mgrid[:600, :600].astype(np.float32)
    image = Image.from_numpy(
        np.exp(-((x - 300) ** 2 + (y - 280) ** 2) / 9e3), Grid.identity((600,) * 2)
    )
    LENDER.trim()
    ctx = ExecutionContext.create("cpu", "native")
    events = run_plan(Plan((stage("d", Compositive(), 4),)), image, image, ctx)
    for event in events:
        if isinstance(event, Iteration):
            assert LENDER.kept > 0
            if closed:
                break
    events.close()
    assert LENDER.kept == 0
