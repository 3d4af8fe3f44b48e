"""Figures and reports of what is looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from fireants_engine.errors import FireantsError
from napari_fireants._figure import CHOICES
from napari_fireants._views import TIPS, View
from napari_fireants.panels._widgets import Message, button

if TYPE_CHECKING:
    from napari_fireants._controller import Controller

FIRST = (View.BEFORE_AFTER, View.OVERLAY, View.CHECKERBOARD, View.EDGES, View.GRID, View.JACOBIAN)
FIGURES = "PDF (*.pdf);;PNG (*.png);;SVG (*.svg)"


class FigureDialog(QDialog):
    """Which views a figure has."""

    def __init__(self, parent: QWidget, chosen: tuple[View, ...]) -> None:
        super().__init__(parent)
        self.setWindowTitle("Figure of this slice")
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel("Views of the slice on the canvas, side by side:"))
        grid = QGridLayout()
        self.boxes = {view: QCheckBox(_name(view)) for view in CHOICES}
        for i, (view, box) in enumerate(self.boxes.items()):
            box.setChecked(view in chosen)
            box.setToolTip(TIPS[view])
            box.toggled.connect(self._check)
            grid.addWidget(box, i // 2, i % 2)
        layout.addLayout(grid)
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Cancel
        )
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        layout.addWidget(self.buttons)

    @property
    def views(self) -> tuple[View, ...]:
        return tuple(view for view, box in self.boxes.items() if box.isChecked())

    def _check(self) -> None:
        save = self.buttons.button(QDialogButtonBox.StandardButton.Save)
        save.setEnabled(bool(self.views))


def _name(view: View) -> str:
    return {View.BEFORE_AFTER: "Overlay before", View.OVERLAY: "Overlay after"}.get(
        view, view.value
    )


class ExportPanel(QWidget):
    """Buttons, and a sentence about what was written."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.views = FIRST
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        self.figure = button(
            "Figure…",
            "The slice on the canvas in several views, with scale bar, names and numbers, for a "
            "paper (PDF, SVG or PNG)",
            self._figure,
        )
        self.screenshot = button("Screenshot…", "The canvas as it is, as a PNG", self._screenshot)
        self.report = button(
            "HTML report…",
            "One page about the run: numbers, pictures, the views of this slice, the course",
            self._report,
        )
        for widget in (self.figure, self.screenshot, self.report):
            row.addWidget(widget)
        layout.addLayout(row)
        self.message = Message()
        layout.addWidget(self.message)

    def set_ready(self, finished: bool, busy: bool) -> None:
        self.figure.setEnabled(finished and not busy)
        self.report.setEnabled(finished and not busy)

    def _figure(self) -> None:
        dialog = FigureDialog(self, self.views)
        accepted = bool(dialog.exec())
        views = dialog.views
        dialog.deleteLater()
        if not accepted or not views:
            return
        self.views = views
        path, kind = QFileDialog.getSaveFileName(self, "Save the figure", "figure.pdf", FIGURES)
        if path:
            if not Path(path).suffix:
                path += kind[-5:-1] if kind else ".pdf"
            self._do(lambda done: self._controller.save_figure(path, views, done), "figure")

    def _report(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save the report", "report.html", "HTML (*.html)"
        )
        if path:
            path = path if Path(path).suffix else f"{path}.html"
            views = self.views
            self._do(lambda done: self._controller.save_report(path, views, done), "report")

    def _screenshot(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the canvas", "canvas.png", "PNG (*.png)")
        if path:
            path = path if Path(path).suffix else f"{path}.png"
            self._do(lambda done: done(self._controller.save_screenshot(path)), "picture")

    def _do(self, action: Callable[[Callable[[Any], None]], Any], what: str) -> None:
        self.message.say(f"Writing the {what}…", "note")
        try:
            action(lambda where: self.message.say(f"Saved to {where}.", "good"))
        except (FireantsError, OSError) as error:
            self.message.say(str(error))
