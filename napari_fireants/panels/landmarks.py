"""The Landmarks dock: set the same places in both images, and see how far they are apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from fireants_engine.errors import InputError
from napari_fireants._autosave import Kept
from napari_fireants._controller import controller_of
from napari_fireants._landmark_files import READABLE, WRITABLE, load, needs_side, save, take
from napari_fireants._landmarks import COLUMNS, Side
from napari_fireants._latest import Latest
from napari_fireants._layers import Snapshot, snapshot
from napari_fireants._picking import KEYS, Mode
from napari_fireants.panels._landmark_fit import FitBox, PullBox
from napari_fireants.panels._landmark_table import LandmarkView, length
from napari_fireants.panels._widgets import Dock, Message, button, caption, follow, primary

if TYPE_CHECKING:
    from napari.components import ViewerModel

EMPTY = (
    "A landmark is a place that you recognise in both images. Press Pick pairs, click one in the "
    "fixed image, then the same place in the moving image."
)


class LandmarksPanel(Dock):
    """Thin: rows are the controller's `landmarks`, what happens to them its `landmarking`."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.controller = controller_of(napari_viewer)
        self.table, self.marking = self.controller.landmarks, self.controller.landmarking
        self.picker = self.marking.picker
        self._files = Latest()
        self._kept: Kept | None = None
        self._build()
        follow(self, self.table.changed, self._draw)
        follow(self, self.table.measured, self._draw)
        follow(self, self.table.selected_changed, self._select)
        follow(self, self.table.steps.changed, self._draw_steps)
        follow(self, self.picker.changed, self._draw_picking)
        follow(self, self.picker.said, self._say)
        follow(self, self.marking.told, self._say)
        end, flush = self.picker.end, self.marking.autosave.flush
        self.destroyed.connect(lambda: (end(), flush()))
        self.marking.marks.write()
        self._draw()
        self._draw_steps()
        self._draw_picking()
        self._offer()

    # ---------------------------------------------------------------- build
    def _build(self) -> None:
        body, layout = self.column()
        layout.addWidget(self._recovery())
        self.hint = caption(EMPTY)
        layout.addWidget(self.hint)
        layout.addLayout(self._modes())
        self.doing, self.message = Message(), Message()
        layout.addWidget(self.doing)
        layout.addWidget(self.message)
        self.view = LandmarkView(self.table)
        self.view.went.connect(self.marking.marks.go)
        self.view.removed.connect(self._delete)
        self.view.rows.said.connect(self._say)
        layout.addWidget(self.view)
        self.numbers = caption()
        self.numbers.setToolTip("Of the pairs that are ticked: how far apart they are (TRE)")
        layout.addWidget(self.numbers)
        layout.addLayout(self._buttons())
        self.more = QWidget()
        more = QVBoxLayout(self.more)
        more.setContentsMargins(0, 4, 0, 0)
        more.setSpacing(4)
        more.addWidget(QLabel("<b>Fit to the pairs</b>"))
        self.fit = FitBox(self.controller)
        more.addWidget(self.fit)
        more.addWidget(QLabel("<b>In the registration</b>"))
        self.pull = PullBox(self.controller)
        more.addWidget(self.pull)
        layout.addWidget(self.more)
        layout.addStretch(1)
        self.fill(body)

    def _recovery(self) -> QWidget:
        self.recovery = QWidget()
        box = QVBoxLayout(self.recovery)
        box.setContentsMargins(0, 0, 0, 0)
        self.lost = Message()
        box.addWidget(self.lost)
        row = QHBoxLayout()
        row.addWidget(button("Bring them back", "Into this table", self._recover))
        row.addWidget(button("Discard", "Delete them for good", self._discard))
        box.addLayout(row)
        return self.recovery

    def _modes(self) -> QVBoxLayout:
        self.pick = primary("Pick pairs")
        self.pick.setCheckable(True)
        self.pick.setToolTip(
            "Click a place in the fixed image, then the same in the moving one, and so on. Without "
            f"this: hold {KEYS['fixed']} and click in the fixed image, {KEYS['moving']} in the "
            "moving one"
        )
        self.pick.clicked.connect(lambda on: self._begin("pairs" if on else ""))
        self.move_points = button("Move", "Drag landmarks to better places", lambda: None)
        self.move_points.setCheckable(True)
        self.move_points.clicked.connect(lambda on: self._begin("move" if on else ""))
        row = QHBoxLayout()
        row.addWidget(self.pick, 3)
        row.addWidget(self.move_points, 1)
        self.registered = QCheckBox("Pick on the registered image")
        self.registered.setToolTip(
            "Places of the moving image are clicked where the registration has brought them, and "
            "taken back through it; otherwise in the moving image as it was loaded"
        )
        self.registered.setChecked(self.picker.registered)
        self.registered.toggled.connect(self._on_registered)
        rows = QVBoxLayout()
        rows.addLayout(row)
        rows.addWidget(self.registered)
        return rows

    def _buttons(self) -> QVBoxLayout:
        steps = self.table.steps
        self.delete = button("Delete", "Delete the selected landmarks", self._delete)
        self.undo = button("Undo", "", steps.undo)
        self.redo = button("Redo", "", steps.redo)
        self.load = button(
            "Load…", "Pairs, or a list of either image: files of ANTs, Slicer (.fcsv, .mrk.json), "
            "elastix, BigWarp, or our CSV", self._load,
        )  # fmt: skip
        self.save = button("Save…", "Write the pairs for these or for other programs", self._save)
        rows = QVBoxLayout()
        rows.setSpacing(4)
        for buttons in ((self.delete, self.undo, self.redo), (self.load, self.save)):
            row = QHBoxLayout()
            for each in buttons:
                row.addWidget(each)
            rows.addLayout(row)
        return rows

    # ---------------------------------------------------------------- what is shown
    def _draw(self) -> None:
        table = self.table
        self.hint.setVisible(not table.rows)
        self.view.setVisible(bool(table.rows))
        self.view.refresh(self.marking.unit)
        self.more.setVisible(any(row.complete for row in table.rows))
        self.save.setEnabled(bool(table.pairs))
        self.delete.setEnabled(bool(table.selected))
        self.move_points.setEnabled(bool(table.rows))
        self.registered.setVisible(self.marking.marks.exact is not None and not table.trial)
        self.numbers.setText(self._statistics())
        self.numbers.setVisible(bool(table.rows))
        if self.picker.mode:
            self.doing.say(self.picker.sentence, "note")

    def _statistics(self) -> str:
        table = self.table
        found = {c: s for c in COLUMNS if (s := table.statistics(c)) is not None}
        if not found:
            return "No pair yet." if table.rows else ""
        known = found.get(table.column) or found["before"]
        words = {"now": f"{table.trial} fit" if table.trial else "now"}
        unit, per_mm = self.marking.unit
        means = " → ".join(f"{length(s.mean * per_mm)} {words.get(c, c)}" for c, s in found.items())
        worst = table.worst
        name = "" if worst is None else f" ({table.row(worst).name})"
        median, largest = (length(x * per_mm) for x in (known.median, known.largest))
        rest = f"median {median}, largest {largest} {unit}{name}"
        count = f"{known.pairs} pair{'s' if known.pairs > 1 else ''}"
        return f"Mean {means}\n{count}: {rest}"

    def _select(self) -> None:
        self.delete.setEnabled(bool(self.table.selected))
        self.view.select()

    def _draw_steps(self) -> None:
        steps = self.table.steps
        for each, name, word in (
            (self.undo, steps.undo_name, "Take back"), (self.redo, steps.redo_name, "Do again"),
        ):  # fmt: skip
            each.setEnabled(bool(name))
            each.setToolTip(f"{word}: {name}" if name else "Nothing to take back or do again")

    def _draw_picking(self) -> None:
        mode = self.picker.mode
        self.pick.setChecked(mode == "pairs")
        self.pick.setText("End picking" if mode == "pairs" else "Pick pairs")
        self.move_points.setChecked(mode == "move")
        self.doing.say(self.picker.sentence, "note")

    def _say(self, sentence: str, tone: str = "error") -> None:
        self.message.say(sentence, tone)

    # ---------------------------------------------------------------- commands
    def _begin(self, mode: Mode) -> None:
        self._say("")
        self.picker.begin(mode)
        self._draw_picking()

    def _on_registered(self, on: bool) -> None:
        self.picker.registered = on
        self.picker.again()

    def _delete(self) -> None:
        self.table.delete(self.table.selected)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape and self.picker.mode:
            self.picker.end()
        else:
            super().keyPressEvent(event)

    # ---------------------------------------------------------------- files
    def _images(self) -> tuple[Snapshot, Snapshot] | None:
        fixed, moving = self.controller.images()
        if fixed is None or moving is None:
            self._say("Open both images first: files count in their frames.")
            return None
        try:
            return snapshot(fixed), snapshot(moving)
        except InputError as error:
            self._say(str(error))
            return None

    def _load(self) -> None:
        images = self._images()
        if images is None:
            return
        names, _ = QFileDialog.getOpenFileNames(self, "Load landmarks", "", READABLE)
        paths = [Path(name) for name in names]
        side: Side | None = "fixed"
        if paths and needs_side(paths):
            side = self._ask_side(paths[0].name)
        if not paths or side is None:
            return
        chosen: Side = side

        def done(loaded) -> None:
            try:
                take(self.table, loaded)
            except InputError as error:
                self._say(str(error))
                return
            self._say(loaded.note, "good")

        self._files.ask(lambda: load(paths, *images, chosen), done, self._say)

    def _ask_side(self, name: str) -> Side | None:
        """Of which image a list is; None: of neither after all."""
        box = QMessageBox(self)
        box.setWindowTitle("Load landmarks")
        box.setText(f"{name} is one list of points. Of which image?")
        fixed = box.addButton("Fixed", QMessageBox.ButtonRole.AcceptRole)
        moving = box.addButton("Moving", QMessageBox.ButtonRole.AcceptRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.exec()
        clicked = box.clickedButton()
        return "fixed" if clicked is fixed else "moving" if clicked is moving else None

    def _save(self) -> None:
        images = self._images()
        if images is None:
            return
        name, chosen = QFileDialog.getSaveFileName(
            self, "Save landmarks", "landmarks.csv", ";;".join(WRITABLE)
        )
        if not name:
            return
        kind, end = WRITABLE.get(chosen, ("pairs", ".csv"))
        path = Path(name if name.endswith(end) else f"{Path(name).with_suffix('')}{end}")
        rows = self.table.rows
        left = sum(not row.complete for row in rows)

        def done(files: list[Path]) -> None:
            self.marking.autosave.saved(rows)
            text = f"Saved to {' and '.join(str(file) for file in files)}."
            lone = f" {left} without a counterpart {'is' if left == 1 else 'are'} not in it."
            self._say(text + (lone if left else ""), "good")

        self._files.ask(lambda: save(rows, path, kind, *images), done, self._say)

    # ---------------------------------------------------------------- of an earlier session
    def _offer(self) -> None:
        self._kept = None if self.table.rows else self.marking.autosave.found()
        self.recovery.setVisible(self._kept is not None)
        if self._kept is not None:
            self.lost.say(self._kept.sentence, "note")

    def _recover(self) -> None:
        if self._kept is not None:
            try:
                self.marking.autosave.recover(self._kept)
            except InputError as error:
                self._say(str(error))
        self.recovery.hide()

    def _discard(self) -> None:
        if self._kept is not None:
            self.marking.autosave.discard(self._kept)
        self._offer()
