"""Widgets of what landmarks are for: a fit on trial, and their pull in the registration."""

from __future__ import annotations

import math

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_fireants._controller import Controller
from napari_fireants._fields import DecimalBox, guard_wheel
from napari_fireants._trial import KINDS
from napari_fireants.panels._landmark_table import length
from napari_fireants.panels._widgets import button, caption, follow

TIPS = {
    "rigid": "Turn and shift: the shape stays. Needs 3 pairs (2 in 2D)",
    "similarity": "Turn, shift and one scale. Needs 3 pairs (2 in 2D)",
    "affine": "Also shear and a scale per axis. Needs 4 pairs (3 in 2D)",
}
WEAK, STRONG = 3e-6, 3e-2
"""Ends of the slider: weights of the term."""


class FitBox(QWidget):
    """Try a fit of the pairs, and let a run start from it."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller, self._marking = controller, controller.landmarking
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 2, 0, 2)
        layout.setSpacing(4)
        self.kind = QComboBox()
        self.kind.setAccessibleName("Kind of fit")
        self.kind.setToolTip(
            "rigid: turn and shift; similarity: and one scale; affine: and shear and stretch"
        )
        for kind in KINDS:
            self.kind.addItem(kind.capitalize(), kind)
            self.kind.setItemData(self.kind.count() - 1, TIPS[kind], Qt.ItemDataRole.ToolTipRole)
        guard_wheel(self.kind)
        self.kind.activated.connect(lambda _: self._again())
        self.show_button = QPushButton("Show")
        self.show_button.setCheckable(True)
        self.show_button.setToolTip(
            "Show the moving image moved by the fit; no data change. Again: no longer"
        )
        self.show_button.clicked.connect(self._toggle)
        self.use = button(
            "Start from it", "The next registration starts from this fit, not from the recipe's "
            "start", self._use,
        )  # fmt: skip
        row = QHBoxLayout()
        row.addWidget(self.kind, 1)
        row.addWidget(self.show_button)
        row.addWidget(self.use)
        layout.addLayout(row)
        self.says = caption()
        layout.addWidget(self.says)
        self.start_row = QWidget()
        start = QHBoxLayout(self.start_row)
        start.setContentsMargins(0, 0, 0, 0)
        self.start_says = caption()
        start.addWidget(self.start_says, 1)
        start.addWidget(button("Forget", "Start as the recipe says", self._forget))
        layout.addWidget(self.start_row)
        follow(self, self._marking.trial_changed, self._draw)
        follow(self, controller.landmarks.measured, self._draw)
        follow(self, controller.initial_changed, self._draw)
        self._draw()

    def _toggle(self, shown: bool) -> None:
        self._marking.try_fit(self.kind.currentData() if shown else None)

    def _again(self) -> None:
        if self.show_button.isChecked():
            self._toggle(True)

    def _use(self) -> None:
        trial = self._marking.trial
        if trial is not None:
            self._marking.try_fit(None)
            self._controller.start_from(trial.matrix, f"{trial.kind} fit of the landmarks")

    def _forget(self) -> None:
        self._controller.start_from(None, "start as the recipe says")

    def _draw(self) -> None:
        trial, table = self._marking.trial, self._controller.landmarks
        self.show_button.setChecked(self._marking.trying)
        self.use.setEnabled(trial is not None)
        text = "Moves the whole image so that the pairs come as close as they can."
        known = table.statistics("now") if trial is not None else None
        if trial is not None and known is not None:
            unit, per_mm = self._marking.unit
            mean, largest = (length(x * per_mm) for x in (known.mean, known.largest))
            text = f"After the {trial.kind} fit the pairs are {mean} {unit} apart in the mean, "
            text += f"{largest} {unit} at most."
        self.says.setText(text)
        started = self._controller.initial is not None
        self.start_row.setVisible(started)
        self.start_says.setText(f"The next run starts from: {self._controller.initial_from}.")


class PullBox(QWidget):
    """Whether and how hard the pairs pull in the registration."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._table, self._marking = controller.landmarks, controller.landmarking
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 2, 0, 2)
        layout.setSpacing(4)
        self.use = QCheckBox("Use in the registration")
        self.use.setToolTip(
            "The pairs pull the images together beside the intensities, in every stage. Otherwise "
            "they only measure: then they tell how good the registration is"
        )
        self.use.toggled.connect(self._table.use)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 100)
        self.slider.setAccessibleName("How hard landmarks pull")
        self.slider.setToolTip("Weight of the landmarks beside the likeness of the images")
        guard_wheel(self.slider)
        self.slider.valueChanged.connect(lambda k: self._table.pull(strength=_strength(k)))
        self.pull = QWidget()
        row = QHBoxLayout(self.pull)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("a hint"))
        row.addWidget(self.slider, 1)
        row.addWidget(QLabel("firmly"))
        self.robust = QCheckBox("Beyond")
        self.robust.setToolTip(
            "A pair that is farther apart than this pulls no harder than one that is just as far: "
            "one wrong pair then spoils little"
        )
        self.limit = DecimalBox()
        self.limit.setRange(0.01, 1000.0)
        self.limit.setDecimals(2)
        self.limit.setValue(5.0)
        self.limit.setAccessibleName("Distance beyond which a pair pulls no harder")
        self.limit.setToolTip("A pair further apart pulls no harder than one at this distance, mm")
        guard_wheel(self.limit)
        self.robust.toggled.connect(lambda _: self._limit())
        self.limit.valueChanged.connect(lambda _: self._limit())
        self.distrust = QWidget()
        row = QHBoxLayout(self.distrust)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.robust)
        row.addWidget(self.limit)
        row.addWidget(QLabel("pull no harder"))
        row.addStretch(1)
        layout.addWidget(self.use)
        layout.addWidget(self.pull)
        layout.addWidget(self.distrust)
        follow(self, self._table.changed, self._draw)
        self._draw()

    def _limit(self) -> None:
        limit = self.limit.value() / self._marking.unit[1]
        self._table.pull(robust_mm=limit if self.robust.isChecked() else 0.0)

    def _draw(self) -> None:
        table = self._table
        for widget in (self.use, self.slider, self.robust, self.limit):
            widget.blockSignals(True)
        self.use.setChecked(table.used)
        if abs(math.log(table.strength / _strength(self.slider.value()))) > 0.05:
            self.slider.setValue(_slider(table.strength))
        self.robust.setChecked(table.robust_mm > 0)
        unit, per_mm = self._marking.unit
        self.limit.setSuffix(f" {unit}")
        if table.robust_mm > 0:
            self.limit.setValue(table.robust_mm * per_mm)
        for widget in (self.use, self.slider, self.robust, self.limit):
            widget.blockSignals(False)
        self.pull.setVisible(table.used)
        self.distrust.setVisible(table.used)
        self.limit.setEnabled(table.robust_mm > 0)


def _strength(position: int) -> float:
    return WEAK * (STRONG / WEAK) ** (position / 100)


def _slider(strength: float) -> int:
    share = math.log(max(strength, WEAK) / WEAK) / math.log(STRONG / WEAK)
    return round(100 * min(share, 1.0))
