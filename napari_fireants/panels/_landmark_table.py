"""The table of landmarks as widgets: names, distances, weights; sorted by a click on a heading."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QBrush, QColor, QFont, QKeyEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from fireants_engine.errors import FireantsError
from napari_fireants._landmarks import COLUMNS, LandmarkTable, Row

HEADINGS = {
    "name": ("Name", "Its name; double-click to change it. Without the tick it counts nowhere"),
    "before": ("Before", "Distance of the pair in {} as the images were loaded"),
    "now": ("Now", "Distance (TRE) in {} in the newest preview of a run, or through a fit"),
    "after": ("After", "Distance (TRE) in {} through the result: how far the registration misses"),
    "weight": ("Weight", "How much it counts beside the others; 1 is usual, 0 nothing"),
}
NAMES = tuple(HEADINGS)
WORST = QColor(230, 159, 0, 80)


def length(value: float) -> str:
    """A distance for people, without its unit."""
    return f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


class LandmarkModel(QAbstractTableModel):
    """Rows of the table in the chosen order; `said` carries what cannot be done."""

    said = Signal(str)

    def __init__(self, table: LandmarkTable) -> None:
        super().__init__()
        self.table = table
        self.by, self.falling = "", False
        self.unit = ("mm", 1.0)
        self.rows: list[Row] = table.ordered()
        self._worst = table.worst

    def refresh(self, reorder: bool = True) -> None:
        """Show what the table holds now. reorder: rows may change places."""
        table = self.table
        rows = table.ordered(self.by, self.falling)
        if not reorder and {row.key for row in rows} == {row.key for row in self.rows}:
            rows = [table.row(row.key) for row in self.rows]
        same = [row.key for row in rows] == [row.key for row in self.rows]
        self._worst = table.worst
        if same and rows:
            self.rows = rows
            self.dataChanged.emit(self.index(0, 0), self.index(len(rows) - 1, len(NAMES) - 1))
            self.headerDataChanged.emit(Qt.Orientation.Horizontal, 0, len(NAMES) - 1)
        elif not same:
            self.beginResetModel()
            self.rows = rows
            self.endResetModel()

    # ------------------------------------------------------------ what Qt asks
    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return len(NAMES)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        title, tip = HEADINGS[NAMES[section]]
        if NAMES[section] == "now" and self.table.trial:
            title = "Fit"
        if role == Qt.ItemDataRole.DisplayRole:
            return title
        return tip.format(self.unit[0]) if role == Qt.ItemDataRole.ToolTipRole else None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        row, name = self.rows[index.row()], NAMES[index.column()]
        match role:
            case Qt.ItemDataRole.DisplayRole | Qt.ItemDataRole.EditRole:
                return self._text(row, name)
            case Qt.ItemDataRole.CheckStateRole if name == "name":
                return Qt.CheckState.Checked if row.enabled else Qt.CheckState.Unchecked
            case Qt.ItemDataRole.BackgroundRole if row.key == self._worst:
                return QBrush(WORST)
            case Qt.ItemDataRole.FontRole if row.key == self._worst:
                font = QFont()
                font.setBold(True)
                return font
            case Qt.ItemDataRole.TextAlignmentRole if name != "name":
                return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            case Qt.ItemDataRole.ToolTipRole:
                return self._tip(row, name)
        return None

    def _text(self, row: Row, name: str) -> str:
        if name == "name":
            return row.name
        if name == "weight":
            return f"{row.weight:g}"
        value = next((self.table.distance(row, c) for c in COLUMNS if c == name), None)
        return "–" if value is None else length(value * self.unit[1])

    def _tip(self, row: Row, name: str) -> str:
        missing = [side for side in ("fixed", "moving") if row.place(side) is None]
        if missing:
            return f"Not set in the {missing[0]} image yet: press Pick pairs"
        if row.key == self._worst:
            return f"{row.name}: the pair that is farthest apart"
        return HEADINGS[name][1].format(self.unit[0])

    def flags(self, index: QModelIndex) -> Any:
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        if NAMES[index.column()] == "name":
            flags |= Qt.ItemFlag.ItemIsUserCheckable
        if NAMES[index.column()] in ("name", "weight"):
            flags |= Qt.ItemFlag.ItemIsEditable
        return flags

    def setData(self, index: QModelIndex, value: Any, role: int = 0) -> bool:
        row, name = self.rows[index.row()], NAMES[index.column()]
        try:
            if role == Qt.ItemDataRole.CheckStateRole:
                self.table.enable(row.key, Qt.CheckState(value) == Qt.CheckState.Checked)
            elif name == "name":
                self.table.rename(row.key, str(value))
            elif name == "weight":
                self.table.weigh(row.key, float(str(value).replace(",", ".")))
        except (FireantsError, ValueError) as error:
            words = str(error) if isinstance(error, FireantsError) else ""
            self.said.emit(words or "A weight is a number of at least 0; 1 is usual.")
            return False
        return True

    def sort(self, column: int, order: Any = Qt.SortOrder.AscendingOrder) -> None:
        self.by = NAMES[column] if 0 <= column < len(NAMES) else ""
        self.falling = order == Qt.SortOrder.DescendingOrder
        self.refresh()


class LandmarkView(QTableView):
    """Shows the model and keeps its selection that of the table; went: a row was clicked."""

    went = Signal(int)
    removed = Signal()

    def __init__(self, table: LandmarkTable) -> None:
        super().__init__()
        self._table, self._selecting = table, False
        self.rows = LandmarkModel(table)
        self.setModel(self.rows)
        self.setAccessibleName("Landmarks")
        self.setToolTip("A click goes to the landmark, a double click edits its cell; Del deletes")
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked
            | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(24)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in range(1, len(NAMES)):
            header.resizeSection(column, 58)
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        header.setSortIndicatorClearable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSortingEnabled(True)
        self.selectionModel().selectionChanged.connect(self._chosen)
        self.clicked.connect(self._clicked)
        self.rows.modelReset.connect(self.select)

    def refresh(self, unit: tuple[str, float]) -> None:
        """Show what the table holds now; while a cell is edited every row stays where it is.

        unit: of distances, and how many of it a mm has.
        """
        self.rows.unit = unit
        editing = self.state() == QAbstractItemView.State.EditingState
        self.rows.refresh(reorder=not editing)
        self.setFixedHeight(self._height())

    def _height(self) -> int:
        """Four to nine rows."""
        rows = min(max(len(self.rows.rows), 4), 9)
        return self.horizontalHeader().sizeHint().height() + 24 * rows + 4

    def select(self) -> None:
        """Select what is selected in the table."""
        model, flag = self.selectionModel(), QItemSelectionModel.SelectionFlag
        self._selecting = True
        try:
            model.clearSelection()
            for k, row in enumerate(self.rows.rows):
                if row.key in self._table.selected:
                    model.select(self.rows.index(k, 0), flag.Select | flag.Rows)
                    self.scrollTo(self.rows.index(k, 0))
        finally:
            self._selecting = False

    def _chosen(self, *_: object) -> None:
        if not self._selecting:
            chosen = [index.row() for index in self.selectionModel().selectedRows()]
            self._table.select(self.rows.rows[k].key for k in chosen)

    def _clicked(self, index: QModelIndex) -> None:
        self.went.emit(self.rows.rows[index.row()].key)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.removed.emit()
        else:
            super().keyPressEvent(event)
