"""The list of keys, made from the shortcuts themselves."""

from __future__ import annotations

import platform
from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut, QShowEvent
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_fireants._shortcuts import (
    LANDMARKS,
    LOOK,
    RUN,
    SECTIONS,
    STEER,
    STEPS,
    WINDOWS,
    Shortcut,
    bound,
    dock_of,
    grouped,
)
from napari_fireants.panels._focus import main_window
from napari_fireants.panels._widgets import button, caption

if TYPE_CHECKING:
    from napari_fireants._controller import Controller

COLUMNS = ((RUN, LOOK, LANDMARKS, STEPS), (STEER, SECTIONS, WINDOWS))
TAKEN = "The key has another use in this napari."
NOTE = (
    "Keys do nothing while you type in a field. Tab goes from control to control; Space presses a "
    "button, arrow keys change a value. Keys of the chosen layer come first: while you paint on "
    "labels, Ctrl+Z takes back strokes. The keys of napari itself: Help > Show keybindings."
)
_KEY = "border: 1px solid rgba(128, 128, 128, 160); border-radius: 3px; padding: 1px 5px;"


class CheatSheet(QDialog):
    """Stays open beside the work; Esc or F1 closes it."""

    def __init__(self, controller: Controller, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys of napari-fireants")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._controller = controller
        body = QWidget()
        columns = QHBoxLayout(body)
        columns.setSpacing(24)
        for names in COLUMNS:
            column = QVBoxLayout()
            for group in names:
                column.addWidget(self._group(group, grouped()[group]))
            column.addStretch(1)
            columns.addLayout(column, 1)
        scroll = QScrollArea()
        scroll.setWidget(body)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        layout = QVBoxLayout(self)
        layout.addWidget(scroll, 1)
        layout.addWidget(caption(NOTE))
        foot = QHBoxLayout()
        self.tour = button("Show the tour", "The first steps, in the Register dock", self._tour)
        self.close_button = button("Close", "Esc closes it, too", self.close)
        self.close_button.setDefault(True)
        foot.addWidget(self.tour)
        foot.addStretch(1)
        foot.addWidget(self.close_button)
        layout.addLayout(foot)
        QShortcut(QKeySequence("F1"), self, self.close)
        self._body, self._scroll = body, scroll

    def showEvent(self, event: QShowEvent) -> None:
        """As large as its content in the theme's fonts, as far as the screen has room."""
        for widget in self.findChildren(QWidget):
            widget.ensurePolished()
        self._body.ensurePolished()
        room, hint = self.screen().availableGeometry(), self._body.sizeHint()
        rest = self.layout().sizeHint().height() - self._scroll.sizeHint().height() + 20
        width = min(hint.width() + 40, room.width() - 80)
        self.resize(width, min(hint.height() + rest, room.height() - 80))
        super().showEvent(event)

    def _group(self, title: str, lines: dict[str, list[Shortcut]]) -> QWidget:
        box = QWidget()
        grid = QGridLayout(box)
        grid.setContentsMargins(0, 0, 0, 6)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        grid.addWidget(QLabel(f"<b>{escape(title)}</b>"), 0, 0, 1, 2)
        for row, (text, shortcuts) in enumerate(lines.items(), 1):
            keys = QWidget()
            side = QHBoxLayout(keys)
            side.setContentsMargins(0, 0, 0, 0)
            side.setSpacing(3)
            for shortcut in shortcuts:
                key = QLabel(shortcut.text(platform.system() == "Darwin"))
                key.setStyleSheet(f"QLabel {{ {_KEY} }}")
                side.addWidget(key)
            side.addStretch(1)
            label = QLabel(text)
            if not all(bound(self._controller.viewer, shortcut) for shortcut in shortcuts):
                label.setText(f"{text}<br><i>{TAKEN}</i>")
            grid.addWidget(keys, row, 0)
            grid.addWidget(label, row, 1)
        box.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        return box

    def _tour(self) -> None:
        panel = dock_of(self._controller, "Register")
        if panel is not None:
            panel.tour.begin()
        self.close()


def show_sheet(controller: Controller, parent: QWidget | None = None) -> CheatSheet | None:
    """Open it over the viewer's window, or close it when it is open; None if there is none."""
    parent = main_window(parent) or QApplication.activeWindow()
    if parent is None:
        parent = main_window(dock_of(controller, "Register", show=False))
    if parent is None:
        return None
    for sheet in parent.findChildren(CheatSheet):
        if sheet.isVisible():
            sheet.close()
            return None
    sheet = CheatSheet(controller, parent)
    sheet.show()
    return sheet
