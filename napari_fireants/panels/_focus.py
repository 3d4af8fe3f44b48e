"""Where the keyboard's focus goes: into a dock, and back to the canvas."""

from __future__ import annotations

from itertools import pairwise

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QLayout, QMainWindow, QWidget


def main_window(widget: QWidget | None) -> QMainWindow | None:
    """The main window that a widget belongs to, also from a dock that floats."""
    while widget is not None and not isinstance(widget, QMainWindow):
        widget = widget.parentWidget()
    return widget


def to_canvas(widget: QWidget) -> None:
    """Keys go to the canvas of the widget's window from now on."""
    window = main_window(widget)
    if window is not None:
        window.activateWindow()
        window.setFocus()


def enter(panel: QWidget | None) -> None:
    """Into a dock, where it was left; from inside it, back to the canvas."""
    if panel is None:
        return
    focus = QApplication.focusWidget()
    if focus is not None and (panel is focus or panel.isAncestorOf(focus)):
        to_canvas(panel)
        return
    target = panel.focusWidget() or first_stop(panel)
    if target is not None:
        target.window().activateWindow()
        target.setFocus(Qt.FocusReason.ShortcutFocusReason)


def first_stop(panel: QWidget) -> QWidget | None:
    """What Tab reaches first in a dock."""
    return next(iter(stops(panel)), None)


def stops(panel: QWidget) -> list[QWidget]:
    """What Tab reaches in a dock, in its order."""
    found, widget = [], panel.nextInFocusChain()
    while widget is not None and widget is not panel:
        reached = widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        inside = panel.isAncestorOf(widget) and widget.isVisibleTo(panel) and widget.isEnabled()
        if reached == Qt.FocusPolicy.TabFocus and inside and widget.focusProxy() is None:
            found.append(widget)
        widget = widget.nextInFocusChain()
    return found


def in_layout_order(owner: QWidget) -> list[QWidget]:
    """What Tab should reach in `owner`, as it is laid out: from top to bottom, along rows."""
    layout = owner.layout()
    return [] if layout is None else _of_layout(layout)


def order_tabs(owner: QWidget) -> None:
    """Have Tab follow the layout; for widgets that come and go."""
    for first, second in pairwise(in_layout_order(owner)):
        QWidget.setTabOrder(first, second)


def _of_layout(layout: QLayout) -> list[QWidget]:
    found: list[QWidget] = []
    for i in range(layout.count()):
        item = layout.itemAt(i)
        widget = None if item is None else item.widget()
        if widget is not None and widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
            found.append(widget)
        inner = item.layout() if widget is None and item is not None else None
        if inner is not None:
            found += _of_layout(inner)
        elif widget is not None:
            found += in_layout_order(widget)
    return found
