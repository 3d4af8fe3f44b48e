"""Tables of numbers about a finished run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_fireants._measure import Measure
from napari_fireants.panels._widgets import caption, follow

TIPS = {
    "NCC": "Correlation of the whole images, -1 to 1",
    "LNCC": "Correlation in small windows (radius 2 voxels), -1 to 1, the mean of all",
    "MI": "Mutual information in nats, for images of different kinds",
}
COLUMNS = {
    "Label": "Value in the label layers",
    "Before": "Dice before the registration: 2 |A ∩ B| / (|A| + |B|), 0 to 1",
    "After": "Dice after the registration",
    "Fixed": "Volume of the fixed label in mL",
    "Moved": "Volume of the moving label after the registration, in mL",
    "± mL": "Moved minus fixed, in mL",
}


class Similarities(QWidget):
    """Each measure before and after; more is better."""

    def __init__(self, measure: Measure) -> None:
        super().__init__()
        self._measure = measure
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.says = caption()
        layout.addWidget(self.says)
        self.table = QWidget()
        grid = QGridLayout(self.table)
        grid.setContentsMargins(0, 0, 0, 0)
        self.cells: dict[str, list[QLabel]] = {}
        for column, text in enumerate(("", "before", "after", "")):
            grid.addWidget(QLabel(text), 0, column)
        for row, (name, tip) in enumerate(TIPS.items(), 1):
            title = QLabel(f"<b>{name}</b>")
            title.setToolTip(tip)
            grid.addWidget(title, row, 0)
            self.cells[name] = [QLabel() for _ in range(3)]
            for column, cell in enumerate(self.cells[name], 1):
                cell.setToolTip(tip)
                grid.addWidget(cell, row, column)
        layout.addWidget(self.table)
        follow(self, measure.changed, self._draw)
        self._draw()

    def showEvent(self, event: object) -> None:
        self._measure.ask()

    def _draw(self) -> None:
        found = self._measure.value
        self.says.setText(self._measure.sentence or "More is better in each row.")
        self.table.setVisible(found is not None)
        for name, (before, after) in (found or {}).items():
            better = after >= before
            words = f"{'▲ better' if better else '▼ worse'} by {abs(after - before):.3f}"
            texts = f"{before:.3f}", f"{after:.3f}", words
            for cell, text in zip(self.cells[name], texts, strict=True):
                cell.setText(text)


class _Number(QTableWidgetItem):
    """Sorted by value; a dash where there is none."""

    def __init__(self, value: float, text: str) -> None:
        super().__init__("–" if np.isnan(value) else text)
        self.value = -np.inf if np.isnan(value) else float(value)
        self.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.setFlags(Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled)

    def __lt__(self, other: QTableWidgetItem) -> bool:
        return self.value < other.value if isinstance(other, _Number) else False


class LabelRows(QWidget):
    """A row per label; a click goes to its centre. go: takes a voxel of the fixed image."""

    def __init__(self, measure: Measure, go: Callable[[tuple[float, ...]], Any]) -> None:
        super().__init__()
        self._measure, self._go = measure, go
        self._drawn: Any = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.says = caption()
        layout.addWidget(self.says)
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(list(COLUMNS))
        for column, tip in enumerate(COLUMNS.values()):
            self.table.horizontalHeaderItem(column).setToolTip(tip)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table.horizontalHeader().setMinimumSectionSize(30)
        self.table.horizontalHeader().setSortIndicator(0, Qt.SortOrder.AscendingOrder)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setMinimumHeight(190)
        self.table.setAccessibleName("Labels: overlap and volume")
        self.table.setToolTip("Click a row to go there, a heading to sort")
        self.table.currentCellChanged.connect(lambda row, *_: self._chosen(row))
        layout.addWidget(self.table)
        follow(self, measure.changed, self._draw)
        self._draw()

    def showEvent(self, event: object) -> None:
        self._measure.ask()

    def _draw(self) -> None:
        found = self._measure.value
        self.says.setText(self._measure.sentence or _summary(found))
        self.table.setVisible(found is not None)
        if found is None or found is self._drawn:
            return
        self._drawn = found
        self.table.blockSignals(True)
        self.table.setSortingEnabled(False)
        self.table.setRowCount(len(found.labels))
        for row, label in enumerate(found.labels):
            first = _Number(float(label), str(label))
            first.setData(Qt.ItemDataRole.UserRole, [float(x) for x in found.centres_voxel[row]])
            values = (
                found.dice_before[row], found.dice_after[row], found.fixed_ml[row],
                found.moved_ml[row], found.difference_ml[row],
            )  # fmt: skip
            forms = ("{:.2f}", "{:.2f}", "{:.3g}", "{:.3g}", "{:+.2g}")
            cells = [_Number(v, f.format(v)) for v, f in zip(values, forms, strict=True)]
            for column, cell in enumerate([first, *cells]):
                self.table.setItem(row, column, cell)
        self.table.setSortingEnabled(True)
        self.table.blockSignals(False)

    def _chosen(self, row: int) -> None:
        item = self.table.item(row, 0)
        if item is not None:
            self._go(tuple(item.data(Qt.ItemDataRole.UserRole)))


def _summary(found: Any) -> str:
    here = found.fixed_ml > 0
    if not here.any():
        return "The fixed labels are empty."
    before, after = (float(np.mean(x[here])) for x in (found.dice_before, found.dice_after))
    return (
        f"Mean Dice of {int(here.sum())} labels: {before:.3f} before, {after:.3f} after. Click a "
        "row to go there, a heading to sort."
    )
