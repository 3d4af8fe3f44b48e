"""The one loop: a stage optimises one deformation over a pyramid and yields events."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fireants_engine.deformations import Deformation, Pair
from fireants_engine.optimise import Adam, Descent, Stop
from fireants_engine.pipeline import events as ev
from fireants_engine.pipeline.control import Control
from fireants_engine.pipeline.level import LevelRun, Track, left_by, never_valid
from fireants_engine.pipeline.member import Clock, Member, StageResult
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.pipeline.pyramid import Pyramid
from fireants_engine.pipeline.steering import STOP, Course, Place, edited
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
        self, members: Sequence[Member], course: Course, control: Control, clock: Clock
    ) -> Generator[ev.Event, None, list[StageResult]]:
        """Yield events; return each member's StageResult. Pulling is running, not pulling pauses.

        The members' images have the same sizes and spacings. This is the stage as it begins:
        edits change `course.stage`, which is the one that counts from then on.
        """
        every = [_Passage(member) for member in members]
        going, old, state, memory = every, None, None, None
        number = 0
        while number < len(course.stage.pyramid.levels):
            place = Place(course.index, number)
            control.pass_by(place)
            if control.stopped:
                for passage in going:
                    passage.outcome = ev.Outcome.STOPPED
                yield edited(STOP, place, self.name, clock.stamp())
                break
            stage = course.stage
            listed = [passage.member for passage in going]
            pair = course.pair(listed, number)
            if old is None:
                starts = [member.transform for member in listed]
                state = stage.deformation.begin(pair, starts, course.ctx)
                memory = stage.descent.init(stage.deformation.variable(state), len(going))
            else:
                state, memory = stage.carried(state, memory, old, pair)
            yield ev.LevelStarted(
                stage=stage.name,
                level=number,
                levels=len(stage.pyramid.levels),
                shape=pair.fixed_grid.shape,
                max_steps=stage.pyramid.levels[number].max_steps,
                **clock.stamp(),
            )
            run, pair = LevelRun(course, pair, control, clock, number), None
            work = stage.work(listed[0].prepared)[number]
            tracks = yield from run.steps(listed, state, memory, work)
            jump, state, memory, run = run.jump, None, None, None
            for passage, track in zip(going, tracks, strict=True):
                yield from passage.level_done(self.name, track)
            kept = [k for k, passage in enumerate(going) if not passage.outcome.final]
            if not kept:
                break
            going, old = [going[k] for k in kept], tracks[kept[0]].pair
            state, memory = left_by([tracks[k] for k in kept])
            number = number + 1 if jump is None else jump
        for passage in every:
            yield from passage.judged(course.stage, clock)
        return [passage.result(course.stage) for passage in every]

    def carried(self, state: Any, memory: Any, old: Pair, new: Pair) -> tuple[Any, Any]:
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

    def level_done(self, stage: str, track: Track) -> Generator[ev.Event, None, None]:
        """Take in what a level has left; a level whose loss never was valid leaves nothing."""
        end = track.end
        if end is None:
            self.outcome = ev.Outcome.DIVERGED
            return
        assert track.pair is not None
        self.outcome, self.reached = track.outcome, (track.pair, track.state)
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
        transform, found = self.member.transform, None
        if self.reached is not None:
            transform = stage.deformation.transform(*self.reached)
            found = stage.deformation.found(*self.reached)
        return StageResult(transform, self.outcome, loss, levels, error, found)
