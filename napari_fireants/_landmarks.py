"""Corresponding points of two images, set by a person, and how far apart they are. No Qt.

Places are LPS mm (x, y, z), in the frame of either image. Distances (TRE) are in mm: `before` as
the images lie in the world when loaded, whatever a run starts from, as in the report of a run;
`now` through the newest preview or a fit on trial; `after` through the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from fireants_engine.errors import InputError
from napari_fireants._undo import UndoStack

if TYPE_CHECKING:
    from fireants_engine import Landmarks

Side = Literal["fixed", "moving"]
Column = Literal["before", "now", "after"]
Place = tuple[float, ...]
Mapped = Mapping[int, tuple[Place, Place]]
"""Key of a pair -> its fixed place, and where a map takes that."""

COLUMNS: tuple[Column, ...] = ("before", "now", "after")
STRENGTH = 1e-4
"""Of the term. Between two brains, places 3 mm from where intensities bring them end .5 mm off."""


@dataclass(frozen=True)
class Row:
    """One landmark; it counts when both places are known and it is enabled.

    key: its own for as long as the table lives, also when it was deleted and comes back.
    """

    key: int
    name: str
    fixed_mm: Place | None = None
    moving_mm: Place | None = None
    weight: float = 1.0
    enabled: bool = True

    def place(self, side: Side) -> Place | None:
        return self.fixed_mm if side == "fixed" else self.moving_mm

    @property
    def complete(self) -> bool:
        return self.fixed_mm is not None and self.moving_mm is not None

    @property
    def counts(self) -> bool:
        return self.complete and self.enabled and self.weight > 0


@dataclass(frozen=True)
class Content:
    """All that a person has set.

    used: the pairs pull in a registration, strength: weight of that term (see `LandmarkDistance`);
    robust_mm: beyond it a pair pulls no harder, 0: never.
    """

    rows: tuple[Row, ...] = ()
    used: bool = False
    strength: float = STRENGTH
    robust_mm: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Content:
        """What `to_dict` gave. Raises KeyError, TypeError or ValueError for anything else."""
        rows = []
        for each in data["rows"]:
            own, other = (_place(each[name]) for name in ("fixed_mm", "moving_mm"))
            weight, on = float(each["weight"]), bool(each["enabled"])
            rows.append(Row(int(each["key"]), str(each["name"]), own, other, weight, on))
        settings = float(data["strength"]), float(data["robust_mm"])
        return cls(tuple(rows), bool(data["used"]), *settings)


@dataclass(frozen=True)
class Statistics:
    """Of the pairs that count, in mm."""

    pairs: int
    mean: float
    median: float
    largest: float


class LandmarkTable:
    """Rows of landmarks; every change is a step of `steps`, a drag is one step.

    changed: rows or settings are others; selected_changed: others are selected; measured: other
    distances are known.
    """

    changed = Signal()
    selected_changed = Signal()
    measured = Signal()

    def __init__(self, undo: UndoStack | None = None) -> None:
        self.steps = UndoStack() if undo is None else undo
        self.content = Content()
        self.selected: tuple[int, ...] = ()
        self.column: Column = "before"
        """The newest distances that are known."""
        self.trial = ""
        """Name of the fit that `now` tells of; empty: of a run."""
        self._mapped: dict[Column, Mapped] = {}
        self._next = 1

    # ------------------------------------------------------------ what it holds
    @property
    def rows(self) -> tuple[Row, ...]:
        return self.content.rows

    @property
    def used(self) -> bool:
        return self.content.used

    @property
    def strength(self) -> float:
        return self.content.strength

    @property
    def robust_mm(self) -> float:
        return self.content.robust_mm

    @property
    def pairs(self) -> tuple[Row, ...]:
        """The rows that count."""
        return tuple(row for row in self.rows if row.counts)

    def row(self, key: int) -> Row:
        """Raises KeyError."""
        for row in self.rows:
            if row.key == key:
                return row
        raise KeyError(key)

    def has(self, key: int) -> bool:
        return any(row.key == key for row in self.rows)

    def lacking(self, side: Side) -> Row | None:
        """The landmark that waits for its place in `side`: a selected one, else the first."""
        waiting = [row for row in self.rows if row.place(side) is None]
        chosen = [row for row in waiting if row.key in self.selected]
        return next(iter(chosen or waiting), None)

    def for_engine(self) -> Landmarks | None:
        """The pairs that count, or None. Imports the engine."""
        return engine_landmarks(self.pairs)

    # ------------------------------------------------------------ changes
    def restore(self, content: Content, selected: Iterable[int] | None = None) -> None:
        """Put everything back as it was; no step of its own. selected: others from now on."""
        if content == self.content:
            return
        self.content = content
        keys = {row.key for row in content.rows}
        self._next = max([self._next, *(key + 1 for key in keys)])
        before = self.selected
        chosen = before if selected is None else tuple(selected)
        self.selected = tuple(key for key in chosen if key in keys)
        self.changed.emit()
        if self.selected != before:
            self.selected_changed.emit()

    def _put(
        self, content: Content, what: str, merge: object = None, select: Iterable[int] | None = None
    ) -> None:
        before = self.content
        if content == before:
            return
        self.steps.push(what, lambda: self.restore(before), lambda: self.restore(content), merge)
        self.restore(content, select)

    def put_rows(
        self,
        rows: Iterable[Row],
        what: str,
        merge: object = None,
        select: Iterable[int] | None = None,
    ) -> None:
        """Other rows, as one step; select: some of them. Raises InputError where a row has another
        dimension."""
        rows = tuple(rows)
        sizes = {len(p) for row in rows for p in (row.fixed_mm, row.moving_mm) if p is not None}
        if len(sizes) > 1:
            raise InputError(
                "The landmarks are 2D and 3D at once; delete those of the other images first."
            )
        self._put(replace(self.content, rows=rows), what, merge, select)

    def _edit(self, key: int, what: str, merge: object = None, **values: object) -> None:
        rows = (replace(row, **values) if row.key == key else row for row in self.rows)
        self.put_rows(rows, what, merge)

    def fresh(self, name: str = "", **values: object) -> Row:
        """A row with a key of its own that is not in the table yet; named by number unless told."""
        key, self._next = self._next, self._next + 1
        return Row(key, name or self.next_name, **values)

    @property
    def next_name(self) -> str:
        """The name that the next landmark gets."""
        names = {row.name for row in self.rows}
        return next(str(n) for n in range(1, len(names) + 2) if str(n) not in names)

    def add(
        self,
        fixed_mm: Sequence[float] | None = None,
        moving_mm: Sequence[float] | None = None,
        name: str = "",
    ) -> int:
        """Another landmark, selected; its key."""
        row = self.fresh(name, fixed_mm=_place(fixed_mm), moving_mm=_place(moving_mm))
        self.put_rows([*self.rows, row], f"landmark {row.name}", select=[row.key])
        return row.key

    def move(self, key: int, side: Side, mm: Sequence[float] | None, merge: object = None) -> None:
        """Put a landmark's place in `side`, or take it away (None); without any place it goes."""
        row = self.row(key)
        other = row.place("moving" if side == "fixed" else "fixed")
        if mm is None and other is None:
            self.delete([key])
            return
        self._edit(key, f"place of landmark {row.name}", merge, **{f"{side}_mm": _place(mm)})

    def move_all(self, side: Side, places: Mapping[int, Place | None], merge: object) -> None:
        """`move` for several landmarks, as one step."""
        rows = [
            replace(row, **{f"{side}_mm": places[row.key]}) if row.key in places else row
            for row in self.rows
        ]
        kept = [row for row in rows if row.fixed_mm is not None or row.moving_mm is not None]
        self.put_rows(kept, _named("places of", len(places)), merge)

    def swap(self) -> None:
        """Fixed and moving change places."""
        rows = [replace(r, fixed_mm=r.moving_mm, moving_mm=r.fixed_mm) for r in self.rows]
        if rows:
            self.put_rows(rows, "swap of the landmarks")

    def delete(self, keys: Iterable[int]) -> None:
        gone = set(keys)
        names = [row.name for row in self.rows if row.key in gone]
        what = f"landmark {names[0]} deleted" if len(names) == 1 else f"{len(names)} deleted"
        self.put_rows((row for row in self.rows if row.key not in gone), what)

    def rename(self, key: int, name: str) -> None:
        if name.strip():
            self._edit(key, "name of a landmark", name=name.strip())

    def weigh(self, key: int, weight: float) -> None:
        """Raises InputError for a weight that is negative or no number."""
        if not (np.isfinite(weight) and weight >= 0):
            raise InputError("A weight is a number of at least 0; 1 is usual.")
        self._edit(key, f"weight of landmark {self.row(key).name}", weight=float(weight))

    def enable(self, key: int, enabled: bool) -> None:
        self._edit(key, f"landmark {self.row(key).name} {'on' if enabled else 'off'}",
                   enabled=enabled)  # fmt: skip

    def use(self, used: bool) -> None:
        """Let the pairs pull in the registration, or only be measured."""
        what = "landmarks in the registration" if used else "landmarks only measured"
        self._put(replace(self.content, used=used), what)

    def pull(self, strength: float | None = None, robust_mm: float | None = None) -> None:
        """How hard the pairs pull; a slider in motion is one step."""
        content = self.content
        if strength is not None:
            content = replace(content, strength=float(strength))
        if robust_mm is not None:
            content = replace(content, robust_mm=float(robust_mm))
        self._put(content, "pull of the landmarks", merge="pull of the landmarks")

    def select(self, keys: Iterable[int]) -> None:
        """No step: what is selected changes nothing."""
        chosen = tuple(key for key in dict.fromkeys(keys) if self.has(key))
        if chosen != self.selected:
            self.selected = chosen
            self.selected_changed.emit()

    # ------------------------------------------------------------ distances
    def set_mapped(self, column: Column, mapped: Mapped) -> None:
        """Where a map takes the fixed places of some rows. They count until these change."""
        self._mapped[column] = dict(mapped)
        if mapped:
            self.column = column
        elif column == self.column:
            self.column = next((c for c in reversed(COLUMNS) if self._mapped.get(c)), "before")
        self.measured.emit()

    def set_now(self, points_mm: np.ndarray, keys: Sequence[int] | None = None) -> None:
        """Fixed places through the present map; of the complete rows in order, unless told."""
        if keys is None:
            keys = [row.key for row in self.rows if row.complete]
        now: dict[int, tuple[Place, Place]] = {}
        for key, point in zip(keys, points_mm, strict=False):
            own = self.row(key).fixed_mm if self.has(key) else None
            if own is not None:
                now[key] = own, tuple(map(float, point))
        self.set_mapped("now", now)

    def forget(self) -> None:
        """A run begins: what was measured through another map is over."""
        self._mapped.clear()
        self.column, self.trial = "before", ""
        self.measured.emit()

    def distance(self, row: Row, column: Column) -> float | None:
        """TRE in mm, or None while it is not known."""
        if not row.complete:
            return None
        mapped: Place | None = row.fixed_mm
        if column != "before":
            own, mapped = self._mapped.get(column, {}).get(row.key, (None, None))
            if mapped is None or own != row.fixed_mm:
                return None
        return float(np.linalg.norm(np.subtract(mapped, row.moving_mm)))

    def distances(self, column: Column) -> dict[int, float]:
        """Of the pairs that count and are measured."""
        found = {row.key: self.distance(row, column) for row in self.pairs}
        return {key: value for key, value in found.items() if value is not None}

    @property
    def worst(self) -> int | None:
        """The pair that is farthest apart in the newest distances; None below two pairs."""
        known = self.distances(self.column)
        return max(known, key=lambda key: known[key]) if len(known) > 1 else None

    def statistics(self, column: Column) -> Statistics | None:
        """None while nothing is measured."""
        known = list(self.distances(column).values())
        if not known:
            return None
        return Statistics(
            len(known), float(np.mean(known)), float(np.median(known)), float(np.max(known))
        )

    def ordered(self, by: str = "", falling: bool = False) -> list[Row]:
        """Rows by name, weight or a column of distances; as they were added where `by` is empty.

        Unknown distances come last either way.
        """
        sorts: dict[str, Callable[[Row], object]] = {
            "name": lambda row: (len(row.name) if row.name.isdigit() else 999, row.name),
            "weight": lambda row: row.weight if row.enabled else -1.0,
        }
        if by in COLUMNS:
            known = [(self.distance(row, by), row) for row in self.rows]
            sure = [(value, row.key) for value, row in known if value is not None]
            unsure = [row for value, row in known if value is None]
            return [self.row(key) for _, key in sorted(sure, reverse=falling)] + unsure
        if by not in sorts:
            return list(self.rows)
        return sorted(self.rows, key=sorts[by], reverse=falling)


def engine_landmarks(rows: Sequence[Row]) -> Landmarks | None:
    """The engine's landmarks of complete rows, None without any. Imports the engine."""
    from fireants_engine import Landmarks

    if not rows:
        return None
    return Landmarks(
        np.array([row.fixed_mm for row in rows]),
        np.array([row.moving_mm for row in rows]),
        np.array([row.weight for row in rows]),
        names=tuple(row.name for row in rows),
    )


def _place(mm: Sequence[float] | None) -> Place | None:
    return None if mm is None else tuple(float(x) for x in mm)


def _named(what: str, count: int) -> str:
    return f"{what} {count} landmark{'s' if count > 1 else ''}"
