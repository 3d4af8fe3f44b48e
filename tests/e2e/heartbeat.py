"""A whole first run on the packaged brains in a real window, timed; prints one line of JSON.

A timer of 10 ms beats on the GUI thread from before Register is pressed until a second after the
run has ended, the import of torch included. A second run is stopped in its last stage. A third is
edited while it runs and while it is paused: how long until a preview follows each edit?
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtTest import QTest

from fireants_engine.recipe.models import Recipe
from napari_fireants._nudge import shift
from napari_fireants._session import State

LIMIT_MS = 120_000


def recipe() -> Recipe:
    """Rigid and greedy, the last level at half resolution."""
    return Recipe.preset("brain-mri-fast").with_values(
        {
            "stages.affine.enabled": False,
            "stages.rigid.pyramid.levels.0.max_steps": 40,
            "stages.rigid.pyramid.levels.1.max_steps": 30,
            "stages.greedy.pyramid.levels.0.max_steps": 60,
            "stages.greedy.pyramid.levels.1.max_steps": 15,
        }
    )


def wait(condition: Any, limit_ms: int = LIMIT_MS) -> None:
    """Let the window live until `condition()`, looked at every 20 ms."""
    loop, end = QEventLoop(), time.perf_counter() + limit_ms / 1000
    look = QTimer()
    look.setInterval(20)
    look.timeout.connect(lambda: loop.quit() if condition() or time.perf_counter() > end else None)
    look.start()
    loop.exec()
    look.stop()


def rest(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def busy_seconds() -> float | None:
    """Processor seconds that the whole machine has spent, waiting for its host included."""
    try:
        line = Path("/proc/stat").read_text().splitlines()[0]
    except OSError:  # not Linux
        return None
    user, nice, system, _idle, _io, irq, soft, steal = map(int, line.split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


class Others:
    """How many processor cores all other programs together took since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), busy_seconds(), time.process_time()

    def cores(self) -> float | None:
        began, before, ours = self._start
        now = busy_seconds()
        if before is None or now is None:
            return None
        spent = now - before - (time.process_time() - ours)
        return round(spent / (time.perf_counter() - began), 2)


def press(button: Any) -> None:
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def gaps(during: Callable[[], None]) -> list[tuple[int, float]]:
    """The six longest of (gap between two beats in ms, when it ended in s) in `during`."""
    beats = [time.perf_counter()]
    heart = QTimer()
    heart.setInterval(10)
    heart.setTimerType(Qt.TimerType.PreciseTimer)
    heart.timeout.connect(lambda: beats.append(time.perf_counter()))
    heart.start()
    during()
    heart.stop()
    every = [(round(1000 * (b - a)), round(b - beats[0], 2)) for a, b in itertools.pairwise(beats)]
    return sorted(every, reverse=True)[:6]


def run(panel: Any) -> None:
    press(panel.run)
    wait(lambda: not panel.session.state.active)
    rest(1000)


def add_layer(viewer: napari.Viewer) -> None:
    """Have napari add a hidden, empty picture, while nothing of ours is at work."""
    picture = np.zeros((95, 114, 95), np.float32)
    look = {"visible": False, "contrast_limits": (0, 1)}
    QTimer.singleShot(200, lambda: viewer.add_image(picture, **look))
    rest(1000)


def napari_alone(viewer: napari.Viewer) -> int:
    """How long napari's window does not answer while it adds a layer, in ms; the best of three."""
    longest = []
    for _ in range(3):
        longest.append(gaps(lambda: add_layer(viewer))[0][0])
        viewer.layers.pop()
        rest(500)
    return min(longest)


def stopped_run(panel: Any) -> float:
    """Press Stop in the last level; milliseconds until the optimisation has ended."""
    press(panel.run)
    wait(lambda: "greedy: level 2 of 2, step 5" in panel.status.text())
    pressed = time.perf_counter()
    press(panel.stop)
    wait(lambda: panel.status.text().startswith("Preparing the pictures"))
    return 1000 * (time.perf_counter() - pressed)


def edits_of(panel: Any) -> dict[str, Callable[[], object]]:
    """One edit of each kind a person makes during a run."""
    controller = panel.controller
    table, store, steering = controller.landmarks, controller.store, controller.steering
    key = table.rows[0].key
    steps = itertools.cycle((0.2, 0.25, 0.3))

    def nudge() -> None:
        steering.hand.move(shift([1.5, 0.0, 0.0]))

    def drag() -> None:
        table.move(key, "moving", [x + 1.0 for x in table.row(key).moving_mm])

    def value() -> None:
        store.edit(store.recipe.with_values({"stages.greedy.descent.step": next(steps)}))

    return {"move by hand": nudge, "landmark dragged": drag, "value changed": value}


def edited_run(panel: Any) -> dict[str, Any]:
    """Milliseconds from each edit to the first preview that follows it, and pauses meanwhile."""
    controller, session = panel.controller, panel.session
    table, recipe = controller.landmarks, controller.store.recipe
    table.add((0.0, 0.0, 0.0), (2.0, 0.0, 0.0))
    table.add((20.0, -10.0, 15.0), (20.0, -8.0, 15.0))
    table.use(True)
    level = "stages.greedy.pyramid.levels.1.max_steps"
    controller.store.use(recipe.with_values({level: 5000, "stages.greedy.stop.tolerance": 0.0}))
    followed: list[tuple[int, float]] = [(0, 0.0)]

    def see(frames: Any) -> None:
        if frames.change > followed[-1][0]:
            followed.append((frames.change, time.perf_counter()))

    session.frames_ready.connect(see)
    out: dict[str, Any] = {"effect_ms": {}}
    press(panel.run)
    wait(lambda: "greedy: level 2 of 2, step 5" in panel.status.text())

    def make(edits: dict[str, Callable[[], object]], how: str) -> None:
        controller.steering.take()
        rest(100)
        for name, edit in edits.items():
            count, began = len(followed), time.perf_counter()
            edit()
            wait(lambda count=count: len(followed) > count, 20_000)
            there = len(followed) > count
            took = round(1000 * (followed[-1][1] - began)) if there else None
            out["effect_ms"][f"{name}, {how}"] = took
            rest(300)

    edits = edits_of(panel)
    out["gaps_running"] = gaps(lambda: make(edits, "running"))
    press(panel.pause)
    rest(500)
    out["gaps_paused"] = gaps(lambda: make(edits, "paused"))
    press(panel.stop)
    wait(lambda: not session.busy)
    session.frames_ready.disconnect(see)
    if session.product is not None:
        info = session.product.info
        out |= {"seconds": info["seconds"], "preview_seconds": info["preview_seconds"]}
    return out


def main() -> int:
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1100, 750)
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Register")
    rest(500)
    press(panel.inputs.open_sample)
    panel.store.use(recipe())
    rest(1500)
    cold = "torch" not in sys.modules
    frames: list[Any] = []
    panel.session.frames_ready.connect(lambda new: frames.append(len(new.images)))
    alone = napari_alone(viewer)
    others = Others()
    found = gaps(lambda: run(panel))
    out: dict[str, Any] = {
        "cold": cold,
        "others": others.cores(),
        "state": panel.session.state.name,
        "error": panel.session.error,
        "frames": len(frames),
        "gaps": found,
        "napari_alone": alone,
    }
    if panel.session.state is State.FINISHED:
        info = panel.session.product.info
        out |= {"seconds": info["seconds"], "preview_seconds": info["preview_seconds"]}
        out["stop_ms"] = round(stopped_run(panel))
        out["after_stop"] = panel.session.state.name
        wait(lambda: not panel.session.busy)
        if "--edits" in sys.argv:
            out["edited"] = edited_run(panel)
    print("HEARTBEAT", json.dumps(out))
    viewer.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
