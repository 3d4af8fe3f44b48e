"""A plan of stages, and the generator that runs it."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Source
from fireants_engine.errors import InputError, OutOfMemoryError
from fireants_engine.geometry import Image
from fireants_engine.kernels.native.memory import LENDER
from fireants_engine.pipeline import events as ev
from fireants_engine.pipeline.control import Control
from fireants_engine.pipeline.initialise import Centre, Moments, initialise
from fireants_engine.pipeline.inputs import Case, Extras, check_batch
from fireants_engine.pipeline.member import Clock, Member, RunOutput, StageResult
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.pipeline.preview import Previewer
from fireants_engine.pipeline.stage import Stage
from fireants_engine.pipeline.steering import STOP, Course, Place, edited
from fireants_engine.transforms import Affine, Transform

_WORST_FIRST = (
    ev.Outcome.STOPPED,
    ev.Outcome.DIVERGED,
    ev.Outcome.MAX_STEPS,
    ev.Outcome.CONVERGED,
)
"""Which outcome of its pairs a batch shows."""
_OUT_OF_MEMORY = ("out of memory", "allocate memory", "enough memory", "alloc_failed")
"""What allocators say in a plain RuntimeError."""


@dataclass(frozen=True)
class Plan:
    """Stages in order and where to start: the moments of the images, or a given transform.

    intensities: how the images are brought to a common scale (`Prepared.create`).
    """

    stages: tuple[Stage, ...]
    start: Moments | Centre | Transform | None = None
    intensities: str = "range"

    def needs(self) -> list[tuple[str, str]]:
        """(stage, name of an input that one of its terms needs)."""
        return [(stage.name, term.needs) for stage in self.stages for term in stage.terms]

    def sources(self) -> set[Source]:
        """What all terms look at."""
        return {s for stage in self.stages for term in stage.terms for s in term.sources}

    def describe(self, prepared: Prepared) -> dict[str, Any]:
        """Resolved stages and level grids, as plain values."""
        stages = []
        for stage in self.stages:
            levels = []
            for level in stage.pyramid.levels:
                grid = prepared.level_grid(level.shrink, stage.pyramid.min_size)
                levels.append(
                    {
                        "shrink": level.shrink,
                        "size": list(grid.size),
                        "spacing_mm": list(grid.spacing_mm),
                        "max_steps": level.max_steps,
                    }
                )
            terms = [type(term).__name__ for term in stage.terms]
            stages.append({"name": stage.name, "terms": terms, "levels": levels})
        return {"stages": stages}


def run_plan(
    plan: Plan,
    fixed: Image,
    moving: Image,
    ctx: ExecutionContext,
    control: Control | None = None,
    extras: Extras | None = None,
) -> Generator[ev.Event, None, RunOutput]:
    """Yield the events of a run, last RunFinished (result: RunOutput), and return its output.

    Raises InputError for images that cannot be registered and OutOfMemoryError (never a
    RuntimeError) when the device runs out of memory; no tensor outlives the error.
    """
    case = Case(fixed, moving, extras or Extras())
    for event in run_batch(plan, [case], ctx, control):
        if isinstance(event, ev.RunFinished):
            (output,) = event.result
            yield replace(event, result=output)
            return output
        yield event
    raise AssertionError("a run ends with RunFinished")


def run_batch(
    plan: Plan, cases: Sequence[Case], ctx: ExecutionContext, control: Control | None = None
) -> Generator[ev.Event, None, tuple[RunOutput, ...]]:
    """`run_plan` for the pairs of a batch, which take every step together.

    Each has its own loss, step bound, plateau and result, as if it were alone; one that has ended
    leaves the others to go on. A case's `initial` replaces the plan's start. In a batch a pair
    whose loss never was valid ends as DIVERGED with its start (`RunOutput.error` says why)
    unless that befalls all of them.
    Raises as `run_plan`, and InputError for pairs that do not fit each other.
    """
    failed: str | None = None
    outputs: tuple[RunOutput, ...] = ()
    try:
        outputs = yield from _run(plan, cases, ctx, control or Control())
    except GeneratorExit:  # closed: nobody pulls the next event
        pass
    except (torch.OutOfMemoryError, MemoryError) as error:
        failed = str(error)
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in _OUT_OF_MEMORY):
            raise
        failed = str(error)
    # Outside the handlers the frames of the run, and with them their tensors, are gone.
    if failed is not None:
        gc.collect()
    if ctx.device.type == "cpu":
        LENDER.trim()
    if failed is None:
        return outputs
    if ctx.device.type == "cuda":
        torch.cuda.empty_cache()
    fewer = "take fewer pairs at once, " if len(cases) > 1 else ""
    raise OutOfMemoryError(
        f"Out of memory on {ctx.device}: {fewer}start the finest level at a larger shrink, crop "
        "the images, or choose another device "
        f"({(failed.splitlines() or ['no details'])[0][:120]})."
    )


def _members(plan: Plan, cases: Sequence[Case], ctx: ExecutionContext) -> list[Member]:
    """Every case, checked and prepared; where it starts is not known yet."""
    needs = plan.needs()
    check_batch(cases)
    for case in cases:
        case.check(needs)
    names = {name for _, name in needs}
    members = [
        Member(
            number,
            Prepared.create(case.fixed, case.moving, ctx, case.extras, names, plan.intensities),
            Previewer(case.moving, case.fixed.grid),
            Affine.identity(case.fixed.dim),
        )
        for number, case in enumerate(cases)
    ]
    for source in plan.sources() if len(cases) > 1 else ():
        first, *others = (member.prepared.resolved(source) for member in members)
        if any(other != first for other in others):
            raise InputError(
                "The pairs of the batch have unlike common labels; name the labels that count in "
                "the term, or register those pairs on their own."
            )
    return members


def _starts(
    plan: Plan,
    members: Sequence[Member],
    cases: Sequence[Case],
    ctx: ExecutionContext,
    clock: Clock,
) -> Generator[ev.Event, None, None]:
    """Put every member where it starts."""
    for member, case in zip(members, cases, strict=True):
        start = plan.start if case.initial is None else case.initial
        if isinstance(start, Transform):
            member.transform = start
            continue
        member.initial = initialise(start, member.prepared, ctx)
        member.transform = member.initial.affine
        for note in member.initial.notes:
            yield ev.Warning(message=note, pair=member.number, **clock.stamp())


def _taken(
    stage: Stage, members: Sequence[Member], results: Sequence[StageResult], clock: Clock
) -> Generator[ev.Event, None, None]:
    """Let every member go on from what the stage has left of it."""
    for member, result in zip(members, results, strict=True):
        if result.error is not None:
            message = str(result.error)
            yield ev.Warning(message=message, pair=member.number, **clock.stamp())
        member.take(stage.name, result)
        yield ev.StageFinished(
            stage=stage.name,
            outcome=result.outcome,
            loss=result.loss,
            pair=member.number,
            **clock.stamp(),
        )


def _run(
    plan: Plan, cases: Sequence[Case], ctx: ExecutionContext, control: Control
) -> Generator[ev.Event, None, tuple[RunOutput, ...]]:
    members = _members(plan, cases, ctx)
    clock = Clock(sum(sum(stage.work(members[0].prepared)) for stage in plan.stages))
    yield ev.RunStarted(
        plan=plan.describe(members[0].prepared),
        device=str(ctx.device),
        kernels=ctx.kernels.name,
        why=ctx.why,
        pairs=len(members),
        **clock.stamp(),
    )
    yield from _starts(plan, members, cases, ctx, clock)
    going, course = members, Course(plan, cases, members, ctx)
    for index in itertools.count():
        if index == len(course.plan.stages):
            break
        stage = course.plan.stages[index]
        control.pass_by(Place(index))
        if control.stopped:
            for member in going:
                member.outcome = ev.Outcome.STOPPED
            yield edited(STOP, Place(index), stage.name, clock.stamp())
            break
        yield ev.StageStarted(
            stage=stage.name, index=index, stages=len(course.plan.stages), **clock.stamp()
        )
        course.index = index
        results = yield from course.stage.run(going, course, control, clock)
        errors = [result.error for result in results if result.error is not None]
        if index == 0 and len(errors) == len(cases):
            raise errors[0]
        yield from _taken(stage, going, results, clock)
        going = [member for member in going if not member.outcome.final]
        if not going:
            break
    outputs = tuple(member.output(clock.stamp()["seconds"], len(members)) for member in members)
    outcomes = {output.outcome for output in outputs}
    worst = next(outcome for outcome in _WORST_FIRST if outcome in outcomes)
    seconds = clock.stamp()["seconds"]
    yield ev.RunFinished(outcome=worst, result=outputs, seconds=seconds, fraction=1.0)
    return outputs
