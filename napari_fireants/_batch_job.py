"""A batch as the worker thread sees it. Imports the engine, so only that thread imports this."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fireants_engine import Control
from fireants_engine.pipeline import events as ev
from fireants_engine.workflows.batch import BatchRun, Entry
from fireants_engine.workflows.rundir import check_output_folder
from napari_fireants._batch import BatchJob, Board, RowState
from napari_fireants._job import execution_on
from napari_fireants._task import explain

WORDS = ("name", "status", "outcome", "message")
PERIOD = 0.1
"""Seconds between two reports of how far a step has come."""


class _Reporter:
    """Turns the engine's events into news on the Board, for all pairs that run together."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.names: list[str] = []
        self.where = ""
        self._last = 0.0

    def begin(self, entries: Sequence[Entry]) -> None:
        self.names, self.where = [entry.row.name for entry in entries], ""
        for name in self.names:
            self.board.post(name, state=RowState.RUNNING, message="Finding the starting position")

    def event(self, event: ev.Event) -> None:
        match event:
            case ev.StageStarted():
                self.where = f"Stage {event.index + 1} of {event.stages}, {event.stage}"
            case ev.LevelStarted():
                self._tell(event, f"{self.where}, level {event.level + 1} of {event.levels}")
            case ev.Iteration() if time.monotonic() - self._last > PERIOD:
                self._last = time.monotonic()
                self._tell(event)

    def _tell(self, event: ev.Event, message: str = "") -> None:
        said = {"message": message} if message else {}
        for name in self.names:
            self.board.post(name, fraction=event.fraction, **said)

    def ended(self, entry: Entry) -> None:
        cells = {name: cell for name, cell in entry.cells().items() if name not in WORDS}
        numbers = {name: float(cell) for name, cell in cells.items()}
        self.board.post(
            entry.row.name,
            state=RowState(entry.status),
            fraction=1.0,
            message=entry.message,
            numbers=numbers,
            entry=entry,
        )


def run_job(job: BatchJob, board: Board) -> str:
    """Run the rows of `job` that are to run; why it ended before its time, or nothing."""
    control, report = Control(), _Reporter(board)
    board.attach(control)
    settled = [
        job.known.get(pair.name) or Entry(pair) for pair in job.pairs if pair.name not in job.names
    ]
    try:
        check_output_folder(job.folder)
        BatchRun(
            job.pairs,
            job.recipe,
            job.folder,
            job.size,
            execution_on(job.device),
            control,
            job.again,
            on_event=report.event,
            on_batch=report.begin,
            on_entry=report.ended,
            settled=settled,
        ).run()
    except Exception as error:
        return explain(error)
    return ""
