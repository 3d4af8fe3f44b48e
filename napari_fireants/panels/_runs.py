"""The list of runs in the History dock: picture, name, what changed, and numbers."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QImage, QKeyEvent, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_fireants._history import History
from napari_fireants._runs import Run

PICTURE = 72
MOST_CHANGES = 3
NUMBER = Qt.ItemDataRole.UserRole


def pixmap(picture: np.ndarray, size: int) -> QPixmap:
    """RGB bytes as a square pixmap."""
    picture = np.ascontiguousarray(picture)
    height, width = picture.shape[:2]
    image = QImage(picture.data, width, height, 3 * width, QImage.Format.Format_RGB888)
    smooth = Qt.TransformationMode.SmoothTransformation
    keep = Qt.AspectRatioMode.KeepAspectRatio
    return QPixmap.fromImage(image.copy()).scaled(size, size, keep, smooth)


def what_changed(changes: list[str], first: bool) -> str:
    """The recipe's difference in a few lines."""
    if not changes:
        return "" if first else "same recipe as the run before"
    more = len(changes) - MOST_CHANGES
    return "\n".join(changes[:MOST_CHANGES] + ([f"and {more} more"] if more > 0 else []))


class RunRow(QWidget):
    """One run; `badge` says how it is shown at present, `pair` which images it is of."""

    def __init__(self, run: Run, changes: list[str], badge: str, pair: str) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 4, 4, 4)
        row.setSpacing(8)
        picture = QLabel()
        picture.setFixedSize(PICTURE, PICTURE)
        if run.thumbnail is not None:
            picture.setPixmap(pixmap(run.thumbnail, PICTURE))
        row.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        lines = QVBoxLayout()
        lines.setSpacing(1)
        title = self._line(lines, run.name)
        bold = title.font()
        bold.setBold(True)
        title.setFont(bold)
        self._line(lines, f"{badge}{run.time:%H:%M}{pair}")
        self._line(lines, what_changed(changes, run.number == 1))
        self._line(lines, run.summary)
        edits = len(run.edits)
        steered = f"{edits} change{'s' if edits > 1 else ''} during the run" if edits else ""
        self._line(lines, steered)
        self._line(lines, run.note)
        lines.addStretch(1)
        row.addLayout(lines, 1)
        about = f"{run.time:%d %b %Y, %H:%M}: {run.moving} → {run.fixed}"
        tip = [run.name, about, run.sentence, *changes, *run.edits]
        self.setToolTip("\n".join(tip))

    @staticmethod
    def _line(layout: QVBoxLayout, text: str) -> QLabel:
        label = QLabel(text.replace(".", ".\u200b").replace("_", "_\u200b"))
        label.setWordWrap(True)
        label.setTextFormat(Qt.TextFormat.PlainText)
        label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        label.setVisible(bool(text))
        layout.addWidget(label)
        return label


class RunList(QListWidget):
    """Newest first. chosen: others are selected; restored, removed: numbers of runs."""

    chosen = Signal()
    restored = Signal(int)
    removed = Signal(int)

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history
        self.setAccessibleName("Runs")
        self.setToolTip("The newest is on top; a double click shows a run again")
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSpacing(1)
        self.setMinimumHeight(2 * PICTURE)
        self.itemSelectionChanged.connect(self.chosen.emit)
        self.itemDoubleClicked.connect(lambda item: self.restored.emit(item.data(NUMBER)))

    def sizeHint(self) -> QSize:
        return QSize(300, 4 * PICTURE)

    @property
    def numbers(self) -> list[int]:
        """Of the selected runs, in the order in which they were made."""
        return sorted(item.data(NUMBER) for item in self.selectedItems())

    def draw(self) -> None:
        """Show the runs as they are; what is selected stays so."""
        selected, history = self.numbers, self._history
        self.blockSignals(True)
        self.clear()
        before = [None, *history.runs]
        for last, run in reversed(list(zip(before, history.runs, strict=False))):
            same = last is not None and (last.fixed, last.moving) == (run.fixed, run.moving)
            pair = "" if same else f", {run.moving} → {run.fixed}"
            badge = ""
            if run.number == history.shown:
                badge = "● magenta · " if history.compared is not None else "● shown · "
            elif run.number == history.compared:
                badge = "● green · "
            row = RunRow(run, history.changes(run.number), badge, pair)
            item = QListWidgetItem()
            item.setData(NUMBER, run.number)
            item.setData(Qt.ItemDataRole.AccessibleTextRole, f"{run.name}, {run.summary}")
            self.addItem(item)
            self.setItemWidget(item, row)
            item.setSelected(run.number in selected)
        self.blockSignals(False)
        self._fit()
        self.chosen.emit()

    def _fit(self) -> None:
        """Rows as high as their wrapped lines need."""
        width = self.viewport().width() - 4
        for i in range(self.count()):
            item = self.item(i)
            row = self.itemWidget(item)
            if row is None:  # it is just being added
                continue
            height = row.layout().heightForWidth(width)
            item.setSizeHint(QSize(width, max(height, PICTURE + 8)))

    def resizeEvent(self, event: object) -> None:
        super().resizeEvent(event)
        self._fit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        numbers = self.numbers
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and len(numbers) == 1:
            self.restored.emit(numbers[0])
        elif event.key() == Qt.Key.Key_Delete and numbers:
            for number in numbers:
                self.removed.emit(number)
        else:
            super().keyPressEvent(event)
