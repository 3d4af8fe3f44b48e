"""The list of runs in the History dock: picture, name, what changed, and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from qtpy.QtCore import QModelIndex, QRect, QSize, Qt, Signal
from qtpy.QtGui import (
    QFont,
    QFontMetrics,
    QImage,
    QKeyEvent,
    QPainter,
    QPalette,
    QPixmap,
    QPixmapCache,
)
from qtpy.QtWidgets import (
    QAbstractItemView,
    QListWidget,
    QListWidgetItem,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
)

from napari_fireants._history import History
from napari_fireants._runs import Run

PICTURE = 72
MOST_CHANGES = 3
MARGIN = 4
NUMBER = Qt.ItemDataRole.UserRole
ROW, DRAWN = NUMBER + 1, NUMBER + 2
WRAPPED = Qt.TextFlag.TextWordWrap | Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop


def pixmap(thumbnail: np.ndarray, size: int) -> QPixmap:
    """A run's fixed image in green and its moved image in magenta, as a square pixmap."""
    fixed, moved = thumbnail
    picture = np.stack((moved, fixed, moved), -1)
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


@dataclass(frozen=True, eq=False)
class RunRow:
    """What a row shows: a title and lines of text beside a picture; `key` names the picture."""

    key: str
    title: str
    text: str
    thumbnail: np.ndarray | None
    tip: str

    @classmethod
    def of(cls, run: Run, changes: list[str], badge: str, pair: str) -> RunRow:
        """badge says how the run is shown at present, `pair` which images it is of."""
        edits = len(run.edits)
        steered = f"{edits} change{'s' if edits > 1 else ''} during the run" if edits else ""
        changed = what_changed(changes, run.number == 1)
        lines = (f"{badge}{run.time:%H:%M}{pair}", changed, run.summary, steered, run.note)
        about = f"{run.time:%d %b %Y, %H:%M}: {run.moving} → {run.fixed}"
        tip = "\n".join([run.name, about, run.sentence, *changes, *run.edits])
        picture = b"" if run.thumbnail is None else run.thumbnail.tobytes()
        text = _breakable("\n".join(line for line in lines if line))
        return cls(f"fireants {hash(picture)}", run.name, text, run.thumbnail, tip)

    def picture(self) -> QPixmap | None:
        """From Qt's cache of pictures, which forgets those that are not looked at."""
        if self.thumbnail is None:
            return None
        known = QPixmapCache.find(self.key)
        if known is None or known.isNull():
            known = pixmap(self.thumbnail, PICTURE)
            QPixmapCache.insert(self.key, known)
        return known


def _breakable(text: str) -> str:
    """With places where long words may break."""
    return text.replace(".", ".\u200b").replace("_", "_\u200b")


class RunDelegate(QStyledItemDelegate):
    """Paints rows: hundreds of runs need no widgets."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        row: RunRow = index.data(ROW)
        style = option.widget.style()
        style.drawPrimitive(
            QStyle.PrimitiveElement.PE_PanelItemViewItem, option, painter, option.widget
        )
        picture, text = self._places(option.rect)
        drawn = row.picture()
        if drawn is not None:
            painter.drawPixmap(picture.topLeft(), drawn)
        painter.save()
        chosen = option.state & QStyle.StateFlag.State_Selected
        role = QPalette.ColorRole.HighlightedText if chosen else QPalette.ColorRole.Text
        painter.setPen(option.palette.color(role))
        painter.setFont(self._bold(option))
        used = painter.drawText(text, WRAPPED, _breakable(row.title))
        painter.setFont(option.font)
        painter.drawText(text.adjusted(0, used.height() + 1, 0, 0), WRAPPED, row.text)
        painter.restore()

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        row: RunRow = index.data(ROW)
        width = option.widget.viewport().width() - 4
        _, text = self._places(QRect(0, 0, width, 10_000))
        title = QFontMetrics(self._bold(option)).boundingRect(text, WRAPPED, _breakable(row.title))
        lines = QFontMetrics(option.font).boundingRect(text, WRAPPED, row.text)
        height = title.height() + 1 + lines.height() + 2 * MARGIN
        return QSize(width, max(height, PICTURE + 2 * MARGIN))

    @staticmethod
    def _places(rect: QRect) -> tuple[QRect, QRect]:
        """Of the picture and of the text."""
        inside = rect.adjusted(MARGIN, MARGIN, -MARGIN, -MARGIN)
        picture = QRect(inside.topLeft(), QSize(PICTURE, PICTURE))
        return picture, inside.adjusted(PICTURE + 2 * MARGIN, 0, 0, 0)

    @staticmethod
    def _bold(option: QStyleOptionViewItem) -> QFont:
        font = QFont(option.font)
        font.setBold(True)
        return font


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
        self.setItemDelegate(RunDelegate(self))
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
        runs = list(reversed(history.runs))
        self.blockSignals(True)
        if [run.number for run in runs] != [self.item(i).data(NUMBER) for i in range(self.count())]:
            self.clear()
            for run in runs:
                item = QListWidgetItem()
                item.setData(NUMBER, run.number)
                self.addItem(item)
                item.setSelected(run.number in selected)
        for i, (run, last) in enumerate(zip_longest(runs, runs[1:])):
            self._fill(self.item(i), run, last)
        self.blockSignals(False)
        self.chosen.emit()

    def _fill(self, item: QListWidgetItem, run: Run, last: Run | None) -> None:
        """last: the run before, whose images need not be named again."""
        history = self._history
        same = last is not None and (last.fixed, last.moving) == (run.fixed, run.moving)
        pair = "" if same else f", {run.moving} → {run.fixed}"
        badge = ""
        if run.number == history.shown:
            badge = "● magenta · " if history.compared is not None else "● shown · "
        elif run.number == history.compared:
            badge = "● green · "
        known: tuple[Run, str, str] | None = item.data(DRAWN)
        if known is not None and known[0] is run and known[1:] == (badge, pair):
            return
        row = RunRow.of(run, history.changes(run.number), badge, pair)
        item.setData(DRAWN, (run, badge, pair))
        item.setData(ROW, row)
        item.setToolTip(row.tip)
        item.setData(Qt.ItemDataRole.AccessibleTextRole, f"{run.name}, {run.summary}")

    def resizeEvent(self, event: object) -> None:
        super().resizeEvent(event)
        self.scheduleDelayedItemsLayout()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        numbers = self.numbers
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and len(numbers) == 1:
            self.restored.emit(numbers[0])
        elif event.key() == Qt.Key.Key_Delete and numbers:
            for number in numbers:
                self.removed.emit(number)
        else:
            super().keyPressEvent(event)
