"""The Histology dock: a section and a volume, or two sections; then look, move, refine, export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QSpinBox,
    QWidget,
)

from napari_fireants._controller import controller_of
from napari_fireants._fields import DecimalBox, Section, guard_wheel
from napari_fireants._histo_pose import PLANES, SIDES
from napari_fireants._histo_work import EXPORTING, PREPARING
from napari_fireants._session import Progress
from napari_fireants.panels._histo_candidates import Candidates
from napari_fireants.panels._histo_plane import PlaneView
from napari_fireants.panels._histo_stack import StackView
from napari_fireants.panels._widgets import (
    Dock,
    LayerCombo,
    Message,
    button,
    caption,
    follow,
    narrow_combo,
    primary,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel

TICK_MS = 60
HINT = (
    "Open a stained section (2D), and the volume it was cut from, such as an MRI of the same "
    "brain, or another section (File > Open). To try it: File > Open Sample > napari-fireants > "
    "Section and brain."
)
FIND = "Search position, tilts and turn of the section in the volume: 5 to 20 s"
MATCH = "Try every turn of the other section, both ways up: about 5 s"
FIND_IT, MATCH_THEM = "Find the plane", "Match the sections"
BY_HAND = (
    "Begin with the chosen plane through the middle of the volume, without a search",
    "Begin with the other section as it is stored, middle on middle, without a search",
)
BETWEEN = "micrometres from one pixel to the next"
UNKNOWN = "The layer does not say how large a pixel is, and it is never guessed: type it"
KEPT = "Read the images, and show the plane that the session has kept, without a search"
ANY_SIDE = ("", *(side for pair in SIDES for side in pair))


class HistologyPanel(Dock):
    """Thin: what is given, at work and found is the controller's `histo`."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.controller = controller_of(napari_viewer)
        self.viewer, self.histo = self.controller.viewer, self.controller.histo
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self.histo.work.drain)
        self._build()
        self._connect()
        self.reset_choices()
        self._on_working()

    # ---------------------------------------------------------------- build
    def _build(self) -> None:
        body, layout = self.column()
        self.hint = Message()
        layout.addWidget(self.hint)
        layout.addWidget(self._given())
        layout.addWidget(Section("More", self._more()))
        self.run = primary(FIND_IT)
        self.run.clicked.connect(lambda: self._attempt(self.histo.find))
        layout.addWidget(self.run)
        row = QHBoxLayout()
        self.hand = button("Place by hand", "", lambda: self._attempt(self.histo.by_hand))
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("How far the work is")
        self.stop = button("Stop", "End what is at work; a fit keeps its best state",
                           self.histo.work.stop)  # fmt: skip
        row.addWidget(self.hand)
        row.addWidget(self.bar, 1)
        row.addWidget(self.stop)
        layout.addLayout(row)
        self.status, self.message = caption(), Message()
        layout.addWidget(self.status)
        layout.addWidget(self.message)
        self.stack = StackView(self.histo)
        self.candidates = Candidates(self.histo)
        self.plane = PlaneView(self.histo)
        for each in (self.stack, self.candidates, self.plane):
            layout.addWidget(each)
        layout.addStretch(1)
        self.scroll = self.fill(body)

    def _given(self) -> QWidget:
        box = QWidget()
        form = QFormLayout(box)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        self.section = LayerCombo("Section")
        self.section.explain("A stained section, RGB or grey: a 2D image, or a stack of them")
        self.volume = LayerCombo("Volume or other section")
        self.volume.explain("The grey 3D image that the section was cut from; or another section "
                            "(2D), which is then brought onto this one")  # fmt: skip
        self.pixel = _pixel_box("Pixel size of the section in micrometres")
        self.other_pixel = _pixel_box("Pixel size of the other section in micrometres")
        self.planes = narrow_combo("Plane")
        self.planes.setToolTip("Near which plane the section was cut; any, where you do not know")
        self.planes.addItems(["any plane", *PLANES])
        self.sides = narrow_combo("Seen from")
        self.sides.setToolTip(
            "Which side of the plane the slide shows. Left and right of a symmetric brain look "
            "alike: say it where you know it"
        )
        self.sides.addItems(["either side", *(f"from {side}" for side in ANY_SIDE[1:])])
        row = QHBoxLayout()
        row.setSpacing(3)
        for each in (self.planes, self.sides):
            each.setMinimumContentsLength(5)
            row.addWidget(each)
        self._form = form
        self._cut = QWidget()
        self._cut.setLayout(row)
        row.setContentsMargins(0, 0, 0, 0)
        form.addRow("Section", self.section)
        form.addRow("Pixel", self.pixel)
        form.addRow("Match with", self.volume)
        form.addRow("Its pixel", self.other_pixel)
        form.addRow("Cut", self._cut)
        return box

    def _more(self) -> QWidget:
        box = QWidget()
        form = QFormLayout(box)
        form.setContentsMargins(0, 4, 0, 4)
        self.labels = LayerCombo("Regions", optional=True)
        self.labels.explain("A label layer of the volume: its outlines are drawn on the section "
                            "once it is fitted, and exported")  # fmt: skip
        self.tilt = DecimalBox()
        self.tilt.setRange(0.0, 30.0)
        self.tilt.setDecimals(1)
        self.tilt.setSuffix("°")
        self.tilt.setValue(self.histo.options.tilt_deg)
        self.tilt.setAccessibleName("Largest tilt in degrees")
        self.tilt.setToolTip("How oblique the cut may be about each edge; the search goes somewhat "
                             "further by itself")  # fmt: skip
        self.piece = QSpinBox()
        self.piece.setRange(0, 99)
        self.piece.setSpecialValueText("all")
        self.piece.setValue(self.histo.options.piece)
        self.piece.setAccessibleName("Piece of the slide")
        self.piece.setToolTip("Where a slide shows several sections: which one counts, numbered "
                              "from left to right")  # fmt: skip
        for each in (self.tilt, self.piece):
            guard_wheel(each)
            each.setKeyboardTracking(False)
        form.addRow("Regions", self.labels)
        form.addRow("Tilt up to", self.tilt)
        form.addRow("Piece", self.piece)
        return box

    def _connect(self) -> None:
        histo, work = self.histo, self.histo.work
        follow(self, histo.changed, self._on_changed)
        follow(self, histo.placed, self._refresh)
        follow(self, work.working, self._on_working)
        follow(self, work.progressed, self._on_progress)
        follow(self, work.told, self._on_told)
        self.section.chosen.connect(lambda layer: histo.choose_section(layer))
        self.volume.chosen.connect(histo.choose_volume)
        self.labels.chosen.connect(lambda layer: histo.set_options(labels=layer))
        self.pixel.valueChanged.connect(
            lambda value: histo.set_pixel_um(histo.layer, value or None)
        )
        self.other_pixel.valueChanged.connect(
            lambda value: histo.set_pixel_um(histo.volume, value or None)
        )
        self.planes.currentIndexChanged.connect(lambda k: histo.set_options(plane=("", *PLANES)[k]))
        self.sides.currentIndexChanged.connect(lambda k: histo.set_options(side=ANY_SIDE[k]))
        self.tilt.valueChanged.connect(lambda value: histo.set_options(tilt_deg=value))
        self.piece.valueChanged.connect(lambda value: histo.set_options(piece=value))
        session = self.controller.session
        session.busy_changed.connect(self._refresh)
        session.state_changed.connect(self._refresh)
        self.destroyed.connect(work.stop)

    def _attempt(self, action: Any) -> None:
        self.histo.work.attempt(action)

    # ---------------------------------------------------------------- layers
    def reset_choices(self, event: Any = None) -> None:
        """napari calls this when layers come, go or are renamed."""
        histo = self.histo
        others = [x for x in self.viewer.layers if x not in histo.scene.own]
        histo.forget_gone()
        images = [x for x in others if hasattr(x, "rgb") and x.ndim in (2, 3)]
        sections = [x for x in images if x.ndim == 2 or x.rgb]
        volumes = [x for x in images if x.ndim == 3 and not x.rgb]
        self.section.offer(images, histo.layer or next(iter(sections), None))
        self.volume.offer(images, histo.volume or next(iter(volumes), None))
        labels = [x for x in others if not hasattr(x, "rgb") and hasattr(x, "brush_size")]
        dim = 2 if histo.pair else 3
        self.labels.offer([x for x in labels if x.ndim == dim], histo.options.labels)
        self.hint.say("" if sections and len(images) > 1 else HINT, "note")
        self._on_changed()
        self.stack.refresh()

    # ---------------------------------------------------------------- what happens
    def _on_changed(self) -> None:
        histo = self.histo
        options = histo.options
        for widget, put, value in (
            (self.section, self.section.choose, histo.layer),
            (self.volume, self.volume.choose, histo.volume),
            (self.labels, self.labels.choose, options.labels),
            (self.pixel, self.pixel.setValue, histo.pixel_um(histo.layer) or 0.0),
            (self.other_pixel, self.other_pixel.setValue, histo.pixel_um(histo.volume) or 0.0),
            (self.planes, self.planes.setCurrentIndex, ("", *PLANES).index(options.plane)),
            (self.sides, self.sides.setCurrentIndex, ANY_SIDE.index(options.side)),
            (self.tilt, self.tilt.setValue, options.tilt_deg),
            (self.piece, self.piece.setValue, options.piece),
        ):
            widget.blockSignals(True)
            put(value)
            widget.blockSignals(False)
        for box, layer in ((self.pixel, histo.layer), (self.other_pixel, histo.volume)):
            origin = "As typed" if histo.pixel_typed(layer) else "As the layer says"
            box.setToolTip(f"{origin}: {BETWEEN}" if histo.pixel_um(layer) else UNKNOWN)
        self._form.setRowVisible(self.other_pixel, histo.pair)
        self._form.setRowVisible(self._cut, not histo.pair)
        self.run.setText(MATCH_THEM if histo.pair else FIND_IT)
        self._refresh()

    def _on_working(self) -> None:
        if self.histo.work.task:
            self._timer.start()
            self.bar.setRange(0, 0)
        else:
            self._timer.stop()
            self.status.setText("")
        self._refresh()

    def _on_progress(self, progress: Progress) -> None:
        known = 0 < progress.fraction < 1
        self.bar.setRange(0, 1000 if known else 0)
        if known:
            self.bar.setValue(round(1000 * progress.fraction))
        self.status.setText(progress.text)

    def _on_told(self, sentence: str, tone: str) -> None:
        self.message.say(sentence, tone)

    def _refresh(self, *_: object) -> None:
        histo, session = self.histo, self.controller.session
        task, busy, problem = histo.work.task, session.busy, histo.problem
        why = f"{session.busy_with}; wait, or stop it." if busy and not task else problem
        kept = histo.section is not None and histo.section.kept is not None
        self.hand.setText("Show the kept plane" if kept else "Place by hand")
        self.hand.setToolTip(KEPT if kept else BY_HAND[histo.pair])
        for each in (self.run, self.hand):
            each.setEnabled(not busy and not problem)
        self.run.setToolTip(why or (MATCH if histo.pair else FIND))
        self.hand.setVisible(not task)
        self.stop.setVisible(bool(task) and task not in (PREPARING, EXPORTING))
        self.bar.setVisible(bool(task))
        self.status.setVisible(bool(task or why))
        if not task:
            self.status.setText(why)
        for each in (self.section, self.volume, self._cut, self.piece):
            each.setEnabled(not task)
        self.pixel.setEnabled(not task and histo.layer is not None)
        self.other_pixel.setEnabled(not task and histo.volume is not None)


def _pixel_box(name: str) -> DecimalBox:
    out = DecimalBox()
    out.setRange(0.0, 100_000.0)
    out.setDecimals(4)
    out.setSuffix(" µm")
    out.setSpecialValueText("?")
    out.setAccessibleName(name)
    out.setKeyboardTracking(False)
    guard_wheel(out)
    return out
