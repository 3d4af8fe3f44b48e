"""Work in a thread, one piece after the other, each of which is done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal

from napari_fireants._task import Task

LOOK_MS = 20
Work = tuple[Callable[[], Any], Callable[[Any], None], Callable[[str], None], bool]


class Behind(QObject):
    """Unlike `Latest`, nothing is overtaken. busy_changed: work begins, or all of it has ended."""

    busy_changed = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Work] = deque()
        self._now: tuple[Task, Work] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self._tick)

    @property
    def busy(self) -> bool:
        return self._now is not None

    def ask(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[str], None],
        engine: bool = True,
    ) -> None:
        """Call `done(work())` on the GUI thread, or `failed(sentence)`, after what came before.

        engine: it needs torch.
        """
        self._waiting.append((work, done, failed, engine))
        if self._now is None:
            self._next()
            self.busy_changed.emit(True)

    def wait(self, seconds: float = 60.0) -> None:
        """Process window events until all is done; for closing windows, scripts and tests."""
        end = time.perf_counter() + seconds
        while self.busy and time.perf_counter() < end:
            QCoreApplication.processEvents()
            time.sleep(0.01)

    def shutdown(self, seconds: float = 5.0) -> None:
        """Begin nothing more, and wait for what is at work; nobody hears of it."""
        self._waiting.clear()
        now, self._now = self._now, None
        if now is not None:
            now[0].join(seconds)
        try:
            self._timer.stop()
        except RuntimeError:  # Qt has already deleted it
            return

    def _next(self) -> None:
        if not self._waiting:
            self._now = None
            self._timer.stop()
            return
        work = self._waiting.popleft()
        self._now = Task(work[0], engine=work[3]), work
        self._timer.start()

    def _tick(self) -> None:
        if self._now is None or self._now[0].alive:
            return
        task, (_, done, failed, _) = self._now
        self._next()
        if task.error is None:
            done(task.value)
        else:
            failed(task.error)
        if not self.busy:
            self.busy_changed.emit(False)
