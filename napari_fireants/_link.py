"""What the GUI thread and the worker of a run share: a slot for the newest of everything. No Qt."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from napari_fireants._change import Change
from napari_fireants._preferences import preferences
from napari_fireants._preview import Frames, Mailbox, Pace, Wanted

if TYPE_CHECKING:
    from napari_fireants._session import Losses, Machine, Progress


class Link:
    """Holds no tensors; every method may be called from either side."""

    def __init__(self) -> None:
        self.ticks, self.shown = 0, threading.Event()
        self.control: Any = None
        self.stopping = False
        self.discard = False
        self.paused = False
        self.frames: Mailbox[Frames] = Mailbox()
        self.pace = Pace(preferences().seconds)
        self.machine: Machine | None = None
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._losses: list[Losses] = []
        self._notes: list[str] = []
        self._edits: list[str] = []
        self._change: Change | None = None

    # ----------------------------------------------------------- worker's side
    def progress(self, progress: Progress) -> None:
        with self._lock:
            self._progress = progress

    def losses(self, losses: Losses) -> None:
        with self._lock:
            self._losses.append(losses)

    def note(self, sentence: str) -> None:
        with self._lock:
            self._notes.append(sentence)

    def edited(self, sentence: str) -> None:
        """The run follows a change."""
        with self._lock:
            self._edits.append(sentence)

    def take_change(self) -> Change | None:
        """What is to be changed, once."""
        if self._change is None:
            return None
        with self._lock:
            change, self._change = self._change, None
            return change

    def attach(self, control: Any) -> None:
        """The engine's Control exists from now on."""
        with self._lock:
            self.control = control
            if self.stopping:
                control.stop()
            if self.paused:
                control.pause()

    # ----------------------------------------------------------- GUI's side
    def take(self) -> tuple[Progress | None, list[Losses], list[str], list[str]]:
        """Newest progress, and all losses, notes and followed changes, since the last call."""
        with self._lock:
            out = self._progress, self._losses, self._notes, self._edits
            self._progress, self._losses, self._notes, self._edits = None, [], [], []
        return out

    def hold(self, paused: bool) -> None:
        """Hold the run before its next step, or let it go on."""
        with self._lock:
            self.paused = paused
            if self.control is not None:
                (self.control.pause if paused else self.control.resume)()

    def steer(self, change: Change) -> None:
        """Change the run before its next step."""
        with self._lock:
            self._change = change if self._change is None else self._change.then(change)

    def stop(self) -> None:
        with self._lock:
            self.stopping = True
            if self.control is not None:
                self.control.stop()
        self.shown.set()

    def ask(self, wanted: Wanted) -> None:
        """Ask the engine for one preview."""
        if self.control is not None:
            from fireants_engine import PreviewRequest

            parts = (wanted.planes, wanted.shrink, wanted.warp, wanted.points_mm)
            self.control.request_preview(PreviewRequest(*parts))
            self.pace.asked()
