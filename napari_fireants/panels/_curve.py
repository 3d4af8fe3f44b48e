"""The loss curve: one coloured line per stage, drawn with QPainter in the theme's colours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_fireants._session import Losses

COLOURS = ("#3b9fe0", "#e69f00", "#20a67a", "#cc79a7", "#d55e00", "#9a8ff0")
"""Told apart by colour-blind people, and readable on dark and light."""
_POINTS = 400


@dataclass
class _Level:
    """The losses of one level of a stage."""

    stage: int
    name: str
    number: int
    values: list[float] = field(default_factory=list)

    @property
    def span(self) -> float:
        return max(self.values) - min(self.values) if self.values else 0.0


class LossCurve(QWidget):
    """Stages measure different things, and levels see other images: each level stands on its own
    lowest loss, and the levels of a stage share one vertical scale."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._levels: list[_Level] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Loss per step, lower is better. Every stage has its own vertical scale; a gap marks "
            "a new level, which starts on a finer image."
        )
        self.setAccessibleName("Loss curve")

    def sizeHint(self) -> QSize:
        return QSize(280, 92)

    minimumSizeHint = sizeHint

    @property
    def levels(self) -> list[tuple[str, int, int]]:
        """Stage name, level number and number of points of each line."""
        return [(level.name, level.number, len(level.values)) for level in self._levels]

    def clear(self) -> None:
        self._levels = []
        self.update()

    def add(self, batch: list[Losses]) -> None:
        """Append losses as they come."""
        for item in batch:
            last = self._levels[-1] if self._levels else None
            if last is None or (last.stage, last.number) != (item.stage_index, item.level):
                last = _Level(item.stage_index, item.stage, item.level)
                self._levels.append(last)
            last.values.extend(v for v in item.values if math.isfinite(v))
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
        total = sum(len(level.values) for level in self._levels)
        if total < 2:
            painter.setPen(text)
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "Loss curve")
        else:
            self._draw(painter, area.adjusted(6, 18, -6, -6), total)
        painter.end()

    def _draw(self, painter: QPainter, area: QRectF, total: int) -> None:
        left, named = area.left(), -1
        for level in self._levels:
            width = area.width() * len(level.values) / total
            colour = QColor(COLOURS[level.stage % len(COLOURS)])
            painter.setPen(QPen(colour, 1.8))
            stage = [other for other in self._levels if other.stage == level.stage]
            span = max(other.span for other in stage) or 1.0
            gap = min(3.0, 0.2 * width)
            place = QRectF(left + gap, area.top(), width - 2 * gap, area.height())
            painter.drawPolyline(_line(level.values, span, place))
            if level.stage != named:
                share = sum(len(other.values) for other in stage) / total
                _write(painter, level.name, QRectF(left, 2, share * area.width(), 15))
                named = level.stage
            left += width


def _line(values: list[float], span: float, place: QRectF) -> QPolygonF:
    """`values` from left to right in `place`, their lowest on its ground."""
    line, low = QPolygonF(), min(values, default=0.0)
    for i in range(0, len(values), max(1, len(values) // _POINTS)):
        x = place.left() + place.width() * (i + 0.5) / len(values)
        line.append(QPointF(x, place.bottom() - (values[i] - low) / span * place.height()))
    return line


def _write(painter: QPainter, name: str, room: QRectF) -> None:
    room.setWidth(max(room.width(), 12.0))
    shown = painter.fontMetrics().elidedText(
        name, Qt.TextElideMode.ElideRight, int(room.width())
    )  # fmt: skip
    painter.drawText(room, Qt.AlignmentFlag.AlignLeft, shown if len(shown) > 1 else "")
