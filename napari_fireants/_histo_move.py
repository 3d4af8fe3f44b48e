"""The plane moved by mouse and keys, while a person has asked for it; and landmarks clicked.

Of the viewer, keys, mouse callbacks and the camera's panning are written, and put back.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from napari_fireants._histo_pose import Pose
from napari_fireants._shortcuts import typing

if TYPE_CHECKING:
    from napari_fireants._histo import Histo

STEP_PX, TURN_DEG, SCALE, THROUGH_MM = 2.0, 1.0, 1.01, 0.5
REST_SECONDS = 1.0
"""Keys of one kind within this are one step back."""
STILL_PX = 4
Mode = Literal["", "move", "mark"]
KEYS_OF_HAND = (
    "arrows shift, R and E turn, F flips, + and - scale, PageUp and PageDown go through the volume"
)


class Hand:
    """What mouse and keys do to the section that is at work. changed: another mode; said: a
    sentence."""

    changed = Signal()
    said = Signal(str)

    def __init__(self, histo: Histo) -> None:
        self._histo, self._viewer = histo, histo.viewer
        self.mode: Mode = ""
        self._keys: dict[str, Any] = {}
        self._panned = True
        self._burst, self._last, self._when = 0, "", 0.0
        self._listen()

    def use(self, mode: Mode) -> None:
        """Move the plane, set landmarks, or neither."""
        if mode == self.mode:
            return
        camera = self._viewer.scene.camera
        if not self.mode:
            self._panned = camera.mouse_pan
        self.mode = mode
        for key in self._keys:
            self._viewer.bind_key(key, None)
        self._keys = {}
        if mode == "move":
            self._keys = {key: self._pressed(key) for key in _MOVES}
        if mode:
            self._keys["Escape"] = lambda _: self.use("")
        for key, function in self._keys.items():
            self._viewer.bind_key(key, function, overwrite=True)
        camera.mouse_pan = self._panned and mode != "move"
        self.changed.emit()

    def _pressed(self, key: str) -> Callable[[Any], None]:
        known = weakref.ref(self)

        def press(_: Any) -> None:
            hand = known()
            if hand is not None and not typing():
                hand.press(key)

        return press

    def press(self, key: str) -> None:
        """What a key does."""
        kind, change = _MOVES[key]
        prepared = self._histo.scene.prepared
        if prepared is not None:
            pixel = float(prepared.pixel_mm[0])
            self._histo.move(kind, lambda pose: change(pose, pixel), self._merge(kind))

    def _merge(self, kind: str) -> object:
        now = time.monotonic()
        if kind != self._last or now - self._when > REST_SECONDS:
            self._burst += 1
        self._last, self._when = kind, now
        return "section", self._burst

    # ------------------------------------------------------------ the mouse
    def _listen(self) -> None:
        known = weakref.ref(self)

        def drag(_: Any, event: Any) -> Iterator[None]:
            hand = known()
            if hand is not None and hand.mode and event.button == 1:
                yield from (hand._drag if hand.mode == "move" else hand._click)(event)

        self._viewer.mouse_drag_callbacks.append(drag)

    def _drag(self, event: Any) -> Iterator[None]:
        """Shift; with Shift held turn, with Alt or Ctrl scale, about the middle of the tissue."""
        scene, section = self._histo.scene, self._histo.section
        aside = scene.is_aside(event.position)
        start = scene.place_of(event.position, aside)
        if start is None or section is None or section.pose is None:
            return
        begun = section.pose
        keys = event.modifiers  # of vispy: equal to their names, but no texts
        scaled = "Control" in keys or "Alt" in keys
        how = "turn" if "Shift" in keys else "scale" if scaled else "shift"
        self._burst += 1
        self._last = ""
        merge = "section", self._burst
        yield
        while event.type == "mouse_move":
            here = scene.place_of(event.position, aside)
            if here is not None:
                name, moved = _dragged(begun, how, start, here)
                self._histo.move(name, lambda _, moved=moved: moved, merge)
            yield

    def _click(self, event: Any) -> Iterator[None]:
        start, still = np.array(event.pos), True
        yield
        while event.type == "mouse_move":
            still = still and float(np.linalg.norm(np.array(event.pos) - start)) <= STILL_PX
            yield
        found = self._histo.scene.place_at(event.position) if still else None
        if found is not None:
            self.said.emit(self._histo.pairs.click(*found))


def _dragged(pose: Pose, how: str, start: np.ndarray, here: np.ndarray) -> tuple[str, Pose]:
    """A pose after what is seen was dragged from `start` to `here`, section mm."""
    middle = pose.middle_mm[:2]
    before, now = start - middle, here - middle
    if how == "turn":
        angle = np.arctan2(now[1], now[0]) - np.arctan2(before[1], before[0])
        return "Turn the plane", pose.turned(float(np.degrees(angle)))
    if how == "scale":
        lengths = [max(float(np.linalg.norm(each)), 1e-6) for each in (now, before)]
        return "Scale the plane", pose.scaled(float(np.clip(lengths[0] / lengths[1], 0.2, 5.0)))
    return "Shift the plane", pose.shifted(*(here - start))


Change = Callable[[Pose, float], Pose]
_MOVES: dict[str, tuple[str, Change]] = {
    "Left": ("Shift the plane", lambda pose, px: pose.shifted(-STEP_PX * px, 0)),
    "Right": ("Shift the plane", lambda pose, px: pose.shifted(STEP_PX * px, 0)),
    "Up": ("Shift the plane", lambda pose, px: pose.shifted(0, -STEP_PX * px)),
    "Down": ("Shift the plane", lambda pose, px: pose.shifted(0, STEP_PX * px)),
    "R": ("Turn the plane", lambda pose, _: pose.turned(-TURN_DEG)),
    "E": ("Turn the plane", lambda pose, _: pose.turned(TURN_DEG)),
    "F": ("Flip the plane", lambda pose, _: pose.flipped()),
    "+": ("Scale the plane", lambda pose, _: pose.scaled(SCALE)),
    "=": ("Scale the plane", lambda pose, _: pose.scaled(SCALE)),
    "-": ("Scale the plane", lambda pose, _: pose.scaled(1 / SCALE)),
    "PageUp": ("Move through the volume", lambda pose, _: pose.through(THROUGH_MM)),
    "PageDown": ("Move through the volume", lambda pose, _: pose.through(-THROUGH_MM)),
}
