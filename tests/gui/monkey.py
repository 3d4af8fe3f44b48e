"""A monkey at the window: random clicks and edits in every dock, seeded, and what went wrong.

Nothing here asserts: `play` returns sentences, none when all was well.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from qtpy.QtCore import QCoreApplication, QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QLineEdit,
    QMenu,
    QSlider,
    QWidget,
)

from fireants_engine.errors import FireantsError
from napari_fireants import _shortcuts
from napari_fireants._session import State
from tests.gui.window import Dialogs, Watcher, add_pair, blob, pump, small_recipe, wrong


# ------------------------------------------------------------------ the monkey
class Monkey:
    """Does one thing at a time, by chance; `act` returns what it did.

    folder: where files are read and written.
    """

    def __init__(self, viewer: Any, panels: dict[str, Any], folder: Path, seed: int) -> None:
        self.viewer, self.panels, self.folder, self.seed = viewer, panels, folder, seed
        self.controller = panels["Register"].controller
        self.rng = np.random.default_rng(seed)
        self.count = 0
        self.dialogs = Dialogs(folder, lambda: self.rng)
        self._actions: list[tuple[float, Callable[[], str]]] = [
            (22, self.press_any),
            (8, self.choose_in_combo),
            (7, self.type_value),
            (5, self.slide),
            (7, self.press_register),
            (6, self.run_control),
            (8, self.landmark),
            (4, self.undo_or_redo),
            (8, self.look_elsewhere),
            (9, self.change_layers),
            (5, self.edit_layer),
            (5, self.drag_on_canvas),
            (5, self.press_key),
            (3, self.edit_recipe),
            (3, self.rest),
        ]

    # ---------------------------------------------------------------- one step
    def act(self) -> str:
        self.rng = np.random.default_rng([self.seed, self.count])
        self.count += 1
        weights = np.array([weight for weight, _ in self._actions])
        k = self.rng.choice(len(weights), p=weights / weights.sum())
        return self._actions[k][1]()

    def _one(self, items: Any) -> Any:
        items = list(items)
        return items[self.rng.integers(len(items))] if items else None

    def _widgets(self, kind: type) -> list[Any]:
        """Those that a person could use now, in docks and open dialogs."""
        windows = [w for w in QApplication.topLevelWidgets() if isinstance(w, QDialog)]
        roots = [*self.panels.values(), *(w for w in windows if not w.isHidden())]
        found = {w: root for root in roots for w in root.findChildren(kind)}
        return [w for w, root in found.items() if w.isEnabled() and w.isVisibleTo(root)]

    @staticmethod
    def _name(widget: QWidget) -> str:
        text = widget.accessibleName() or getattr(widget, "text", lambda: "")()
        return f"{type(widget).__name__} {text or widget.toolTip()[:40]!r}"

    # ---------------------------------------------------------------- widgets
    def press_any(self) -> str:
        button = self._one(self._widgets(QAbstractButton))
        if button is None:
            return "nothing to press"
        name = self._name(button)
        button.click()
        return f"press {name}"

    def choose_in_combo(self) -> str:
        combo = self._one([c for c in self._widgets(QComboBox) if c.count()])
        if combo is None:
            return "no combo"
        index, name = int(self.rng.integers(combo.count())), self._name(combo)
        text = combo.itemText(index)
        combo.setCurrentIndex(index)
        combo.activated.emit(index)
        return f"choose {text!r} in {name}"

    def type_value(self) -> str:
        field = self._one([*self._widgets(QAbstractSpinBox), *self._widgets(QLineEdit)])
        if field is None:
            return "no field"
        text = self._one(["0", "1", "2.5", "7", "-3", "abc", "", "1e9", "0.01", "name/with"])
        name = self._name(field)
        edit = field if isinstance(field, QLineEdit) else field.lineEdit()
        if edit is None or edit.isReadOnly():
            return "a field that cannot be written in"
        edit.selectAll()
        QTest.keyClicks(edit, text)
        QTest.keyClick(edit, Qt.Key.Key_Return)
        return f"type {text!r} in {name}"

    def slide(self) -> str:
        slider = self._one(self._widgets(QSlider))
        if slider is None:
            return "no slider"
        value = int(self.rng.integers(slider.minimum(), slider.maximum() + 1))
        slider.setValue(value)
        return f"slide {self._name(slider)} to {value}"

    def press_key(self) -> str:
        known = [s for s in _shortcuts.SHORTCUTS if s.press is not None]
        shortcut = self._one(known)
        shortcut.press(self.controller)
        if shortcut.let_go is not None:
            pump()
            shortcut.let_go(self.controller)
        return f"key {shortcut.title}"

    # ---------------------------------------------------------------- runs
    def press_register(self) -> str:
        panel = self.panels["Register"]
        if self.controller.session.state is State.FAILED or self.rng.random() < 0.8:
            steps = int(self._one([5, 30, 200]))
            kind = self._one(["greedy", "symmetric", "affine"])
            self.controller.store.use(small_recipe(steps, kind))
        if not panel.run.isEnabled() and self.rng.random() < 0.7:
            add_pair(self.viewer)
            pump()
        panel.run.click()
        return "press Register"

    def run_control(self) -> str:
        panel, session = self.panels["Register"], self.controller.session
        what = self._one([panel.pause, panel.stop, self.panels["Batch"].stop, panel.steer.hand])
        name = self._name(what)
        if what.isEnabled():
            what.click()
        return f"press {name} while {session.state.name}"

    def edit_recipe(self) -> str:
        recipe = self.controller.store.recipe
        path, value = self._one([
            ("stages.0.stop.tolerance", 1e-3),
            ("stages.0.pyramid.levels.0.max_steps", int(self.rng.integers(1, 40))),
            ("stages.0.enabled", bool(self.rng.random() < 0.5)),
            ("seed", int(self.rng.integers(9))),
        ])  # fmt: skip
        with contextlib.suppress(ValueError):
            self.controller.store.edit(recipe.with_values({path: value}))
        return f"edit {path}: {value}"

    def undo_or_redo(self) -> str:
        history = self.panels["History"]
        button = self._one([history.undo, history.redo])
        name = button.toolTip()
        if button.isEnabled():
            button.click()
        return f"take back or again: {name}"

    def rest(self) -> str:
        seconds = float(self.rng.random() * 0.6)
        pump(seconds)
        return f"wait {seconds:.2f} s"

    # ---------------------------------------------------------------- landmarks
    def landmark(self) -> str:
        table = self.controller.landmarks
        side = self._one(["fixed", "moving"])
        place = tuple(float(x) for x in self.rng.uniform(2, 14, 3))
        keys = [row.key for row in table.rows]
        what = self._one(["add", "add", "both", "move", "delete"])
        with contextlib.suppress(FireantsError):  # 2D and 3D at once
            if what == "delete" and keys:
                table.delete([self._one(keys)])
            elif what == "move" and keys:
                table.move_all(side, {self._one(keys): place}, None)
            elif what == "both":
                table.add(place, tuple(x + 1.0 for x in place))
            else:
                table.add(**{f"{side}_mm": place})
        return f"landmark: {what} in {side}"

    # ---------------------------------------------------------------- viewer
    def look_elsewhere(self) -> str:
        dims = self.viewer.dims
        what = self._one(["slice", "slice", "slice", "2D/3D", "order", "zoom", "theme"])
        if what == "slice":
            axis = int(self.rng.integers(dims.ndim))
            low, high, _ = dims.range[axis]
            dims.set_point(axis, float(self.rng.uniform(low - 1, high + 1)))
        elif what == "2D/3D":
            dims.ndisplay = 5 - dims.ndisplay
        elif what == "order":
            dims.order = tuple(int(x) for x in self.rng.permutation(dims.ndim))
        elif what == "zoom":
            self.viewer.scene.camera.zoom = float(self.rng.uniform(0.5, 20))
        else:
            self.viewer.theme = self._one(["dark", "light"])
        return f"look: {what}"

    def change_layers(self) -> str:
        layers = self.viewer.layers
        what = self._one(["remove", "remove", "rename", "add", "order", "labels", "all", "hide"])
        layer = self._one(layers)
        if what == "add" or layer is None or len(layers) < 2:
            flat = bool(self.rng.random() < 0.2)
            add_pair(self.viewer, flat)
            return f"add a pair{' in 2D' * flat} while {self.controller.session.state.name}"
        if what == "labels" or len(layers) > 16:
            if len(layers) > 16:
                self.viewer.layers.remove(layer)
            self.viewer.add_labels((blob((14, 18, 16)) > 30).astype(np.uint8), name="labels")
            return "add labels"
        name, state = layer.name, self.controller.session.state.name
        if what == "remove":
            layers.remove(layer)
        elif what == "rename":
            layer.name = self._one(["fixed", "moving", "a", "image with a long name " * 3])
        elif what == "order":
            layers.move(int(self.rng.integers(len(layers))), int(self.rng.integers(len(layers))))
        elif what == "hide":
            layer.visible = not layer.visible
        elif self.rng.random() < 0.3:
            layers.clear()
        return f"{what} layer {name!r} while {state}"

    def edit_layer(self) -> str:
        layer = self._one(self.viewer.layers)
        if layer is None:
            return "no layer"
        self.viewer.layers.selection.active = layer
        what = self._one(["scale", "translate", "mode", "paint", "opacity", "units"])
        if what == "scale":
            layer.scale = [float(self._one([0.5, 1, 2]))] * layer.ndim
        elif what == "translate":
            layer.translate = [float(x) for x in self.rng.uniform(-5, 5, layer.ndim)]
        elif what == "mode":
            layer.mode = self._one(["pan_zoom", "transform"])
        elif what == "paint" and hasattr(layer, "brush_size"):
            layer.paint((4,) * layer.ndim, 1)
        elif what == "opacity":
            layer.opacity = float(self.rng.random())
        elif what == "units":
            layer.units = (self._one(["mm", "um"]),) * layer.ndim
        return f"{what} of layer {layer.name!r}"

    def drag_on_canvas(self) -> str:
        native = self.viewer.window._qt_viewer.canvas.native
        width, height = max(native.width(), 40), max(native.height(), 40)
        a, b = (QPoint(*(int(x) for x in self.rng.integers(5, (width, height)))) for _ in "ab")
        button, mouse = Qt.MouseButton.LeftButton, cast(Any, QTest)
        mouse.mousePress(native, button, pos=a)
        mouse.mouseMove(native, b)
        pump()
        mouse.mouseRelease(native, button, pos=b)
        return f"drag from {a.x()}, {a.y()} to {b.x()}, {b.y()}"

    # ---------------------------------------------------------------- afterwards
    def close_dialogs(self) -> None:
        for window in QApplication.topLevelWidgets():
            if isinstance(window, QDialog | QMenu) and not window.isHidden():
                window.close()

    def stop_all(self, seconds: float = 60.0) -> None:
        """Stop whatever is at work, and wait until it has ended."""
        self.close_dialogs()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.controller.session.stop()
            self.controller.batch.stop()
            pump(0.05)
            busy = self.controller.session.busy or self.controller.keeper.behind.busy
            if not busy and not self.controller.looking.busy:
                return


def play(
    viewer: Any,
    panels: dict[str, Any],
    folder: Path,
    seed: int,
    actions: int,
    told: Callable[[str], object] = lambda _: None,
) -> tuple[list[str], list[str]]:
    """So many actions; what was done, and what went wrong."""
    monkey = Monkey(viewer, panels, folder, seed)
    if not len(viewer.layers):
        add_pair(viewer)
    done: list[str] = []
    watcher = Watcher()
    with watcher.watching(), monkey.dialogs.answering():
        for _ in range(actions):
            watcher.doing = done[-1] if done else "the start"
            before = len(watcher.found)
            try:
                done.append(monkey.act())
            except Exception as error:
                done.append("an action that raised")
                watcher.tell("raised at once", error)
            watcher.doing = done[-1]
            told(f"{len(done)} {done[-1]}")
            pump(0.02)
            for text in wrong(panels):
                watcher.tell(text)
            if monkey.rng.random() < 0.3:
                monkey.close_dialogs()
            for text in watcher.found[before:]:
                told(f"  WRONG {text}")
        watcher.doing = "the end"
        monkey.stop_all()
        finish(monkey, watcher)
    QCoreApplication.processEvents()
    return done, watcher.found


def finish(monkey: Monkey, watcher: Watcher) -> None:
    """A run from whatever was left: the window must still do its work."""
    panel, session = monkey.panels["Register"], monkey.controller.session
    if session.busy:
        watcher.tell(f"still busy: {session.busy_with}")
        return
    viewer = monkey.viewer
    # napari 0.9.2 alone ends in Mesa's software GL (segmentation fault) when its canvas becomes
    # empty after labels have been painted: one layer stays until there are others.
    stays = viewer.add_shapes(name="stays")
    for layer in [layer for layer in viewer.layers if layer is not stays]:
        viewer.layers.remove(layer)
    viewer.dims.ndisplay = 2
    pump()
    monkey.controller.start_from(None)
    monkey.controller.landmarks.delete([r.key for r in monkey.controller.landmarks.rows])
    add_pair(viewer)
    viewer.layers.remove(stays)
    monkey.controller.store.use(small_recipe(3))
    pump(0.05)
    for text in wrong(monkey.panels):
        watcher.tell(text)
    if not panel.run.isEnabled():
        watcher.tell(f"Register cannot be pressed: {panel.run.toolTip()}")
        return
    panel.run.click()
    session.wait(60)
    pump(0.2)
    if session.state is not State.FINISHED:
        watcher.tell(f"the last run: {session.state.name} {session.error} {panel.message.text()}")
