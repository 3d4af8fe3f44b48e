"""Member: one pair on its way through a run; and the run's clock."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from fireants_engine.errors import DivergedError
from fireants_engine.pipeline import events as ev
from fireants_engine.pipeline.initialise import InitialAlignment
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.pipeline.preview import Previewer
from fireants_engine.transforms import Transform


@dataclass
class Clock:
    """Time and planned work of a whole run; gives every event its seconds and fraction.

    held: seconds in which the run was paused, which do not count.
    """

    total_work: float
    done_work: float = 0.0
    held: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def stamp(self, extra: float = 0.0) -> dict[str, float]:
        work = (self.done_work + extra) / max(self.total_work, 1e-9)
        seconds = time.perf_counter() - self.started - self.held
        return {"seconds": seconds, "fraction": min(1.0, work)}


@dataclass(frozen=True)
class StageResult:
    """What a stage leaves behind of one pair; error: why there is no more than its start.

    found: what the deformation tells beyond its transform (`Deformation.found`).
    """

    transform: Transform
    outcome: ev.Outcome
    loss: float
    levels: tuple[ev.LevelFinished, ...]
    error: DivergedError | None = None
    found: Any = None


@dataclass(frozen=True)
class RunOutput:
    """The transform fixed mm -> moving mm and how each stage came to it.

    seconds: of the whole run, which in a batch all pairs share (pairs of them). error: why the
    loss of a pair of a batch never was valid.
    """

    transform: Transform
    outcome: ev.Outcome
    initial: InitialAlignment | None
    stages: tuple[tuple[str, StageResult], ...]
    seconds: float
    preview_seconds: float
    pairs: int = 1
    error: DivergedError | None = None


@dataclass
class Member:
    """One pair of a run: what is registered, how far it has come, and how each stage went."""

    number: int
    prepared: Prepared
    previewer: Previewer
    transform: Transform
    initial: InitialAlignment | None = None
    outcome: ev.Outcome = ev.Outcome.MAX_STEPS
    results: list[tuple[str, StageResult]] = field(default_factory=list)

    def take(self, stage: str, result: StageResult) -> None:
        """Go on from what a stage has left."""
        self.transform, self.outcome = result.transform, result.outcome
        self.results.append((stage, result))

    def output(self, seconds: float, pairs: int) -> RunOutput:
        """Where it has come to after `seconds`, among `pairs` pairs."""
        error = next((r.error for _, r in self.results if r.error is not None), None)
        spent = self.previewer.spent_seconds
        results = tuple(self.results)
        return RunOutput(
            self.transform, self.outcome, self.initial, results, seconds, spent, pairs, error
        )
