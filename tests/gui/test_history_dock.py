"""The History dock: what a person sees, presses and gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox

from napari_fireants._figure import parts_of_figure
from napari_fireants._recovery import Hold
from napari_fireants._sessionfile import FILE
from napari_fireants._views import View
from napari_fireants.panels._runs import ROW

pytestmark = pytest.mark.gui


@pytest.fixture
def press(qtbot: Any) -> Callable[[Any], None]:
    return lambda button: qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


@pytest.fixture
def history(dock: Any) -> Any:
    """The History dock beside the Register dock."""
    viewer = dock.controller.viewer
    _, panel = viewer.window.add_plugin_dock_widget("napari-fireants", "History", tabify=True)
    yield panel
    dock.controller.keeper.close()


@pytest.fixture
def two_runs(dock: Any, history: Any, recipe: Callable[..., Any]) -> Any:
    for steps in (2, 4):
        dock.store.use(recipe(steps))
        dock.start()
        dock.session.wait(60)
        settle(history)
    return history


def settle(history: Any) -> None:
    history.controller.keeper.behind.wait()


def words(history: Any, row: int) -> str:
    """The visible lines of a row."""
    shown = history.runs.item(row).data(ROW)
    return "\n".join((shown.title, shown.text.replace("\u200b", "")))


def select(history: Any, *numbers: int) -> None:
    runs = history.runs
    runs.clearSelection()
    for row in range(runs.count()):
        if runs.item(row).data(Qt.ItemDataRole.UserRole) in numbers:
            runs.item(row).setSelected(True)


def enabled(history: Any) -> set[str]:
    names = ("restore", "rerun", "compare", "save", "name", "remove")
    return {name for name in names if getattr(history, name).isEnabled()}


def test_an_empty_history_says_what_to_do(history: Any) -> None:
    assert not history.hint.isHidden()
    assert "Press Register" in history.hint.text()
    assert history.runs.isHidden()
    assert history.actions.isHidden()
    assert (history.undo.isEnabled(), history.redo.isEnabled()) == (False, False)


def test_runs_are_listed_restored_and_taken_back(two_runs: Any, press: Any) -> None:
    history, viewer = two_runs, two_runs.controller.viewer
    assert history.hint.isHidden()
    assert history.runs.count() == 2
    first, last = words(history, 1), words(history, 0)
    assert "moving → fixed" in first
    assert last.startswith("Run 2: test\n● shown")
    assert "rigid.pyramid.levels.0.max_steps: 2 → 4" in last
    assert "loss " in last
    assert "moving → fixed" not in last  # as before
    assert history.undo.text() == "Undo run 2"
    assert enabled(history) == set()
    select(history, 2)
    assert enabled(history) == {"rerun", "save", "name", "remove"}  # it is shown already
    select(history, 1)
    assert enabled(history) == {"restore", "rerun", "save", "name", "remove"}
    press(history.restore)
    settle(history)
    assert "● shown" in words(history, 1)
    assert viewer.layers["moving (registered)"].visible
    assert not viewer.layers["moving (registered) [1]"].visible
    assert history.undo.text() == "Undo restoring run 1"
    press(history.undo)
    settle(history)
    assert "● shown" in words(history, 0)
    assert viewer.layers["moving (registered) [1]"].visible
    assert history.redo.text() == "Redo restoring run 1"
    press(history.undo)
    settle(history)
    assert "● shown" in words(history, 1)


def test_undo_of_the_only_run_shows_the_images_alone(
    dock: Any, history: Any, recipe: Callable[..., Any], press: Any
) -> None:
    viewer = dock.controller.viewer
    dock.store.use(recipe(2))
    dock.start()
    dock.session.wait(60)
    settle(history)
    press(history.undo)
    settle(history)
    assert dock.session.product is None
    assert not viewer.layers["moving (registered)"].visible
    assert viewer.layers["fixed"].colormap.name == "gray"
    press(history.redo)
    settle(history)
    assert viewer.layers["moving (registered)"].visible
    assert viewer.layers["fixed"].colormap.name == "green"


def test_two_runs_are_compared_on_the_canvas(two_runs: Any, press: Any) -> None:
    history, viewer = two_runs, two_runs.controller.viewer
    select(history, 1, 2)
    assert enabled(history) == {"compare", "remove"}
    press(history.compare)
    settle(history)
    one, two = (viewer.layers[f"moving (registered){n}"] for n in ("", " [1]"))
    assert (one.visible, one.colormap.name) == (True, "green")
    assert (two.visible, two.colormap.name) == (True, "magenta")
    assert not viewer.layers["fixed"].visible
    assert "Run 1 in green, run 2 in magenta" in history.compared_says.text()
    assert "max_steps: 2 → 4" in history.table.text()
    assert "mm apart in the mean" in history.apart.text()
    product = history.controller.session.product
    first = history.history
    read: dict[int, Any] = {}
    first.fetch([1, 2], read.update)
    settle(history)
    assert np.array_equal(product.pictures.fixed_bytes, read[1].pictures.moved_bytes)
    assert np.array_equal(product.pictures.moved_bytes, read[2].pictures.moved_bytes)
    scene, looking = history.controller.scene, history.controller.looking
    space = scene.spacing, scene.canvas_axes()
    views = (View.OVERLAY,)
    figure, panels, _ = parts_of_figure(
        product, looking.key, looking.look, views, scene.colours, space
    )
    assert "Run 1" in figure.title
    assert "Run 2" in figure.title
    assert (figure.numbers, len(panels)) == ("", 1)
    history.history.leave()
    settle(history)
    assert viewer.layers["fixed"].visible
    assert not one.visible
    assert history.compared.isHidden()


def test_a_removed_layer_comes_back_with_its_run(two_runs: Any) -> None:
    history, viewer = two_runs, two_runs.controller.viewer
    data = viewer.layers["moving (registered)"].data
    viewer.layers.remove("moving (registered)")
    viewer.layers.remove("fixed")
    history.history.restore(1)
    settle(history)
    assert np.array_equal(viewer.layers["moving (registered)"].data, data)
    assert viewer.layers["fixed (picture)"].visible


def test_a_run_again_a_name_a_folder_and_away(
    two_runs: Any, press: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = two_runs
    answers = {"getText": ("the good one", True), "getMultiLineText": ("keep", True)}
    for name, answer in answers.items():
        monkeypatch.setattr(QInputDialog, name, lambda *_, value=answer, **__: value)
    folder = str(tmp_path / "run")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (folder, ""))
    select(history, 1)
    press(history.name)
    assert words(history, 1).startswith("the good one\n")
    assert words(history, 1).endswith("keep")
    press(history.save)
    settle(history)
    assert history.message.text() == f"Saved to {folder}."
    assert (tmp_path / "run" / "1Warp.nii.gz").is_file()
    press(history.rerun)
    assert enabled(history) == {"save", "name", "remove"}
    history.controller.session.wait(60)
    settle(history)
    assert history.runs.count() == 3
    assert "rigid.pyramid.levels.0.max_steps: 4 → 2" in words(history, 0)
    select(history, 2)
    press(history.remove)
    assert history.runs.count() == 2
    press(history.undo)
    assert history.runs.count() == 3


def test_a_session_is_saved_and_opened_from_the_dock(
    two_runs: Any, press: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, viewer = two_runs, two_runs.controller.viewer
    name = str(tmp_path / "mine")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (name, ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: f"{name}.fireants")
    box = history.session
    assert box.recent.isHidden()
    press(box.save_button)
    settle(history)
    assert history.message.text() == f"Session saved to {name}.fireants."
    assert box.recent.itemText(1).startswith("mine  (")
    history.history.remove(1)
    viewer.layers.remove("moving")
    asked: list[str] = []

    def answer(message: QMessageBox) -> None:
        asked.append(message.text())
        chosen = next(button for button in message.buttons() if wish in button.text())
        monkeypatch.setattr(message, "clickedButton", lambda: chosen)

    monkeypatch.setattr(QMessageBox, "exec", answer)
    wish = "Cancel"
    press(box.open_button)
    settle(history)
    assert "closes the layers and runs" in asked[0]
    assert history.runs.count() == 1
    wish = "without saving"
    press(box.open_button)
    settle(history)
    assert history.message.text() == "Opened mine.fireants."
    assert history.runs.count() == 2
    assert "moving" in viewer.layers
    assert "● shown" in words(history, 0)


def test_a_lost_session_is_offered(
    dock: Any, user_folder: Path, press: Any, qtbot: Any, two_runs: Any
) -> None:
    keeper = two_runs.controller.keeper
    keeper.autosave()
    settle(two_runs)
    lost = Hold()
    lost.take()
    for path in keeper.hold.folder.rglob("*"):
        if path.is_file() and path.name != "lock":
            target = lost.folder / path.relative_to(keeper.hold.folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    lost.release(delete=False)
    keeper._looked = False
    offer = two_runs.offer
    keeper.changed.emit()
    assert "The last session ended unexpectedly" in offer.sentence.text()
    assert not offer.isHidden()
    press(offer.restore)
    settle(two_runs)
    assert offer.isHidden()
    assert "save it to keep it" in two_runs.message.text()
    assert two_runs.runs.count() == 2
    qtbot.waitUntil(lambda: not keeper.behind.busy, timeout=10_000)
    assert not lost.folder.exists()
    assert (keeper.hold.folder / FILE).is_file()
