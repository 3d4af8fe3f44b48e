"""Small widgets that forms and panels share: wheel guard, buttons, spin boxes, folding sections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QDoubleSpinBox, QPushButton, QVBoxLayout, QWidget


class _WheelGuard(QObject):
    """Scrolling the panel must not change a value that happens to be under the pointer."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


def guard_wheel(widget: QWidget) -> QWidget:
    """Let `widget` react to the wheel only while it has the focus."""
    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    widget.installEventFilter(_WheelGuard(widget))
    return widget


def small_button(text: str, tip: str, clicked: Callable[[], Any]) -> QPushButton:
    button = QPushButton(text)
    button.setFixedWidth(28)
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    button.clicked.connect(lambda: clicked())
    return button


class DecimalBox(QDoubleSpinBox):
    """Shows no trailing zeros."""

    def textFromValue(self, value: float) -> str:
        return f"{value:.{self.decimals()}f}".rstrip("0").rstrip(".")


class Section(QWidget):
    """A heading that shows and hides what is below it; hidden at first."""

    def __init__(self, title: str, content: QWidget) -> None:
        super().__init__()
        self._title, self._content = title, content
        self.heading = QPushButton()
        self.heading.setStyleSheet("QPushButton { text-align: left; padding: 4px 6px; }")
        self.heading.clicked.connect(lambda: self.show_content(self._content.isHidden()))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.heading)
        layout.addWidget(content)
        self.show_content(False)

    def show_content(self, shown: bool = True) -> None:
        self._content.setVisible(shown)
        self.heading.setText(f"{'▾' if shown else '▸'}  {self._title}")
