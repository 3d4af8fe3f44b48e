r"""Three journeys of new users, driven in a real window: pictures of docs/tutorials/.

    xvfb-run -a -s "-screen 0 1280x800x24 +extension GLX" \
        .venv/bin/python scripts/journeys.py first|rescue|yesterday [FOLDER]

`first`: a first registration. `rescue`: a wrong local minimum, three landmarks and a mask.
`yesterday`: a session is saved in one process, and reopened, compared and exported in another.
Buttons are clicked, and files dialogs answered; nothing else is called that a person could not do,
but that landmarks are set at places computed from the known truth. Prints what the window says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.settings import get_settings
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog
from register_picture import ROOT, wait

from napari_fireants._session import State
from napari_fireants._views import View

PLUGIN = "napari-fireants"
IMAGES = ROOT / "docs" / "images"


class Window:
    """A shown window of 1280 x 800, its docks, and pictures of it with running numbers."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder, self._number = name, folder, 0
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1280, 780)
        self.register = self.dock("Register")

    def dock(self, name: str) -> Any:
        dock, panel = self.viewer.window.add_plugin_dock_widget(
            PLUGIN, name, tabify=name != "Register"
        )
        dock.raise_()
        self.rest(0.3)
        return panel

    @staticmethod
    def rest(seconds: float) -> None:
        end = time.monotonic() + seconds
        wait(lambda: time.monotonic() > end, seconds + 10)

    @staticmethod
    def press(button: Any) -> None:
        assert button.isEnabled(), f"{button.text()} cannot be pressed: {button.toolTip()}"
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def picture(self, words: str) -> None:
        self.rest(0.5)
        self._number += 1
        path = self._folder / f"{self._name}-{self._number}.png"
        assert self.viewer.window._qt_window.grab().save(str(path))
        print(f"{path.name}: {words} | {self.says}")

    @property
    def says(self) -> str:
        panel = self.register
        return " / ".join(
            x.text().replace("\n", "; ") for x in (panel.status, panel.message) if x.text()
        )

    def until(self, state: State, limit: float = 900) -> None:
        wait(lambda: self.register.session.state is state, limit)
        self.rest(0.5)

    def close(self) -> None:
        self.register.session.shutdown()
        self.viewer.close()


@contextmanager
def answered(**answers: Any) -> Iterator[None]:
    """File dialogs answer with a path."""
    known = {name: getattr(QFileDialog, name) for name in answers}
    for name, answer in answers.items():
        value = (str(answer), "") if "FileName" in name else str(answer)
        setattr(QFileDialog, name, staticmethod(lambda *_, value=value, **__: value))
    try:
        yield
    finally:
        for name, function in known.items():
            setattr(QFileDialog, name, function)


# ------------------------------------------------------------------ 1
def first(folder: Path) -> None:
    """A neuroscientist's first registration with no manual."""
    window = Window("journey-first", folder)
    panel = window.register
    window.picture("The dock is open and empty")
    window.press(panel.inputs.open_sample)
    window.rest(1)
    panel.store.load_preset("brain-mri-fast")
    window.picture("The sample pair is open, a preset is chosen")
    window.press(panel.run)
    wait(lambda: "greedy" in panel.status.text(), 600)
    window.picture("The moving image flows into the fixed one")
    window.until(State.FINISHED)
    window.picture("It has ended")
    inspect = window.dock("Inspect")
    for view, words in ((View.CHECKERBOARD, "Edges run on"), (View.JACOBIAN, "Where it grew")):
        window.press(inspect.chooser.buttons[view])
        wait(lambda: not panel.controller.looking.busy, 60)
        window.picture(words)
    with tempfile.TemporaryDirectory() as place, answered(getSaveFileName=Path(place) / "run"):
        window.press(panel.result.save_run)
        wait(lambda: panel.message.text().startswith("Saved to"), 120)
        window.dock("Register")
        window.picture("The run is saved")
        print(sorted(path.name for path in (Path(place) / "run").iterdir()))
    window.close()


# ------------------------------------------------------------------ 2
def rotated(viewer: Any, degrees: float) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    """Colin27 turned about the vertical axis, with a bright bar that the other brain lacks.

    Also where a place of the brain (z, y, x in mm) comes to lie in it.
    """
    from scipy import ndimage

    known = viewer.layers["Colin27 (moving)"]
    data = np.asarray(known.data, np.float32)
    angle = np.radians(degrees)
    back = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    middle = (np.array(data.shape) - 1) / 2
    turned = ndimage.affine_transform(data, back, middle - back @ middle, order=1)
    turned[:, 30:60, 60:110] = 1.2 * float(data.max())
    layer = viewer.add_image(
        turned, name="turned (moving)", scale=known.scale, translate=known.translate,
        units=known.units, axis_labels=known.axis_labels, colormap="magenta", blending="additive",
    )  # fmt: skip
    viewer.layers.remove(known)

    def place(world: np.ndarray) -> np.ndarray:
        voxel = known.world_to_data(world)
        return np.asarray(layer.data_to_world(np.linalg.inv(back) @ (voxel - middle) + middle))

    return layer, place


def rescue(folder: Path) -> None:
    """A wrong local minimum is rescued with three landmarks and a mask."""
    window = Window("journey-rescue", folder)
    panel, viewer = window.register, window.viewer
    window.press(panel.inputs.open_sample)
    window.rest(1)
    layer, place = rotated(viewer, 100)
    recipe = panel.store.recipe.preset("brain-mri-fast").with_values({"start": {"kind": "centre"}})
    panel.store.use(recipe)
    panel.inputs.moving.choose(layer)
    window.rest(1)
    window.picture("The moving brain is turned by 100 degrees and has a bright bar")
    window.press(panel.run)
    wait(lambda: "greedy: level 1" in panel.status.text(), 600)
    window.press(panel.pause)
    window.rest(1)
    window.picture("Paused: it has run into a wrong minimum")
    window.dock("Landmarks")
    table = panel.controller.landmarks
    for fixed in ((10.0, 60.0, 0.0), (10.0, -75.0, 5.0), (20.0, -10.0, 55.0)):
        moving = place(np.array(fixed))
        table.add(tuple(fixed[::-1]), tuple(moving[::-1]))
    window.rest(1)
    window.picture("Three landmarks are set in both")
    window.dock("Register")
    panel.steer_section.show_content()
    panel.scroll.ensureWidgetVisible(panel.steer)
    window.press(panel.steer.align)
    wait(lambda: "brought together" in panel.steer.changes.text(), 60)
    window.picture("They are brought together: the overlay follows while the run is paused")
    window.press(panel.steer.ignore["moving"])
    window.rest(1)
    mask = viewer.layers["ignore in moving"]
    mask.data[:, 28:62, 58:112] = 1
    mask.refresh()
    mask.events.paint(value=[])
    wait(lambda: "Mask of the moving" in panel.steer.changes.text(), 60)
    window.picture("The bar is painted over: the moving image is shown alone meanwhile")
    window.press(panel.steer.ignore["moving"])
    table.use(True)
    window.press(panel.pause)
    window.until(State.FINISHED)
    window.picture("Resumed, and at the end")
    after = table.statistics("after")
    print("TRE after", after, "of 'before'", table.statistics("before"))
    window.close()


# ------------------------------------------------------------------ 3
def save_yesterday(folder: Path, session: Path) -> None:
    window = Window("journey-yesterday", folder)
    panel = window.register
    window.press(panel.inputs.open_sample)
    window.rest(1)
    panel.store.load_preset("affine")
    window.press(panel.run)
    window.until(State.FINISHED)
    history = window.dock("History")
    with answered(getSaveFileName=session):
        window.press(history.session.save_button)
        wait(session.is_dir, 120)
        window.rest(2)
    window.picture("Yesterday: an affine run, and the session saved")
    window.close()


def reopen(folder: Path, session: Path) -> None:
    window = Window("journey-today", folder)
    panel, history = window.register, window.dock("History")
    window.picture("Today: a new window")
    with answered(getExistingDirectory=session, getOpenFileName=session):
        window.press(history.session.open_button)
        wait(lambda: len(panel.controller.history.runs) == 1, 120)
        window.rest(2)
    window.picture("Everything is back")
    window.dock("Register")
    panel.store.load_preset("brain-mri-fast")
    window.press(panel.run)
    window.until(State.FINISHED)
    history = window.dock("History")
    runs = history.runs
    runs.selectAll()
    window.rest(0.5)
    window.press(history.compare)
    window.rest(8)
    window.picture("Both runs, compared")
    window.dock("Inspect")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "figure.png"
        done: list[Any] = []
        panel.controller.save_figure(
            path, (View.OVERLAY, View.CHECKERBOARD, View.JACOBIAN), done.append
        )
        wait(lambda: done, 120)
        (folder / "journey-figure.png").write_bytes(path.read_bytes())
    window.picture("A figure for a paper is written")
    window.close()


def yesterday(folder: Path) -> None:
    """Yesterday's session is reopened, compared with today's, and exported."""
    with tempfile.TemporaryDirectory() as place:
        session = Path(place) / "brains.fireants"
        for part in ("save", "open"):
            command = [sys.executable, __file__, part, str(folder), str(session)]
            subprocess.run(command, check=True)


def main() -> None:
    what, *rest = sys.argv[1:]
    folder = Path(rest[0]) if rest else IMAGES
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("FIREANTS_USER_FOLDER", scratch)
        get_settings(str(Path(scratch) / "napari.yaml"))
        if what in ("save", "open"):
            (save_yesterday if what == "save" else reopen)(folder, Path(rest[1]))
        else:
            {"first": first, "rescue": rescue, "yesterday": yesterday}[what](folder)


if __name__ == "__main__":
    main()
