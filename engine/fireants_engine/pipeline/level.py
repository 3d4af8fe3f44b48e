"""One level of a stage: its steps, for one pair or for the pairs of a batch side by side."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fireants_engine.deformations import Pair, Source, Views
from fireants_engine.errors import DivergedError, InputError
from fireants_engine.ops.rows import join, per_pair, take
from fireants_engine.optimise import Stop
from fireants_engine.pipeline import events as ev
from fireants_engine.pipeline.control import Control
from fireants_engine.pipeline.member import Clock, Member
from fireants_engine.pipeline.steering import STOP, Course, Edit, Place, edited, realigned
from fireants_engine.similarity import Loss, Term

CHECK_EVERY = 5
"""Steps between two looks at the loss: the only device synchronisations of the loop."""

Losses = list[tuple[Term, Loss]]


@dataclass
class Track:
    """One pair's way through a level: its losses, the best state seen at a check, how it ended.

    state, memory: what it leaves to the next level, on the images of pair; end: None when its
    loss was never valid.
    """

    member: Member
    start: Any
    best: Any
    best_loss: float = float("inf")
    history: list[float] = field(default_factory=list)
    taken: int = 0
    outcome: ev.Outcome = ev.Outcome.MAX_STEPS
    reason: str = "all planned steps taken"
    pair: Pair | None = None
    state: Any = None
    memory: Any = None
    end: ev.LevelFinished | None = None

    def look(self, fresh: list[float], before: Any, stop: Stop) -> bool:
        """Take in the losses of the last steps; True when this pair's level ends here.

        before: the state that the last of them belongs to.
        """
        valid = all(map(math.isfinite, fresh))
        if valid:
            self.history += fresh
        if self.start is not None and fresh[0] < self.best_loss:
            self.best, self.best_loss = self.start, fresh[0]
        self.start = None
        if not valid:
            self.outcome, self.reason = ev.Outcome.DIVERGED, "the loss became invalid"
            return True
        if fresh[-1] < self.best_loss:
            self.best, self.best_loss = before, fresh[-1]
        if why := stop.reached(self.history):
            self.outcome, self.reason = ev.Outcome.CONVERGED, why
            return True
        return False


class LevelRun:
    """The steps of one level; `tracks` are the pairs that are still on their way.

    A pair that has ended leaves the batch, and the others go on without it. state, memory: of
    those pairs; jump: the level that an edit sends the stage to.
    """

    def __init__(
        self, course: Course, pair: Pair, control: Control, clock: Clock, number: int
    ) -> None:
        self.course, self.pair, self.number = course, pair, number
        self.control, self.clock, self.ctx = control, clock, course.ctx
        self.tracks: list[Track] = []
        self.state: Any = None
        self.memory: Any = None
        self.jump: int | None = None
        self._losses: Losses = []
        self._pending: list[Tensor] = []
        self._taken = self._begun = 0  # steps are counted anew from an edit
        self._work = 0.0
        self._follow()

    def _follow(self) -> None:
        """Take the stage as it stands."""
        stage = self.course.stage
        self.stage, self.deformation, self.stop = stage.name, stage.deformation, stage.stop
        level = stage.pyramid.levels[self.number]
        self.descent, self.max_steps, self.step = stage.descent, level.max_steps, level.step
        self.terms = self.course.terms(self.number)

    @property
    def _place(self) -> Place:
        return Place(self.course.index, self.number, self._taken)

    def _stamp(self) -> dict[str, float]:
        """Seconds and fraction after the steps that were taken."""
        return self.clock.stamp(self._work * (self._taken - self._begun) / self.max_steps)

    def bound(self, pair: Pair) -> Losses:
        """Every term with its loss on `pair`."""
        return [(term, term.bind(pair.of(term.source), self.ctx)) for term in self.terms]

    def loss(self, pair: Pair, losses: Losses, state: Any) -> Tensor:
        """The weighted sum of all terms for each pair of the batch, (N,)."""
        motion = self.deformation.motion(pair, state, self.ctx)
        pairs = len(pair.each)
        seen: dict[Source, Views] = {}
        total = torch.zeros(pairs, device=self.ctx.device, dtype=self.ctx.dtype)
        for term, loss in losses:
            if term.source not in seen:
                seen[term.source] = motion.views(pair.of(term.source), self.ctx)
            value = loss(seen[term.source])
            if value.numel() != pairs:
                raise TypeError(f"{type(term).__name__} gave {value.numel()} losses, not {pairs}")
            total = total + term.weight * value.reshape(pairs)
        return total

    def _step(self) -> Tensor:
        """One update; the losses before it."""
        model, state = self.deformation, self.state
        done = self._taken - self._begun
        step = self.step * self.descent.step_at(done, self.max_steps)
        leaf = model.variable(state).detach().requires_grad_(True)
        total = self.loss(self.pair, self._losses, model.with_variable(state, leaf))
        (grad,) = torch.autograd.grad(total.sum(), leaf)
        with torch.no_grad():
            grad = model.precondition(self.pair, state, grad, self.ctx)
            total = total.detach()
            way, memory = self.descent.direction(grad, self.memory, total, self.ctx.kernels)
            self.memory = None
            del grad
            # An invalid step is not taken and shows as an invalid loss; nothing is read back.
            sizes = per_pair(way.peaks, len(total))
            valid = torch.isfinite(total) & torch.isfinite(sizes).all(1)
            moved = model.retract(self.pair, state, way.where(valid), step, self.ctx)
            before, after = model.variable(state), model.variable(moved)
            variable, self.memory = self.descent.accept(before, after, memory)
            self.state = model.with_variable(moved, variable)
        return torch.where(valid, total, torch.nan)

    def steps(
        self, members: Sequence[Member], state: Any, memory: Any, work: float
    ) -> Generator[ev.Event, None, list[Track]]:
        """Yield the events of the level; return each member's track, ended."""
        self.state, self.memory, self._work = state, memory, work
        rows = [take(state, [k], len(members)) for k in range(len(members))]
        every = [Track(m, row, row) for m, row in zip(members, rows, strict=True)]
        self.tracks = list(every)
        self._losses = self.bound(self.pair)
        del state, memory, rows
        while self.tracks and self._taken - self._begun < self.max_steps:
            yield from self._attend()
            if self._called_off():
                break
            before = self.state
            self._pending.append(self._step())
            self._taken += 1
            for track in self.tracks:
                track.taken = self._taken
            done = self._taken - self._begun
            if done % CHECK_EVERY == 0 or done == self.max_steps:
                yield from self._checked(before)
        yield from self._told()  # stopped between two looks
        if self.control.stopped and self.tracks:
            yield edited(STOP, self._place, self.stage, self._stamp())
        self.clock.done_work += work
        self._leave(range(len(self.tracks)))
        for track in every:
            track.end = track.end and replace(track.end, **self.clock.stamp())
        return every

    def _called_off(self) -> bool:
        """Somebody has stopped the run, or sent the stage to another level."""
        outcome, reason = ev.Outcome.STOPPED, "stopped on request"
        if self.jump is not None and not self.control.stopped:
            outcome, reason = ev.Outcome.MAX_STEPS, f"on to level {self.jump + 1}, as asked for"
        elif not self.control.stopped:
            return False
        for track in self.tracks:
            track.outcome, track.reason = outcome, reason
        return True

    # ------------------------------------------------------------- between two steps
    def _attend(self) -> Generator[ev.Event, None, None]:
        """What others want before the next step: edits, pictures, a pause."""
        previewer = self.tracks[0].member.previewer
        while True:
            for edit in self.control.take_edits(self._place):
                yield from self._told()
                try:
                    self._take(edit)
                except InputError as error:
                    message = f"Not followed: {error}"
                    yield ev.Warning(message=message, pair=0, **self._stamp())
                    continue
                if not edit.stop:
                    previewer.owed = True
                    yield edited(edit, self._place, self.stage, self._stamp())
            yield from self._preview()
            if not self.control.paused:
                return
            self.clock.held += self.control.hold()

    def _take(self, edit: Edit) -> None:
        """Follow an edit. Losses before and after it cannot be compared: what was seen of them
        is forgotten, and the steps of the level begin anew."""
        if edit.stop:
            self.control.stop()
            return
        known = self.course.cases[0].extras.landmarks
        marks = known if edit.landmarks is None else edit.landmarks
        moved = realigned(self.deformation, self.pair.each[0], self.state, edit, marks)
        self.course.take(edit)
        self.state, self.jump = moved, self.jump if edit.level is None else edit.level
        self._follow()
        pair = self.course.pair([track.member for track in self.tracks], self.number)
        if pair.fixed_grid.shape != self.pair.fixed_grid.shape:
            self.state = self.deformation.carry(self.state, self.pair, pair)
        self.pair, self._begun = pair, self._taken
        pairs = len(self.tracks)
        for k, track in enumerate(self.tracks):
            track.start = track.best = take(self.state, [k], pairs)
            track.best_loss, track.history = math.inf, []
        self.memory = self.descent.init(self.deformation.variable(self.state), pairs)
        self._losses = self.bound(self.pair)

    def _preview(self) -> Generator[ev.Event, None, None]:
        """The first pair's picture, when somebody asks and time allows. Of a paused run it takes
        no time."""
        member, stamp, paused = self.tracks[0].member, self._stamp(), self.control.paused
        if not paused and not member.previewer.affordable(stamp["seconds"]):
            return
        if request := self.control.take_request():
            own = take(self.state, [0], len(self.tracks))
            pair = self.pair.each[0]
            made = member.previewer.make(
                request,
                lambda: self.deformation.transform(pair, own),
                lambda: self.deformation.found(pair, own),
            )
            if paused:
                self.clock.held += member.previewer.last_seconds
            else:
                member.previewer.spent_seconds += member.previewer.last_seconds
            told = {**stamp, "stage": self.stage, "pair": member.number}
            yield ev.Preview(**made, **told)

    # ------------------------------------------------------------- looks at the loss
    def _told(self) -> Generator[ev.Event, None, list[list[float]]]:
        """Tell the losses that nobody has looked at: those of each track."""
        if not self._pending:
            return [[] for _ in self.tracks]
        per_track = torch.stack(self._pending).T.tolist()
        self._pending.clear()
        for track, fresh in zip(self.tracks, per_track, strict=True):
            if all(map(math.isfinite, fresh)):
                yield self._iteration(track, fresh)
        return per_track

    def _checked(self, before: Any) -> Generator[ev.Event, None, None]:
        """Show every track its last losses, and let those go that end by them.

        before: the state that the last of them belongs to.
        """
        per_track = yield from self._told()
        pairs = len(self.tracks)
        ended = [
            k
            for k, (track, fresh) in enumerate(zip(self.tracks, per_track, strict=True))
            if track.look(fresh, take(before, [k], pairs), self.stop)
        ]
        self._leave(ended)

    def _iteration(self, track: Track, fresh: list[float]) -> ev.Iteration:
        return ev.Iteration(
            stage=self.stage,
            level=self.number,
            step=track.taken,
            max_steps=self._begun + self.max_steps,
            loss=fresh[-1],
            losses=tuple(fresh),
            pair=track.member.number,
            **self._stamp(),
        )

    def _leave(self, ended: Sequence[int]) -> None:
        """End the tracks at these positions; the others go on."""
        pairs = len(self.tracks)
        if not ended:
            return
        with torch.no_grad():
            last = self.loss(self.pair, self._losses, self.state).tolist()
        for k in ended:
            track = self.tracks[k]
            track.pair = self.pair.each[k]
            track.state, track.memory = (
                take(value, [k], pairs) for value in (self.state, self.memory)
            )
            self._finish(track, track.pair, last[k], self._losses if pairs == 1 else None)
        rest = [k for k in range(pairs) if k not in ended]
        self.tracks = [self.tracks[k] for k in rest]
        if rest:
            self.pair = self.pair.rows(rest)
            self.state, self.memory = (
                take(value, rest, pairs) for value in (self.state, self.memory)
            )
            self._losses = self.bound(self.pair)

    def _finish(self, track: Track, pair: Pair, loss: float, losses: Losses | None) -> None:
        """Choose between the last state and the best one seen; count folds strictly."""
        diverged = track.outcome is ev.Outcome.DIVERGED
        if diverged or not -math.inf < loss <= track.best_loss:  # also when NaN
            track.state, loss = track.best, track.best_loss
        if not math.isfinite(loss):
            return
        with torch.no_grad():
            track.state, folds = self.deformation.settle(pair, track.state)
            if folds is not None and folds.removed:
                losses = self.bound(pair) if losses is None else losses
                loss = float(self.loss(pair, losses, track.state))
        track.end = ev.LevelFinished(
            stage=self.stage,
            level=self.number,
            steps=track.taken,
            loss=loss,
            reason=track.reason,
            folds=None if folds is None else folds.left,
            fold_fraction=None if folds is None else folds.fraction,
            unfolded=0 if folds is None else folds.removed,
            pair=track.member.number,
            **self.clock.stamp(),
        )


def never_valid(stage: str) -> DivergedError:
    """What is said where not even the first loss was a number."""
    return DivergedError(
        f"{stage}: the loss was invalid from the first step; check the images for extreme values "
        "and the step size."
    )


def left_by(tracks: Sequence[Track]) -> tuple[Any, Any]:
    """State and memory of these pairs as one batch."""
    return join([track.state for track in tracks]), join([track.memory for track in tracks])
