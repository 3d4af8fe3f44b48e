"""The pairs of a batch as a table: name, state with progress, Dice or loss, seconds."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt
from qtpy.QtGui import QBrush, QColor, QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
)

from napari_fireants._batch import BatchTable, Row, RowState
from napari_fireants.panels._widgets import follow

NAME, STATE, MATCH, SECONDS = range(4)
WIDTHS = {STATE: 92, MATCH: 82, SECONDS: 44}
_COLOURS = {
    RowState.FAILED: "#e0605c",
    RowState.MISSING: "#e0605c",
    RowState.DONE: "#26a67e",
    RowState.KEPT: "#26a67e",
    RowState.STOPPED: "#d98f00",
}
_BAR = QColor("#2d86d0")
Index = QModelIndex | QPersistentModelIndex


class BatchModel(QAbstractTableModel):
    """Follows a BatchTable; a row is edited nowhere."""

    def __init__(self, table: BatchTable) -> None:
        super().__init__()
        self.table = table
        follow(self, table.changed, self._on_changed)
        follow(self, table.row_changed, self._on_row)

    def _on_changed(self) -> None:
        self.beginResetModel()
        self.endResetModel()

    def _on_row(self, index: int) -> None:
        self.dataChanged.emit(self.index(index, 0), self.index(index, SECONDS))
        self.headerDataChanged.emit(Qt.Orientation.Horizontal, MATCH, MATCH)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.table.rows)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 4

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:
        if orientation != Qt.Orientation.Horizontal or role != Qt.ItemDataRole.DisplayRole:
            return None
        return ("Pair", "State", "Dice" if self._has_labels else "Loss", "Time")[section]

    @property
    def _has_labels(self) -> bool:
        return any("dice_after" in row.numbers for row in self.table.rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not 0 <= index.row() < len(self.table.rows):
            return None
        row, column = self.table.rows[index.row()], index.column()
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return self._text(row, column)
            case Qt.ItemDataRole.ToolTipRole:
                return tip(row)
            case Qt.ItemDataRole.ForegroundRole if column == STATE and row.state in _COLOURS:
                return QBrush(QColor(_COLOURS[row.state]))
            case Qt.ItemDataRole.TextAlignmentRole if column in (MATCH, SECONDS):
                return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def _text(self, row: Row, column: int) -> str:
        numbers = row.numbers
        match column:
            case 0:
                return row.name
            case 1 if row.state is RowState.RUNNING:
                return f"running {row.fraction:.0%}"
            case 1:
                return row.state.value
            case 2 if "dice_after" in numbers:
                before = f"{numbers['dice_before']:.2f} → " if "dice_before" in numbers else ""
                return f"{before}{numbers['dice_after']:.2f}"
            case 2 if "loss" in numbers and not self._has_labels:
                return f"{numbers['loss']:.4g}"
            case 3 if "seconds" in numbers:
                return seconds_text(numbers["seconds"])
        return ""


def seconds_text(seconds: float) -> str:
    """Short, for a narrow column."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def tip(row: Row) -> str:
    """Everything about a row, in lines."""
    lines = [f"{role.replace('_', ' ')}: {path}" for role, path in row.pair.given.items()]
    if row.message:
        lines.insert(0, row.message)
    known = {
        "dice_after": "Dice of the labels {dice_before:.4f} → {dice_after:.4f}",
        "tre_after_mm": "landmark distance {tre_before_mm:.3f} → {tre_after_mm:.3f} mm",
        "folds": "folded voxels: {folds:.0f}",
    }
    lines += [text.format(**row.numbers) for name, text in known.items() if name in row.numbers]
    return "\n".join(lines)


class StateDelegate(QStyledItemDelegate):
    """Text over a thin bar that shows how far a running pair is."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        super().paint(painter, option, index)
        row = index.model().table.rows[index.row()]
        if row.state is RowState.RUNNING:
            place = option.rect.adjusted(2, option.rect.height() - 4, -2, -1)
            painter.fillRect(place, QColor(128, 128, 128, 70))
            place.setWidth(max(2, round(place.width() * row.fraction)))
            painter.fillRect(place, _BAR)


class BatchView(QTableView):
    """Whole rows are chosen; the names take what room is left."""

    def __init__(self, table: BatchTable) -> None:
        super().__init__()
        self._model = BatchModel(table)
        self._model.setParent(self)
        self.setModel(self._model)
        self.setAccessibleName("Pairs")
        self.setToolTip("One pair a row; Ctrl and Shift choose several, Del leaves them out")
        self.setItemDelegateForColumn(STATE, StateDelegate(self))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setTabKeyNavigation(False)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(24)
        header = self.horizontalHeader()
        header.setMinimumSectionSize(30)
        header.setHighlightSections(False)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        for column, width in WIDTHS.items():
            self.setColumnWidth(column, width)
        self.setMinimumHeight(150)

    def chosen(self) -> list[Row]:
        """The rows that are selected, from the top."""
        indexes = sorted({index.row() for index in self.selectionModel().selectedRows()})
        rows = self._model.table.rows
        return [rows[k] for k in indexes if k < len(rows)]

    def choose(self, index: int) -> None:
        self.selectRow(index)
        self.scrollTo(self._model.index(index, NAME))
