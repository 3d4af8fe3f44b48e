"""Keys: one list, bound once, quiet while a person types; the list of keys; the tour."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points, Vectors
from napari.utils.key_bindings import KeymapHandler, coerce_keybinding
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtWidgets import QApplication, QLabel, QLineEdit

from napari_fireants import _shortcuts
from napari_fireants._controller import Controller, controller_of
from napari_fireants._session import State
from napari_fireants._shortcuts import GROUPS, PLANE_KEYS, SHORTCUTS, bound, dock_of, lend
from napari_fireants._views import View
from napari_fireants.panels import _focus, _tour
from napari_fireants.panels._cheatsheet import CheatSheet, show_sheet
from napari_fireants.panels._focus import enter, main_window


def press(viewer: Any, key: str) -> None:
    """A key on the canvas, pressed and let go."""
    handler = KeymapHandler()
    active = viewer.layers.selection.active
    handler.keymap_providers = [x for x in (active, viewer) if x is not None]
    assert handler.press_key(key), key
    handler.release_key(key)


# ------------------------------------------------------------------ the list
def test_no_key_is_told_twice_or_taken_from_napari() -> None:
    keys = [coerce_keybinding(key) for each in SHORTCUTS for key in each.keys]
    assert len(keys) == len(set(keys))
    free = {"Shift+Up", "Shift+Down"}  # only while the image is moved by hand
    free |= {str(coerce_keybinding(key)) for key, _ in PLANE_KEYS}  # or the plane of a section
    known = [str(key) for name in default_shortcuts for key in default_shortcuts[name]]
    for kind in (ViewerModel, Image, Labels, Points, Vectors):
        known += [str(key) for key in kind.class_keymap]
    ours = {str(key) for key in keys} - free - {"Escape", "Ctrl+Z", "Ctrl+Shift+Z"}
    assert not ours & set(known)
    assert {each.group for each in SHORTCUTS} == set(GROUPS)


def test_the_page_is_current(repo_root: Path) -> None:
    script = repo_root / "scripts" / "keyboard_table.py"
    done = subprocess.run([sys.executable, script, "--check"], check=False)
    assert done.returncode == 0, "run: .venv/bin/python scripts/keyboard_table.py"


# ------------------------------------------------------------------ binding
def test_keys_live_as_long_as_the_controller() -> None:
    viewer = ViewerModel()
    viewer.bind_key("N", lambda _: None)  # somebody's own
    controller = Controller(viewer)
    taken = {each.title for each in SHORTCUTS if not bound(viewer, each)}
    assert taken == {"Next view"}
    second = Controller(viewer)
    assert len(viewer.keymap) == len({str(key) for key in viewer.keymap})
    del controller, second
    gc.collect()
    left = {str(key) for key in viewer.keymap} - {"G", "H"}
    assert left == {"N"}


def test_two_viewers_have_their_own_keys() -> None:
    first, second = Controller(ViewerModel()), Controller(ViewerModel())
    first.undo.push("one", lambda: None, lambda: None)
    press(second.viewer, "Ctrl+Z")
    assert first.undo.can_undo
    press(first.viewer, "Ctrl+Z")
    assert first.viewer.status == "Taken back: one"
    press(first.viewer, "Ctrl+Shift+Z")
    assert first.undo.can_undo


def test_a_key_is_lent_and_given_back() -> None:
    viewer = ViewerModel()
    pressed: list[int] = []
    give_back = lend(viewer, "Escape", lambda: pressed.append(1))
    press(viewer, "Escape")
    lend(viewer, "Escape", lambda: pressed.append(2))()  # has it already
    press(viewer, "Escape")
    give_back()
    assert pressed == [1, 1]
    assert not viewer.keymap


# ------------------------------------------------------------------ in a window
@pytest.mark.gui
def test_keys_do_nothing_while_a_person_types(dock: Any, monkeypatch: Any) -> None:
    viewer, field = dock.controller.viewer, QLineEdit(dock)
    dock.controller.undo.push("a step", lambda: None, lambda: None)
    monkeypatch.setattr(QApplication, "focusWidget", lambda: field)
    press(viewer, "Ctrl+Z")
    assert dock.controller.undo.can_undo
    monkeypatch.setattr(QApplication, "focusWidget", lambda: dock.run)
    press(viewer, "Ctrl+Z")
    assert not dock.controller.undo.can_undo


@pytest.mark.gui
def test_a_run_by_keys(dock: Any, recipe: Any, qtbot: Any) -> None:
    viewer, session, looking = dock.controller.viewer, dock.session, dock.controller.looking
    press(viewer, "K")  # nothing runs
    press(viewer, "N")
    assert looking.look.view is View.OVERLAY
    dock.store.use(recipe(100_000))
    with qtbot.waitSignal(session.frames_ready, timeout=60_000):
        press(viewer, "Ctrl+Enter")
    press(viewer, "K")
    qtbot.waitUntil(lambda: session.state is State.PAUSED, timeout=20_000)
    press(viewer, "N")
    assert looking.look.view is View.BLEND
    press(viewer, "Shift+N")
    press(viewer, "Shift+N")
    assert looking.look.view is list(View)[-1]
    press(viewer, "Shift+Up")  # napari's own, as long as nothing is moved
    press(viewer, "W")
    hand = dock.controller.steering.hand
    assert hand is not None
    assert dock.steer.hand.isChecked()
    before = hand.total.copy()
    for key in ("Shift+Right", "Shift+Up", "Ctrl+Shift+Left", "Ctrl+Shift+Up"):
        press(viewer, key)
        assert not np.allclose(hand.total, before), key
        before = hand.total.copy()
    press(viewer, "W")
    assert dock.controller.steering.hand is None
    press(viewer, "Ctrl+Shift+1")  # the digit's other key, not the hand's
    press(viewer, "Shift+U")
    assert dock.steer.ignore["moving"].isChecked()
    press(viewer, "Shift+U")
    press(viewer, "Ctrl+.")
    qtbot.waitUntil(lambda: not session.busy, timeout=60_000)


@pytest.mark.gui
def test_why_nothing_begins(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    panel = dock_of(controller_of(viewer), "Register")
    press(viewer, "Ctrl+Enter")
    assert panel.message.text() == "Choose a fixed and a moving image first."
    panel.session.shutdown()


@pytest.mark.gui
def test_docks_by_keys(dock: Any, monkeypatch: Any) -> None:
    viewer = dock.controller.viewer
    for i, name in enumerate(_shortcuts.DOCKS, 1):
        press(viewer, f"Ctrl+{i}")
        panel = dock_of(dock.controller, name, show=False)
        assert panel.controller is dock.controller
        assert main_window(panel) is main_window(dock)
    press(viewer, "J")
    assert dock.controller.landmarking.picker.mode == "pairs"
    press(viewer, "J")
    assert not dock.controller.landmarking.picker.mode
    went: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(QApplication, "focusWidget", lambda: dock.run)
        patch.setattr(_focus, "to_canvas", lambda _: went.append("canvas"))
        enter(dock)
    assert went == ["canvas"]


@pytest.mark.gui
def test_the_list_of_keys(dock: Any, qtbot: Any) -> None:
    sheet = show_sheet(dock.controller, dock)
    assert isinstance(sheet, CheatSheet)
    words = " ".join(label.text() for label in sheet.findChildren(QLabel))
    for each in SHORTCUTS:
        assert each.title in words
    assert "another use" not in words
    sheet.tour.click()
    assert dock.tour.step == 0
    dock.tour.end()
    assert show_sheet(dock.controller, dock) is not None
    assert show_sheet(dock.controller, dock) is None  # closes the one that is open


# ------------------------------------------------------------------ the tour
@pytest.mark.gui
def test_the_tour_follows_what_a_person_does(
    make_napari_viewer: Any, pair_2d: Any, monkeypatch: Any
) -> None:
    kept: dict[str, Any] = {}
    monkeypatch.setattr(_tour, "_shown", False)
    monkeypatch.setattr(_tour, "remembered", lambda _, name, default: kept.get(name, default))
    monkeypatch.setattr(_tour, "remember", lambda _, name, value: kept.update({name: value}))
    viewer = make_napari_viewer()
    panel = dock_of(controller_of(viewer), "Register")
    tour = panel.tour
    assert tour.step == 0
    assert kept == {"tour": False}
    viewer.add_image(pair_2d[0], name="fixed")
    assert tour.step == 0
    viewer.add_image(pair_2d[1], name="moving")
    assert tour.step == 1
    assert panel.run.isEnabled()
    panel.session.state_changed.emit(State.RUNNING)
    assert tour.step == 2
    assert tour.skip.isHidden()
    tour.next.click()
    assert tour.step == -1
    assert tour.isHidden()
    tour.begin()
    press(viewer, "Escape")
    assert tour.step == -1
    assert not [key for key in viewer.keymap if str(key) == "Escape"]
    assert not _tour.due()
    panel.session.shutdown()


@pytest.mark.gui
def test_the_tour_is_not_shown_again(dock: Any) -> None:
    assert dock.tour.step == -1
    assert dock.tour.isHidden()
