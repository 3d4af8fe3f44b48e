"""One run's life: a worker thread, its pause and stop, its errors. Qt only at the border.

The worker never touches Qt: it leaves what it has to say in a Link, and a timer on the GUI thread
reads the newest of it a few times a second. Pausing holds the worker at its next step; stopping
goes through the engine's Control. Every exception ends as one sentence, so none can get lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal

from napari_fireants._change import Change
from napari_fireants._layers import Snapshot
from napari_fireants._link import Link
from napari_fireants._preview import Frames, Wanted
from napari_fireants._task import Task

TICK_MS = 100
JOIN_SECONDS = 5.0
QUIET_TICKS = 4
"""Ticks at the start of a run in which the window alone works and paints."""


class State(Enum):
    """Where a session stands; the sentence is shown to people."""

    IDLE = "Ready"
    RUNNING = "Running"
    PAUSED = "Paused"
    STOPPING = "Stopping after this step"
    FINISHED = "Finished"
    FAILED = "Failed"

    @property
    def active(self) -> bool:
        """A worker is alive."""
        return self.steerable or self is State.STOPPING

    @property
    def steerable(self) -> bool:
        """A run is under way that still takes changes and commands."""
        return self in (State.RUNNING, State.PAUSED)


@dataclass(frozen=True, eq=False)
class Job:
    """Everything a run needs, fixed at its start."""

    fixed: Snapshot
    moving: Snapshot
    recipe: Any
    device: str = "auto"
    fixed_mask: Snapshot | None = None
    moving_mask: Snapshot | None = None
    moving_labels: Snapshot | None = None
    fixed_labels: Snapshot | None = None
    landmarks: Sequence[Any] = ()
    """Complete rows of the landmark table: measured, and matched where the recipe says so."""
    initial: Any = None
    """Where to start instead of the recipe's start: a homogeneous matrix fixed mm -> moving mm, or
    the engine's Transform."""


@dataclass(frozen=True)
class Kernels:
    """What runs on a device: a few words, and the engine's sentence why."""

    text: str
    why: str


@dataclass(frozen=True)
class Machine:
    """What a worker found: descriptions of the devices, kernels of each and of `auto`."""

    devices: dict[str, str]
    kernels: dict[str, Kernels]


@dataclass(frozen=True)
class Progress:
    """The newest state of a run; `remaining` is an estimate in seconds, None while unknown."""

    text: str = "Starting"
    stage: str = ""
    stage_index: int = 0
    stages: int = 0
    level: int = 0
    levels: int = 0
    step: int = 0
    max_steps: int = 0
    loss: float = float("nan")
    fraction: float = 0.0
    seconds: float = 0.0
    remaining: float | None = None
    device: str = ""


@dataclass(frozen=True)
class Losses:
    """Consecutive loss values of one level of one stage."""

    stage_index: int
    stage: str
    level: int
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Product:
    """What a finished run hands over: the engine's Result, pictures, and plain facts about it.

    compared: names of two runs, where the other's moved image stands in the place of the fixed one
    in the pictures.
    """

    result: Any
    pictures: Any
    info: dict[str, Any]
    sentence: str
    compared: str = ""


class Session(QObject):
    """Runs one Job at a time. All signals are emitted on the GUI thread."""

    opening = Signal()
    state_changed = Signal(object)
    progressed = Signal(object)
    losses_added = Signal(object)
    frames_ready = Signal(object)
    noted = Signal(str)
    edited = Signal(str)
    finished = Signal(object)
    failed = Signal(str)
    machine_found = Signal(object)
    busy_changed = Signal(bool)
    product_changed = Signal(object)

    def __init__(self, wanted: Callable[[], Wanted] | None = None) -> None:
        super().__init__()
        self.product: Product | None = None
        self.error = ""
        self.details = ""
        self._wanted = wanted
        self._asked: Any = None
        self._owed = 0  # number of the newest change, to be seen as soon as can be
        self._state = State.IDLE
        self._link = Link()
        self._run: Task | None = None
        self._task: tuple[Task, Callable[[Any], None]] | None = None
        self._errand = ""
        self._stop_task: Callable[[], None] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        app = QCoreApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.shutdown)

    # ------------------------------------------------------------ what it is
    @property
    def state(self) -> State:
        return self._state

    @property
    def result(self) -> Any:
        """The engine's Result of the last finished run, or None."""
        return None if self.product is None else self.product.result

    @property
    def busy(self) -> bool:
        """A run, or a task after it, is at work."""
        return self._run is not None or self._task is not None

    @property
    def busy_with(self) -> str:
        """What is at work, for people; empty when nothing is."""
        if self._run is not None:
            return "A registration is still at work"
        return self._errand if self._task is not None else ""

    def _set(self, state: State) -> None:
        if state is not self._state:
            self._state = state
            self.state_changed.emit(state)

    # ------------------------------------------------------------ commands
    def start(self, job: Job) -> None:
        """Begin a run; does nothing while one is active."""
        if self.busy:
            return
        self.product, self.error, self.details = None, "", ""
        self._asked, self._owed = None, 0
        link = self._link = Link()

        def work() -> Product:
            from napari_fireants._job import run_job
            from napari_fireants._quiet import trim_memory

            try:
                return run_job(job, link)
            finally:
                trim_memory()

        self._run = Task(work, link.shown)
        self._timer.start()
        self._set(State.RUNNING)

    def pause(self) -> None:
        """Hold the run at its next step."""
        if self._state is State.RUNNING:
            self._link.hold(True)
            self._set(State.PAUSED)

    def resume(self) -> None:
        if self._state is State.PAUSED:
            self._link.hold(False)
            self._set(State.RUNNING)

    def steer(self, change: Change) -> bool:
        """Change the run that is under way, paused or not; False where there is none."""
        if not self._state.steerable:
            return False
        self._link.steer(change)
        self._owed = change.number
        self._ask(at_once=True)
        return True

    def stop(self) -> None:
        """End at the next step; the best state so far becomes the result."""
        if self._state.steerable:
            self._link.stop()
            self._set(State.STOPPING)

    def show(self, product: Product | None) -> None:
        """Put the product of another run in the place of the last one; not during a run."""
        self.product = product
        self.product_changed.emit(product)

    def submit(
        self,
        function: Callable[[], Any],
        done: Callable[[Any], None],
        what: str = "Another task is still at work",
        stop: Callable[[], None] | None = None,
    ) -> bool:
        """Run `function` in a thread and `done(value)` on the GUI thread; False while busy.

        An exception arrives as the `failed` signal. what: for people who want to start something
        else; stop: ends the task early when the window closes.
        """
        if self.busy:
            return False
        self._task, self._errand, self._stop_task = (Task(function), done), what, stop
        self._timer.start()
        self.busy_changed.emit(True)
        return True

    def shutdown(self, *_: Any, seconds: float = JOIN_SECONDS) -> None:
        """Stop and wait for the worker, for a window that is closing; keeps no result."""
        self._link.discard = True
        self._link.stop()
        if self._task is not None and self._stop_task is not None:
            self._stop_task()
        for task in (self._run, self._task[0] if self._task else None):
            if task is not None:
                task.join(seconds)
        self._run = self._task = None
        try:
            self._timer.stop()
        except RuntimeError:  # Qt has already deleted it
            return
        self._state = State.IDLE

    def wait(self, seconds: float = 3600.0) -> State:
        """Process window events until the run has ended; for consoles and scripts."""
        end = time.perf_counter() + seconds
        while self.busy and time.perf_counter() < end:
            QCoreApplication.processEvents()
            time.sleep(0.01)
        return self._state

    # ------------------------------------------------------------ the border
    def _tick(self) -> None:
        self._open()
        self._drain()
        if self._run is not None and not self._run.alive:
            self._drain()
            self._end_run(self._run)
        if self._task is not None and not self._task[0].alive:
            self._end_task(*self._task)
        self._ask()
        if not self.busy:
            self._timer.stop()

    def _ask(self, at_once: bool = False) -> None:
        """Ask for a picture when one is due; of a paused run only for what is not shown yet."""
        if self._wanted is None or not self._state.steerable:
            return
        fresh = at_once or (self._state is State.RUNNING and self._link.pace.due())
        wanted = self._wanted() if fresh or self._state is State.PAUSED else None
        if wanted is not None and (fresh or wanted.key != self._asked):
            self._link.ask(wanted)
            self._asked = wanted.key

    def _open(self) -> None:
        """Slow work in the window has the first ticks of a run to itself."""
        if self._run is not None:
            self._link.ticks += 1
            if self._link.ticks == 1:
                self.opening.emit()
            elif self._link.ticks == QUIET_TICKS:
                self._link.shown.set()

    def _drain(self) -> None:
        progress, losses, notes, edits = self._link.take()
        machine, self._link.machine = self._link.machine, None
        if machine is not None:
            self.machine_found.emit(machine)
        for note in notes:
            self.noted.emit(note)
        for sentence in edits:
            self.edited.emit(sentence)
        if losses:
            self.losses_added.emit(losses)
        if progress is not None:
            self.progressed.emit(progress)
        frames = self._link.frames.take()
        if frames is not None:
            self._show(frames)
            if frames.change < self._owed:  # was made before the change got there
                self._ask(at_once=True)

    def _show(self, frames: Frames) -> None:
        if self._state is not State.STOPPING:
            self.frames_ready.emit(frames)

    def _end_run(self, task: Task) -> None:
        self._run = None
        if task.error is not None:
            self.error, self.details = task.error, task.details
            self._set(State.FAILED)
            self.failed.emit(task.error)
            return
        self.product = task.value
        self.finished.emit(task.value)
        self._set(State.FINISHED)

    def _end_task(self, task: Task, done: Callable[[Any], None]) -> None:
        self._task = None
        self.busy_changed.emit(False)
        if task.error is not None:
            self.error, self.details = task.error, task.details
            self.failed.emit(task.error)
        else:
            done(task.value)
