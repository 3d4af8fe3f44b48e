"""Three steps for who opens the Register dock for the first time; shown once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, QPoint, QRect, Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_fireants._remember import remember, remembered
from napari_fireants._session import State
from napari_fireants._shortcuts import lend
from napari_fireants.panels._widgets import button, caption

if TYPE_CHECKING:
    from napari_fireants._session import Session
    from napari_fireants.panels._inputs import InputsEditor
    from napari_fireants.panels.register import RegisterPanel

SECTION, NAME = "display", "tour"
CHOOSE = (
    "Fixed stays where it is, Moving is brought onto it. Open two images that show the same thing, "
    "or the sample pair."
)
PRESS = (
    "The preset says what kind of images these are; the line below it tells whether it fits. Then "
    "press Register."
)
LOOK = (
    "Where both images agree, green and magenta become grey or white. You may pause at any time "
    "and help under Steer: move the image, paint what to ignore, set landmarks. Inspect (Ctrl+2) "
    "shows how good the result is; F1 lists all keys."
)
_FRAME = "border: 2px solid rgb(230, 159, 0); border-radius: 4px;"
_MOVES = (
    QEvent.Type.Move,
    QEvent.Type.Resize,
    QEvent.Type.LayoutRequest,
    QEvent.Type.Show,
    QEvent.Type.Hide,
)
_shown = False  # where napari keeps nothing of plugins: once per napari


@dataclass(frozen=True)
class Stop:
    """What one step says, and the widget it points at."""

    title: str
    text: str
    target: Callable[[], QWidget]


def due() -> bool:
    """Nobody has seen it yet, or it was asked for on napari's page of preferences."""
    return not _shown and bool(remembered(SECTION, NAME, True))


class Tour(QFrame):
    """Stands above what it explains, covers nothing and waits for nothing.

    Who does what a step says is taken to the next one by `done`.
    """

    def __init__(self, dock: QWidget, viewer: Any, stops: Sequence[Stop]) -> None:
        super().__init__()
        self._viewer, self._stops, self.step = viewer, stops, -1
        self._give_back: list[Callable[[], None]] = []
        self.setObjectName("tour")
        self.setStyleSheet("QFrame#tour { background: rgba(230, 159, 0, 38); border-radius: 4px; }")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.setSpacing(4)
        self.title, self.text = QLabel(), caption()
        layout.addWidget(self.title)
        layout.addWidget(self.text)
        row = QHBoxLayout()
        self.skip = button(
            "Skip", "End the tour (Esc); the list of keys (F1) brings it back", self.end
        )
        self.next = button("Next", "The next step", lambda: self.done(self.step))
        row.addStretch(1)
        row.addWidget(self.skip)
        row.addWidget(self.next)
        layout.addLayout(row)
        self._escape = QShortcut(QKeySequence("Esc"), dock, self.end)
        self._escape.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        self._pointer: Pointer | None = None
        self.end()
        lent = self._give_back
        self.destroyed.connect(lambda: _all(lent))

    def begin(self) -> None:
        """From the first step on."""
        global _shown
        _shown = True
        remember(SECTION, NAME, False)
        self._go(0)

    def done(self, step: int) -> None:
        """What a step says was done: on to the next, if it is the step that is shown."""
        if step == self.step >= 0:
            self._go(step + 1)

    def end(self) -> None:
        """No tour any more."""
        self._go(len(self._stops))

    def _go(self, step: int) -> None:
        if self._pointer is not None:
            self._pointer.end()
            self._pointer = None
        last = len(self._stops) - 1
        self.step = step if step <= last else -1
        self.setVisible(self.step >= 0)
        self._escape.setEnabled(self.step >= 0)
        self._lend_escape()
        if self.step < 0:
            return
        stop = self._stops[step]
        self.title.setText(f"<b>{step + 1} of {last + 1}: {stop.title}</b>")
        self.text.setText(stop.text)
        self.skip.setVisible(step < last)
        self.next.setText("Next" if step < last else "Done")
        self._pointer = Pointer(stop.target(), self.parentWidget())

    def watch(self, inputs: InputsEditor, session: Session) -> None:
        """Choosing two images does the first step, a run the first two."""
        self._inputs, self._ready = inputs, inputs.ready
        inputs.changed.connect(self._on_inputs)
        session.state_changed.connect(self._on_state)

    def _on_inputs(self) -> None:
        ready = self._inputs.ready
        if ready and not self._ready:
            self.done(0)
        self._ready = ready

    def _on_state(self, state: State) -> None:
        if state is State.RUNNING:
            self.done(0)
            self.done(1)

    def _lend_escape(self) -> None:
        """Esc ends it on the canvas, too."""
        _all(self._give_back)
        if self.step >= 0:
            known = weakref.ref(self)
            end = lambda: None if known() is None else known().end()  # noqa: E731
            self._give_back.append(lend(self._viewer, "Escape", end))


def tour_of(panel: RegisterPanel) -> Tour:
    """The tour of the Register dock; who works along is taken through it."""
    tour = Tour(
        panel,
        panel.controller.viewer,
        (
            Stop("Choose two images", CHOOSE, lambda: panel.inputs),
            Stop("Press Register", PRESS, lambda: panel.run),
            Stop("Look and steer", LOOK, lambda: panel.steer_section),
        ),
    )
    tour.watch(panel.inputs, panel.session)
    return tour


class Pointer(QFrame):
    """A frame around a widget that lets the mouse through; `board` is what it is drawn on."""

    def __init__(self, target: QWidget, board: QWidget) -> None:
        super().__init__(board)
        self._target, self._board = target, board
        self.setObjectName("pointer")
        self.setStyleSheet(f"QFrame#pointer {{ {_FRAME} background: transparent; }}")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        for watched in (target, board):
            watched.installEventFilter(self)
        self._follow()

    def end(self) -> None:
        for watched in (self._target, self._board):
            watched.removeEventFilter(self)
        self.hide()
        self.deleteLater()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in _MOVES:
            self._follow()
        return False

    def _follow(self) -> None:
        corner = self._target.mapTo(self._board, QPoint(0, 0))
        self.setGeometry(QRect(corner, self._target.size()).adjusted(-3, -3, 3, 3))
        self.setVisible(self._target.isVisibleTo(self._board))
        self.raise_()


def _all(actions: list[Callable[[], None]]) -> None:
    while actions:
        actions.pop()()
