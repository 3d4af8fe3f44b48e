"""The one loop: a stage optimises one deformation over a pyramid and yields events."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Deformation, Pair, Source, Views
from fireants_engine.errors import DivergedError
from fireants_engine.optimise import Adam, Descent, Stop
from fireants_engine.pipeline import events as ev
from fireants_engine.pipeline.control import Control
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.pipeline.preview import Previewer
from fireants_engine.pipeline.pyramid import Pyramid
from fireants_engine.similarity import Loss, Term
from fireants_engine.transforms import Transform

CHECK_EVERY = 5
"""Steps between two looks at the loss: the only device synchronisations of the loop."""


@dataclass
class Clock:
    """Time and planned work of a whole run; gives every event its seconds and fraction."""

    total_work: float
    done_work: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def stamp(self, extra: float = 0.0) -> dict[str, float]:
        work = (self.done_work + extra) / max(self.total_work, 1e-9)
        return {"seconds": time.perf_counter() - self.started, "fraction": min(1.0, work)}


@dataclass(frozen=True)
class StageResult:
    """What a stage leaves behind."""

    transform: Transform
    outcome: ev.Outcome
    loss: float
    levels: tuple[ev.LevelFinished, ...]


@dataclass(frozen=True)
class Stage:
    """Deformation, terms, descent, pyramid and stop rule; knows nothing of recipes or windows."""

    name: str
    deformation: Deformation
    terms: tuple[Term, ...]
    descent: Descent = field(default_factory=Adam)
    pyramid: Pyramid = Pyramid(())  # noqa: RUF009 - frozen
    stop: Stop = Stop()  # noqa: RUF009 - frozen

    def work(self, prepared: Prepared) -> list[float]:
        """Planned work per level in voxel steps (for progress; nothing else)."""
        out = []
        for level in self.pyramid.levels:
            grid = prepared.level_grid(level.shrink, self.pyramid.min_size)
            out.append(float(grid.voxels) * level.max_steps)
        return out

    def run(
        self,
        prepared: Prepared,
        initial: Transform,
        ctx: ExecutionContext,
        control: Control,
        previewer: Previewer,
        clock: Clock,
    ) -> Generator[ev.Event, None, StageResult]:
        """Yield events; return the StageResult. Pulling is running, not pulling pauses."""
        old: Pair | None = None
        state: Any = None
        memory: Any = None
        finished: list[ev.LevelFinished] = []
        outcome = ev.Outcome.MAX_STEPS
        transform = initial
        for number, (level, work) in enumerate(
            zip(self.pyramid.levels, self.work(prepared), strict=True)
        ):
            if control.stopped:
                outcome = ev.Outcome.STOPPED
                break
            terms = [term for term in (t.at(number) for t in self.terms) if term.weight]
            sources = {term.source for term in terms}
            pair = prepared.level(level.shrink, self.pyramid.min_size, sources)
            if old is None:
                state = self.deformation.init(pair, initial, ctx)
                memory = self.descent.init(self.deformation.variable(state))
            else:
                state, memory = self._carry_over(state, memory, old, pair)
            yield ev.LevelStarted(
                stage=self.name,
                level=number,
                levels=len(self.pyramid.levels),
                shape=pair.fixed_grid.shape,
                max_steps=level.max_steps,
                **clock.stamp(),
            )
            run = _LevelRun(self, terms, pair, ctx, control, previewer, clock, number)
            try:
                state, memory, outcome, end = yield from run.steps(
                    state, memory, level.max_steps, work
                )
            except DivergedError:
                if not finished:
                    raise
                outcome = ev.Outcome.DIVERGED  # the earlier levels' result stays
                break
            finished.append(end)
            yield end
            if end.folds and (not finished[:-1] or end.folds > (finished[-2].folds or 0)):
                yield ev.Warning(
                    message=f"{self.name}, level {number + 1}: the warp folds at {end.folds} "
                    f"voxel(s) ({end.fold_fraction:.1e}); raise the warp smoothing if it matters.",
                    **clock.stamp(),
                )
            old = pair
            transform = self.deformation.transform(pair, state)
            if outcome in (ev.Outcome.STOPPED, ev.Outcome.DIVERGED):
                break
        loss = finished[-1].loss if finished else float("nan")
        return StageResult(transform, outcome, loss, tuple(finished))

    def _carry_over(self, state: Any, memory: Any, old: Pair, new: Pair) -> tuple[Any, Any]:
        """State and optimiser memory on the next level's grid, linearly (thesis 3.5)."""

        def resample(buffer: Tensor, power: int) -> Tensor:
            return self.deformation.resample(buffer, power, old, new)

        return self.deformation.carry(state, old, new), self.descent.transfer(memory, resample)


@dataclass
class _LevelRun:
    """One level's steps, with the best state seen at a check kept aside."""

    stage: Stage
    terms: list[Term]
    pair: Pair
    ctx: ExecutionContext
    control: Control
    previewer: Previewer
    clock: Clock
    number: int

    def _loss(self, losses: list[tuple[Term, Loss]], state: Any) -> Tensor:
        motion = self.stage.deformation.motion(self.pair, state, self.ctx)
        seen: dict[Source, Views] = {}
        total = torch.zeros((), device=self.ctx.device, dtype=self.ctx.dtype)
        for term, loss in losses:
            if term.source not in seen:
                seen[term.source] = motion.views(self.pair.of(term.source), self.ctx)
            total = total + term.weight * loss(seen[term.source])
        return total

    def _step(self, losses: list[tuple[Term, Loss]], state: Any, memory: Any, step: float):
        """One update: (loss before it, new state, new memory)."""
        model = self.stage.deformation
        leaf = model.variable(state).detach().requires_grad_(True)
        total = self._loss(losses, model.with_variable(state, leaf))
        (grad,) = torch.autograd.grad(total, leaf)
        with torch.no_grad():
            grad = model.precondition(self.pair, state, grad, self.ctx)
            total = total.detach()
            direction, memory = self.stage.descent.direction(grad, memory, total)
            del grad
            # An invalid step is not taken and shows as an invalid loss; nothing is read back.
            valid = torch.isfinite(total) & torch.isfinite(direction.sum())
            direction = torch.where(valid, direction, 0.0)
            moved = model.retract(self.pair, state, direction, step, self.ctx)
            before, after = model.variable(state), model.variable(moved)
            variable, memory = self.stage.descent.accept(before, after, memory)
            state = model.with_variable(moved, variable)
        return torch.where(valid, total, torch.nan), state, memory

    def steps(
        self, state: Any, memory: Any, max_steps: int, work: float
    ) -> Generator[ev.Event, None, tuple[Any, Any, ev.Outcome, ev.LevelFinished]]:
        stage, control = self.stage, self.control
        losses = [(t, t.bind(self.pair.of(t.source), self.ctx)) for t in self.terms]
        pending: list[Tensor] = []
        history: list[float] = []
        start, best, best_loss = state, state, float("inf")
        outcome, reason, taken = ev.Outcome.MAX_STEPS, "all planned steps taken", 0
        for i in range(max_steps):
            if control.stopped:
                outcome, reason = ev.Outcome.STOPPED, "stopped on request"
                break
            before = state
            step = stage.descent.step_at(i, max_steps)
            loss, state, memory = self._step(losses, state, memory, step)
            pending.append(loss)
            taken = i + 1
            stamp = self.clock.stamp(work * taken / max_steps)
            affordable = self.previewer.affordable(stamp["seconds"])
            if affordable and (request := control.take_request()):
                transform = stage.deformation.transform(self.pair, state)
                frames = self.previewer.frames(request, transform)
                yield ev.Preview(stage=stage.name, frames=frames, **stamp)
            if taken % CHECK_EVERY and taken != max_steps:
                continue
            fresh = torch.stack(pending).tolist()
            pending.clear()
            if not all(map(math.isfinite, fresh)):
                outcome, reason, state = ev.Outcome.DIVERGED, "the loss became invalid", best
                break
            history += fresh
            if start is not None and fresh[0] < best_loss:
                best, best_loss = start, fresh[0]
            start = None
            if fresh[-1] < best_loss:
                best, best_loss = before, fresh[-1]
            yield self._iteration(taken, max_steps, fresh, stamp)
            if why := stage.stop.reached(history):
                outcome, reason = ev.Outcome.CONVERGED, why
                break
        if pending:  # stopped between two looks
            losses_left = torch.stack(pending).tolist()
            yield self._iteration(taken, max_steps, losses_left, self.clock.stamp(work))
        self.clock.done_work += work
        return self._end(losses, state, memory, outcome, reason, best, best_loss, taken)

    def _iteration(
        self, taken: int, max_steps: int, fresh: list[float], stamp: dict[str, float]
    ) -> ev.Iteration:
        return ev.Iteration(
            stage=self.stage.name,
            level=self.number,
            step=taken,
            max_steps=max_steps,
            loss=fresh[-1],
            losses=tuple(fresh),
            **stamp,
        )

    def _end(self, losses, state, memory, outcome, reason, best, best_loss, taken):
        """Choose between the last state and the best one seen; count folds strictly."""
        with torch.no_grad():
            loss = float(self._loss(losses, state))
        if not -math.inf < loss <= best_loss:  # also when NaN
            state, loss = best, best_loss
        if not math.isfinite(loss):
            raise DivergedError(
                f"{self.stage.name}: the loss was invalid from the first step; check the images "
                "for extreme values and the step size."
            )
        with torch.no_grad():
            state, folds = self.stage.deformation.settle(state)
            if folds is not None and folds.removed:
                loss = float(self._loss(losses, state))
        end = ev.LevelFinished(
            stage=self.stage.name,
            level=self.number,
            steps=taken,
            loss=loss,
            reason=reason,
            folds=None if folds is None else folds.left,
            fold_fraction=None if folds is None else folds.fraction,
            unfolded=0 if folds is None else folds.removed,
            **self.clock.stamp(),
        )
        return state, memory, outcome, end
