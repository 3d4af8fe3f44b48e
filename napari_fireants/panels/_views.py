"""Buttons and sliders of the ways to look at a registration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_fireants._fields import guard_wheel
from napari_fireants._looking import HOLD_KEY, Looking
from napari_fireants._scene import PAIRS
from napari_fireants._views import TIPS, Look, View
from napari_fireants.panels._widgets import caption, follow

SLIDING_MS, SETTLED_MS = 30, 250


class ViewChooser(QWidget):
    """Follows `looking.look`, whoever changes it, and changes it."""

    def __init__(self, looking: Looking) -> None:
        super().__init__()
        self._looking = looking
        self._sliding = _timer(self, SLIDING_MS, lambda: self._send(sliding=True))
        self._settled = _timer(self, SETTLED_MS, self._send)
        self._flicker = QTimer(self)
        self._flicker.timeout.connect(self._flick)
        self._first = False
        self._build()
        follow(self, looking.changed, self._on_look)
        follow(self, looking.told, self._told)
        follow(self, looking.ready, self._on_ready)
        self._on_look(looking.look)
        self._on_ready(looking.possible)

    # ---------------------------------------------------------------- build
    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.buttons = {view: QPushButton(view.value) for view in View}
        group = QButtonGroup(self)
        for view, item in self.buttons.items():
            item.setCheckable(True)
            item.setToolTip(TIPS[view])
            group.addButton(item)
            item.clicked.connect(lambda _, view=view: self._choose(view))
            item.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.grid = QWidget()
        grid = QGridLayout(self.grid)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(3)
        row = 0
        titles = {"Both images": False, "The warp: how the moving image is bent": True}
        for title, warp in titles.items():
            grid.addWidget(QLabel(f"<b>{title}</b>"), row, 0, 1, 3)
            views = [view for view in View if view.of_warp is warp]
            for i, view in enumerate(views):
                grid.addWidget(self.buttons[view], row + 1 + i // 3, i % 3)
            row += 1 + -(-len(views) // 3)
        layout.addWidget(self.grid)
        for widget in self._options():
            layout.addWidget(widget)
        layout.addWidget(self._colours())
        self.says = caption()
        # a scroll area asks for least heights, not for those that a width needs
        self.says.setMinimumHeight(2 * self.says.fontMetrics().lineSpacing() + 4)
        layout.addWidget(self.says)

    def _options(self) -> list[QWidget]:
        self.share = self._slider("Share of the moving image", 0, 100)
        self.squares = self._slider("Squares along the longest side", 2, 40)
        self.curtain = self._slider("Where the curtain hangs", 0, 100)
        self.lines = self._slider("Lines along the longest side", 4, 60)
        self.arrows = self._slider("Arrows along the longest side", 8, 80)
        self.longer = self._slider("How many times their length arrows are drawn", 1, 20)
        self.rate = self._slider("Changes a second; 0 waits for the key", 0, 12)
        self.before = QCheckBox("Show the moving image before registration")
        self.before.toggled.connect(lambda _: self._send())
        self.between = QComboBox()
        self.between.addItems(["fixed and moving", "moving before and after"])
        self.between.setAccessibleName("Images that flicker")
        self.between.setToolTip("Which two images take turns")
        guard_wheel(self.between)
        self.between.activated.connect(lambda _: self._send())
        self._rate_text = QLabel()
        flicker = _column(
            _row(QLabel("between"), self.between),
            _row(QLabel("slow"), self.rate, QLabel("fast"), self._rate_text),
        )
        arrows = _column(
            _row(QLabel("sparse"), self.arrows, QLabel("dense")),
            _row(QLabel("true length"), self.longer, QLabel("× 20")),
        )
        self._of = {
            View.BLEND: _row(QLabel("fixed"), self.share, QLabel("moving")),
            View.BEFORE_AFTER: self.before,
            View.FLICKER: flicker,
            View.CHECKERBOARD: _row(QLabel("coarse"), self.squares, QLabel("fine")),
            View.CURTAIN: _row(QLabel("moving"), self.curtain, QLabel("fixed")),
            View.GRID: _row(QLabel("coarse"), self.lines, QLabel("fine")),
            View.ARROWS: arrows,
        }
        return list(self._of.values())

    def _slider(self, tip: str, low: int, high: int) -> QSlider:
        slider = QSlider(Qt.Orientation.Horizontal)
        slider.setRange(low, high)
        slider.setToolTip(tip)
        slider.setAccessibleName(tip)
        slider.valueChanged.connect(self._slid)
        return slider

    def _colours(self) -> QWidget:
        self.colours = QComboBox()
        self.colours.setAccessibleName("Colours of fixed and moving")
        self.colours.setToolTip("Colours of fixed and moving where both are shown in colour")
        self.colours.addItems([pair.capitalize() for pair in PAIRS])
        self.colours.setCurrentIndex(list(PAIRS).index(self._looking.scene.pair))
        guard_wheel(self.colours)
        self.colours.activated.connect(self._colour)
        return _row(QLabel("Colours"), self.colours)

    # ---------------------------------------------------------------- what is chosen
    @property
    def look(self) -> Look:
        """As the widgets stand."""
        view = next(view for view, item in self.buttons.items() if item.isChecked())
        flicker = view is View.FLICKER
        before = self.between.currentIndex() == 1 if flicker else self.before.isChecked()
        return Look(
            view=view,
            share=self.share.value() / 100,
            squares=self.squares.value(),
            before=before,
            curtain=self.curtain.value() / 100,
            lines=self.lines.value(),
            arrows=self.arrows.value(),
            longer=float(self.longer.value()),
            rate=self.rate.value() / 2,
        )

    def _choose(self, view: View) -> None:
        self._looking.choose(replace(self.look, view=view))

    def _slid(self, _: int) -> None:
        if not self._sliding.isActive():
            self._sliding.start()
        self._settled.start()

    def _send(self, sliding: bool = False) -> None:
        self._looking.choose(self.look, sliding=sliding)

    def _colour(self, index: int) -> None:
        self._looking.colour(list(PAIRS)[index])

    # ---------------------------------------------------------------- what happens
    def _on_look(self, look: Look) -> None:
        values = {
            self.share: round(look.share * 100),
            self.squares: look.squares,
            self.curtain: round(look.curtain * 100),
            self.lines: look.lines,
            self.arrows: look.arrows,
            self.longer: round(look.longer),
            self.rate: round(look.rate * 2),
        }
        for slider, value in values.items():
            _quietly(slider, slider.setValue, value)
        if look.view is View.FLICKER:
            self.between.setCurrentIndex(int(look.before))
        else:
            _quietly(self.before, self.before.setChecked, look.before)
        self.buttons[look.view].setChecked(True)
        for view, widget in self._of.items():
            widget.setVisible(view is look.view)
        self._rate_text.setText(f"{look.rate:g}/s" if look.rate else "off")
        wanted = look.view is View.FLICKER and look.rate > 0
        if wanted:
            self._flicker.start(round(1000 / look.rate))
        else:
            self._flicker.stop()

    def _flick(self) -> None:
        self._first = not self._first
        self._looking.flick(self._first)

    def _told(self, sentence: str) -> None:
        idle = f"Hold {HOLD_KEY} on the canvas to see the fixed image alone."
        self.says.setText(sentence or (idle if self._looking.possible else ""))

    def _on_ready(self, ready: bool) -> None:
        self.grid.setEnabled(ready)
        for widget in self._of.values():
            widget.setEnabled(ready)


def _timer(owner: QWidget, milliseconds: int, action: Any) -> QTimer:
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(lambda: action())
    return timer


def _quietly(widget: QWidget, change: Any, value: Any) -> None:
    widget.blockSignals(True)
    change(value)
    widget.blockSignals(False)


def _row(*widgets: QWidget) -> QWidget:
    """Side by side; sliders and combos take the room."""
    box = QWidget()
    row = QHBoxLayout(box)
    row.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        row.addWidget(widget, int(isinstance(widget, QSlider | QComboBox)))
    return box


def _column(*widgets: QWidget) -> QWidget:
    box = QWidget()
    column = QVBoxLayout(box)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(3)
    for widget in widgets:
        column.addWidget(widget)
    return box
