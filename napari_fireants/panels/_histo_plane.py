"""What lies on a section: ways to look at it, moving it, Refine, landmarks, Export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_fireants._fields import DecimalBox, Section, guard_wheel, small_button
from napari_fireants._histo import OF_STACK, Histo
from napari_fireants._histo_given import Section as Placed
from napari_fireants._histo_link import Refined
from napari_fireants._histo_move import KEYS_OF_HAND
from napari_fireants._histo_pairs import FIRST
from napari_fireants._histo_pose import STEEPEST, WAYS
from napari_fireants._histo_scene import BESIDE, OVER
from napari_fireants.panels._widgets import (
    Message,
    button,
    caption,
    duration,
    follow,
    narrow_combo,
    primary,
)

EXPORT = (
    "The volume (or the other section) on the section's pixels, outlines of regions, landmarks, "
    "transforms and a report, into a folder"
)
AWAY = "Hide section and plane; the layers look as before"
MOVE_TIP = (
    "Drag the plane on the canvas: with Shift it turns, with Ctrl it scales. Keys: " + KEYS_OF_HAND
)


class PlaneView(QWidget):
    """Shown once the section is placed."""

    def __init__(self, histo: Histo) -> None:
        super().__init__()
        self._histo = histo
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(4)
        self.title = QLabel()
        layout.addWidget(self.title)
        self.words = caption()
        layout.addWidget(self.words)
        self.look = Look(histo)
        self.hand = MoveView(histo)
        self.marks = MarksView(histo)
        layout.addWidget(self.look)
        layout.addWidget(self.hand)
        self.refine = primary("Refine")
        self.refine.setToolTip("Fit plane, affine map and the deformation on it, from where it is "
                               "now")  # fmt: skip
        self.refine.clicked.connect(lambda: histo.work.attempt(histo.refine))
        layout.addWidget(self.refine)
        self.fitted = QCheckBox("As fitted")
        self.fitted.setToolTip("The plane as it was fitted; off: as it was placed before")
        self.fitted.toggled.connect(histo.show_refined)
        self.numbers = caption()
        layout.addWidget(self.fitted)
        layout.addWidget(self.numbers)
        layout.addWidget(Section("Landmarks", self.marks))
        self.export = button("Export…", EXPORT, self._export)
        self.away = button("Put away", "", self._show_or_hide)
        row = QHBoxLayout()
        row.addWidget(self.export)
        row.addWidget(self.away)
        layout.addLayout(row)
        follow(self, histo.placed, self._refresh)
        follow(self, histo.work.working, self._refresh)
        self._refresh()

    def _export(self) -> None:
        start = str(Path.cwd() / "section_in_volume")
        path, _ = QFileDialog.getSaveFileName(self, "Export into a new folder", start)
        if path:
            self.export_in(Path(path))

    def export_in(self, folder: Path) -> None:
        """What Export does once a folder is chosen."""
        self._histo.work.attempt(lambda: self._histo.export(folder))

    def _show_or_hide(self) -> None:
        if self._histo.scene.on:
            self._histo.put_away()
        else:
            self._histo.show()

    def _refresh(self) -> None:
        histo, section = self._histo, self._histo.section
        pose = None if section is None else section.pose
        fitted = None if section is None else section.refined
        self.setVisible(pose is not None)
        idle = not histo.work.session.busy
        self.title.setText("<b>Other section</b>" if histo.pair else "<b>Plane</b>")
        self.words.setText("" if pose is None else _as_sentence(pose.sentence()))
        self.refine.setEnabled(idle)
        self.fitted.setVisible(fitted is not None)
        self.numbers.setVisible(fitted is not None)
        self.fitted.blockSignals(True)
        self.fitted.setChecked(section is not None and section.as_refined)
        self.fitted.blockSignals(False)
        self.numbers.setText(
            "" if section is None or fitted is None else numbers_of(section, fitted)
        )
        with_stack = fitted is not None and fitted.of_stack is not None
        ready = section is not None and section.as_refined and not with_stack
        why = OF_STACK if with_stack else f"Refine first. {EXPORT}"
        self.export.setEnabled(idle and ready)
        self.export.setToolTip(EXPORT if ready else why)
        shown = histo.scene.on
        self.away.setText("Put away" if shown else "Show again")
        self.away.setToolTip(AWAY if shown else "Section and plane on the canvas again")
        for each in (self.hand, self.marks, self.fitted, self.away):
            each.setEnabled(not histo.work.task and (shown or each is self.away))
        self.look.setEnabled(shown)


class Look(QWidget):
    """Side by side, over each other, flicker."""

    def __init__(self, histo: Histo) -> None:
        super().__init__()
        self._scene = scene = histo.scene
        self.view = narrow_combo("View")
        self.view.setToolTip("Section and plane beside each other, or the plane over the section")
        self.view.addItems([BESIDE, OVER])
        self.view.setCurrentText(scene.view)
        self.blend = QSlider(Qt.Orientation.Horizontal)
        self.blend.setRange(0, 100)
        self.blend.setValue(round(100 * scene.blend))
        self.blend.setAccessibleName("How much of the plane is seen over the section")
        self.blend.setToolTip(self.blend.accessibleName())
        guard_wheel(self.blend)
        self.flick = QPushButton("Flicker")
        self.flick.setCheckable(True)
        self.flick.setToolTip("Section and plane by turns in one place")
        self.lines = QPushButton("Grid")
        self.lines.setCheckable(True)
        self.lines.setToolTip("Straight lines of the volume as the fit has bent them; after Refine")
        self.lines.setChecked(scene.with_lines)
        self.fit = small_button("⤢", "Show all of both", scene.fit)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        row = QHBoxLayout()
        row.addWidget(self.view, 1)
        row.addWidget(self.flick)
        row.addWidget(self.lines)
        row.addWidget(self.fit)
        layout.addLayout(row)
        layout.addWidget(self.blend)
        self.view.currentTextChanged.connect(self._on_view)
        self.blend.valueChanged.connect(lambda value: scene.choose_blend(value / 100))
        self.flick.toggled.connect(self._on_flick)
        self.lines.toggled.connect(scene.choose_lines)
        self.blend.setVisible(scene.view == OVER)
        follow(self, histo.work.working, lambda: self.flick.setChecked(False))

    def _on_view(self, view: str) -> None:
        if view == BESIDE:
            self.flick.setChecked(False)
        self._scene.choose_view(view)
        self.blend.setVisible(view == OVER)

    def _on_flick(self, on: bool) -> None:
        if on:
            self.view.setCurrentText(OVER)
        self._scene.flicker(on)


class MoveView(QWidget):
    """Moving the plane by mouse, keys and numbers; and steps back."""

    def __init__(self, histo: Histo) -> None:
        super().__init__()
        self._histo = histo
        self.move_it = QPushButton("Move")
        self.move_it.setCheckable(True)
        self.move_it.setToolTip(MOVE_TIP)
        self.flip = button(
            "Flip",
            "Left and right change places: the slide shows the other side",
            lambda: histo.hand.press("F"),
        )
        self.undo = small_button("↶", "Undo", histo.undo.undo)
        self.redo = small_button("↷", "Redo", histo.undo.redo)
        self.reset = button("Reset", "Back to the chosen candidate", histo.reset)
        row = QHBoxLayout()
        row.setSpacing(3)
        for each in (self.move_it, self.flip, self.reset, self.undo, self.redo):
            row.addWidget(each)
        self.position = _number("Position of the plane in mm", " mm", (-1000.0, 1000.0), 0.5)
        self.tilts = [_number("Tilt", "°", (-STEEPEST, STEEPEST), 0.5) for _ in range(2)]
        self._names = [QLabel() for _ in range(3)]
        self.numbers = QWidget()
        form = QFormLayout(self.numbers)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(3)
        boxes = (self.position, *self.tilts)
        for name, box in zip(self._names, boxes, strict=True):
            form.addRow(name, box)
        self.help = Message()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.help)
        layout.addWidget(self.numbers)
        self.move_it.toggled.connect(self._on_move)
        self.position.valueChanged.connect(self._on_position)
        for box in self.tilts:
            box.valueChanged.connect(self._on_tilt)
        follow(self, histo.placed, self._refresh)
        follow(self, histo.hand.changed, self._refresh)
        histo.undo.changed.connect(self._on_steps)
        self.destroyed.connect(
            lambda: histo.undo.changed.disconnect(self._on_steps, missing_ok=True)
        )
        self._refresh()
        self._on_steps()

    def _on_move(self, on: bool) -> None:
        if on or self._histo.hand.mode == "move":
            self._histo.hand.use("move" if on else "")

    def _on_position(self, value: float) -> None:
        self._histo.move("Move through the volume", lambda pose: pose.at_position(value),
                         ("section", "position"))  # fmt: skip

    def _on_tilt(self, *_: object) -> None:
        first, second = (box.value() for box in self.tilts)
        self._histo.move("Tilt the plane", lambda pose: pose.with_tilts(first, second),
                         ("section", "tilt"))  # fmt: skip

    def _on_steps(self) -> None:
        undo = self._histo.undo
        for each, name, word in ((self.undo, undo.undo_name, "Undo"),
                                 (self.redo, undo.redo_name, "Redo")):  # fmt: skip
            each.setEnabled(bool(name))
            each.setToolTip(f"{word}: {name}" if name else f"Nothing to {word.lower()}")

    def _refresh(self) -> None:
        section, moving = self._histo.section, self._histo.hand.mode == "move"
        self.move_it.blockSignals(True)
        self.move_it.setChecked(moving)
        self.move_it.blockSignals(False)
        self.help.say(f"{MOVE_TIP}. Esc ends." if moving else "", "note")
        pose = None if section is None else section.pose
        self.numbers.setVisible(pose is None or not pose.flat)
        if pose is None or pose.flat:
            return
        values = (pose.position_mm, *pose.tilts_deg)
        ways = [WAYS[k] for k in (pose.axis, *pose.tilt_axes)]
        names = ("Place, {}", "Tilt, {}", "Tilt, {}")
        boxes = (self.position, *self.tilts)
        for label, name, way, box, value in zip(
            self._names, names, ways, boxes, values, strict=True
        ):
            label.setText(name.format(way))
            box.setAccessibleName(f"{name.format(way)}, in {box.suffix().strip()}")
            box.setToolTip(f"{name.format(way)} of the volume")
            box.blockSignals(True)
            box.setValue(value)
            box.blockSignals(False)


class MarksView(QWidget):
    """Pairs of places, and how far they are apart."""

    def __init__(self, histo: Histo) -> None:
        super().__init__()
        self._histo = histo
        self.pick = QPushButton("Set pairs")
        self.pick.setCheckable(True)
        self.pick.setToolTip("Click a place on the section, then the same place on the plane, and "
                             "so on; Esc ends")  # fmt: skip
        self.remove = button("Remove last", "Take the last landmark away", histo.pairs.remove)
        self.help, self.words = Message(), caption()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        row = QHBoxLayout()
        row.addWidget(self.pick)
        row.addWidget(self.remove)
        layout.addLayout(row)
        layout.addWidget(self.help)
        layout.addWidget(self.words)
        self.pick.toggled.connect(self._on_pick)
        follow(self, histo.pairs.changed, self._refresh)
        follow(self, histo.hand.changed, self._on_mode)
        follow(self, histo.hand.said, self._say)
        self._refresh()

    def _on_pick(self, on: bool) -> None:
        if on:
            self._histo.scene.choose_view(BESIDE)
        if on or self._histo.hand.mode == "mark":
            self._histo.hand.use("mark" if on else "")

    def _on_mode(self) -> None:
        on = self._histo.hand.mode == "mark"
        self.pick.blockSignals(True)
        self.pick.setChecked(on)
        self.pick.blockSignals(False)
        self._say(FIRST if on else "")

    def _say(self, sentence: str) -> None:
        self.help.say(sentence, "note")

    def _refresh(self) -> None:
        section, errors = self._histo.section, self._histo.pairs.errors_um
        self.remove.setEnabled(section is not None and bool(section.pairs))
        if section is None or errors is None or not len(errors):
            self.words.setText("" if errors is None else "No pairs yet.")
            return
        what = "as fitted" if section.as_refined else "as placed"
        mean, median = (section.length(float(of(errors))) for of in (np.mean, np.median))
        self.words.setText(
            f"{len(errors)} pair{'s' if len(errors) > 1 else ''}, {what}: apart by "
            f"<b>{mean}</b> in the mean, {median} in the median"
        )


def _as_sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _number(name: str, suffix: str, limits: tuple[float, float], step: float) -> DecimalBox:
    out = DecimalBox()
    out.setRange(*limits)
    out.setDecimals(1)
    out.setSingleStep(step)
    out.setSuffix(suffix)
    out.setAccessibleName(name)
    out.setToolTip(name)
    out.setKeyboardTracking(False)
    guard_wheel(out)
    return out


def numbers_of(section: Placed, fitted: Refined) -> str:
    """What was fitted, in a few lines."""
    median, largest = (section.length(each) for each in fitted.moved_um)
    lines = ["<b>Stopped early</b>; this is its best state by then."] if fitted.stopped else []
    lines.append(f"Fitted in {duration(fitted.seconds)}: {fitted.pose.words[0]}")
    lines.append(f"Deformed on the slide by {median} in the median, {largest} at most")
    return "<br>".join(lines)
