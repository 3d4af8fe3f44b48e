"""Register two images: the generator, and the call that blocks."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import torch

from fireants_engine.context import ExecutionContext
from fireants_engine.errors import InputError, StoppedError
from fireants_engine.geometry import Grid, Image
from fireants_engine.pipeline import (
    Control,
    Event,
    Extras,
    Outcome,
    Preview,
    RunFinished,
    RunOutput,
    run_plan,
)
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
    recipe = Recipe.preset(recipe) if isinstance(recipe, str) else recipe
    execution = execution or Execution()
    ctx = ExecutionContext.create(execution.device, execution.kernels)
    if initial is not None and initial.dim != fixed.dim:
        raise InputError(
            f"The initial transform is {initial.dim}D but {fixed.name} is {fixed.dim}D."
        )
    extras = extras or Extras()
    torch.manual_seed(recipe.seed)
    if ctx.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(ctx.device)
    log: list[Event] = []
    for event in run_plan(build(recipe, initial), fixed, moving, ctx, control, extras):
        if isinstance(event, RunFinished):
            log.append(replace(event, result=None))
            output = _settled(event.result, fixed.grid)
            result = Result(
                output.transform,
                fixed.grid,
                recipe=recipe,
                fixed=fixed,
                moving=moving,
                output=output,
                execution={
                    "device": str(ctx.device),
                    "kernels": ctx.kernels.name,
                    "why": ctx.why,
                    "threads": torch.get_num_threads(),
                    "machine": platform.machine(),
                },
                events=tuple(log),
                initial=initial,
                extras=extras,
                peak_memory_mb=_peak_memory_mb(ctx),
            )
            yield replace(event, result=result)
            return result
        if not isinstance(event, Preview):
            log.append(event)
        yield event
    raise StoppedError("The run ended without a result.")


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
    result: Result | None = None
    events = run(
        fixed,
        moving,
        recipe,
        execution=execution,
        initial=initial,
        control=control,
        extras=extras,
    )
    for event in events:
        if on_event is not None:
            on_event(event)
        if isinstance(event, RunFinished):
            result = event.result
    assert result is not None
    return result


__all__ = ["Execution", "Outcome", "register", "run"]
