"""Every dock can be read, reached by keyboard and used in a small window, in both themes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from napari.utils.theme import get_theme
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QScrollArea,
    QScrollBar,
    QWidget,
)

from napari_fireants._controller import controller_of
from napari_fireants._fields import Section
from napari_fireants._shortcuts import DOCKS, dock_of
from napari_fireants.panels import _widgets
from napari_fireants.panels._focus import in_layout_order, stops

WIDTH, SIZE = 340, (1280, 800)
KINDS = (
    QAbstractButton,
    QComboBox,
    QAbstractSpinBox,
    QAbstractSlider,
    QLineEdit,
    QAbstractItemView,
)


@pytest.fixture
def docks(dock: Any) -> dict[str, Any]:
    """All docks of one window as small as we support, with their sections open."""
    found = {name: dock_of(dock.controller, name) for name in DOCKS}
    dock.controller.viewer.window.resize(*SIZE)
    for panel in found.values():
        for section in panel.findChildren(Section):
            section.show_content()
        panel.resize(WIDTH, 700)
        for child in [panel, *panel.findChildren(QWidget)]:
            child.ensurePolished()
        scroll = panel.findChild(QScrollArea)
        scroll.widget().layout().activate()
    QApplication.processEvents()
    return found


def controls(panel: QWidget) -> list[QWidget]:
    """What a person can press, choose or fill in; no parts of other controls."""
    own = (QComboBox, QAbstractSpinBox, QAbstractItemView, QScrollBar)
    found = [child for kind in KINDS for child in panel.findChildren(kind)]
    parts = [x for x in found if isinstance(x, QScrollBar) or _inside(x, own, panel)]
    return [x for x in found if x not in parts and x.objectName() != "qt_spinbox_lineedit"]


def _inside(widget: QWidget, kinds: tuple[type, ...], panel: QWidget) -> bool:
    parent = widget.parentWidget()
    while parent is not None and parent is not panel:
        if isinstance(parent, kinds):
            return True
        parent = parent.parentWidget()
    return False


def _labelled(widget: QWidget) -> bool:
    """A form has a label for it."""
    parent = widget.parentWidget()
    layout = None if parent is None else parent.layout()
    label = layout.labelForField(widget) if isinstance(layout, QFormLayout) else None
    return isinstance(label, QLabel) and bool(label.text())


def _path(panel: QWidget, widget: QWidget) -> str:
    text = getattr(widget, "text", str)
    return f"{type(panel).__name__}: {type(widget).__name__} {text()!r} {widget.toolTip()!r}"


@pytest.mark.gui
def test_every_control_says_what_it_is(docks: dict[str, Any]) -> None:
    nameless, silent = [], []
    for panel in docks.values():
        for widget in controls(panel):
            words = isinstance(widget, QAbstractButton) and any(map(str.isalpha, widget.text()))
            unused = widget.isHidden() and isinstance(widget, QAbstractButton) and not widget.text()
            if unused:
                continue
            if not (words or widget.accessibleName() or _labelled(widget)):
                nameless.append(_path(panel, widget))
            heading = isinstance(widget.parentWidget(), Section)
            shown = not widget.isHidden() or widget.isEnabled()
            if shown and not (widget.toolTip() or heading or _labelled(widget)):
                silent.append(_path(panel, widget))
    assert not nameless, "\n".join(nameless)
    assert not silent, "\n".join(silent)


@pytest.mark.gui
def test_tab_goes_through_all_from_top_to_bottom(docks: dict[str, Any]) -> None:
    missed, order = [], []
    for panel in docks.values():
        reached = stops(panel)
        for widget in controls(panel):
            there = widget in reached or any(map(widget.isAncestorOf, reached))
            if widget.isVisibleTo(panel) and widget.isEnabled() and not there:
                missed.append(_path(panel, widget))
        seen = [x for x in in_layout_order(panel.findChild(QScrollArea).widget()) if x in reached]
        tabbed = [x for x in reached if x in seen]
        pairs = zip(tabbed, seen, strict=True)
        order += [f"{_path(panel, x)} for {_path(panel, y)}" for x, y in pairs if x is not y][:3]
    assert not missed, "\n".join(missed)
    assert not order, "\n".join(order)


@pytest.mark.gui
def test_nothing_is_wider_than_the_dock(docks: dict[str, Any]) -> None:
    wide = []
    for panel in docks.values():
        scroll = panel.findChild(QScrollArea)
        bar = scroll.verticalScrollBar().sizeHint().width()
        need, room = scroll.widget().minimumSizeHint().width(), WIDTH - bar
        if need > room:
            wide.append(f"{type(panel).__name__}: {need} of {room}")
        assert panel.minimumSizeHint().width() <= WIDTH
        for widget in panel.findChildren(QAbstractButton):
            least = widget.fontMetrics().horizontalAdvance(widget.text().replace("&", ""))
            if widget.isVisibleTo(panel) and least > widget.width() > 0:
                wide.append(f"{_path(panel, widget)}: {least} of {widget.width()}")
    assert not wide, "\n".join(wide)


# ------------------------------------------------------------------ colours
def luminance(rgb: tuple[float, ...]) -> float:
    parts = [c / 255 for c in rgb]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Of WCAG, 1 to 21."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def over(rgb: tuple[float, ...], alpha: float, ground: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(alpha * c + (1 - alpha) * g for c, g in zip(rgb, ground, strict=True))


def test_own_colours_can_be_read() -> None:
    white = (255, 255, 255)
    for name in re.findall(r"background: #([0-9a-f]{6})", _widgets._PRIMARY):
        colour = tuple(int(name[i : i + 2], 16) for i in (0, 2, 4))
        assert contrast(white, colour) >= 4.5, name
    for theme in ("dark", "light"):
        found = get_theme(theme)
        ground, text = (x.as_rgb_tuple()[:3] for x in (found.background, found.text))
        for tone, rgb in _widgets._TONES.items():
            tint = over(tuple(map(float, rgb.split(","))), 45 / 255, ground)
            assert contrast(text, tint) >= 4.5, (theme, tone)
        assert contrast(text, over((230, 159, 0), 38 / 255, ground)) >= 4.5, theme


def test_no_other_colour_is_written_on(repo_root: Path) -> None:
    """Texts have the theme's colours; a new colour of a text has to be judged here."""
    for path in sorted((repo_root / "napari_fireants" / "panels").glob("*.py")):
        known = _widgets._PRIMARY if path.name == "_widgets.py" else ""
        text = path.read_text(encoding="utf-8").replace(known, "") if known else path.read_text()
        assert not re.findall(r"(?<![-\w])color: ", text), path.name


@pytest.mark.gui
def test_controllers_are_shared(docks: dict[str, Any]) -> None:
    assert len({id(panel.controller) for panel in docks.values()}) == 1
    assert controller_of(docks["Register"].controller.viewer) is docks["Register"].controller
