"""Work for the eye: only the newest wish counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer

from napari_fireants._task import Task

LOOK_MS = 20


class Latest(QObject):
    """Runs functions in a thread, one at a time; those that were overtaken never begin."""

    def __init__(self, engine: bool = True) -> None:
        """engine: the functions need torch, see `Task`."""
        super().__init__()
        self._engine = engine
        self._task: Task | None = None
        self._shown: tuple[Callable[[Any], None], Callable[[str], None]] | None = None
        self._next: tuple[Any, ...] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self._tick)

    @property
    def busy(self) -> bool:
        return self._task is not None

    def ask(
        self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[str], None]
    ) -> None:
        """Call `done(work())` on the GUI thread, or `failed(sentence)`, unless overtaken."""
        self._next = (work, done, failed)
        self._shown = None  # whatever is under way is no longer wanted
        if self._task is None:
            self._begin()

    def forget(self) -> None:
        """Nothing is wanted any more."""
        self._next = self._shown = None

    def _begin(self) -> None:
        if self._next is None:
            self._timer.stop()
            return
        (work, *shown), self._next = self._next, None
        self._shown = (shown[0], shown[1])
        self._task = Task(work, engine=self._engine)
        self._timer.start()

    def _tick(self) -> None:
        if self._task is None or self._task.alive:
            return
        task, self._task = self._task, None
        shown, self._shown = self._shown, None
        self._begin()
        if shown is None:
            return
        done, failed = shown
        if task.error is None:
            done(task.value)
        else:
            failed(task.error)
