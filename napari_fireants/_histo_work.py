"""One task after the other of the Histology dock, in the session's thread. No widgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from psygnal import Signal

from fireants_engine.errors import FireantsError, InputError
from napari_fireants._histo_link import HistoLink
from napari_fireants._session import Session
from napari_fireants._task import outcome

SEARCHING, PREPARING, REFINING, FITTING, EXPORTING = (
    "A section is being searched for",
    "A section is being read",
    "A section is being fitted",
    "A stack of sections is being fitted",
    "A section is being exported",
)


class Work:
    """What is at work, and what it tells.

    working: something begins or ends; progressed: how far it is; told: a sentence and its tone;
    seen: a picture of the plane while it is fitted; failed: nothing came of it.
    """

    working = Signal()
    progressed = Signal(object)
    told = Signal(str, str)
    seen = Signal(np.ndarray)
    failed = Signal()

    def __init__(self, session: Session) -> None:
        self.session = session
        self.task = ""
        self._link = HistoLink()

    def attempt(self, action: Callable[[], object]) -> None:
        """Do it; what is refused is told."""
        try:
            action()
        except FireantsError as error:
            self.told.emit(str(error), "error")

    def begin(
        self, task: str, work: Callable[[HistoLink], Any], done: Callable[[Any], None]
    ) -> None:
        """Call `done(work(link))`, the work in a thread; raises InputError while another is on."""
        if self.session.busy:
            raise InputError(f"{self.session.busy_with}; wait until it is done, or stop it.")
        link = self._link = HistoLink()

        def finish(ended: tuple[Any, str]) -> None:
            value, sentence = ended
            self.task = ""
            self.told.emit(sentence, "note" if link.stopping else "error")
            if value is None:
                self.failed.emit()
            else:
                done(value)
            self.working.emit()

        self.task = task
        self.session.submit(lambda: outcome(lambda: work(link)), finish, task, link.stop)
        self.told.emit("", "note")
        self.working.emit()

    def stop(self) -> None:
        """End what is at work as soon as it can be; a fit keeps its best state."""
        self._link.stop()
        if self.task:
            self.told.emit("Stopping after this step…", "note")

    def drain(self) -> None:
        """Tell the newest of what the worker has to say; a few times a second."""
        progress, _, notes, _ = self._link.take()
        if progress is not None:
            self.progressed.emit(progress)
        for note in notes:
            self.told.emit(note, "note")
        picture = self._link.picture.take()
        if self.task == REFINING:
            if picture is not None:
                self.seen.emit(picture)
            if self._link.pace.due():
                self._link.look()
        if self.task and not self.session.busy:  # shut down, with the dock or the window
            self.task = ""
            self.told.emit("Stopped, because the dock that ran it was closed.", "note")
            self.failed.emit()
            self.working.emit()


def job_side(pair: bool = False) -> Any:
    """The worker's side, which imports the engine: for the thread only. pair: of two sections."""
    from napari_fireants import _histo_job, _histo_match

    return _histo_match if pair else _histo_job


def stack_side() -> Any:
    """Fits a whole stack; as `job_side`."""
    from napari_fireants import _histo_stack_job

    return _histo_stack_job


def files_side() -> Any:
    """Writes files; as `job_side`."""
    from napari_fireants import _histo_files

    return _histo_files
