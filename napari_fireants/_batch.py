"""Many pairs: a table of rows, what has become of each, and the run over them. No Qt, no torch.

The worker leaves what it has to say on a Board; `Batch.drain`, called on the GUI thread, puts the
newest of it into the table. The work itself is the engine's batch (`_batch_job`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from psygnal import Signal

from fireants_engine.errors import InputError
from fireants_engine.workflows.tables import Pairing, pairs_in, pairs_of, read_table
from fireants_engine.workflows.tables import Row as Pair

SUMMARY_PAGE, REPORT_PAGE = "summary.html", "report.html"
OUTPUT = "registrations"
"""Name of the folder that is offered for the results, beside the images or the table."""


class RowState(Enum):
    """What has become of a row; the word is shown to people."""

    WAITING = "waiting"
    MISSING = "missing file"
    RUNNING = "running"
    DONE = "done"
    KEPT = "kept"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def bad(self) -> bool:
        return self in (RowState.FAILED, RowState.MISSING)

    @property
    def has_result(self) -> bool:
        return self in (RowState.DONE, RowState.KEPT, RowState.STOPPED)


@dataclass(frozen=True)
class Row:
    """One pair of the table. fraction: of its run; message: what went wrong, or where it is.

    numbers: name -> value as in summary.csv (dice_before, dice_after, loss, seconds, folds, ...).
    """

    pair: Pair
    state: RowState = RowState.WAITING
    fraction: float = 0.0
    message: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.pair.name

    @property
    def fixed(self) -> Path:
        return self.pair.fixed

    @property
    def moving(self) -> Path:
        return self.pair.moving


@dataclass(frozen=True)
class Found:
    """The pairs of a folder, a table or a list of images, and why some cannot run."""

    source: tuple[Path, ...]
    pairing: Pairing
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where results are offered to go."""
        first = self.source[0]
        return (first if first.is_dir() else first.parent) / OUTPUT


def find_pairs(paths: Sequence[Path], fixed: Path | None = None) -> Found:
    """The pairs of one folder, one table, or some images; looks at files, so off the GUI thread.

    fixed: the image onto which all others go. Raises InputError in one sentence.
    """
    if not paths:
        raise InputError("Give a folder, a table (CSV) or some images.")
    first = paths[0]
    if len(paths) == 1 and first.is_dir():
        pairing = pairs_in(first, fixed)
    elif len(paths) == 1 and first.suffix.lower() in (".csv", ".tsv", ".txt"):
        pairing = Pairing(tuple(read_table(first)), f"As {first.name} says.")
    else:
        pairing = pairs_of(paths, fixed)
    missing = {row.name: said for row in pairing.rows if (said := row.missing())}
    return Found(tuple(paths), pairing, missing)


class BatchTable:
    """The rows. `changed`: there are other rows; `row_changed` carries an index."""

    changed = Signal()
    row_changed = Signal(int)

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.found: Found | None = None

    def put(self, found: Found | None) -> None:
        """Other pairs in place of those there are; None: no pairs."""
        self.found = found
        pairs = () if found is None else found.pairing.rows
        missing = {} if found is None else found.missing
        self.rows = [
            Row(pair, RowState.MISSING, message=missing[pair.name])
            if pair.name in missing
            else Row(pair)
            for pair in pairs
        ]
        self.changed.emit()

    def remove(self, names: Collection[str]) -> None:
        """Leave pairs out."""
        self.rows = [row for row in self.rows if row.name not in names]
        self.changed.emit()

    def index(self, name: str) -> int:
        """Of a row; -1 when it is not there."""
        return next((k for k, row in enumerate(self.rows) if row.name == name), -1)

    def update(self, name: str, **values: Any) -> None:
        index = self.index(name)
        if index >= 0 and (row := replace(self.rows[index], **values)) != self.rows[index]:
            self.rows[index] = row
            self.row_changed.emit(index)

    def names(self, *states: RowState) -> list[str]:
        """Of the rows in these states; of all when none is given."""
        return [row.name for row in self.rows if not states or row.state in states]

    @property
    def counts(self) -> Counter[RowState]:
        return Counter(row.state for row in self.rows)


class Board:
    """What the worker and the GUI thread share: the newest values of each row, and the stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._news: dict[str, dict[str, Any]] = {}
        self._control: Any = None
        self.stopping = False

    def post(self, name: str, **values: Any) -> None:
        """New values of a row; the newest of each counts."""
        with self._lock:
            self._news.setdefault(name, {}).update(values)

    def take(self) -> dict[str, dict[str, Any]]:
        with self._lock:
            out, self._news = self._news, {}
        return out

    def attach(self, control: Any) -> None:
        """The engine's Control exists from now on."""
        with self._lock:
            self._control = control
            if self.stopping:
                control.stop()

    def stop(self) -> None:
        with self._lock:
            self.stopping = True
            if self._control is not None:
                self._control.stop()


@dataclass(frozen=True)
class BatchJob:
    """Everything a run over the table needs. names: of the rows that run; the others stay.

    known: what the engine said of the others in an earlier run, by name.
    """

    pairs: tuple[Pair, ...]
    names: frozenset[str]
    recipe: Any
    folder: Path
    device: str = "auto"
    size: int = 1
    again: bool = False
    known: Mapping[str, Any] = field(default_factory=dict)


class Batch:
    """Runs the table. `started`, `finished` (carries a sentence about an error, or nothing)."""

    started = Signal()
    finished = Signal(str)

    def __init__(self, session: Any) -> None:
        self.table = BatchTable()
        self.folder: Path | None = None
        self.running = False
        self.error = ""
        self._session = session
        self._board = Board()
        self._names: frozenset[str] = frozenset()
        self._entries: dict[str, Any] = {}
        self._since = 0.0
        self.table.changed.connect(self._forget)

    def _forget(self) -> None:
        self._entries = {n: e for n, e in self._entries.items() if self.table.index(n) >= 0}

    # ------------------------------------------------------------ commands
    def start(
        self,
        recipe: Any,
        folder: Path,
        device: str = "auto",
        *,
        size: int = 1,
        names: Collection[str] | None = None,
        again: bool = False,
    ) -> None:
        """Run the rows of `names`, or all. again: those that are finished, too.

        Raises InputError when there is nothing to run, or something else is at work.
        """
        if self._session.busy:
            raise InputError(f"{self._session.busy_with}; wait until it is done, or stop it.")
        wanted = frozenset(self.table.names() if names is None else names)
        if not wanted:
            raise InputError("There are no pairs to run; drop a folder or a table here first.")
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; choose a folder for the results.")
        for name in wanted:
            self.table.update(name, state=RowState.WAITING, fraction=0.0, message="", numbers={})
        known = {n: e for n, e in self._entries.items() if n not in wanted}
        pairs = tuple(row.pair for row in self.table.rows)
        job = BatchJob(pairs, wanted, recipe, folder, device, size, again, known)
        board = self._board = Board()

        def work() -> str:
            from napari_fireants._batch_job import run_job

            return run_job(job, board)

        self.folder, self.error, self._names = folder, "", wanted
        self._since, self.running = time.monotonic(), True
        self._session.submit(work, self._done, "A batch is still at work", board.stop)
        self.started.emit()

    def stop(self) -> None:
        """End the pairs that run at their next step, keeping their best state; begin no others."""
        self._board.stop()

    @property
    def stopping(self) -> bool:
        return self.running and self._board.stopping

    def drain(self) -> None:
        """Put the newest of what the worker said into the table.

        A session that was shut down, because its window or dock has gone, ends the batch here.
        """
        for name, values in self._board.take().items():
            entry = values.pop("entry", None)
            if entry is not None:
                self._entries[name] = entry
            self.table.update(name, **values)
        if self.running and not self._session.busy:
            self._end("The batch was stopped, because the dock that ran it was closed.")

    def _done(self, error: str) -> None:
        self.running = False
        self.drain()
        self._end(error)

    def _end(self, error: str) -> None:
        self.running, self.error = False, error
        for name in self.table.names(RowState.RUNNING):
            self.table.update(name, state=RowState.WAITING, fraction=0.0, message="")
        self.finished.emit(error)

    # ------------------------------------------------------------ how far
    @property
    def fraction(self) -> float:
        """Of the rows that run."""
        rows = [row for row in self.table.rows if row.name in self._names]
        ended = sum(row.fraction if row.state is RowState.RUNNING else float(_ended(row))
                    for row in rows)  # fmt: skip
        return ended / len(rows) if rows else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds, estimated; None while nothing can be said."""
        done = self.fraction
        return (time.monotonic() - self._since) * (1 - done) / done if done > 0.03 else None

    def folder_of(self, row: Row) -> Path | None:
        """The run directory of a row that has a result."""
        return self.folder / row.name if self.folder is not None and row.state.has_result else None

    @property
    def summary(self) -> Path | None:
        """The summary page, once there is one."""
        return None if self.folder is None else self.folder / SUMMARY_PAGE


def _ended(row: Row) -> bool:
    return row.state not in (RowState.WAITING, RowState.MISSING, RowState.RUNNING)
