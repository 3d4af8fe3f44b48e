"""A correction that was found: its numbers, ways to look at it, and what it is used for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fireants._epi import Epi
from napari_fireants._epi_look import MAPS
from napari_fireants._fields import Section
from napari_fireants.panels._epi_side import SideEditor
from napari_fireants.panels._widgets import Message, button, caption, follow, narrow_combo

FLICK_MS = 500
IMAGES = {
    "jacobian": ("Mean, signal put back", "Each volume unbent, and its piled-up signal spread"),
    "plain": ("Mean, as bright as recorded", "Each volume unbent only: bright where signal piled"),
    "least-squares": (
        "Least squares",
        "The image that explains all volumes together: sharpest where one of them is piled up",
    ),
}
NONE = "none"


class ResultView(QWidget):
    """Shown once there is a correction."""

    def __init__(self, epi: Epi) -> None:
        super().__init__()
        self._epi, self._first = epi, True
        self.numbers = caption()
        self.image, self.map = narrow_combo("Corrected image"), narrow_combo("Map over it")
        for each in (self.image, self.map):
            each.setToolTip(each.accessibleName())
        for title, tip in IMAGES.values():
            _add(self.image, title, tip)
        _add(self.map, NONE, "The corrected image alone")
        for each in MAPS:
            _add(self.map, each.title, each.tip)
        self.image.setCurrentIndex(list(IMAGES).index(epi.combine))
        self.map.setCurrentIndex(["", *(each.name for each in MAPS)].index(epi.scene.map))
        self.lost = QCheckBox("Mark what is lost")
        self.lost.setToolTip("Red: in so many of the volumes what is here is piled up beyond "
                             "recovery, or lies outside")  # fmt: skip
        self.lost.setChecked(epi.scene.marking)
        self.beside = _toggle("Side by side", "Up, down and corrected in panes of their own")
        self.beside.setChecked(epi.scene.beside)
        self.flick = {
            "before": _toggle("Before / after", "Flicker between the images as recorded and "
                              "corrected; holding Q shows them as recorded, too"),
            "pair": _toggle("Up / down", "Flicker between the two corrected volumes: what moves "
                            "is not corrected"),
        }  # fmt: skip
        self._timer = QTimer(self)
        self._timer.setInterval(FLICK_MS)
        self._timer.timeout.connect(self._flick)
        self._build()
        self.image.currentIndexChanged.connect(self._on_image)
        self.map.currentIndexChanged.connect(self._on_map)
        self.lost.toggled.connect(epi.scene.mark_lost)
        self.beside.toggled.connect(self._on_beside)
        for name, each in self.flick.items():
            each.toggled.connect(lambda on, name=name: self._on_flick(name, on))
        follow(self, epi.found_changed, self._on_found)
        follow(self, epi.working, self._on_working)
        self._on_found()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.numbers)
        form = QFormLayout()
        form.addRow("Image", self.image)
        form.addRow("Map", self.map)
        form.addRow("", self.lost)
        layout.addLayout(form)
        row = QHBoxLayout()
        row.setSpacing(3)
        for each in (self.beside, *self.flick.values()):
            row.addWidget(each)
        layout.addLayout(row)
        self.series = SeriesView(self._epi)
        layout.addWidget(Section("Correct a series", self.series))
        self.save = button("Save…", "Images, field, warps for ITK, FSL's acqparams, a report and "
                           "the corrected series, into a folder", self._save)  # fmt: skip
        self.away = button("Put away", "Hide what shows the correction; the layers look as before",
                           self._put_away)  # fmt: skip
        row = QHBoxLayout()
        row.addWidget(self.save)
        row.addWidget(self.away)
        layout.addLayout(row)

    # ---------------------------------------------------------------- ways to look
    def _on_image(self, index: int) -> None:
        self._epi.show_combined(list(IMAGES)[index])

    def _on_map(self, index: int) -> None:
        self._epi.scene.show_map(MAPS[index - 1].name if index > 0 else "")

    def _on_beside(self, on: bool) -> None:
        self._epi.scene.beside_each_other(on)

    def _on_flick(self, name: str, on: bool) -> None:
        if on:
            for other, each in self.flick.items():
                if other != name:
                    each.setChecked(False)
            self._first = True
            self._flick()
            self._timer.start()
        elif not any(each.isChecked() for each in self.flick.values()):
            self._timer.stop()
            self._epi.scene.flick(False)

    def _flick(self) -> None:
        if self.flick["before"].isChecked():
            self._epi.scene.flick(self._first)
        else:
            self._epi.scene.flick_pair(self._first)
        self._first = not self._first

    def _put_away(self) -> None:
        for each in self.flick.values():
            each.setChecked(False)
        self._epi.scene.put_away()

    # ---------------------------------------------------------------- what happens
    def _save(self) -> None:
        start = str(Path.cwd() / "epi_corrected")
        path, _ = QFileDialog.getSaveFileName(self, "Save the correction in a new folder", start)
        if path:
            self.save_in(Path(path))

    def save_in(self, folder: Path) -> None:
        """What Save does once a folder is chosen."""
        self._epi.attempt(lambda: self._epi.save(folder))

    def _on_working(self) -> None:
        idle = not self._epi.session.busy or not self._epi.task
        if self._epi.task:
            for each in self.flick.values():
                each.setChecked(False)
        for each in (self.save, self.away, *self.flick.values(), self.image, self.map):
            each.setEnabled(idle)
        self.flick["pair"].setEnabled(idle and self._two)
        self.series.set_ready(idle)

    def _on_found(self) -> None:
        found = self._epi.found
        self.setVisible(found is not None)
        if found is not None:
            self.numbers.setText(numbers_of(found.report, found.stopped))
            self.flick["pair"].setEnabled(self._two)

    @property
    def _two(self) -> bool:
        """There are two volumes to be compared."""
        found = self._epi.found
        return found is not None and len(found.correction.volumes) > 1


class SeriesView(QWidget):
    """A series in the field of the pair: its direction and readout time, checked and applied."""

    def __init__(self, epi: Epi) -> None:
        super().__init__()
        self._epi = epi
        self.side = SideEditor(epi, "series", "Series", "An image with a time axis (t, z, y, x), "
                               "of the same head in the same place")  # fmt: skip
        self.check = button(
            "Check its direction",
            "Try the other directions on one volume, and compare it with the corrected pair",
            lambda: epi.attempt(epi.check_series),
        )
        self.apply = button(
            "Correct the series",
            "Every volume by the field that was found, with its own readout time",
            lambda: epi.attempt(epi.apply),
        )
        self.verdict = Verdict(epi, "series")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.side)
        row = QHBoxLayout()
        row.addWidget(self.check)
        row.addWidget(self.apply)
        layout.addLayout(row)
        layout.addWidget(self.verdict)

    def set_ready(self, ready: bool) -> None:
        known = ready and self._epi.sides["series"].layer is not None
        for each in (self.check, self.apply):
            each.setEnabled(known)


class Verdict(QWidget):
    """What a check of directions has found, and a button to follow it."""

    def __init__(self, epi: Epi, name: str) -> None:
        super().__init__()
        self._epi, self._name, self._check = epi, name, None
        self.message = Message()
        self.use = button("", "Take the direction that fits better", self._use)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.message)
        layout.addWidget(self.use)
        self.use.hide()
        follow(self, epi.checked, self._on_checked)
        follow(self, epi.changed, self._on_changed)

    def _on_checked(self, name: str, check: Any) -> None:
        if name != self._name:
            return
        self._check, better = check, check.suggested
        rows = [f"{trial.directions}: {trial.correlation:.3f}" for trial in check.trials]
        table = "\n".join(["How alike the images become (correlation):", *rows])
        tone = "note" if better or check.given.correlation <= check.before else "good"
        self.message.say(check.sentence(), tone, table)
        self.use.setText("" if better is None else f"Use {better.directions}")
        self.use.setVisible(better is not None)

    def _on_changed(self, name: str) -> None:
        """What was checked is no longer what is given."""
        if name == self._name or (self._name == "up" and name in ("down", "")):
            self.message.say("")
            self.use.hide()

    def _use(self) -> None:
        self._epi.follow(self._check, self._name)


def numbers_of(report: dict[str, Any], stopped: bool) -> str:
    """The numbers that tell whether to believe it, in a few lines."""
    lines = ["<b>Stopped early</b>; this is its best state by then."] if stopped else []
    before, after = report["agreement"]["before"], report["agreement"]["after"]
    if after is not None:
        lines.append(
            f"Correlation inside the object: {before['correlation']:.3f} → "
            f"<b>{after['correlation']:.3f}</b>"
        )
    shift, hz = report["field"]["shift_voxels"], report["field"]["field_hz"]
    if shift["mean"] is not None:
        lines.append(f"Shift: {shift['mean']:.1f} voxels in the mean, {shift['max']:.1f} at most")
        lines.append(f"Field: {hz['min']:.0f} to {hz['max']:.0f} Hz")
    folds = report["field"]["folded_voxels"]
    share = 100 * (report["unrecoverable_fraction"] or 0.0)
    lines.append(f"Folded voxels: {folds}; shown by no volume: {share:.2f} %")
    return "<br>".join(lines)


def _add(combo: QComboBox, title: str, tip: str) -> None:
    from qtpy.QtCore import Qt

    combo.addItem(title)
    combo.setItemData(combo.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)


def _toggle(text: str, tip: str) -> QPushButton:
    out = QPushButton(text)
    out.setCheckable(True)
    out.setToolTip(tip)
    return out
