"""The Register dock: what a person presses, reads and gets."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDoubleSpinBox, QFileDialog

import napari_fireants
from fireants_engine.errors import InputError, RecipeError
from napari_fireants._session import State
from napari_fireants._views import View
from napari_fireants.panels._widgets import _Keeps

LONG = 100_000
pytestmark = pytest.mark.gui


@pytest.fixture
def press(qtbot: Any) -> Callable[[Any], None]:
    return lambda button: qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


@pytest.fixture
def finished(dock: Any, qtbot: Any, recipe: Callable[..., Any], press: Any) -> Any:
    """The dock after a short run."""
    dock.store.use(recipe(steps=10))
    with qtbot.waitSignal(dock.session.finished, timeout=60_000):
        press(dock.run)
    return dock


def enabled(dock: Any) -> dict[str, bool]:
    buttons = {"run": dock.run, "pause": dock.pause, "stop": dock.stop, "settings": dock.settings}
    return {name: widget.isEnabled() for name, widget in buttons.items()}


IDLE = {"run": True, "pause": False, "stop": False, "settings": True}
BUSY = {"run": False, "pause": True, "stop": True, "settings": False}


def wait_for_steps(qtbot: Any, dock: Any) -> None:
    qtbot.waitUntil(lambda: "loss" in dock.status.text(), timeout=60_000)


def test_buttons_and_words_through_a_run(dock: Any, qtbot: Any, recipe: Any, press: Any) -> None:
    dock.store.use(recipe(steps=LONG))
    assert enabled(dock) == IDLE
    assert dock.status.text() == "Ready."
    assert dock.bar.isHidden()
    press(dock.run)
    assert enabled(dock) == BUSY
    assert not dock.bar.isHidden()
    wait_for_steps(qtbot, dock)
    head, tail = dock.status.text().splitlines()
    assert head.startswith("Stage 1 of 1, rigid: level 1 of 1, step ")
    assert tail.startswith("loss ")
    assert dock.bar.value() > 0
    assert dock.curve.levels[0][:2] == ("rigid", 0)
    press(dock.pause)
    assert (dock.pause.text(), dock.status.text()) == ("Resume", "Paused.")
    assert enabled(dock) == BUSY
    press(dock.pause)
    assert dock.pause.text() == "Pause"
    qtbot.waitUntil(lambda: "loss" in dock.status.text(), timeout=20_000)
    with qtbot.waitSignal(dock.session.finished, timeout=20_000):
        press(dock.stop)
        assert dock.status.text() == "Stopping after this step…"
        assert enabled(dock) == {**BUSY, "pause": False, "stop": False}
    assert enabled(dock) == IDLE
    assert dock.bar.isHidden()
    assert "on CPU." in dock.status.text()
    assert dock.device.itemText(0).startswith("Auto: ")


def test_the_overlay_and_the_result_layer(dock: Any, qtbot: Any, recipe: Any, press: Any) -> None:
    viewer, scene = dock.controller.viewer, dock.controller.scene
    fixed, moving = viewer.layers["fixed"], viewer.layers["moving"]
    dock.store.use(recipe(steps=LONG))
    press(dock.run)
    assert (fixed.colormap.name, moving.colormap.name, moving.visible) == (
        "green",
        "magenta",
        True,
    )
    qtbot.waitUntil(lambda: scene.live is not None and scene.live.visible, timeout=60_000)
    assert not moving.visible
    assert (scene.live.colormap.name, scene.live.name) == ("magenta", "moving (live)")
    assert scene.live not in [dock.inputs.fixed.layer(), dock.inputs.moving.layer()]
    with qtbot.waitSignal(dock.session.finished, timeout=20_000):
        press(dock.stop)
    result = viewer.layers["moving (registered)"]
    assert result == scene.live
    assert (result.units, result.axis_labels) == (fixed.units, fixed.axis_labels)
    assert result.metadata["fireants"]["outcome"] == "STOPPED"
    assert moving.colormap.name == "gray"


def test_a_first_look_from_the_register_dock(finished: Any, qtbot: Any, press: Any) -> None:
    looking, scene = finished.controller.looking, finished.controller.scene
    assert finished.result.overlay.isChecked()
    press(finished.result.before)
    qtbot.waitUntil(
        lambda: scene.extra is not None and scene.extra.name == "moving before", timeout=10_000
    )
    assert (scene.fixed.visible, scene.live.visible) == (True, False)
    assert (looking.look.view, finished.result.before.isChecked()) == (View.BEFORE_AFTER, True)
    press(finished.result.overlay)
    assert (scene.live.visible, scene.extra.visible) == (True, False)
    assert not finished.result.before.isChecked()


def test_nothing_to_register_cannot_be_started(make_napari_viewer: Any, press: Any) -> None:
    viewer = make_napari_viewer()
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Register")
    assert not panel.run.isEnabled()
    assert panel.status.text() == "Choose a fixed and a moving image."
    assert panel.inputs.hint.isVisibleTo(panel)
    viewer.add_image(np.zeros((4, 5, 6)), name="scan A")
    viewer.add_image(np.zeros((4, 5, 6)), name="the fixed one")
    assert not panel.inputs.hint.isVisibleTo(panel)
    assert panel.inputs.fixed.layer().name == "the fixed one"
    assert panel.run.isEnabled()
    panel.inputs.moving.choose(panel.inputs.fixed.layer())
    assert not panel.run.isEnabled()
    assert "same layer" in panel.inputs.note.text()
    press(panel.inputs.swap)
    panel.inputs.moving.choose(viewer.layers["scan A"])
    viewer.add_labels(np.ones((4, 5, 6), np.uint8), name="tissues")
    panel.inputs.optional["moving_labels"].choose(viewer.layers["tissues"])
    landmark = panel.controller.landmarks.add((1.0, 2.0, 3.0))
    press(panel.inputs.swap)
    roles = panel.inputs.roles
    assert roles.fixed.name == "scan A"
    assert (roles.fixed_labels.name, roles.moving_labels) == ("tissues", None)
    assert panel.controller.landmarks.row(landmark).moving_mm == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("kind", ["oom", "odd"])
def test_an_error_is_one_sentence_and_the_buttons_come_back(
    dock: Any, qtbot: Any, recipe: Any, press: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import torch

    from fireants_engine.similarity.ssd import SSD

    tensors: list[weakref.ref] = []
    errors = {"oom": torch.OutOfMemoryError("CUDA out of memory."), "odd": KeyError("odd")}

    def failing(self: SSD, pair: Any, ctx: Any) -> Any:
        tensors.extend(weakref.ref(t) for t in (pair.fixed, pair.moving))
        raise errors[kind]

    monkeypatch.setattr(SSD, "bind", failing)
    dock.store.use(recipe())
    with qtbot.waitSignal(dock.session.failed, timeout=60_000):
        press(dock.run)
    assert enabled(dock) == IDLE
    assert dock.message.isVisibleTo(dock)
    assert ("Out of memory" if kind == "oom" else "KeyError") in dock.message.text()
    assert "\n" not in dock.message.text()
    assert "Traceback" in dock.message.toolTip()
    assert dock.session.state is State.FAILED
    assert not dock.session.busy
    viewer = dock.controller.viewer
    assert viewer.layers["moving"].visible
    assert viewer.layers["fixed"].colormap.name == "gray"
    errors.clear()
    gc.collect()
    assert tensors
    assert [ref for ref in tensors if ref() is not None] == []
    monkeypatch.undo()
    with qtbot.waitSignal(dock.session.finished, timeout=60_000):
        press(dock.run)
    assert not dock.message.isVisibleTo(dock)


def test_closing_every_dock_loses_nothing(
    make_napari_viewer: Any, pair_3d: Any, recipe: Any, qtbot: Any
) -> None:
    viewer = make_napari_viewer(show=True)
    for array, name in zip(pair_3d, ("fixed", "moving"), strict=True):
        viewer.add_image(array, name=name)
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Register")
    qtbot.waitUntil(panel.isVisible)
    known = weakref.ref(panel.controller)
    panel.store.use(recipe())
    with qtbot.waitSignal(panel.session.finished, timeout=60_000):
        panel.run.click()
    del panel
    viewer.window.remove_dock_widget("all")
    qtbot.wait(50)
    gc.collect()
    assert known() is not None
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "Register")
    assert panel.controller is known()
    assert len(panel.controller.history.runs) == 1
    assert len(panel.window().findChildren(_Keeps)) == 1


def test_presets_and_their_edits(dock: Any) -> None:
    names = [dock.preset.itemText(i) for i in range(dock.preset.count())]
    assert "brain-mri-fast" in names
    dock.preset.setCurrentIndex(names.index("rigid"))
    dock.preset.activated.emit(names.index("rigid"))
    assert dock.store.entry.source == "rigid"
    assert dock.description.text() == dock.store.recipe.description
    dock.advanced_section.show_content()
    boxes = dock.advanced._form.findChildren(QDoubleSpinBox)
    step = next(b for b in boxes if b.suffix() == " half voxels")
    step.setValue(0.3)
    assert dock.preset.currentText() == "rigid (edited)"
    assert dock.store.recipe.stages[0].descent.step == pytest.approx(0.3)
    dock.advanced.revert.click()
    assert dock.preset.currentText() == "rigid"


def test_stages_that_make_no_recipe_cannot_be_run(dock: Any) -> None:
    dock.store.load_preset("rigid")
    dock.advanced_section.show_content()
    dock.advanced.list.item(0).setCheckState(Qt.CheckState.Unchecked)
    assert not dock.run.isEnabled()
    assert "tick at least one" in dock.problem.text()
    assert dock.run.toolTip() == dock.problem.text()
    dock.advanced.list.item(0).setCheckState(Qt.CheckState.Checked)
    assert dock.run.isEnabled()


def test_apply_to_other_layers(finished: Any, qtbot: Any, pair_3d: Any, press: Any) -> None:
    viewer = finished.controller.viewer
    labels = (pair_3d[1] > 50).astype(np.uint8) * 3
    seg = viewer.add_labels(labels, name="seg", units=("mm",) * 3)
    finished.result.other.choose(seg)
    press(finished.result.apply_button)
    assert not finished.result.apply_button.isEnabled()
    qtbot.waitUntil(lambda: "seg (registered)" in viewer.layers, timeout=20_000)
    out = viewer.layers["seg (registered)"]
    assert set(np.unique(out.data)) == {0, 3}
    overlap = ((out.data > 0) & (pair_3d[0] > 50)).sum() / (pair_3d[0] > 50).sum()
    assert overlap > 0.9
    assert finished.result.apply_button.isEnabled()
    finished.result.other.choose(viewer.layers["moving"])
    press(finished.result.apply_button)
    qtbot.waitUntil(lambda: "moving (registered) [1]" in viewer.layers, timeout=20_000)
    np.testing.assert_allclose(
        viewer.layers["moving (registered) [1]"].data, finished.controller.scene.live.data
    )


def answer(monkeypatch: pytest.MonkeyPatch, name: str, path: Path | str) -> None:
    """What the next file dialog returns."""
    monkeypatch.setattr(QFileDialog, name, lambda *args, **kwargs: (str(path), ""))


def test_save_run(finished: Any, qtbot: Any, press: Any, tmp_path: Path, monkeypatch: Any) -> None:
    answer(monkeypatch, "getSaveFileName", "")  # cancelled
    press(finished.result.save_run)
    assert not finished.message.isVisibleTo(finished)
    answer(monkeypatch, "getSaveFileName", tmp_path / "run")
    press(finished.result.save_run)
    qtbot.waitUntil(lambda: finished.message.tone == "good", timeout=30_000)
    assert finished.message.text() == f"Saved to {tmp_path / 'run'}."
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert "report.html" in names
    assert any(name.startswith("recipe") for name in names)
    (tmp_path / "file").write_text("in the way")
    answer(monkeypatch, "getSaveFileName", tmp_path / "file" / "run")
    press(finished.result.save_run)
    qtbot.waitUntil(lambda: finished.message.tone == "error", timeout=30_000)
    assert finished.result.save_run.isEnabled()


def test_recipes_from_and_to_files(dock: Any, press: Any, tmp_path: Path, monkeypatch: Any) -> None:
    dock.store.load_preset("affine")
    dock.store.edit(dock.store.recipe.with_values({"seed": 5}))
    answer(monkeypatch, "getSaveFileName", tmp_path / "mine.yaml")
    press(dock.result.save_recipe)
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text())["seed"] == 5
    assert dock.preset.currentText() == "mine.yaml"
    dock.store.load_preset("rigid")
    answer(monkeypatch, "getOpenFileName", tmp_path / "mine.yaml")
    press(dock.result.load_recipe)
    assert dock.store.recipe.seed == 5
    (tmp_path / "bad.yaml").write_text("nonsense: 1")
    answer(monkeypatch, "getOpenFileName", tmp_path / "bad.yaml")
    press(dock.result.load_recipe)
    assert dock.message.tone == "error"
    assert "bad.yaml" in dock.message.text()
    assert dock.preset.currentText() == "mine.yaml"


def test_copy_as_command_line_and_python(dock: Any, press: Any) -> None:
    dock.store.load_preset("rigid")
    dock.controller.viewer.layers["fixed"].metadata["fireants"] = {"path": "/data/fixed.nii.gz"}
    press(dock.result.copy_command)
    text = QApplication.clipboard().text()
    assert "fireants-engine run /data/fixed.nii.gz MOVING.nii.gz -o" in text
    assert "Layer 'moving' is in no file" in text
    assert dock.result.copied.text() == "Command line copied to the clipboard."
    press(dock.result.copy_python)
    assert "fe.Recipe.preset('rigid')" in QApplication.clipboard().text()


def test_console_api(dock: Any, qtbot: Any, recipe: Any, pair_3d: Any) -> None:
    viewer = dock.controller.viewer
    seg = viewer.add_labels((pair_3d[1] > 50).astype(np.uint8), name="seg", units=("mm",) * 3)
    session = napari_fireants.register(
        viewer, "fixed", viewer.layers["moving"], recipe(steps=5), moving_labels=seg, device="cpu"
    )
    assert session is dock.session
    with pytest.raises(InputError, match="still at work"):
        napari_fireants.register(viewer, "fixed", "moving")
    assert session.wait(60) is State.FINISHED
    assert session.result.moved.grid.shape == (24, 32, 28)
    assert "seg (registered)" in viewer.layers
    with pytest.raises(RecipeError, match="no-such"):
        napari_fireants.register(viewer, "fixed", "moving", "no-such")
    with pytest.raises(InputError, match="two different"):
        napari_fireants.register(viewer, "fixed", "fixed")


def test_closing_napari_ends_a_run(
    make_napari_viewer: Any, qtbot: Any, recipe: Any, pair_3d: Any
) -> None:
    viewer = make_napari_viewer()
    for data, name in zip(pair_3d, ("fixed", "moving"), strict=True):
        viewer.add_image(data, name=name, units=("mm",) * 3)
    session = napari_fireants.register(viewer, "fixed", "moving", recipe(steps=LONG))
    steps: list[int] = []
    session.progressed.connect(lambda now: steps.append(now.step))
    qtbot.waitUntil(lambda: bool(steps) and steps[-1] > 0, timeout=60_000)
    thread = session._run._thread
    viewer.close()
    qtbot.waitUntil(lambda: not thread.is_alive(), timeout=10_000)
    assert not session.busy
