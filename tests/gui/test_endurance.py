"""What a window keeps over many runs, and what a closed dock leaves behind."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_fireants._controller import controller_of
from tests.gui.window import DOCKS, Sequel, open_docks, pump

pytestmark = pytest.mark.gui
RUNS = 6


@pytest.fixture
def sequel(make_napari_viewer: Any) -> Iterator[Sequel]:
    viewer = make_napari_viewer()
    sequel = Sequel(viewer, open_docks(viewer), steps=2)
    yield sequel
    sequel.panel.session.shutdown()


def test_results_of_many_runs_do_not_pile_up(sequel: Sequel) -> None:
    from napari_fireants._history import KEPT_IN_MEMORY

    for _ in range(RUNS):
        sequel.run()
    pump(0.2)
    assert sequel.controller.history.in_memory == KEPT_IN_MEMORY
    assert sequel.alive() == KEPT_IN_MEMORY
    assert len(sequel.controller.history.runs) == RUNS


def test_pictures_of_older_runs_leave_the_viewer_and_come_back(sequel: Sequel, qtbot: Any) -> None:
    from napari_fireants._recall import KEPT_LAYERS, PUT_AWAY, RESULT

    recall, history, said = sequel.controller.keeper.recall, sequel.controller.history, []
    history.said.connect(lambda sentence, _: said.append(sentence))
    for number in range(1, KEPT_LAYERS + 4):
        sequel.run()
        assert sequel.controller.scene.live.name.startswith("moving (registered)")
        assert sequel.viewer.layers[-1] in sequel.controller.landmarking.marks.own
        if number == 1:
            recall.layer(1, RESULT).name = "mine"
            was = np.array(sequel.controller.session.product.pictures.moved)
        if number == 2:
            recall.layer(2, RESULT).visible = True  # begin of the next run hides it
            shown = np.array(recall.layer(2, RESULT).data)
    qtbot.waitUntil(lambda: recall.layer(3, RESULT) is None, timeout=5000)
    there = [n for n in range(1, KEPT_LAYERS + 4) if recall.layer(n, RESULT) is not None]
    assert there == [1, *range(4, KEPT_LAYERS + 4)]
    assert said.count(PUT_AWAY) == 1
    history.put(2)
    qtbot.waitUntil(lambda: history.shown == 2, timeout=10_000)
    back = recall.layer(2, RESULT)
    assert back is not None
    np.testing.assert_array_equal(back.data, shown)
    assert back.visible
    assert not np.array_equal(was, shown)


def opened_and_closed(viewer: Any, name: str) -> tuple[weakref.ref[Any], weakref.ref[Any]]:
    """Panel and controller of a dock that was there for a moment."""
    panel = viewer.window.add_plugin_dock_widget("napari-fireants", name)[1]
    pump(0.05)
    known = weakref.ref(panel), weakref.ref(panel.controller)
    viewer.window.remove_dock_widget(panel)
    panel.close()
    panel.deleteLater()
    return known


def gone(known: weakref.ref[Any], seconds: float = 10.0) -> bool:
    """Whether it dies; what a thread still needs may live that long."""
    end = time.perf_counter() + seconds
    while known() is not None and time.perf_counter() < end:
        pump(0.05)
        gc.collect()
    return known() is None


@pytest.mark.parametrize("name", DOCKS)
def test_a_closed_dock_leaves_nothing_behind(make_napari_viewer: Any, name: str) -> None:
    viewer = make_napari_viewer()
    counts = []
    for _ in range(3):
        panel, controller = opened_and_closed(viewer, name)
        assert gone(panel), "the panel lives on"
        assert gone(controller), "the controller lives on"
        counts.append(len(QApplication.allWidgets()))
    assert counts[0] == counts[-1], counts


@pytest.mark.parametrize("name", DOCKS)
def test_a_closed_dock_is_told_nothing_more(make_napari_viewer: Any, name: str) -> None:
    """The other docks keep the controller; its signals must not reach the one that is gone."""
    viewer = make_napari_viewer()
    controller = controller_of(viewer)
    for _ in range(2):
        assert gone(opened_and_closed(viewer, name)[0])
    controller.landmarks.add((1.0, 2.0, 3.0), (1.0, 2.0, 3.0))
    controller.start_from(None)
    controller.undo.undo()
    controller.session.noted.emit("")
    controller.session.busy_changed.emit(False)
    controller.history.changed.emit()
    controller.presets.changed.emit()
    controller.looking.ready.emit(False)
    controller.batch.table.changed.emit()
    controller.store.changed.emit(controller.store.recipe)
    pump(0.05)
    assert controller.wanted() is not None
