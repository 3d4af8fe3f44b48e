"""A plan of stages, and the generator that runs it."""

from __future__ import annotations

import gc
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import torch

from fireants_engine.context import ExecutionContext
from fireants_engine.errors import DivergedError, OutOfMemoryError
from fireants_engine.geometry import Image
from fireants_engine.pipeline import events as ev
from fireants_engine.pipeline.control import Control
from fireants_engine.pipeline.initialise import Centre, InitialAlignment, Moments, initialise
from fireants_engine.pipeline.inputs import Extras
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.pipeline.preview import Previewer
from fireants_engine.pipeline.stage import Clock, Stage, StageResult
from fireants_engine.transforms import Transform

_OUT_OF_MEMORY = ("out of memory", "allocate memory", "enough memory", "alloc_failed")
"""What allocators say in a plain RuntimeError."""


@dataclass(frozen=True)
class Plan:
    """Stages in order and where to start: the moments of the images, or a given transform."""

    stages: tuple[Stage, ...]
    start: Moments | Centre | Transform | None = None

    def needs(self) -> list[tuple[str, str]]:
        """(stage, name of an input that one of its terms needs)."""
        return [(stage.name, term.needs) for stage in self.stages for term in stage.terms]

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


@dataclass(frozen=True)
class RunOutput:
    """The transform fixed mm -> moving mm and how each stage came to it."""

    transform: Transform
    outcome: ev.Outcome
    initial: InitialAlignment | None
    stages: tuple[tuple[str, StageResult], ...]
    seconds: float
    preview_seconds: float


@dataclass
class _Progress:
    transform: Transform
    outcome: ev.Outcome = ev.Outcome.MAX_STEPS
    results: list[tuple[str, StageResult]] = field(default_factory=list)


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
    failed: str | None = None
    try:
        return (yield from _run(plan, fixed, moving, ctx, control or Control(), extras or Extras()))
    except (torch.OutOfMemoryError, MemoryError) as error:
        failed = str(error)
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in _OUT_OF_MEMORY):
            raise
        failed = str(error)
    # Outside the handlers the failed frames, and with them their tensors, are gone.
    gc.collect()
    if ctx.device.type == "cuda":
        torch.cuda.empty_cache()
    raise OutOfMemoryError(
        f"Out of memory on {ctx.device}: start the finest level at a larger shrink, crop the "
        f"images, or choose another device ({(failed.splitlines() or ['no details'])[0][:120]})."
    )


def _run(
    plan: Plan,
    fixed: Image,
    moving: Image,
    ctx: ExecutionContext,
    control: Control,
    extras: Extras,
) -> Generator[ev.Event, None, RunOutput]:
    needs = plan.needs()
    extras.check(fixed, moving)
    extras.check_needs(needs, fixed, moving)
    prepared = Prepared.create(fixed, moving, ctx, extras, {name for _, name in needs})
    clock = Clock(sum(sum(stage.work(prepared)) for stage in plan.stages))
    previewer = Previewer(moving, fixed.grid)
    yield ev.RunStarted(
        plan=plan.describe(prepared),
        device=str(ctx.device),
        kernels=ctx.kernels.name,
        why=ctx.why,
        **clock.stamp(),
    )
    initial: InitialAlignment | None = None
    if isinstance(plan.start, Transform):
        progress = _Progress(plan.start)
    else:
        initial = initialise(plan.start, prepared, ctx)
        progress = _Progress(initial.affine)
        for note in initial.notes:
            yield ev.Warning(message=note, **clock.stamp())
    for index, stage in enumerate(plan.stages):
        if control.stopped:
            progress.outcome = ev.Outcome.STOPPED
            break
        yield ev.StageStarted(
            stage=stage.name, index=index, stages=len(plan.stages), **clock.stamp()
        )
        try:
            result = yield from stage.run(
                prepared, progress.transform, ctx, control, previewer, clock
            )
        except DivergedError as error:
            if not progress.results:
                raise
            yield ev.Warning(message=str(error), **clock.stamp())
            result = StageResult(progress.transform, ev.Outcome.DIVERGED, float("nan"), ())
        progress.transform, progress.outcome = result.transform, result.outcome
        progress.results.append((stage.name, result))
        yield ev.StageFinished(
            stage=stage.name, outcome=result.outcome, loss=result.loss, **clock.stamp()
        )
        if result.outcome in (ev.Outcome.STOPPED, ev.Outcome.DIVERGED):
            break
    seconds = clock.stamp()["seconds"]
    output = RunOutput(
        progress.transform,
        progress.outcome,
        initial,
        tuple(progress.results),
        seconds,
        previewer.spent_seconds,
    )
    yield ev.RunFinished(outcome=output.outcome, result=output, seconds=seconds, fraction=1.0)
    return output
