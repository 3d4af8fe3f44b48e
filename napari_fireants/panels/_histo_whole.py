"""The stack as a whole: how far its sections are apart, Fit the stack, Export."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_fireants._fields import DecimalBox, guard_wheel
from napari_fireants._histo import Histo
from napari_fireants._histo_whole import NO_DISTANCE, NOT_FITTED
from napari_fireants.panels._widgets import button, caption, primary

FIT = (
    "Find those sections that have no plane yet, 5 to 20 s each, then fit all that are not skipped "
    "together: parallel, in their order, each deformed within its plane"
)
EXPORT = (
    "The transforms, planes and a report of the whole stack, and of each section the volume on its "
    "pixels, outlines of regions and landmarks, into a folder"
)


class WholeView(QWidget):
    """Below the list of the sections."""

    def __init__(self, histo: Histo) -> None:
        super().__init__()
        self._histo = histo
        self.distance = DecimalBox()
        self.distance.setRange(0.0, 100_000.0)
        self.distance.setDecimals(2)
        self.distance.setSuffix(" µm")
        self.distance.setSpecialValueText("?")
        self.distance.setAccessibleName("From one section to the next in micrometres")
        self.distance.setToolTip(NO_DISTANCE)
        self.distance.setKeyboardTracking(False)
        guard_wheel(self.distance)
        self.fit = primary("Fit the stack")
        self.fit.setToolTip(FIT)
        self.export = button("Export…", EXPORT, self._export)
        self.why = caption()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        row = QHBoxLayout()
        row.addWidget(QLabel("Distance"))
        row.addWidget(self.distance, 1)
        row.addWidget(self.export)
        layout.addLayout(row)
        layout.addWidget(self.why)
        layout.addWidget(self.fit)
        whole = histo.whole
        self.distance.valueChanged.connect(lambda value: whole.set_distance_um(value or None))
        self.fit.clicked.connect(lambda: histo.work.attempt(whole.fit))

    def _export(self) -> None:
        start = str(Path.cwd() / "stack_in_volume")
        path, _ = QFileDialog.getSaveFileName(self, "Export into a new folder", start)
        if path:
            self.export_in(Path(path))

    def export_in(self, folder: Path) -> None:
        """What Export does once a folder is chosen."""
        self._histo.work.attempt(lambda: self._histo.whole.export(folder))

    def refresh(self) -> None:
        """Called by the list, which follows the sections."""
        histo, whole = self._histo, self._histo.whole
        idle, problem = not histo.work.session.busy, whole.problem
        self.distance.blockSignals(True)
        self.distance.setValue(whole.distance_um or 0.0)
        self.distance.blockSignals(False)
        origin = "As typed" if whole.distance_typed else "As the layer says"
        words = f"{origin}: micrometres from one section to the next"
        self.distance.setToolTip(words if whole.distance_um else NO_DISTANCE)
        self.why.setText(problem)
        self.why.setVisible(bool(problem))
        self.fit.setEnabled(idle and not problem)
        self.fit.setToolTip(problem or FIT)
        ready = whole.stack is not None
        self.export.setEnabled(idle and ready)
        self.export.setToolTip(EXPORT if ready else NOT_FITTED)
