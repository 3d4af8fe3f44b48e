"""Small widgets the panels share: captions, messages, sections, a combo of layers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QPaintEvent, QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QLabel,
    QMainWindow,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QVBoxLayout,
    QWidget,
)

from napari_fireants._fields import guard_wheel

if TYPE_CHECKING:
    from napari.layers import Layer

LABEL_WIDTH = 62
WIDTH = 340
"""Least width of a dock."""

_PRIMARY = """
QPushButton { background: #2374b8; color: white; font-weight: bold; padding: 8px;
              border: 1px solid #2374b8; border-radius: 4px; }
QPushButton:hover { background: #1f6aa9; }
QPushButton:pressed { background: #1b5f98; }
QPushButton:focus { border: 1px solid #9fd0ff; }
QPushButton:disabled { background: rgba(128, 128, 128, 70); color: rgba(128, 128, 128, 220);
                       border: 1px solid transparent; }
"""
_TONES = {"error": "217, 83, 79", "note": "230, 159, 0", "good": "32, 166, 122"}


def primary(text: str) -> QPushButton:
    """The one button a person should press next."""
    button = QPushButton(text)
    button.setStyleSheet(_PRIMARY)
    return button


def caption(text: str = "") -> QLabel:
    """Wrapped small text under a control."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    font = label.font()
    font.setPointSizeF(max(7.0, font.pointSizeF() * 0.92))
    label.setFont(font)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return label


class Dock(QWidget):
    """What a dock has in common: its width, and content that scrolls downwards.

    The window it is shown in keeps its controller, so that closing every dock loses nothing.
    """

    controller: Any

    def showEvent(self, event: QShowEvent) -> None:
        _Keeps.of(self)
        super().showEvent(event)

    def sizeHint(self) -> QSize:
        return QSize(WIDTH, 600)

    @staticmethod
    def column() -> tuple[QWidget, QVBoxLayout]:
        """A body for `fill`, and the layout of what stands in it."""
        body = QWidget()
        layout = QVBoxLayout(body)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(5)
        return body, layout

    def fill(self, body: QWidget) -> QScrollArea:
        """Show `body`, to be scrolled where it is higher than the dock."""
        scroll = QScrollArea()
        scroll.setWidget(body)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(WIDTH)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        return scroll


class _Keeps(QObject):
    """A child of a main window that holds what is to live as long."""

    def __init__(self, window: QWidget, kept: Any) -> None:
        super().__init__(window)
        self.kept = kept

    @classmethod
    def of(cls, dock: Dock) -> None:
        """Have the main window of `dock` keep its controller; once."""
        window = dock.parentWidget()
        while window is not None and window.parentWidget() is not None:
            window = window.parentWidget()
        if isinstance(window, QMainWindow):
            known = window.findChildren(cls, options=Qt.FindChildOption.FindDirectChildrenOnly)
            if not any(each.kept is dock.controller for each in known):
                cls(window, dock.controller)


class Message(QLabel):
    """One sentence on a tinted ground; hidden while there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.tone = ""
        self.hide()

    def say(self, text: str, tone: str = "error", details: str = "") -> None:
        """Show `text`; an empty text hides the message. tone: error, note or good."""
        rgb = _TONES[tone]
        self.tone = tone
        self.setStyleSheet(
            f"QLabel {{ border-left: 4px solid rgb({rgb}); background: rgba({rgb}, 45);"
            " padding: 6px; }"
        )
        self.setText(text)
        self.setToolTip(details)
        self.setVisible(bool(text))


class LayerCombo(QComboBox):
    """Chooses one of the viewer's layers; holds layer objects, never names."""

    chosen = Signal(object)

    def __init__(self, title: str, optional: bool = False) -> None:
        super().__init__()
        self._layers: list[Any] = []
        self._optional = optional
        self.setAccessibleName(title)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        guard_wheel(self)
        self.currentIndexChanged.connect(lambda _: self.chosen.emit(self.layer()))
        self._tip = title
        self.currentTextChanged.connect(self._tell)
        self._tell()

    def paintEvent(self, event: QPaintEvent) -> None:
        """A name that is too long loses its middle: what tells images apart is often its end."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        style, part = self.style(), QStyle.SubControl.SC_ComboBoxEditField
        field = style.subControlRect(QStyle.ComplexControl.CC_ComboBox, option, part, self)
        middle = Qt.TextElideMode.ElideMiddle
        option.currentText = self.fontMetrics().elidedText(
            option.currentText, middle, field.width() - 4
        )
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def explain(self, tip: str) -> None:
        """What the layer is for; the tooltip adds its name, which may be longer than the box."""
        self._tip = tip
        self._tell()

    def _tell(self, *_: object) -> None:
        name = self.currentText()
        self.setToolTip(f"{name}\n{self._tip}" if name else self._tip)

    def layer(self) -> Layer | None:
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def offer(self, layers: Sequence[Layer], default: Layer | None = None) -> None:
        """Offer `layers`; the present choice stays when it is still there."""
        before = self.layer()
        self._layers = [None, *layers] if self._optional else list(layers)
        self.blockSignals(True)
        self.clear()
        for layer in self._layers:
            self.addItem("none" if layer is None else layer.name)
        wish = before if before in layers else default
        none = 0 if self._optional else -1
        self.setCurrentIndex(self._layers.index(wish) if wish in self._layers else none)
        self.blockSignals(False)
        self._tell()
        if self.layer() is not before:
            self.chosen.emit(self.layer())

    def choose(self, layer: Layer | None) -> None:
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))
            self._tell()  # also where signals are blocked


def follow(owner: QWidget, signal: Any, slot: Callable[..., Any]) -> None:
    """Connect a signal of a model to a method of `owner`, until Qt deletes that."""
    signal.connect(slot)
    owner.destroyed.connect(lambda: signal.disconnect(slot, missing_ok=True))


def later(owner: QWidget, milliseconds: int, action: Callable[[Any], Any]) -> None:
    """Call `action(owner)` once after a while, unless `owner` is gone by then."""
    known = weakref.ref(owner)  # a window that was closed must not live until then
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.timeout.connect(lambda: None if known() is None else action(known()))
    timer.timeout.connect(timer.deleteLater)
    timer.start(milliseconds)


@contextmanager
def held_painting(owner: QWidget) -> Iterator[None]:
    """Let the window of `owner` paint what changes inside a little later, not in the same turn.

    Adding a layer and painting a large canvas take long enough each.
    """
    window = owner.window()
    window.setUpdatesEnabled(False)
    try:
        yield
    finally:
        later(window, 15, lambda window: window.setUpdatesEnabled(True))


def button(text: str, tip: str, clicked: Callable[[], Any]) -> QPushButton:
    """A push button that may be squeezed but never clips its tooltip's meaning."""
    out = QPushButton(text)
    out.setToolTip(tip)
    out.clicked.connect(lambda: clicked())
    return out


def narrow_combo(title: str) -> QComboBox:
    """A combo that may be squeezed, and that the wheel scrolls past."""
    out = QComboBox()
    out.setAccessibleName(title)
    out.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    out.setMinimumContentsLength(8)
    guard_wheel(out)
    return out


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
