"""The line on memory: forecast, remedy, use during a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from qtpy.QtCore import Qt

from fireants_engine.workflows import forecast as engine
from fireants_engine.workflows.memory_of_images import ImageSize
from napari_fireants import _memory
from napari_fireants._memory import Meter, asked, tell
from napari_fireants.panels import _memory as panel

pytestmark = pytest.mark.gui
KB = 1000


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Says how much memory is free."""

    def say(size: int | None) -> None:
        monkeypatch.setattr(engine, "free_memory", lambda device: size)

    say(20 * KB**3)
    return say


@pytest.fixture
def line(free: Any, dock: Any, qtbot: Any) -> Any:
    """The widget in the dock, with its first forecast."""
    qtbot.waitUntil(lambda: dock.memory.told is not None, timeout=20_000)
    return dock.memory


def answer(line: Any, qtbot: Any) -> Any:
    """What it says once it has thought."""
    line.told = None
    line.refresh()
    qtbot.waitUntil(lambda: line.told is not None, timeout=20_000)
    return line.told


def test_the_forecast_follows_layers_and_recipe(line: Any, dock: Any, qtbot: Any) -> None:
    first = line.line.text()
    assert first.startswith("Needs about ")
    assert first.endswith(" of 20 GB free memory.")
    assert "images" in line.line.toolTip()
    assert line.alarm.isHidden()
    assert line.remedy.isHidden()
    dock.store.load_preset("affine")
    dock.device.setCurrentIndex(dock.device.findData("cpu"))
    qtbot.waitUntil(lambda: line.told is not None and line.told.device == "cpu", timeout=20_000)
    viewer = dock.controller.viewer
    viewer.layers.remove("moving")
    qtbot.waitUntil(lambda: line.told is None, timeout=20_000)
    assert line.line.isHidden()


def test_a_remedy_is_a_step_that_can_be_undone(
    line: Any, dock: Any, qtbot: Any, free: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = ImageSize((300, 300, 300), (1.0, 1.0, 1.0))
    monkeypatch.setattr(_memory, "_size", lambda source, mask: big)
    free(2200 * KB**2)
    told = answer(line, qtbot)
    assert told.tone == "error"
    assert "but only 2.2 GB are free" in line.alarm.text()
    assert line.remedy.text().startswith("End at voxels ")
    before = dock.store.recipe
    qtbot.mouseClick(line.remedy, Qt.MouseButton.LeftButton)
    assert dock.store.recipe != before
    told = answer(line, qtbot)
    assert (told.tone, line.remedy.isHidden()) == ("good", True)
    dock.store.steps.undo()
    assert dock.store.recipe == before
    free(None)
    assert "unknown" in answer(line, qtbot).text


def test_another_device_is_a_step_too(
    line: Any, dock: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock._offer_devices({"auto": "Auto", "cuda:0": "a card", "cpu": "CPU"})
    dock.device.setCurrentIndex(dock.device.findData("cuda:0"))
    room = {"cuda:0": KB, "cpu": 20 * KB**3}
    monkeypatch.setattr(engine, "free_memory", lambda device: room[device])
    told = answer(line, qtbot)
    assert told.remedy.device == "cpu"
    qtbot.mouseClick(line.remedy, Qt.MouseButton.LeftButton)
    assert dock.device.currentData() == "cpu"
    dock.store.steps.undo()
    assert dock.device.currentData() == "cuda:0"


def test_use_during_a_run(
    line: Any, dock: Any, qtbot: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    line._reading.setInterval(20)
    grown = iter([100 * KB**2, 350 * KB**2, 900 * KB**2])
    last = [200 * KB**2]

    def in_use(device: str) -> int:
        last.append(next(grown, 400 * KB**2))
        return last[-1]

    monkeypatch.setattr(engine, "in_use", in_use)
    dock.store.use(recipe(steps=100_000))
    dock.run.click()
    qtbot.waitUntil(lambda: line.line.text().startswith("Uses "), timeout=20_000)
    qtbot.waitUntil(lambda: "at most 800 MB so far" in line.line.text(), timeout=20_000)
    assert line.line.text().startswith("Uses 300 MB of memory")
    assert line.line.isEnabled()
    with qtbot.waitSignal(dock.session.finished, timeout=60_000):
        dock.stop.click()
    qtbot.waitUntil(lambda: line.line.text().startswith("Needs "), timeout=20_000)


def test_labels_are_counted_where_a_term_asks(line: Any, dock: Any, pair_3d: Any) -> None:
    viewer = dock.controller.viewer
    maps = [(image > 20).astype("uint8") + (image > 60) for image in pair_3d]
    layers = [viewer.add_labels(m, name=f"labels {k}", units=("mm",) * 3)
              for k, m in enumerate(maps)]  # fmt: skip
    roles = dock.controller.roles(
        fixed=viewer.layers["fixed"],
        moving=viewer.layers["moving"],
        fixed_labels=layers[0],
        moving_labels=layers[1],
    )
    recipe = dock.store.recipe
    given = asked(roles, recipe, "cpu")
    assert given is not None
    assert _memory._common_labels(given.labels, recipe) == 0
    dice = recipe.with_values({"stages.2.terms": [{"kind": "dice"}]})
    assert _memory._common_labels(given.labels, dice) == 2
    assert "moving" not in tell(given).text


def test_the_meter_counts_from_the_beginning() -> None:
    found = iter([500, 700, 600, None])
    meter = Meter(lambda device: next(found))
    meter.begin("cpu")
    assert [meter.read(), meter.read(), meter.read()] == [200, 100, None]
    assert meter.most == 200


def test_no_torch_is_needed() -> None:
    code = (
        "import sys; from napari_fireants._memory import tell; "
        "import fireants_engine.workflows.forecast; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert panel.READ_MS == 1000
