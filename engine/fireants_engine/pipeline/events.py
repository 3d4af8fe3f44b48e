"""Events: what a run tells whoever pulls it. Frozen; CPU data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np


class Outcome(Enum):
    """How a stage or run ended, with the sentence shown to people."""

    CONVERGED = "Converged: further steps no longer improved the match."
    MAX_STEPS = "Finished: all planned steps were taken."
    STOPPED = "Stopped on request; the best state so far was kept."
    DIVERGED = "The loss became invalid; the last good state was kept."

    @property
    def final(self) -> bool:
        """True where nothing follows: no further level, no further stage."""
        return self in (Outcome.STOPPED, Outcome.DIVERGED)


@dataclass(frozen=True)
class Event:
    """Base; `seconds` since the run started, `fraction` of the planned work done."""

    seconds: float = 0.0
    fraction: float = 0.0


@dataclass(frozen=True)
class RunStarted(Event):
    """plan: stages and levels as resolved for these images (`Plan.to_dict`); pairs: of the batch.

    Further events that concern one pair of a batch say which: `pair`, from 0.
    """

    plan: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    kernels: str = "reference"
    why: str = ""
    pairs: int = 1


@dataclass(frozen=True)
class StageStarted(Event):
    stage: str = ""
    index: int = 0
    stages: int = 0


@dataclass(frozen=True)
class LevelStarted(Event):
    stage: str = ""
    level: int = 0
    levels: int = 0
    shape: tuple[int, ...] = ()
    max_steps: int = 0


@dataclass(frozen=True)
class Iteration(Event):
    """Progress every few steps; `losses` are those of the steps since the last such event."""

    stage: str = ""
    level: int = 0
    step: int = 0
    max_steps: int = 0
    loss: float = float("nan")
    losses: tuple[float, ...] = ()
    pair: int = 0


@dataclass(frozen=True)
class Preview(Event):
    """Moving image through the present transform: key -> float32 array on the fixed grid.

    A key is (array axis, index) for one plane, or None for the whole (possibly coarse) volume.
    warps: the deformable part there, a Displacement on three planes with the shown one in the
    middle, or on the coarse grid; points_mm: points of the fixed image in the moving one, now.
    found: what the deformation tells beyond its map, as `StageResult.found`, on the level's grid
    and device. All three only when asked for.
    """

    stage: str = ""
    frames: Mapping[Any, np.ndarray] = field(default_factory=dict)
    warps: Mapping[Any, Any] = field(default_factory=dict)
    points_mm: np.ndarray | None = None
    found: Any = None
    pair: int = 0


@dataclass(frozen=True)
class Edited(Event):
    """The run was changed after `step` steps of level `level` of stage number `index`.

    what: a sentence; values: what a replay needs (recipe, landmarks, nudge, from_level, stop);
    masks: role -> Image, kept as files.
    """

    stage: str = ""
    index: int = 0
    level: int = 0
    step: int = 0
    what: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    masks: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Warning(Event):
    """Something worth a sentence that does not stop the run."""

    message: str = ""
    pair: int = 0


@dataclass(frozen=True)
class LevelFinished(Event):
    """reason: why the level ended; folds: strict count on the level's grid (None: cannot fold).

    unfolded: folded voxels that were removed by smoothing the warp there.
    """

    stage: str = ""
    level: int = 0
    steps: int = 0
    loss: float = float("nan")
    reason: str = ""
    folds: int | None = None
    fold_fraction: float | None = None
    unfolded: int = 0
    pair: int = 0


@dataclass(frozen=True)
class StageFinished(Event):
    stage: str = ""
    outcome: Outcome = Outcome.MAX_STEPS
    loss: float = float("nan")
    pair: int = 0


@dataclass(frozen=True)
class RunFinished(Event):
    """result: the Result (recipe layer) or RunOutput (pipeline) of the run; of a batch a tuple."""

    outcome: Outcome = Outcome.MAX_STEPS
    result: Any = None


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return value


def to_dict(event: Event) -> dict[str, Any]:
    """The event as plain JSON values; pictures and results are left out."""
    skip = {"result", "frames", "warps", "points_mm"}
    names = [f.name for f in fields(event) if f.name not in skip]
    values = {name: getattr(event, name) for name in names}
    if isinstance(event, Edited):
        values["masks"] = sorted(event.masks)
    body = {name: _plain(value) for name, value in values.items()}
    return {"event": type(event).__name__, **body}
