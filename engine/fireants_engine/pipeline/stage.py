"""The one loop: a stage optimises one deformation over a pyramid and yields events."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Deformation, Pair
from fireants_engine.optimise import Adam, Descent, Stop
from fireants_engine.pipeline import events as ev
from fireants_engine.pipeline.control import Control
from fireants_engine.pipeline.level import LevelRun, Track, left_by, never_valid
from fireants_engine.pipeline.member import Clock, Member, StageResult
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.pipeline.pyramid import Pyramid
from fireants_engine.similarity import Term


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
        self, members: Sequence[Member], ctx: ExecutionContext, control: Control, clock: Clock
    ) -> Generator[ev.Event, None, list[StageResult]]:
        """Yield events; return each member's StageResult. Pulling is running, not pulling pauses.

        The members' images have the same sizes and spacings.
        """
        every = [_Passage(member) for member in members]
        going, old, state, memory = every, None, None, None
        plan = zip(self.pyramid.levels, self.work(members[0].prepared), strict=True)
        for number, (level, work) in enumerate(plan):
            if control.stopped:
                for passage in going:
                    passage.outcome = ev.Outcome.STOPPED
                break
            terms = [term for term in (t.at(number) for t in self.terms) if term.weight]
            pair = self._pair([passage.member for passage in going], level.shrink, terms)
            if old is None:
                starts = [passage.member.transform for passage in going]
                state = self.deformation.begin(pair, starts, ctx)
                memory = self.descent.init(self.deformation.variable(state), len(going))
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
            parts = (self.name, self.deformation, self.descent, self.stop, terms, pair)
            run = LevelRun(*parts, ctx, control, clock, number)
            listed = [passage.member for passage in going]
            tracks = yield from run.steps(listed, state, memory, level.max_steps, work)
            state = memory = run = None
            for passage, one, track in zip(going, pair.each, tracks, strict=True):
                yield from passage.level_done(self.name, one, track)
            kept = [k for k, passage in enumerate(going) if not passage.outcome.final]
            if not kept:
                break
            going, old = [going[k] for k in kept], pair.rows(kept)
            state, memory = left_by([tracks[k] for k in kept])
        for passage in every:
            yield from passage.judged(self, clock)
        return [passage.result(self) for passage in every]

    def _pair(self, members: Sequence[Member], shrink: float, terms: Sequence[Term]) -> Pair:
        """What the terms look at on one level, of all members."""
        sources = {term.source for term in terms}
        min_size = self.pyramid.min_size
        return Pair.stack([m.prepared.level(shrink, min_size, sources) for m in members])

    def _carry_over(self, state: Any, memory: Any, old: Pair, new: Pair) -> tuple[Any, Any]:
        """State and optimiser memory on the next level's grid, linearly (thesis 3.5)."""

        def resample(buffer: Tensor, power: int) -> Tensor:
            return self.deformation.resample(buffer, power, old, new)

        return self.deformation.carry(state, old, new), self.descent.transfer(memory, resample)


@dataclass
class _Passage:
    """One member's way through a stage; reached: pair and state at the end of its last level."""

    member: Member
    outcome: ev.Outcome = ev.Outcome.MAX_STEPS
    levels: list[ev.LevelFinished] = field(default_factory=list)
    reached: tuple[Pair, Any] | None = None

    def level_done(self, stage: str, pair: Pair, track: Track) -> Generator[ev.Event, None, None]:
        """Take in what a level has left; a level whose loss never was valid leaves nothing."""
        end = track.end
        if end is None:
            self.outcome = ev.Outcome.DIVERGED
            return
        self.outcome, self.reached = track.outcome, (pair, track.state)
        before = self.levels[-1].folds if self.levels else 0
        self.levels.append(end)
        yield end
        if end.folds and (len(self.levels) == 1 or end.folds > (before or 0)):
            yield ev.Warning(
                message=f"{stage}, level {end.level + 1}: the warp folds at {end.folds} "
                f"voxel(s) ({end.fold_fraction:.1e}); raise the warp smoothing if it matters.",
                pair=end.pair,
                seconds=end.seconds,
                fraction=end.fraction,
            )

    def judged(self, stage: Stage, clock: Clock) -> Generator[ev.Event, None, None]:
        """Drop a map that cannot be meant, and say so."""
        problem = self.reached and stage.deformation.problem(self.reached[1])
        if problem:
            self.reached = None
            yield ev.Warning(
                message=f"{stage.name}: its result was dropped, it would {problem}; the images "
                "tell too little for so many parameters: disable the stage, or give masks or a "
                "start that is closer.",
                pair=self.member.number,
                **clock.stamp(),
            )

    def result(self, stage: Stage) -> StageResult:
        """Without a map of its own the stage leaves the one it began with."""
        levels, loss, error = tuple(self.levels), math.nan, None
        if levels:
            loss = levels[-1].loss
        elif self.outcome is ev.Outcome.DIVERGED:
            error = never_valid(stage.name)
        transform = self.member.transform
        if self.reached is not None:
            transform = stage.deformation.transform(*self.reached)
        return StageResult(transform, self.outcome, loss, levels, error)
