"""A shown napari window, used as a person would: seen, pressed, and never found hanging."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog, QWidget

from fireants_engine.recipe.models import Recipe
from napari_fireants._session import State
from napari_fireants._views import View

pytestmark = pytest.mark.gui
HEARTBEAT = Path(__file__).with_name("heartbeat.py")
ATTEMPTS = 3
BUSY = 0.3
"""Cores taken by other programs beyond which a window of ours may hang for no fault of ours; the
X server alone takes far less."""


@pytest.fixture
def screenshots(tmp_path: Path) -> Callable[[str], np.ndarray]:
    """Takes a picture of the screen and keeps it in $FIREANTS_SCREENSHOTS or a temporary folder."""
    folder = Path(os.environ.get("FIREANTS_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def take(name: str) -> np.ndarray:
        QApplication.processEvents()
        picture = QApplication.primaryScreen().grabWindow(0).toImage()
        assert picture.save(str(folder / f"{name}.png"))
        bits = picture.constBits()
        bits.setsize(picture.sizeInBytes())
        return np.frombuffer(bits, np.uint8).reshape(picture.height(), picture.width(), 4).copy()

    return take


@pytest.fixture
def panel(make_napari_viewer: Any) -> Iterator[Any]:
    """The Register dock of a window on the screen, without layers."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1100, 750)
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Register")
    yield panel
    panel.session.shutdown()


@pytest.fixture
def press(panel: Any, qtbot: Any) -> Callable[[QWidget], None]:
    """Scrolls to a button, checks that a person sees and can press it, and clicks on it."""

    def click(button: QWidget) -> None:
        panel.scroll.ensureWidgetVisible(button)
        qtbot.waitUntil(lambda: button.visibleRegion().contains(button.rect().center()))
        assert button.isEnabled()
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    return click


def short_recipe() -> Recipe:
    """Long enough to be paused, at a quarter of the resolution."""
    recipe = Recipe.preset("rigid")
    return recipe.with_values({"stages.0.stop.tolerance": 0.0}).model_copy(update={"name": "short"})


def test_a_first_registration(
    panel: Any, press: Any, qtbot: Any, screenshots: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    viewer = panel.controller.viewer
    screenshots("1-empty")
    press(panel.inputs.open_sample)
    assert [layer.name for layer in viewer.layers] == ["Colin27 (moving)", "ICBM152 (fixed)"]
    assert panel.inputs.fixed.currentText() == "ICBM152 (fixed)"
    assert panel.inputs.moving.currentText() == "Colin27 (moving)"
    short_recipe().save(tmp_path / "short.yaml")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (tmp_path / "short.yaml", ""))
    press(panel.result.load_recipe)
    assert panel.preset.currentText() == "short.yaml"
    screenshots("2-chosen")

    press(panel.run)
    assert panel.controller.scene.fixed.visible
    live = lambda: panel.controller.scene.live  # noqa: E731
    qtbot.waitUntil(lambda: live() is not None and live().visible, timeout=60_000)
    qtbot.waitUntil(lambda: "loss" in panel.status.text(), timeout=60_000)
    running = screenshots("3-running")
    press(panel.pause)
    qtbot.waitUntil(lambda: panel.pause.text() == "Resume")
    qtbot.wait(400)
    held = panel.bar.value()
    screenshots("4-paused")
    qtbot.wait(400)
    assert panel.bar.value() == held
    press(panel.pause)
    qtbot.waitUntil(lambda: panel.bar.value() > held, timeout=30_000)
    press(panel.stop)
    qtbot.waitUntil(lambda: panel.session.state is State.FINISHED, timeout=30_000)
    assert "Colin27 (moving) (registered)" in viewer.layers
    qtbot.wait(200)
    overlay = screenshots("5-overlay")
    canvas = (slice(200, 600), slice(350, 700))
    assert overlay[canvas].std() > 20
    assert running[canvas].std() > 20

    press(panel.result.inspect)
    _, inspect = viewer.window.add_plugin_dock_widget("napari-fireants", "Inspect")
    views = inspect.chooser.buttons
    qtbot.waitUntil(lambda: views[View.CHECKERBOARD].isVisible())
    qtbot.mouseClick(views[View.CHECKERBOARD], Qt.MouseButton.LeftButton)
    scene = panel.controller.scene
    qtbot.waitUntil(lambda: scene.extra and scene.extra.name == "checkerboard", timeout=10_000)

    def changed() -> bool:
        board = screenshots("6-checkerboard")
        return bool(np.abs(board[canvas].astype(int) - overlay[canvas]).mean() > 5)

    qtbot.waitUntil(changed, timeout=10_000)
    qtbot.mouseClick(views[View.BLEND], Qt.MouseButton.LeftButton)
    qtbot.wait(100)
    screenshots("7-blend")
    inspect.parentWidget().close()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "run"), ""))
    press(panel.result.save_run)
    qtbot.waitUntil(lambda: panel.message.tone == "good", timeout=60_000)
    assert (tmp_path / "run" / "report.html").exists()
    screenshots("8-saved")


def answers(measured: dict[str, Any]) -> bool:
    """No pause of 100 ms, but for the one layer that a run adds.

    napari's own time for that is not ours, and on some machines it is more than 100 ms; what we
    do about it must not make it longer. It also tells how slow the machine paints: where it is
    more than 200 ms, the other pauses stay below half of it.
    """
    longest, second = (ms for ms, _ in measured["gaps"][:2])
    alone = measured["napari_alone"]
    return longest < max(100, alone) and second < max(100, alone / 2)


@pytest.fixture(scope="module")
def heartbeat() -> dict[str, Any]:
    """What heartbeat.py measured; the quietest of a few attempts, for other programs may be busy.

    A window that is blocked by us is blocked in every attempt.
    """
    best: dict[str, Any] = {}
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            [sys.executable, str(HEARTBEAT)], capture_output=True, text=True, timeout=240
        )
        line = next((x for x in done.stdout.splitlines() if x.startswith("HEARTBEAT ")), None)
        assert line is not None, done.stdout + done.stderr
        measured = json.loads(line.removeprefix("HEARTBEAT "))
        assert measured["state"] == "FINISHED", measured
        if not best or answers(measured) or measured["gaps"][:2] < best["gaps"][:2]:
            best = measured
        if answers(best):
            break
    print(best)
    return best


def test_the_window_never_hangs_during_a_run(heartbeat: dict[str, Any]) -> None:
    assert heartbeat["cold"]  # torch was imported by the run, under the heartbeat
    # 3 % of a run of four seconds is time for two or three pictures of 40 to 50 ms, and for one
    # where the machine is busy and a picture takes longer
    assert heartbeat["frames"] >= 1
    others = heartbeat["others"]
    if not answers(heartbeat) and others is not None and others > BUSY:
        pytest.skip(f"other programs took {others} processor cores while the window was timed")
    assert answers(heartbeat), heartbeat


def test_previews_cost_little(heartbeat: dict[str, Any]) -> None:
    assert 0 < heartbeat["preview_seconds"] <= 0.05 * heartbeat["seconds"], heartbeat


def test_stop_is_quick_at_real_size(heartbeat: dict[str, Any]) -> None:
    assert heartbeat["after_stop"] == "STOPPING"  # only its pictures are still to be made
    assert heartbeat["stop_ms"] < 2500  # a step of about 0.2 s, the loss and the folds of its end
