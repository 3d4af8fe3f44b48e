"""One level of a stage: its steps, for one pair or for the pairs of a batch side by side."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Deformation, Pair, Source, Views
from fireants_engine.errors import DivergedError
from fireants_engine.ops.rows import join, per_pair, take
from fireants_engine.optimise import Descent, Stop
from fireants_engine.pipeline import events as ev
from fireants_engine.pipeline.control import Control
from fireants_engine.pipeline.member import Clock, Member
from fireants_engine.similarity import Loss, Term

CHECK_EVERY = 5
"""Steps between two looks at the loss: the only device synchronisations of the loop."""

Losses = list[tuple[Term, Loss]]


@dataclass
class Track:
    """One pair's way through a level: its losses, the best state seen at a check, how it ended.

    state, memory: what it leaves to the next level; end: None when its loss was never valid.
    """

    member: Member
    start: Any
    best: Any
    best_loss: float = float("inf")
    history: list[float] = field(default_factory=list)
    taken: int = 0
    outcome: ev.Outcome = ev.Outcome.MAX_STEPS
    reason: str = "all planned steps taken"
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


@dataclass
class LevelRun:
    """The steps of one level; `tracks` are the pairs that are still on their way.

    A pair that has ended leaves the batch, and the others go on without it.
    """

    stage: str
    deformation: Deformation
    descent: Descent
    stop: Stop
    terms: Sequence[Term]
    pair: Pair
    ctx: ExecutionContext
    control: Control
    clock: Clock
    number: int
    tracks: list[Track] = field(default_factory=list)

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

    def _step(self, losses: Losses, state: Any, memory: Any, step: float):
        """One update: (losses before it, new state, new memory)."""
        model = self.deformation
        leaf = model.variable(state).detach().requires_grad_(True)
        total = self.loss(self.pair, losses, model.with_variable(state, leaf))
        (grad,) = torch.autograd.grad(total.sum(), leaf)
        with torch.no_grad():
            grad = model.precondition(self.pair, state, grad, self.ctx)
            total = total.detach()
            way, memory = self.descent.direction(grad, memory, total, self.ctx.kernels)
            del grad
            # An invalid step is not taken and shows as an invalid loss; nothing is read back.
            sizes = per_pair(way.peaks, len(total))
            valid = torch.isfinite(total) & torch.isfinite(sizes).all(1)
            moved = model.retract(self.pair, state, way.where(valid), step, self.ctx)
            before, after = model.variable(state), model.variable(moved)
            variable, memory = self.descent.accept(before, after, memory)
            state = model.with_variable(moved, variable)
        return torch.where(valid, total, torch.nan), state, memory

    def steps(
        self, members: Sequence[Member], state: Any, memory: Any, max_steps: int, work: float
    ) -> Generator[ev.Event, None, list[Track]]:
        """Yield the events of the level; return each member's track, ended."""
        rows = [take(state, [k], len(members)) for k in range(len(members))]
        every = [Track(m, row, row) for m, row in zip(members, rows, strict=True)]
        self.tracks = list(every)
        losses = self.bound(self.pair)
        pending: list[Tensor] = []
        for i in range(max_steps):
            if self.control.stopped:
                for track in self.tracks:
                    track.outcome, track.reason = ev.Outcome.STOPPED, "stopped on request"
                break
            before = state
            step = self.descent.step_at(i, max_steps)
            loss, state, memory = self._step(losses, state, memory, step)
            pending.append(loss)
            for track in self.tracks:
                track.taken = i + 1
            stamp = self.clock.stamp(work * (i + 1) / max_steps)
            yield from self._preview(state, stamp)
            if (i + 1) % CHECK_EVERY and i + 1 != max_steps:
                continue
            per_track = torch.stack(pending).T.tolist()
            pending.clear()
            ended = self._check(per_track, before)
            yield from self._iterations(per_track, max_steps, stamp)
            if ended:
                state, memory, losses = self._leave(ended, losses, state, memory)
            if not self.tracks:
                break
        if pending:  # stopped between two looks
            per_track = torch.stack(pending).T.tolist()
            yield from self._iterations(per_track, max_steps, self.clock.stamp(work))
        self.clock.done_work += work
        self._leave(range(len(self.tracks)), losses, state, memory)
        for track in every:
            track.end = track.end and replace(track.end, **self.clock.stamp())
        return every

    def _preview(self, state: Any, stamp: dict[str, float]) -> Generator[ev.Event, None, None]:
        """The first pair's picture, when somebody asks and time allows."""
        member = self.tracks[0].member
        if not member.previewer.affordable(stamp["seconds"]):
            return
        if request := self.control.take_request():
            own = take(state, [0], len(self.tracks))
            transform = self.deformation.transform(self.pair.each[0], own)
            made = member.previewer
            yield ev.Preview(
                stage=self.stage,
                frames=made.frames(request, transform),
                warps=made.warps(request, transform),
                points_mm=made.points(request, transform),
                pair=member.number,
                **stamp,
            )

    def _check(self, per_track: list[list[float]], before: Any) -> list[int]:
        """Show every track its last losses; positions of those that end."""
        pairs = len(self.tracks)
        return [
            k
            for k, (track, fresh) in enumerate(zip(self.tracks, per_track, strict=True))
            if track.look(fresh, take(before, [k], pairs), self.stop)
        ]

    def _iterations(
        self, per_track: list[list[float]], max_steps: int, stamp: dict[str, float]
    ) -> Generator[ev.Event, None, None]:
        """What the tracks have come to, but for those whose loss is invalid."""
        for track, fresh in zip(self.tracks, per_track, strict=True):
            if track.outcome is ev.Outcome.DIVERGED:
                continue
            yield ev.Iteration(
                stage=self.stage,
                level=self.number,
                step=track.taken,
                max_steps=max_steps,
                loss=fresh[-1],
                losses=tuple(fresh),
                pair=track.member.number,
                **stamp,
            )

    def _leave(self, ended: Sequence[int], losses: Losses, state: Any, memory: Any):
        """End the tracks at these positions: (state, memory, losses) of the others."""
        pairs = len(self.tracks)
        if not ended:
            return state, memory, losses
        with torch.no_grad():
            last = self.loss(self.pair, losses, state).tolist()
        for k in ended:
            track = self.tracks[k]
            track.state, track.memory = take(state, [k], pairs), take(memory, [k], pairs)
            alone = losses if pairs == 1 else None
            self._finish(track, self.pair.each[k], last[k], alone)
        rest = [k for k in range(pairs) if k not in ended]
        self.tracks = [self.tracks[k] for k in rest]
        if not rest:
            return state, memory, losses
        self.pair = self.pair.rows(rest)
        return take(state, rest, pairs), take(memory, rest, pairs), self.bound(self.pair)

    def _finish(self, track: Track, pair: Pair, loss: float, losses: Losses | None) -> None:
        """Choose between the last state and the best one seen; count folds strictly."""
        diverged = track.outcome is ev.Outcome.DIVERGED
        if diverged or not -math.inf < loss <= track.best_loss:  # also when NaN
            track.state, loss = track.best, track.best_loss
        if not math.isfinite(loss):
            return
        with torch.no_grad():
            track.state, folds = self.deformation.settle(track.state)
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
