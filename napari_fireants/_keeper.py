"""What is kept of a viewer: its runs, and the session as a whole, also through a crash.

Slow work goes through one queue, so a result is written before the session that refers to it.
"""

from __future__ import annotations

import contextlib
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QCoreApplication, QTimer

from fireants_engine.errors import InputError
from napari_fireants._draft import Watch, draft, fingerprint, layers_of
from napari_fireants._objects import FOLDER, Objects, names_in, write_whole
from napari_fireants._recall import Recall
from napari_fireants._recovery import FILE, Hold, left_behind, sessions_folder

if TYPE_CHECKING:
    from napari_fireants._controller import Controller
    from napari_fireants._opening import Answer, Locate
    from napari_fireants._sessionfile import Refs

AUTOSAVE_SECONDS = 10.0
"""Between two looks whether anything has changed; writing takes a few seconds at most."""
RECENT = 6


class Keeper:
    """History and session of one controller.

    changed: recent sessions or the offer are others; said: (sentence, tone).
    """

    changed = Signal()
    said = Signal(str, str)

    def __init__(self, controller: Controller, seconds: float = AUTOSAVE_SECONDS) -> None:
        self._controller = controller
        self.hold = Hold()
        self.objects = Objects(self.hold.folder / FOLDER)
        self.recall = Recall(controller, self.objects)
        self.history, self.behind = self.recall.history, self.recall.behind
        self.history.writing = self.hold.take
        self.watch = Watch(controller.viewer)
        self.path: Path | None = None
        """Where the session was saved last, or opened from."""
        self._offers: list[Hold] = []
        self._looked = self._opened = self._opening = False
        self._superseded: Hold | None = None
        """Was recovered; goes when this window has written its own."""
        self._written: Any = None
        self._timer = QTimer()
        self._timer.setInterval(round(seconds * 1000))
        self._timer.timeout.connect(self.autosave)
        self._end = weakref.finalize(controller, _farewell, self.hold, self._offers)
        app = QCoreApplication.instance()
        if app is not None:
            self._timer.start()
            app.aboutToQuit.connect(self.close)

    # ------------------------------------------------------------ autosave
    @property
    def worth(self) -> bool:
        """Something would be lost that opening the same files would not bring back."""
        controller, undo = self._controller, self._controller.undo
        done = self._opened or self.watch.painted or undo.can_undo or undo.can_redo
        sections = "histo" in vars(controller) and bool(controller.histo.known)
        return done or sections or bool(self.history.runs)

    def autosave(self) -> bool:
        """Write the session into this window's folder if it has changed; whether that began."""
        if self.behind.busy or not self.worth:
            return False
        layers, _ = layers_of(self._controller)
        versions = [self.watch.version(layer) for layer in layers]
        taken = draft(self._controller, self.watch)
        now = fingerprint(taken, versions)
        if now == self._written:
            return False
        needed = self.history.needed

        def work() -> Refs:
            from napari_fireants import _sessionfile as sessionfile

            self.hold.take()
            refs = sessionfile.write_into(taken, self.hold.folder, self.objects, self.history.files)
            kept = names_in([[ref.model_dump() for ref in item.values()] for item in refs])
            kept |= sessionfile.closure(names_in([run.kept for run in needed]), self.objects)
            kept |= names_in(json.loads((self.hold.folder / FILE).read_text()))
            self.objects.keep_only(kept)
            return refs

        def done(refs: Refs) -> None:
            self._written = now
            if self._superseded is not None:
                self._discard(self._superseded)
                self._superseded = None
            for layer, version, item in zip(layers, versions, refs, strict=True):
                self.watch.written(layer, version, item)

        def failed(sentence: str) -> None:
            self._written = now  # not again until something changes
            self.said.emit(f"The session could not be kept safe: {sentence}", "error")

        self.behind.ask(work, done, failed, engine=False)
        return True

    def close(self) -> None:
        """A clean exit: nothing needs to be offered next time."""
        with contextlib.suppress(RuntimeError):
            self._timer.stop()
        self.behind.shutdown()
        self._end()

    # ------------------------------------------------------------ recovery
    @property
    def offer(self) -> Path | None:
        """A session that ended unexpectedly; looked for once."""
        if not self._looked:
            self._looked = True
            self._offers += left_behind()
        offers = [hold for hold in self._offers if hold is not self._superseded]
        return offers[0].folder if offers else None

    def recover(
        self, locate: Locate, go_on: Answer, done: Callable[[], None] = lambda: None
    ) -> None:
        """Open the session that is offered; its folder goes once this window keeps it."""
        if self.offer is None:
            return
        hold = self._offers[0]

        def opened() -> None:
            self.path, self._superseded = None, hold
            self.autosave()
            self.changed.emit()
            done()

        self._open(hold.folder, locate, go_on, opened)

    def discard(self) -> None:
        """Delete what is offered."""
        if self.offer is not None:
            self._discard(self._offers[0])

    def _discard(self, hold: Hold) -> None:
        if hold in self._offers:
            self._offers.remove(hold)
        failed = lambda text: self.said.emit(text, "error")  # noqa: E731
        self.behind.ask(hold.release, lambda _: None, failed, engine=False)
        self.changed.emit()

    # ------------------------------------------------------------ save and open
    def save(self, folder: str | Path, done: Callable[[Path], None]) -> None:
        """Write the session in a thread, then call `done(folder)`."""
        taken = draft(self._controller, self.watch)

        def work() -> Path:
            from napari_fireants import _sessionfile as sessionfile

            return sessionfile.save(taken, folder, self.objects, self.history.files)

        def saved(path: Path) -> None:
            self._remember(path)
            for note in taken.notes:
                self.said.emit(note, "note")
            done(path)

        failed = lambda sentence: self.said.emit(sentence, "error")  # noqa: E731
        self.behind.ask(work, saved, failed, engine=False)

    def open(
        self,
        folder: str | Path,
        locate: Locate,
        go_on: Answer,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        """Put a saved session in the place of what the viewer holds.

        locate(path, role): where a file is now, None to go on without; go_on(sentence): whether to
        go on with files that have changed. Raises InputError during a run.
        """

        def opened() -> None:
            self._remember(Path(folder))
            done()

        self._open(Path(folder), locate, go_on, opened)

    def _open(self, folder: Path, locate: Locate, go_on: Answer, done: Callable[[], None]) -> None:
        if self._controller.session.busy:
            raise InputError("A registration is at work; stop it, or wait until it has ended.")
        if self._opening:
            raise InputError("A session is being opened; wait until it is there.")
        self._opening = True

        def ended() -> None:
            self._opening = False

        def opened() -> None:
            self._opened = True
            done()

        from napari_fireants._opening import Opening

        Opening(self._controller, folder, locate, go_on, opened, ended).begin()

    # ------------------------------------------------------------ recent
    @staticmethod
    def _list() -> Path:
        return sessions_folder() / "recent.json"

    @property
    def recent(self) -> list[Path]:
        """Sessions that were saved or opened, newest first, those that are still there."""
        try:
            names = json.loads(self._list().read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        paths = [Path(name) for name in names if isinstance(name, str)]
        return [path for path in paths if (path / FILE).is_file()]

    def _remember(self, path: Path) -> None:
        self.path = path.resolve()
        names = [str(self.path), *(str(p) for p in self.recent if p != self.path)][:RECENT]
        with contextlib.suppress(InputError):
            text = json.dumps(names, indent=1)
            write_whole(self._list(), lambda p: p.write_text(text, encoding="utf-8"))
        self.changed.emit()


def _farewell(hold: Hold, offers: list[Hold]) -> None:
    """A clean exit: the window's own folder goes, what was offered stays."""
    hold.release()
    for other in offers:
        other.release(delete=False)
