"""Every key of the plugin: one list, from which keys are bound, shown and documented.

A shortcut acts on the controller of its viewer, or on a dock, which is opened when it is needed.
Keys that a person or napari has taken for something else are left to that. Layers see a key before
the viewer does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_fireants._looking import HOLD_KEY
from napari_fireants._picking import KEYS
from napari_fireants._session import State
from napari_fireants._views import View

if TYPE_CHECKING:
    from napari_fireants._controller import Controller

PLUGIN = "napari-fireants"
DOCKS = ("Register", "Inspect", "Landmarks", "History", "Batch", "EPI correction", "Histology")
RUN, LOOK, LANDMARKS, STEER, SECTIONS, STEPS, WINDOWS = (
    "Run",
    "Look",
    "Landmarks",
    "Move by hand and ignore",
    "Move the plane of a section (Histology: Move)",
    "Take back",
    "Docks and help",
)
MOVED = "By hand: one step, as long as Steer says"
TURNED = "By hand: turn by 2 degrees"
SCALED = "By hand: larger, smaller by 2 %"
PLANE_KEYS = (
    *((key, "Shift it by 2 pixels") for key in ("Left", "Right", "Up", "Down")),
    *((key, "Turn it by 1 degree") for key in ("R", "E")),
    ("F", "Flip it, left for right"),
    *((key, "Larger, smaller by 1 %") for key in ("+", "-")),
    *((key, "Through the volume by 0.5 mm") for key in ("PageUp", "PageDown")),
)
"""What `_histo_move` binds while a plane is moved by hand."""
GROUPS = (RUN, LOOK, LANDMARKS, STEER, SECTIONS, STEPS, WINDOWS)


@dataclass(frozen=True)
class Shortcut:
    """Keys that do one thing; the first is the one to tell people.

    press: what a press does; let_go: what the release of the key does. Without `press` the keys
    are bound by the module they come from. more: how the key is used, where a press is not all.
    moving: bound only while a person moves the image by hand, and then before napari's own.
    Shortcuts of one title are told in one line.
    """

    keys: tuple[str, ...]
    title: str
    group: str
    press: Callable[[Controller], object] | None = None
    let_go: Callable[[Controller], object] | None = None
    more: str = ""
    moving: bool = False

    def text(self, mac: bool = False) -> str:
        """The key as it is told to people."""
        key = "+".join(_NAMES.get(part, part) for part in self.keys[0].split("+"))
        key = key.replace("Ctrl", "Cmd").replace("Alt", "Option") if mac else key
        return self.more.format(key) if self.more else key


_NAMES = {"Left": "←", "Right": "→", "Up": "↑", "Down": "↓", "Escape": "Esc"}


# ------------------------------------------------------------------ what keys do
def dock_of(controller: Controller, name: str, show: bool = True) -> Any:
    """The panel of a dock, made when it is first asked for; None where there is no window.

    show: bring it to the front.
    """
    window = getattr(controller.viewer, "window", None)
    if window is None:
        return None
    dock, panel = window.add_plugin_dock_widget(PLUGIN, name, tabify=name != DOCKS[0])
    if show:
        dock.show()
        dock.raise_()
    return panel


def _register(controller: Controller) -> None:
    panel = dock_of(controller, "Register")
    if panel is None or controller.session.state.active:
        return
    if panel.run.isEnabled():
        panel.start()
    else:
        panel.message.say(f"{panel.run.toolTip().rstrip('.')}.", "note")


def _stop(controller: Controller) -> None:
    if controller.session.state.steerable:
        controller.session.stop()


def _pause(controller: Controller) -> None:
    session = controller.session
    if session.state is State.PAUSED:
        session.resume()
    elif session.state is State.RUNNING:
        session.pause()


def _view(by: int) -> Callable[[Controller], None]:
    def press(controller: Controller) -> None:
        looking, views = controller.looking, list(View)
        if looking.possible:
            index = views.index(looking.look.view) + by
            looking.choose(replace(looking.look, view=views[index % len(views)]))

    return press


def _step(way: str) -> Callable[[Controller], None]:
    def press(controller: Controller) -> None:
        from napari.utils.notifications import show_warning

        from fireants_engine.errors import FireantsError

        try:
            name = getattr(controller.undo, way)()
        except (FireantsError, OSError) as error:
            show_warning(str(error))
            return
        word = "Taken back" if way == "undo" else "Done again"
        controller.viewer.status = f"{word}: {name}" if name else f"Nothing to {way}"

    return press


def _hold(controller: Controller, held: bool) -> None:
    epi, histo = (vars(controller).get(name) for name in ("epi", "histo"))  # none is made for this
    if epi is not None and epi.on_canvas:
        epi.scene.flick(held)
    elif histo is not None and histo.scene.on:
        histo.scene.hold(held)
    else:
        controller.looking.hold_fixed(held)


def _pick(controller: Controller) -> None:
    picker = controller.landmarking.picker
    if picker.mode == "pairs":
        picker.end()
    else:
        dock_of(controller, "Landmarks")
        picker.begin("pairs")


def _steer(action: Callable[[Any], object]) -> Callable[[Controller], None]:
    """What the buttons under Steer do."""

    def press(controller: Controller) -> None:
        panel = dock_of(controller, "Register", show=False)
        if panel is not None:
            panel.steer_section.show_content()
            action(panel.steer)

    return press


def _toggle(button: Callable[[Any], Any]) -> Callable[[Controller], None]:
    def action(steer: Any) -> None:
        if button(steer).isEnabled():
            button(steer).toggle()

    return _steer(action)


def _go_to(name: str) -> Callable[[Controller], None]:
    def press(controller: Controller) -> None:
        from napari_fireants.panels._focus import enter

        enter(dock_of(controller, name))

    return press


def _sheet(controller: Controller) -> None:
    from napari_fireants.panels._cheatsheet import show_sheet

    show_sheet(controller)


def _shortcuts() -> tuple[Shortcut, ...]:
    moves = (
        ("Shift+Left", MOVED, lambda steer: steer.shift(1, -1)),
        ("Shift+Right", MOVED, lambda steer: steer.shift(1, 1)),
        ("Shift+Up", MOVED, lambda steer: steer.shift(0, -1)),
        ("Shift+Down", MOVED, lambda steer: steer.shift(0, 1)),
        ("Ctrl+Shift+Left", TURNED, lambda steer: steer.turn(-1)),
        ("Ctrl+Shift+Right", TURNED, lambda steer: steer.turn(1)),
        ("Ctrl+Shift+Up", SCALED, lambda steer: steer.scale(1)),
        ("Ctrl+Shift+Down", SCALED, lambda steer: steer.scale(-1)),
    )
    return (
        Shortcut(("Ctrl+Enter",), "Register the chosen images", RUN, _register),
        Shortcut(("K",), "Pause or resume the run", RUN, _pause),
        Shortcut(("Ctrl+.",), "Stop the run and keep its best state", RUN, _stop),
        Shortcut(("N",), "Next view", LOOK, _view(1)),
        Shortcut(("Shift+N",), "Previous view", LOOK, _view(-1)),
        Shortcut(
            (HOLD_KEY,),
            "The fixed image alone (EPI: as recorded; Histology: the section in the place of what "
            "lies on it), to flicker between the two",
            LOOK,
            lambda controller: _hold(controller, True),
            lambda controller: _hold(controller, False),
            "hold {}",
        ),
        Shortcut(("J",), "Pick pairs in turn, or end it", LANDMARKS, _pick),
        Shortcut(
            (KEYS["fixed"],), "A landmark in the fixed image", LANDMARKS, more="hold {}, click"
        ),
        Shortcut(
            (KEYS["moving"],), "A landmark in the moving image", LANDMARKS, more="hold {}, click"
        ),
        Shortcut(("Escape",), "End picking or moving landmarks", LANDMARKS),
        Shortcut(("W",), "Move the moving image by hand, or end it", STEER, _toggle(_hand)),
        *(
            Shortcut((key,), title, STEER, _steer(action), moving=True)
            for key, title, action in moves
        ),
        Shortcut(
            ("U",), "Paint what to ignore in the fixed image", STEER, _toggle(_brush("fixed"))
        ),
        Shortcut(
            ("Shift+U",),
            "Paint what to ignore in the moving image",
            STEER,
            _toggle(_brush("moving")),
        ),
        *(Shortcut((key,), title, SECTIONS, moving=True) for key, title in PLANE_KEYS),
        Shortcut(("Ctrl+Z",), "Undo the last step", STEPS, _step("undo")),
        Shortcut(("Ctrl+Shift+Z",), "Redo it", STEPS, _step("redo")),
        *(
            Shortcut(
                (f"Ctrl+{i}", f"Ctrl+Shift+{i}"), f"Go to the {name} dock", WINDOWS, _go_to(name)
            )
            for i, name in enumerate(DOCKS, 1)
        ),
        Shortcut(("F1",), "This list of keys", WINDOWS, _sheet),
    )


def _hand(steer: Any) -> Any:
    return steer.hand


def _brush(side: str) -> Callable[[Any], Any]:
    return lambda steer: steer.ignore[side]


SHORTCUTS = _shortcuts()


# ------------------------------------------------------------------ binding
def typing() -> bool:
    """A field for text has the focus: keys are its own."""
    from qtpy.QtWidgets import (
        QAbstractSpinBox,
        QApplication,
        QComboBox,
        QLineEdit,
        QPlainTextEdit,
        QTextEdit,
    )

    if QApplication.instance() is None:
        return False
    focus = QApplication.focusWidget()
    if isinstance(focus, QComboBox):
        return focus.isEditable()
    return isinstance(focus, QLineEdit | QTextEdit | QPlainTextEdit | QAbstractSpinBox)


def bind(controller: Controller) -> None:
    """Bind the keys in the controller's viewer, for as long as the controller lives."""
    known, keymap = weakref.ref(controller), controller.viewer.keymap
    mine: dict[str, Any] = {}
    of_hand: dict[str, Any] = {}

    def add(to: dict[str, Any], moving: bool) -> None:
        owner = known()
        for shortcut in SHORTCUTS if owner is not None else ():
            if shortcut.press is None or shortcut.moving is not moving:
                continue
            for key in shortcut.keys:
                if not _taken(owner.viewer, key, napari_too=not moving):
                    to[key] = (_held if shortcut.let_go else _pressed)(known, shortcut)
                    owner.viewer.bind_key(key, to[key])

    def moving_changed(moving: bool) -> None:
        _unbind(keymap, of_hand)
        of_hand.clear()
        if moving:
            add(of_hand, True)

    add(mine, False)
    controller.steering.moving_changed.connect(moving_changed)
    weakref.finalize(controller, _unbind, keymap, mine).atexit = False
    weakref.finalize(controller, _unbind, keymap, of_hand).atexit = False


def lend(viewer: Any, key: str, action: Callable[[], object]) -> Callable[[], None]:
    """Bind a free key for a while; what is returned gives it back."""
    if _taken(viewer, key):
        return lambda: None

    def press(_: Any) -> None:
        if not typing():
            action()

    viewer.bind_key(key, press)
    keymap = viewer.keymap
    return lambda: _unbind(keymap, {key: press})


def grouped() -> dict[str, dict[str, list[Shortcut]]]:
    """Shortcuts by group and title, in the order in which they are shown."""
    out: dict[str, dict[str, list[Shortcut]]] = {group: {} for group in GROUPS}
    for shortcut in SHORTCUTS:
        out[shortcut.group].setdefault(shortcut.title, []).append(shortcut)
    return out


def bound(viewer: Any, shortcut: Shortcut) -> bool:
    """The key that people are told does this here; False where another has it."""
    function = viewer.keymap.get(_binding(shortcut.keys[0]))
    if function is None and shortcut.moving:
        return True
    return shortcut.press is None or getattr(function, "shortcut", None) is shortcut


def _taken(viewer: Any, key: str, napari_too: bool = True) -> bool:
    """Somebody else has bound it to the viewer: a script, a plugin, or napari's preferences."""
    classes = type(viewer).__mro__ if napari_too else ()
    maps = [viewer.keymap, *(getattr(each, "class_keymap", {}) for each in classes)]
    return any(_binding(key) in each for each in maps)


def _binding(key: str) -> Any:
    from napari.utils.key_bindings import coerce_keybinding

    return coerce_keybinding(key)


def _pressed(known: weakref.ref[Controller], shortcut: Shortcut) -> Callable[[Any], None]:
    def press(_: Any) -> None:
        controller = known()
        if controller is not None and shortcut.press is not None and not typing():
            shortcut.press(controller)

    press.shortcut = shortcut  # pyright: ignore[reportFunctionMemberAccess]
    return press


def _held(known: weakref.ref[Controller], shortcut: Shortcut) -> Callable[[Any], Iterator[None]]:
    def press(_: Any) -> Iterator[None]:
        controller = known()
        if controller is None or shortcut.press is None or shortcut.let_go is None or typing():
            return
        shortcut.press(controller)
        yield
        shortcut.let_go(controller)

    press.shortcut = shortcut  # pyright: ignore[reportFunctionMemberAccess]
    return press


def _unbind(keymap: dict[Any, Any], mine: dict[str, Any]) -> None:
    for key, function in mine.items():
        if keymap.get(_binding(key)) is function:
            del keymap[_binding(key)]
