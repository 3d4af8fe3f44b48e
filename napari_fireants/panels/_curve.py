"""The loss curve: one coloured line per stage, drawn with QPainter in the theme's colours."""

from __future__ import annotations

import math
from itertools import accumulate

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

COLOURS = ("#3b9fe0", "#e69f00", "#20a67a", "#cc79a7", "#d55e00", "#9a8ff0")
"""Told apart by colour-blind people, and readable on dark and light."""
_POINTS = 400


class LossCurve(QWidget):
    """Each stage has its own vertical scale, since stages measure different things."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._stages: list[tuple[str, list[float]]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("Loss per step; every stage has its own vertical scale. Lower is better.")
        self.setAccessibleName("Loss curve")

    def sizeHint(self) -> QSize:
        return QSize(280, 92)

    minimumSizeHint = sizeHint

    @property
    def stages(self) -> list[tuple[str, int]]:
        """Name and number of points of each stage."""
        return [(name, len(values)) for name, values in self._stages]

    def clear(self) -> None:
        self._stages = []
        self.update()

    def add(self, batch: list[tuple[int, str, tuple[float, ...]]]) -> None:
        """Append losses: (stage index, stage name, values)."""
        for index, name, values in batch:
            while len(self._stages) <= index:
                self._stages.append((name, []))
            self._stages[index][1].extend(v for v in values if math.isfinite(v))
        self.update()

    def paintEvent(self, _: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(self.foregroundRole())
        frame = QColor(text)
        frame.setAlpha(60)
        painter.setPen(QPen(frame, 1))
        area = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.drawRoundedRect(area, 4, 4)
        total = sum(len(values) for _, values in self._stages)
        if total < 2:
            painter.setPen(text)
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "Loss curve")
            return
        inner = area.adjusted(6, 18, -6, -6)
        starts = [0, *accumulate(len(values) for _, values in self._stages)]
        for k, (name, values) in enumerate(self._stages):
            if values:
                self._draw(painter, inner, k, name, values, starts[k] / total, total)

    def _draw(
        self,
        painter: QPainter,
        area: QRectF,
        index: int,
        name: str,
        values: list[float],
        start: float,
        total: int,
    ) -> None:
        colour = QColor(COLOURS[index % len(COLOURS)])
        painter.setPen(QPen(colour, 1.8))
        left, width = area.left() + start * area.width(), area.width() * len(values) / total
        low, high = min(values), max(values)
        span = high - low or 1.0
        stride = max(1, len(values) // _POINTS)
        line = QPolygonF()
        for i in range(0, len(values), stride):
            x = left + width * (i + 0.5) / len(values)
            y = area.bottom() - (values[i] - low) / span * area.height()
            line.append(QPointF(x, y))
        painter.drawPolyline(line)
        room = QRectF(left, 2, max(width, 12), 15)
        metrics = painter.fontMetrics()
        shown = metrics.elidedText(name, Qt.TextElideMode.ElideRight, int(room.width()))
        painter.drawText(room, Qt.AlignmentFlag.AlignLeft, shown if len(shown) > 1 else "")
