"""Where landmarks of the moving image lie in the fixed one, through a map known point by point.

A preview says where a few points go, not where others come from. For every landmark p of the
moving image an anchor g in the fixed one is followed: the map is asked at g and a little beside it
along each axis, which gives T(g) and J = DT(g), and g + J^-1 (p - T(g)) is where p is seen, to
first order; it is the next anchor (Newton's method, one step a preview). Affine maps are met at
once, others after a few previews, also while they change. No Qt, no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from napari_fireants._landmarks import Place, Row

ROUNDS = 12
_REMEMBERED = 8


@dataclass(frozen=True, eq=False)
class Around:
    """A map near one place of the fixed image: T(x) = value + slope (x - at)."""

    at: np.ndarray
    value: np.ndarray
    slope: np.ndarray

    def __call__(self, place: Sequence[float]) -> np.ndarray:
        return self.value + self.slope @ (np.asarray(place, dtype=float) - self.at)

    def back(self, moving: Sequence[float]) -> np.ndarray:
        """The place that is taken to `moving`; that of the anchor where the map is flat."""
        gap = np.asarray(moving, dtype=float) - self.value
        if abs(np.linalg.det(self.slope)) < 1e-3:
            return self.at
        return self.at + np.linalg.solve(self.slope, gap)


class _Asked(NamedTuple):
    keys: list[int]
    """Of the rows whose fixed places are mapped, first in the array."""
    anchors: list[tuple[int, np.ndarray]]


class Follower:
    """Asks a map for points and learns from its answers; step_mm: how far beside an anchor."""

    def __init__(self, step_mm: float = 0.5) -> None:
        self.step_mm = step_mm
        self.known: dict[int, Around] = {}
        self._gap: dict[int, tuple[Place, float]] = {}
        self._before: dict[int, np.ndarray] = {}
        self._goal: dict[int, Place] = {}
        self._asked: list[tuple[int, _Asked]] = []

    def ask(self, rows: Sequence[Row]) -> np.ndarray | None:
        """The points (n, d), fixed LPS mm, whose images are wanted; None without landmarks."""
        rows = [row for row in rows if row.fixed_mm is not None or row.moving_mm is not None]
        if not rows:
            return None
        fixed = [(row.key, row.fixed_mm) for row in rows if row.fixed_mm is not None]
        points = [np.asarray(place, dtype=float) for _, place in fixed]
        anchors = []
        for row in rows:
            if row.moving_mm is None:
                continue
            at = self._anchor(row)
            self._goal[row.key] = row.moving_mm
            anchors.append((row.key, at))
            points += [at, *(at + self.step_mm * np.eye(len(at)))]
        return self._labelled(np.array(points), _Asked([key for key, _ in fixed], anchors))

    def _labelled(self, points: np.ndarray, asked: _Asked) -> np.ndarray:
        """Padded to a length that no other question under way has: answers come without a name."""
        lengths = {length for length, _ in self._asked}
        extra = next(k for k in range(_REMEMBERED + 1) if len(points) + k not in lengths)
        points = np.vstack([points, np.repeat(points[-1:], extra, axis=0)])
        self._asked = [(len(points), asked), *self._asked][:_REMEMBERED]
        return points

    def _anchor(self, row: Row) -> np.ndarray:
        known = self.known.get(row.key)
        if known is None:
            place = row.moving_mm if row.fixed_mm is None else row.fixed_mm
            return np.asarray(place, dtype=float)
        place = known.back(row.moving_mm)
        before = self._before.get(row.key)
        return place if before is None else (place + before) / 2

    def take(self, mapped: np.ndarray) -> dict[int, Place]:
        """Learn from an answer; where the fixed places of rows go. Nothing for an unknown one."""
        asked = next((each for length, each in self._asked if length == len(mapped)), None)
        if asked is None:
            return {}
        count, dim = len(asked.keys), mapped.shape[1]
        rest = mapped[count : count + len(asked.anchors) * (dim + 1)].reshape(-1, dim + 1, dim)
        for (key, at), values in zip(asked.anchors, rest, strict=True):
            slope = (values[1:] - values[0]).T / self.step_mm
            self._learn(key, Around(at, values[0], slope))
        return {key: tuple(map(float, x)) for key, x in zip(asked.keys, mapped, strict=False)}

    def _learn(self, key: int, around: Around) -> None:
        """Newton's step, halved towards the last anchor when it led away."""
        goal = self._goal[key]
        gap = float(np.linalg.norm(np.subtract(goal, around.value)))
        last_goal, last = self._gap.get(key, (goal, np.inf))
        old = self.known.get(key)
        worse = old is not None and last_goal == goal and gap > 1.5 * last + self.step_mm
        self._before.pop(key, None)
        if worse and old is not None:
            self._before[key] = old.at
        self.known[key], self._gap[key] = around, (goal, gap)

    def seen(self, row: Row) -> Place | None:
        """Where the moving place of a row lies in the fixed image; None while it is not known."""
        known = self.known.get(row.key)
        if known is None or row.moving_mm is None:
            return None
        return tuple(map(float, known.back(row.moving_mm)))

    def forward(self, place: Sequence[float], key: int | None = None) -> Place | None:
        """Where a place of the fixed image goes, by what is known at `key` or else nearest."""
        around = self.known.get(key) if key is not None else None
        if around is None and self.known:
            near = lambda each: float(np.linalg.norm(each.at - place))  # noqa: E731
            around = min(self.known.values(), key=near)
        return None if around is None else tuple(map(float, around(place)))


def settled(
    rows: Sequence[Row], transform: Callable[[np.ndarray], np.ndarray], step_mm: float = 0.5
) -> tuple[Follower, dict[int, Place]]:
    """A follower of a map that stays, brought to where it learns nothing new, and where the fixed
    places go. `transform` is called a dozen times at most."""
    follower, mapped = Follower(step_mm), {}
    moving = [row for row in rows if row.moving_mm is not None]
    before: list[Place | None] = []
    for _ in range(ROUNDS):
        points = follower.ask(rows)
        if points is None:
            break
        mapped = follower.take(transform(points))
        now = [follower.seen(row) for row in moving]
        moved = [np.linalg.norm(np.subtract(a, b)) for a, b in zip(now, before, strict=False)]
        if moved and max(moved) < 0.02 * step_mm:
            break
        before = now
    return follower, mapped
