"""What tests and benchmarks of the whole window share: small pairs, docks, answers to dialogs,
what must hold of the buttons, and a record of whatever a person should never meet.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from qtpy.QtCore import QEvent, qInstallMessageHandler
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QFileDialog,
    QInputDialog,
    QMenu,
    QMessageBox,
    QWidget,
)

from fireants_engine.recipe.models import Recipe
from napari_fireants import _task
from napari_fireants._session import State

DOCKS = (
    "Register", "Inspect", "Landmarks", "History", "Batch", "EPI correction", "Histology",
)  # fmt: skip
QUIET_QT = ("propagateSizeHints", "XDG_RUNTIME_DIR", "This plugin does not support", "_themes")


def small_recipe(steps: int = 30, kind: str = "greedy") -> Recipe:
    """Rigid, then another kind, a few steps each."""
    stages = [
        {
            "name": name,
            "deformation": {"kind": name},
            "terms": [{"kind": "ssd"}],
            "pyramid": {"levels": [{"shrink": 2, "max_steps": steps}, {"max_steps": steps}]},
            "stop": {"tolerance": 0.0},
        }
        for name in ("rigid", kind)
    ]
    return Recipe.from_dict({"name": "small", "stages": stages, "start": {"kind": "identity"}})


def blob(shape: tuple[int, ...], shift: float = 0.0) -> np.ndarray:
    """A soft ellipsoid, off the middle by `shift` voxels."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    parts = (((a - n / 2 - shift) / (n / 3.2)) ** 2 for a, n in zip(axes, shape, strict=True))
    return (100 * np.exp(-(sum(parts) ** 2))).astype(np.float32)


def add_pair(viewer: Any, flat: bool = False) -> None:
    """Two images of a few thousand voxels, in 3D or 2D."""
    shape = (28, 32) if flat else (14, 18, 16)
    options = {"units": ("mm",) * len(shape)}
    viewer.add_image(blob(shape), name="fixed", **options)
    viewer.add_image(blob(shape, 2.0), name="moving", **options)


def open_docks(viewer: Any) -> dict[str, Any]:
    """Every dock of the plugin that is there, open."""
    panels = {}
    for name in DOCKS:
        _, panels[name] = viewer.window.add_plugin_dock_widget("napari-fireants", name)
    return panels


def pump(seconds: float = 0.0) -> None:
    """Let the window live for a while."""
    end = time.perf_counter() + seconds
    while True:
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        if time.perf_counter() >= end:
            return
        time.sleep(0.005)


# ------------------------------------------------------------------ what went wrong
class Watcher:
    """Collects whatever a person should never meet, while it is entered."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.doing = ""

    def tell(self, what: str, error: BaseException | None = None) -> None:
        lines = "" if error is None else "".join(traceback.format_exception(error))
        self.found.append(f"after {self.doing}: {what}\n{lines}")

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watcher]:
        from napari.utils.notifications import notification_manager

        explain = _task.explain

        def told(error: Exception) -> str:
            sentence = explain(error)
            if "unexpectedly" in sentence or "is missing" in sentence:
                self.tell(f"a thread said {sentence!r}", error)
            return sentence

        def qt(_kind: Any, _where: Any, text: str | None) -> None:
            if text and not any(known in text for known in QUIET_QT):
                self.tell(f"Qt said {text!r}")

        def notified(note: Any) -> None:
            if str(getattr(note.severity, "value", note.severity)) == "error":
                self.tell(f"napari said {note.message!r}", getattr(note, "exception", None))

        def thread(args: Any) -> None:
            self.tell("a thread raised", args.exc_value)

        before = qInstallMessageHandler(qt)
        notification_manager.notification_ready.connect(notified)
        hooks = (
            mock.patch.object(sys, "excepthook", lambda _t, e, _tb: self.tell("a slot raised", e)),
            mock.patch.object(sys, "unraisablehook", lambda a: self.tell("lost", a.exc_value)),
            mock.patch.object(threading, "excepthook", thread),
            mock.patch.object(_task, "explain", told),
        )
        with contextlib.ExitStack() as stack:
            for hook in hooks:
                stack.enter_context(hook)
            try:
                yield self
            finally:
                notification_manager.notification_ready.disconnect(notified)
                qInstallMessageHandler(before)


# ------------------------------------------------------------------ dialogs
class Dialogs:
    """Answers file dialogs and questions: by a path in `folder`, or by Cancel."""

    def __init__(self, folder: Path, choose: Callable[[], np.random.Generator]) -> None:
        self.folder, self._choose = folder, choose

    def _path(self, ends: tuple[str, ...]) -> str:
        rng = self._choose()
        if rng.random() < 0.25:
            return ""
        there = sorted(p for p in self.folder.iterdir() if p.suffix in ends or rng.random() < 0.1)
        if there and rng.random() < 0.7:
            return str(there[rng.integers(len(there))])
        return str(self.folder / f"file{rng.integers(6)}{ends[rng.integers(len(ends))]}")

    def _question(self, box: QMessageBox) -> int:
        buttons = box.buttons()
        buttons[self._choose().integers(len(buttons))].click()
        return 0

    def _dialog(self, dialog: QDialog) -> int:
        return int(self._choose().random() < 0.7) if dialog is not None else 0

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        files = (".csv", ".fcsv", ".yaml", ".json", ".png", ".pdf", ".html", "")
        one = lambda *_, **__: (self._path(files), "")  # noqa: E731
        many = lambda *_, **__: ([p] if (p := self._path(files)) else [], "")  # noqa: E731
        name = lambda *_, **__: (f"name {self._choose().integers(9)}", True)  # noqa: E731
        yes = lambda *_, **__: QMessageBox.StandardButton.Open  # noqa: E731
        with contextlib.ExitStack() as stack:
            for owner, what, answer in (
                (QFileDialog, "getSaveFileName", one),
                (QFileDialog, "getOpenFileName", one),
                (QFileDialog, "getOpenFileNames", many),
                (
                    QFileDialog,
                    "getExistingDirectory",
                    lambda *_, **__: self._path(("", ".fireants")),
                ),
                (QInputDialog, "getText", name),
                (QInputDialog, "getMultiLineText", name),
                (QMessageBox, "question", yes),
                (QMessageBox, "exec", self._question_of),
                (QDialog, "exec", self._dialog_of),
                (QMenu, "exec", lambda *_, **__: None),
            ):
                stack.enter_context(mock.patch.object(owner, what, answer))
            browse = "qtpy.QtGui.QDesktopServices.openUrl"
            stack.enter_context(mock.patch(browse, return_value=True))
            yield

    @property
    def _question_of(self) -> Callable[..., int]:
        return lambda box, *_: self._question(box)

    @property
    def _dialog_of(self) -> Callable[..., int]:
        return lambda dialog, *_: self._dialog(dialog)


# ------------------------------------------------------------------ what must hold
def wrong(panels: dict[str, Any]) -> list[str]:
    """Buttons that are not as the state of the session asks."""
    register, batch = panels["Register"], panels["Batch"]
    session = register.session
    alive = session.state in (State.RUNNING, State.PAUSED)
    ready = register.inputs.ready and not register._invalid
    history = panels["History"]
    undo = register.controller.undo
    expected = {
        "Register": (register.run, ready and not session.busy and not session.state.active),
        "Pause": (register.pause, alive),
        "Stop": (register.stop, alive),
        "inputs": (register.settings, not session.state.active),
        "Stop of the batch": (batch.stop, batch.batch.running and not batch.batch.stopping),
        "Undo": (history.undo, undo.can_undo),
        "Redo": (history.redo, undo.can_redo),
    }
    return [
        f"{name} is {'enabled' if widget.isEnabledTo(panel_of(widget)) else 'disabled'} in state "
        f"{session.state.name}, busy {session.busy}"
        for name, (widget, should) in expected.items()
        if widget.isEnabledTo(panel_of(widget)) != should
    ]


def panel_of(widget: QWidget) -> QWidget:
    """The dock's panel that holds a widget."""
    above = widget.parentWidget()
    while above is not None and not hasattr(widget, "controller"):
        widget, above = above, above.parentWidget()
    return widget


# ------------------------------------------------------------------ many runs
class Sequel:
    """Runs of one tiny pair, one after the other, as a person makes them: landmarks, previews and
    history on."""

    def __init__(self, viewer: Any, panels: dict[str, Any], steps: int = 6) -> None:
        self.viewer, self.panel = viewer, panels["Register"]
        self.controller = self.panel.controller
        self.steps = steps
        self._results: list[weakref.ref[Any]] = []
        if not len(viewer.layers):
            add_pair(viewer)
        for place in ((6.0, 8.0, 7.0), (9.0, 10.0, 6.0), (8.0, 6.0, 8.0)):
            self.controller.landmarks.add(place, tuple(x + 2 for x in place))
        self.controller.landmarks.use(True)

    def run(self) -> None:
        """One run to its end, and all that follows it. Raises RuntimeError when it fails."""
        session = self.panel.session
        self.controller.store.use(small_recipe(self.steps + len(self._results) % 3))
        self.panel.run.click()
        session.wait(60)
        if session.state is not State.FINISHED:
            raise RuntimeError(f"{session.state.name} {session.error} {self.panel.message.text()}")
        self._results.append(weakref.ref(session.product.result))
        end = time.perf_counter() + 30
        while self.busy and time.perf_counter() < end:
            pump(0.02)

    @property
    def busy(self) -> bool:
        parts = self.controller.looking, self.controller.landmarking, self.controller.keeper.behind
        return any(part.busy for part in parts)

    def alive(self) -> int:
        """Of the results of all runs, those still in memory."""
        gc.collect()
        return sum(known() is not None for known in self._results)
