"""Steering a run: move by hand, paint what to ignore, bring landmarks together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from fireants_engine.errors import FireantsError
from napari_fireants import _nudge
from napari_fireants._controller import Controller
from napari_fireants._fields import DecimalBox, guard_wheel, small_button
from napari_fireants._ignoring import SIDES, Side
from napari_fireants._layers import mm_to_world
from napari_fireants._session import Progress, State
from napari_fireants._steering import Back
from napari_fireants.panels._focus import to_canvas
from napari_fireants.panels._widgets import button, caption

if TYPE_CHECKING:
    from napari_fireants.panels._widgets import Message

HINT = (
    "The run follows what you change, paused or not: move the image, paint what to ignore, drag "
    "landmarks, edit Advanced."
)
DEGREES_PER_STEP, SCALE_PER_STEP = 2.0, 1.02


class SteerPanel(QWidget):
    """Enabled parts follow the session's state and the layers."""

    def __init__(self, controller: Controller, message: Message) -> None:
        super().__init__()
        self._controller, self._steering = controller, controller.steering
        self._say = message.say
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(caption(HINT))
        layout.addLayout(self._hands())
        self.moves = self._moves()
        layout.addWidget(self.moves)
        layout.addLayout(self._landmarks())
        layout.addLayout(self._back())
        self.start = caption()
        self.reset = button(
            "Start as the recipe says", "Forget where the run would start", self._forget
        )
        self.painted = caption()
        layout.addWidget(self.painted)
        layout.addWidget(self.start)
        layout.addWidget(self.reset)
        self.changes = caption()
        self.changes.setAccessibleName("Changes made to this run")
        layout.addWidget(self.changes)
        self._made: list[str] = []
        self._now = Progress()
        self._connect()
        self.refresh()

    # ---------------------------------------------------------------- build
    def _hands(self) -> QGridLayout:
        self.hand = _toggle(
            "Move by hand",
            "Drag the moving image on the canvas; its frame turns and stretches it",
            self._take_hand,
        )
        self.ignore = {
            side: _toggle(
                f"Ignore in {side}…",
                f"Paint over parts of the {side} image that should not be matched",
                lambda on, side=side: self._paint(side, on),
            )
            for side in SIDES
        }
        grid = QGridLayout()
        grid.setSpacing(3)
        grid.addWidget(self.hand, 0, 0, 1, 2)
        for column, item in enumerate(self.ignore.values()):
            grid.addWidget(item, 1, column)
        return grid

    def _moves(self) -> QWidget:
        """Buttons for those who would rather not drag."""
        self.step = DecimalBox()
        self.step.setRange(0.01, 100)
        self.step.setValue(1.0)
        self.step.setSuffix(" mm")
        self.step.setToolTip("Length of one step")
        self.step.setAccessibleName("Length of one step")
        guard_wheel(self.step)
        moves = (
            ("←", "Left by one step", lambda: self.shift(1, -1)),
            ("→", "Right by one step", lambda: self.shift(1, 1)),
            ("↑", "Up by one step", lambda: self.shift(0, -1)),
            ("↓", "Down by one step", lambda: self.shift(0, 1)),
        )
        shapes = (
            ("⟲", f"Turn left by {DEGREES_PER_STEP:g} degrees", lambda: self.turn(-1)),
            ("⟳", f"Turn right by {DEGREES_PER_STEP:g} degrees", lambda: self.turn(1)),
            ("−", "Smaller by 2 %", lambda: self.scale(-1)),
            ("+", "Larger by 2 %", lambda: self.scale(1)),
            ("⇋", "Mirror left and right", self._mirror),
        )
        box = QWidget()
        rows = QVBoxLayout(box)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(3)
        for items, last in ((moves, self.step), (shapes, QLabel("turn, scale, mirror"))):
            row = QHBoxLayout()
            row.setSpacing(3)
            for text, tip, action in items:
                row.addWidget(small_button(text, tip, action))
            row.addWidget(last, 1)
            rows.addLayout(row)
        return box

    def _landmarks(self) -> QHBoxLayout:
        self.kind = QComboBox()
        self.kind.addItems(["rigid", "similarity", "affine"])
        self.kind.setAccessibleName("Kind of map that brings landmarks together")
        self.kind.setToolTip(
            "rigid: turn and shift; similarity: and one scale; affine: and shear and stretch"
        )
        guard_wheel(self.kind)
        self.align = button(
            "Bring landmarks together",
            "Move the moving image at once so that its landmarks lie on those of the fixed one",
            self._align,
        )
        row = QHBoxLayout()
        row.addWidget(self.align, 1)
        row.addWidget(self.kind)
        return row

    def _back(self) -> QHBoxLayout:
        self.back = QComboBox()
        narrow = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.back.setSizeAdjustPolicy(narrow)
        self.back.setMinimumContentsLength(8)
        for way in Back:
            self.back.addItem(way.value, way)
        tip = (
            "Landmarks, masks and moves ask for more than the last few steps on the finest level: "
            "the stage then goes on from its coarsest level, with the present warp"
        )
        self.back.setToolTip(tip)
        self.back.setAccessibleName("After a change go on")
        guard_wheel(self.back)
        self.back.currentIndexChanged.connect(self._choose_back)
        label = QLabel("Then go on")
        label.setToolTip(tip)
        row = QHBoxLayout()
        row.addWidget(label)
        row.addWidget(self.back, 1)
        return row

    def _connect(self) -> None:
        controller, session = self._controller, self._controller.session
        session.state_changed.connect(self.refresh)
        session.opening.connect(self._on_opening)
        session.finished.connect(self._on_end)
        session.failed.connect(self._on_end)
        session.progressed.connect(self._on_progress)
        session.edited.connect(self._on_edit)
        session.frames_ready.connect(self._on_frames)
        self._steering.said.connect(self._say)
        self._steering.moving_changed.connect(self._on_moving)
        controller.initial_changed.connect(self._on_initial)
        controller.landmarks.changed.connect(self._on_landmarks)

    # ---------------------------------------------------------------- commands
    def _guarded(self, action: Callable[[], object]) -> bool:
        try:
            action()
        except FireantsError as error:
            self._say(str(error))
            return False
        return True

    def _take_hand(self, on: bool) -> None:
        for item in self.ignore.values():
            item.setChecked(False)
        if on:
            self.hand.setChecked(self._guarded(self._steering.take))
            to_canvas(self)  # arrow keys would move the focus from button to button
        else:
            self._steering.let_go()

    def _paint(self, side: Side, on: bool) -> None:
        images = dict(zip(SIDES, self._controller.images(), strict=True))
        if not on:
            self._steering.ignoring.put_down()
            return
        self.hand.setChecked(False)
        for other, item in self.ignore.items():
            if other != side:
                item.setChecked(False)
        image = images[side]
        if image is None:
            self.ignore[side].setChecked(False)
            self._say("Choose a fixed and a moving image first.")
            return
        self._steering.ignoring.paint(side, image)

    def _axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Directions down and to the right on the canvas, LPS mm, unit length."""
        hand = self._steering.hand
        assert hand is not None
        dims = self._controller.viewer.dims
        first = dims.ndim - hand.layer.ndim
        down, right = [axis - first for axis in dims.displayed][-2:]
        to_mm = np.linalg.inv(mm_to_world(hand.layer))[:-1, :-1]
        ways = [to_mm[:, axis] / np.linalg.norm(to_mm[:, axis]) for axis in (down, right)]
        return ways[0], ways[1]

    def _move(self, matrix: Callable[[], np.ndarray]) -> None:
        if self._steering.hand is not None:
            self._guarded(lambda: self._steering.hand.move(matrix()))

    def shift(self, axis: int, sign: int) -> None:
        """One step down (axis 0) or to the right (1) on the canvas, or the other way."""
        self._move(lambda: _nudge.shift(sign * self.step.value() * self._axes()[axis]))

    def turn(self, sign: int) -> None:
        """Turn to the right (1) or to the left (-1) on the canvas."""

        def matrix() -> np.ndarray:
            down, right = self._axes()
            plane = int(np.argmax(np.abs(right))), int(np.argmax(np.abs(down)))
            way = sign * np.sign(right[plane[0]] * down[plane[1]])
            return _nudge.turn(plane, way * DEGREES_PER_STEP, self._steering.hand.centre_mm)

        self._move(matrix)

    def scale(self, sign: int) -> None:
        """Larger (1) or smaller (-1)."""
        factor = SCALE_PER_STEP**sign
        self._move(lambda: _nudge.scale(factor, self._steering.hand.centre_mm))

    def _mirror(self) -> None:
        def matrix() -> np.ndarray:
            axis = int(np.argmax(np.abs(self._axes()[1])))
            return _nudge.mirror(axis, self._steering.hand.centre_mm)

        self._move(matrix)

    def _align(self) -> None:
        self._guarded(lambda: self._steering.align(self.kind.currentText()))

    def _choose_back(self, _: int) -> None:
        self._steering.back = self.back.currentData()

    def _forget(self) -> None:
        self._steering.let_go()
        self._controller.start_from(None, "start as the recipe says")

    # ---------------------------------------------------------------- what happens
    def _on_opening(self) -> None:
        """A run begins."""
        self._made, self._now = [], Progress()
        self._on_end()

    def _on_end(self, *_: object) -> None:
        """The brush is put down."""
        for item in self.ignore.values():
            item.setChecked(False)
        self.refresh()

    def _on_progress(self, now: Progress) -> None:
        self._now = now

    def _on_edit(self, sentence: str) -> None:
        now = self._now
        self._made.append(f"{sentence} ({now.stage}, level {now.level + 1}, step {now.step})")
        self.refresh()

    def _on_frames(self, _: object) -> None:
        if not self.hand.isEnabled():
            self.refresh()

    def _on_moving(self, moving: bool) -> None:
        self.hand.blockSignals(True)
        self.hand.setChecked(moving)
        self.hand.blockSignals(False)
        self.refresh()

    def _on_initial(self, *_: object) -> None:
        self.refresh()

    def _on_landmarks(self, *_: object) -> None:
        self.refresh()

    def refresh(self, *_: object) -> None:
        """Show what can be done now, and what was."""
        session = self._controller.session
        active = session.state.steerable
        self.hand.setEnabled(self._steering.can_move and session.state is not State.STOPPING)
        self.moves.setVisible(self.hand.isChecked())
        pairs = len(self._controller.landmarks.pairs)
        self.align.setEnabled(active and pairs > 0)
        self.align.setToolTip(
            "Move the moving image at once so that its landmarks lie on those of the fixed one"
            if pairs
            else "Set landmarks in both images first (Landmarks dock)"
        )
        started = self._controller.initial is not None
        self.start.setVisible(started)
        self.reset.setVisible(started)
        self.reset.setEnabled(not session.state.active)
        self.start.setText("The next run starts where you put the image, not as its recipe says.")
        painted = [] if active else self._steering.ignoring.painted
        self.painted.setVisible(bool(painted))
        self.painted.setText(
            "The next run leaves out what is painted, too; delete the layer "
            f"{' and '.join(painted)} to match all again."
        )
        shown = self._made[-4:]
        more = f"{len(self._made) - len(shown)} earlier changes.\n" if len(self._made) > 4 else ""
        self.changes.setText(more + "\n".join(f"• {text}" for text in shown))
        self.changes.setVisible(bool(self._made))


def _toggle(text: str, tip: str, toggled: Callable[[bool], object]) -> QPushButton:
    out = QPushButton(text)
    out.setCheckable(True)
    out.setToolTip(tip)
    out.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    out.toggled.connect(lambda on: toggled(on))
    return out
