"""Steering in the window: values, landmarks, masks and the hand, into a run that is under way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton, QWidget

from fireants_engine.recipe.models import Recipe
from napari_fireants._change import Change, told
from napari_fireants._layers import index_to_mm
from napari_fireants._nudge import shift
from napari_fireants._session import State

pytestmark = pytest.mark.gui
LONG = 100_000


def run_of(events: Any) -> list[str]:
    return [e.what for e in events if type(e).__name__ == "Edited" and e.what[:7] != "Stopped"]


@pytest.fixture
def running(dock: Any, qtbot: Any, recipe: Callable[..., Any]) -> Any:
    """The dock in a run that would take long, with a picture on the canvas."""
    dock.store.use(recipe(steps=LONG, kind="greedy"))
    qtbot.mouseClick(dock.run, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: dock.steer.hand.isEnabled(), timeout=60_000)
    return dock


def stopped(dock: Any, qtbot: Any) -> Any:
    with qtbot.waitSignal(dock.session.finished, timeout=60_000):
        dock.session.stop()
    return dock.session.result


def wait_for_edit(dock: Any, qtbot: Any, action: Callable[[], Any]) -> str:
    with qtbot.waitSignal(dock.session.edited, timeout=20_000) as signal:
        action()
    return signal.args[0]


# ------------------------------------------------------------------ without a window
def test_two_changes_become_one() -> None:
    first = Change(("a",), number=1, nudge=shift([1, 0, 0]), level=0)
    both = first.then(Change(("a", "b"), number=2, nudge=shift([0, 2, 0])))
    assert (both.what, both.number, both.level) == (("a", "b"), 2, 0)
    np.testing.assert_allclose(both.nudge, shift([1, 2, 0]))
    assert Change().then(first).nudge is first.nudge


def test_what_was_changed_is_said_in_words() -> None:
    recipe = Recipe.preset("brain-mri")
    other = recipe.with_values({"stages.greedy.descent.step": 0.25, "seed": 4})
    assert told(recipe, other) == "greedy: descent step 0.25, seed 4"
    assert told(recipe, recipe) == ""
    assert told(recipe, recipe.with_values({"stages.affine.enabled": False})).startswith("affine")


# ------------------------------------------------------------------ in a run
def test_a_value_changed_under_advanced_goes_into_the_run(running: Any, qtbot: Any) -> None:
    assert running.advanced_section.isEnabled()
    values = {"stages.0.deformation.sigma_grad_mm": 5.0}
    new = running.store.recipe.with_values(values)
    said = wait_for_edit(running, qtbot, lambda: running.store.edit(new))
    assert said == "Greedy: deformation sigma_grad_mm 5."
    assert said in running.steer.changes.text()
    result = stopped(running, qtbot)
    assert run_of(result.events) == [said]
    steps = running.controller.undo
    assert steps.undo().startswith("run")
    assert steps.undo() == "edit of the recipe"
    assert running.store.recipe != new


def test_a_change_of_a_running_run_does_not_wait_for_the_pace_of_previews(
    running: Any, qtbot: Any
) -> None:
    pace = running.session._link.pace
    pace.cost(1e6)  # no picture is due for a long time
    followed: list[int] = []
    running.session.frames_ready.connect(lambda frames: followed.append(frames.change))
    new = running.store.recipe.with_values({"stages.0.deformation.sigma_grad_mm": 5.0})
    wait_for_edit(running, qtbot, lambda: running.store.edit(new))
    qtbot.waitUntil(lambda: followed[-1:] == [1], timeout=1000)
    qtbot.wait(400)
    assert followed.count(1) == 1


def test_a_paused_run_shows_a_move_by_hand_at_once(running: Any, qtbot: Any) -> None:
    running.session.pause()
    running.steer.hand.click()
    live = running.controller.scene.live
    home = index_to_mm(live)
    assert str(live.mode) == "transform"
    before = live.data.copy()
    frames: list[Any] = []
    running.session.frames_ready.connect(frames.append)

    def drag() -> None:
        affine = np.eye(4)
        affine[:3, 3] = (0.0, 0.0, 4.0)
        live.affine = affine @ np.array(live.affine.affine_matrix)

    said = wait_for_edit(running, qtbot, drag)
    assert said == "Moved by hand."
    qtbot.waitUntil(lambda: any(f.change for f in frames), timeout=1000)
    qtbot.waitUntil(lambda: np.allclose(index_to_mm(live), home, atol=1e-6), timeout=1000)
    assert running.session.state is State.PAUSED
    index = running.controller.wanted().planes[0][1]

    def right_by() -> int:
        """Voxels that the picture lies to the right of where it was."""
        now, then = live.data[index][:, 8:-8], before[index]
        return int(np.argmin([np.abs(now - np.roll(then, k, 1)[:, 8:-8]).mean() for k in range(8)]))

    assert right_by() == 4
    said = wait_for_edit(running, qtbot, running.controller.undo.undo)
    assert said == "Moved by hand."
    qtbot.waitUntil(lambda: right_by() == 0, timeout=1000)
    result = stopped(running, qtbot)
    assert run_of(result.events) == ["Moved by hand."] * 2
    assert str(live.mode) != "transform"


def cut(panel: QWidget) -> list[str]:
    """Texts and buttons that have less height than they need."""
    shown = [x for x in panel.findChildren((QLabel, QPushButton)) if x.isVisible()]
    assert len(shown) > 20
    need = {
        x: x.heightForWidth(x.width()) if x.hasHeightForWidth() else x.minimumSizeHint().height()
        for x in shown
    }
    return [f"{x.text()!r}: {x.height()} of {need[x]}" for x in shown if x.height() < need[x]]


def test_no_text_is_cut_while_a_run_is_steered(running: Any, qtbot: Any) -> None:
    window = running.controller.viewer.window
    window._qt_window.show()
    window.resize(1280, 800)
    running.steer_section.show_content()
    running.session.pause()
    qtbot.waitUntil(lambda: not cut(running), timeout=5000)
    running.steer.hand.click()
    wait_for_edit(running, qtbot, lambda: running.steer.shift(1, 1))
    qtbot.waitUntil(lambda: running.steer.changes.isVisible(), timeout=5000)
    qtbot.wait(300)
    assert not cut(running)
    stopped(running, qtbot)


def test_a_change_that_comes_while_the_run_ends_does_no_harm(running: Any, qtbot: Any) -> None:
    steering = running.controller.steering
    running.session.stop()
    assert running.session.state is State.STOPPING
    running.store.edit(running.store.recipe.with_values({"seed": 5}))
    steering._timer.timeout.emit()  # as if it were due now
    with qtbot.waitSignal(running.session.finished, timeout=60_000):
        pass
    assert run_of(running.session.result.events) == []
    steering._again(shift([1.0, 0.0, 0.0]))  # Undo of a move, when its run is over


def test_landmarks_and_alignment_go_into_the_run(running: Any, qtbot: Any) -> None:
    table = running.controller.landmarks
    assert not running.steer.align.isEnabled()
    for place in ((14.0, 16.0, 11.0), (10.0, 20.0, 8.0), (18.0, 18.0, 14.0)):
        table.add(place, tuple(x + 2 for x in place))
    assert running.steer.align.isEnabled()
    said = wait_for_edit(running, qtbot, lambda: table.use(True))
    assert said == "3 landmarks."
    said = wait_for_edit(running, qtbot, running.steer.align.click)
    assert said == "Landmarks brought together (rigid)."
    result = stopped(running, qtbot)
    marks = next(e for e in result.events if type(e).__name__ == "Edited").values["landmarks"]
    assert len(marks["fixed_mm"]) == 3


def test_what_is_painted_over_is_not_matched(running: Any, qtbot: Any) -> None:
    running.steer.ignore["fixed"].click()
    layer = running.controller.viewer.layers["ignore in fixed"]
    assert str(layer.mode) == "paint"
    assert layer not in [running.inputs.fixed.layer(), running.inputs.moving.layer()]

    def paint() -> None:
        layer.paint((11, 16, 14), 1)

    said = wait_for_edit(running, qtbot, paint)
    assert said == "Mask of the fixed image painted."
    result = stopped(running, qtbot)
    (edited,) = [e for e in result.events if type(e).__name__ == "Edited" and e.masks]
    mask = edited.masks["fixed_mask"].numpy()
    np.testing.assert_array_equal(mask == 0, layer.data == 1)
    assert (mask == 0).any()


def test_the_moving_image_is_painted_as_it_is_and_alone(running: Any, qtbot: Any) -> None:
    scene = running.controller.scene
    running.session.pause()
    assert not running.steer.isHidden()
    assert (scene.live.visible, scene.fixed.visible, scene.moving.visible) == (True, True, False)
    running.steer.ignore["moving"].click()
    assert (scene.live.visible, scene.fixed.visible, scene.moving.visible) == (False, False, True)
    running.steer.ignore["moving"].click()
    assert (scene.live.visible, scene.fixed.visible, scene.moving.visible) == (True, True, False)
    stopped(running, qtbot)


def test_a_steered_run_is_the_same_again_from_its_folder(
    running: Any, qtbot: Any, tmp_path: Path
) -> None:
    from fireants_engine import replay

    new = running.store.recipe.with_values({"stages.0.deformation.sigma_warp_mm": 2.0})
    wait_for_edit(running, qtbot, lambda: running.store.edit(new))
    result = stopped(running, qtbot)
    folder = result.save(tmp_path / "out")
    again = replay(folder, fixed=result.fixed, moving=result.moving)
    points = result.grid.points_mm()
    assert float(np.abs(again.transform(points) - result.transform(points)).max()) == 0.0


# ------------------------------------------------------------------ before a run
def test_a_move_before_the_run_says_where_it_starts(
    dock: Any, qtbot: Any, recipe: Callable[..., Any]
) -> None:
    held = recipe(steps=1).with_values({"stages.0.descent.step": 1e-9})
    dock.store.use(held)
    moving = dock.inputs.moving.layer()
    home = index_to_mm(moving)
    dock.steer.hand.click()
    dock.controller.steering.hand.move(shift([3.0, -2.0, 0.0]))
    qtbot.waitUntil(lambda: dock.controller.initial is not None, timeout=3000)
    assert dock.steer.start.isVisibleTo(dock.steer)
    with qtbot.waitSignal(dock.session.finished, timeout=60_000):
        qtbot.mouseClick(dock.run, Qt.MouseButton.LeftButton)
    np.testing.assert_allclose(index_to_mm(moving), home, atol=1e-9)
    points = np.array([[5.0, 6.0, 7.0]])
    np.testing.assert_allclose(
        dock.session.result.transform(points), points - [[3.0, -2.0, 0.0]], atol=1e-4
    )
    dock.steer.reset.click()
    assert dock.controller.initial is None
