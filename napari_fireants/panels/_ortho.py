"""Three linked planes with one cursor, and what stands there."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QWheelEvent,
)
from qtpy.QtWidgets import QComboBox, QDialog, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from napari_fireants._fields import guard_wheel
from napari_fireants._ortho import MODES, Ortho
from napari_fireants.panels._widgets import button, caption, follow

CROSS = QColor(255, 214, 0, 200)
HINT = "Register two images; from the first preview on, three planes are shown here."


class PlaneView(QWidget):
    """One plane; click, drag, arrow keys and the wheel move the cursor."""

    moved = Signal(object)

    def __init__(self, ortho: Ortho, number: int) -> None:
        super().__init__()
        self._ortho, self._number = ortho, number
        self.setMinimumSize(120, 120)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.CrossCursor)

    def sizeHint(self) -> QSize:
        return QSize(155, 155)

    @property
    def axis(self) -> int | None:
        return self._ortho.axes[self._number]

    def _cut_shape(self) -> tuple[int, int]:
        rest = [n for a, n in enumerate(self._ortho.shape) if a != self.axis]
        return rest[0], rest[1]

    def _place(self) -> tuple[QRectF, tuple[int, int]]:
        """Where the picture is painted, and its rows and columns."""
        plane, (rows, columns) = self._ortho.plane(self.axis), self._cut_shape()
        if plane.transpose:
            rows, columns = columns, rows
        height, width = rows * plane.aspect, float(columns)
        scale = min(self.width() / width, self.height() / height)
        box = QRectF(0, 0, width * scale, height * scale)
        box.moveCenter(QPointF(self.width() / 2, self.height() / 2))
        return box, (rows, columns)

    # ---------------------------------------------------------------- painting
    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(0, 0, 0))
        if self._number >= len(self._ortho.axes) or not self._ortho.shape:
            return
        picture = self._ortho.picture(self.axis)
        if picture is None:
            return
        box, (rows, columns) = self._place()
        picture = np.ascontiguousarray(picture)
        image = QImage(picture.data, columns, rows, 3 * columns, QImage.Format.Format_RGB888)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(box, image)
        rest = [x for a, x in enumerate(self._ortho.cursor) if a != self.axis]
        plane = self._ortho.plane(self.axis)
        row, column = plane.shown_at((rest[0], rest[1]), self._cut_shape())
        x = box.left() + (column + 0.5) / columns * box.width()
        y = box.top() + (row + 0.5) / rows * box.height()
        painter.setPen(QPen(CROSS, 1))
        gap = 5
        for a, b in (
            ((x, box.top()), (x, y - gap)), ((x, y + gap), (x, box.bottom())),
            ((box.left(), y), (x - gap, y)), ((x + gap, y), (box.right(), y)),
        ):  # fmt: skip
            painter.drawLine(QPointF(*a), QPointF(*b))
        painter.setPen(QColor(255, 255, 255, 220))
        painter.drawText(self.rect().adjusted(5, 3, -4, -3), 0, plane.title)

    # ---------------------------------------------------------------- moving
    def _to(self, x: float, y: float) -> None:
        if not self._ortho.shape or not self._ortho.looking.possible:
            return
        box, (rows, columns) = self._place()
        shown = (
            (y - box.top()) / box.height() * rows - 0.5,
            (x - box.left()) / box.width() * columns - 0.5,
        )
        place = list(self._ortho.plane(self.axis).place_of(shown, self._cut_shape()))
        if self.axis is not None:
            place.insert(self.axis, self._ortho.cursor[self.axis])
        self._ortho.move(tuple(place))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._to(event.position().x(), event.position().y())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._to(event.position().x(), event.position().y())

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Through the slices of this view."""
        if self.hasFocus() and self._ortho.shape and self.axis is not None:
            self._shift(self.axis, 1 if event.angleDelta().y() > 0 else -1)
            event.accept()
        else:
            event.ignore()

    def _shift(self, axis: int, by: int) -> None:
        cursor = list(self._ortho.cursor)
        cursor[axis] += by
        self._ortho.move(tuple(cursor))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        ways = {
            Qt.Key.Key_Up: (-1, 0), Qt.Key.Key_Down: (1, 0),
            Qt.Key.Key_Left: (0, -1), Qt.Key.Key_Right: (0, 1),
        }  # fmt: skip
        way = ways.get(Qt.Key(event.key()))
        if way is None or not self._ortho.shape:
            super().keyPressEvent(event)
            return
        plane, shape = self._ortho.plane(self.axis), self._cut_shape()
        rest = [x for a, x in enumerate(self._ortho.cursor) if a != self.axis]
        row, column = plane.shown_at((rest[0], rest[1]), shape)
        place = list(plane.place_of((row + way[0], column + way[1]), shape))
        if self.axis is not None:
            place.insert(self.axis, self._ortho.cursor[self.axis])
        self._ortho.move(tuple(place))


class OrthoView(QWidget):
    """Three views and a readout; can be looked at in a window of its own."""

    def __init__(self, ortho: Ortho) -> None:
        super().__init__()
        self._ortho = ortho
        self._window: QDialog | None = None
        self._home: QVBoxLayout | None = None
        self.views = [PlaneView(ortho, k) for k in range(3)]
        self.says = caption()
        self.says.setMinimumHeight(5 * self.says.fontMetrics().lineSpacing())
        self.mode = QComboBox()
        self.mode.setAccessibleName("What the three planes show")
        self.mode.setToolTip("What the three planes show")
        self.mode.addItems(MODES)
        guard_wheel(self.mode)
        self.mode.textActivated.connect(ortho.choose)
        self.larger = button("Larger", "The three planes in a window of their own", self.pop_out)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        row = QHBoxLayout()
        row.addWidget(self.mode, 1)
        row.addWidget(self.larger)
        layout.addLayout(row)
        self.grid = QGridLayout()
        self.grid.setSpacing(3)
        for k, view in enumerate(self.views):
            self.grid.addWidget(view, k // 2, k % 2)
        self.grid.addWidget(self.says, 1, 1)
        layout.addLayout(self.grid, 1)
        follow(self, ortho.changed, self._draw)

    def showEvent(self, event: object) -> None:
        self._ortho.begin()
        self._draw()

    def hideEvent(self, event: object) -> None:
        self._ortho.active = False

    def _draw(self) -> None:
        here = self._ortho.here()
        self.says.setText(HINT if here is None else here.sentence)
        shown = max(1, len(self._ortho.axes))
        self.grid.addWidget(self.says, int(shown > 1), 1)
        for number, view in enumerate(self.views):
            view.setVisible(number < shown)
            view.update()

    # ---------------------------------------------------------------- a window of its own
    def pop_out(self) -> None:
        """Into a window of its own; closing it brings the views back."""
        if self._window is not None:
            self._window.close()
            return
        parent = self.parentWidget()
        assert parent is not None
        home = parent.layout()
        assert isinstance(home, QVBoxLayout)
        self._home = home
        window = self._window = QDialog(self.window())
        window.setWindowTitle("Three planes")
        window.resize(760, 760)
        layout = QVBoxLayout(window)
        layout.addWidget(self)
        self.larger.setText("Back")
        window.finished.connect(self._return)
        window.show()

    def _return(self, *_: object) -> None:
        window, self._window = self._window, None
        if window is None or self._home is None:
            return
        self.larger.setText("Larger")
        self._home.addWidget(self)
        window.deleteLater()
