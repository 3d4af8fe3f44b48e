"""Register two images: the generator, and the call that blocks."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fireants_engine.context import ExecutionContext
from fireants_engine.errors import StoppedError
from fireants_engine.geometry import Grid, Image
from fireants_engine.pipeline import (
    Case,
    Control,
    Event,
    Extras,
    Outcome,
    Preview,
    RunFinished,
    RunOutput,
)
from fireants_engine.pipeline import run_batch as run_plan_batch
from fireants_engine.recipe import Recipe
from fireants_engine.recipe.build import build
from fireants_engine.transforms import Transform
from fireants_engine.workflows.result import Result, at_full_resolution


@dataclass(frozen=True)
class Execution:
    """*Where* a recipe runs: device (auto, cpu, cuda, cuda:i, mps) and kernels (auto or a name)."""

    device: str = "auto"
    kernels: str = "auto"


def _peak_memory_mb(ctx: ExecutionContext) -> float:
    if ctx.device.type == "cuda":
        return torch.cuda.max_memory_allocated(ctx.device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _settled(output: RunOutput, grid: Grid) -> RunOutput:
    """The same output with its transform at full resolution on the CPU: no device memory stays."""
    last = output.transform
    transform = at_full_resolution(last, grid)
    stages = tuple(
        (name, replace(stage, transform=transform if stage.transform is last else stage.transform))
        for name, stage in output.stages
    )
    return replace(output, transform=transform, stages=stages)


def run_batch(
    cases: Sequence[Case],
    recipe: Recipe | str = "brain-mri",
    *,
    execution: Execution | None = None,
    control: Control | None = None,
) -> Generator[Event, None, tuple[Result, ...]]:
    """The events of a registration of several pairs at once, last RunFinished, whose `result`
    are the Results in the cases' order (also returned).

    The pairs take every step together, each with its own loss, step and plateau, so each comes to
    what it would come to alone (to rounding). They have the same channels, sizes and spacings;
    images may be shared: `[Case(template, subject) for subject in subjects]`. Events of one pair
    say which (`pair`). A pair whose images cannot be compared ends as DIVERGED with its start.
    Memory is that of the pairs together. Raises InputError before any work.
    """
    recipe = Recipe.preset(recipe) if isinstance(recipe, str) else recipe
    execution = execution or Execution()
    ctx = ExecutionContext.create(execution.device, execution.kernels)
    torch.manual_seed(recipe.seed)
    if ctx.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(ctx.device)
    log: list[Event] = []
    for event in run_plan_batch(build(recipe), cases, ctx, control):
        if isinstance(event, RunFinished):
            log.append(replace(event, result=None))
            results = tuple(
                _result(case, output, recipe, ctx, _concerning(log, number))
                for number, (case, output) in enumerate(zip(cases, event.result, strict=True))
            )
            yield replace(event, result=results)
            return results
        if not isinstance(event, Preview):
            log.append(event)
        yield event
    raise StoppedError("The run ended without a result.")


def _concerning(log: list[Event], number: int) -> tuple[Event, ...]:
    """The events of all pairs and of pair `number`."""
    return tuple(event for event in log if getattr(event, "pair", number) == number)


def _result(
    case: Case, output: RunOutput, recipe: Recipe, ctx: ExecutionContext, log: tuple[Event, ...]
) -> Result:
    settled = _settled(output, case.fixed.grid)
    return Result(
        settled.transform,
        case.fixed.grid,
        recipe=recipe,
        fixed=case.fixed,
        moving=case.moving,
        output=settled,
        execution={
            "device": str(ctx.device),
            "kernels": ctx.kernels.name,
            "why": ctx.why,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "pairs": output.pairs,
        },
        events=log,
        initial=case.initial,
        extras=case.extras,
        peak_memory_mb=_peak_memory_mb(ctx),
    )


def run(
    fixed: Image,
    moving: Image,
    recipe: Recipe | str = "brain-mri",
    *,
    execution: Execution | None = None,
    initial: Transform | None = None,
    control: Control | None = None,
    extras: Extras | None = None,
) -> Generator[Event, None, Result]:
    """The events of a registration, last RunFinished whose `result` is the Result (also returned).

    Pulling the next event *is* running; not pulling pauses. initial: a transform fixed mm ->
    moving mm, linear or deformable, that replaces the recipe's start. extras: label maps,
    landmarks and further images for the terms that use them, and for the report.
    Raises InputError before any work.
    """
    case = Case(fixed, moving, extras or Extras(), initial)
    for event in run_batch([case], recipe, execution=execution, control=control):
        if isinstance(event, RunFinished):
            (result,) = event.result
            yield replace(event, result=result)
            return result
        yield event
    raise StoppedError("The run ended without a result.")


def _finished(events: Iterable[Event], on_event: Callable[[Event], None] | None) -> Any:
    """Pull all events; what the last one brings."""
    found: Any = None
    for event in events:
        if on_event is not None:
            on_event(event)
        if isinstance(event, RunFinished):
            found = event.result
    return found


def register(
    fixed: Image,
    moving: Image,
    recipe: Recipe | str = "brain-mri",
    *,
    execution: Execution | None = None,
    initial: Transform | None = None,
    control: Control | None = None,
    extras: Extras | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Result:
    """Run to the end and return the Result; `on_event` sees every event.

    Raises InputError, OutOfMemoryError or DivergedError.
    """
    where = {"execution": execution, "control": control}
    events = run(fixed, moving, recipe, initial=initial, extras=extras, **where)
    return _finished(events, on_event)


def register_batch(
    cases: Sequence[Case],
    recipe: Recipe | str = "brain-mri",
    *,
    execution: Execution | None = None,
    control: Control | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> tuple[Result, ...]:
    """`run_batch` to the end: one Result per case, in their order.

    Raises InputError, OutOfMemoryError, or DivergedError where no pair can be compared.
    """
    events = run_batch(cases, recipe, execution=execution, control=control)
    return _finished(events, on_event)


__all__ = ["Execution", "Outcome", "register", "register_batch", "run", "run_batch"]
