"""The EPI correction dock: two images, their directions, Correct; then look, apply and save."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QWidget,
)

from napari_fireants._controller import controller_of
from napari_fireants._epi import APPLYING, CHECKING, CORRECTING
from napari_fireants._fields import Section, small_button
from napari_fireants._session import Progress
from napari_fireants.panels._epi_result import ResultView, Verdict
from napari_fireants.panels._epi_side import SideEditor
from napari_fireants.panels._widgets import (
    Dock,
    LayerCombo,
    Message,
    button,
    caption,
    follow,
    primary,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

TICK_MS = 60
HINT = (
    "Open two EPI images of one object that were read out in opposite directions (File > Open). "
    "Sidecars (JSON) beside them tell directions and readout times."
)
STOPPABLE = (CORRECTING, CHECKING, APPLYING)
NEEDED = "choose two images, their directions and readout times."
CHECK = "Try other directions quickly and coarsely, and say which make the images alike"


class EpiPanel(Dock):
    """Thin: what is given, at work and found is the controller's `epi`."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.controller = controller_of(napari_viewer)
        self.viewer, self.epi = self.controller.viewer, self.controller.epi
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self.epi.drain)
        self._build()
        self._connect()
        self.reset_choices()
        self._on_working()

    # ---------------------------------------------------------------- build
    def _build(self) -> None:
        body, layout = self.column()
        self.hint = Message()
        layout.addWidget(self.hint)
        self.up = SideEditor(self.epi, "up", "Up", "One of the two images; its grid is the true "
                             "one, and Hz and shift are told of it")  # fmt: skip
        self.down = SideEditor(self.epi, "down", "Down", "The image of the opposite direction")
        layout.addWidget(self.up)
        layout.addWidget(self.down)
        layout.addWidget(self._tools())
        self.verdict = Verdict(self.epi, "up")
        layout.addWidget(self.verdict)
        layout.addWidget(Section("More", self._more()))
        self.run = primary("Correct")
        self.run.clicked.connect(lambda: self.epi.attempt(self.epi.start))
        self.stop = button("Stop", "End at the next step and keep the best state", self.epi.stop)
        layout.addWidget(self.run)
        row = QHBoxLayout()
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("How far the work is")
        row.addWidget(self.bar, 1)
        row.addWidget(self.stop)
        layout.addLayout(row)
        self.status, self.message = caption(), Message()
        layout.addWidget(self.status)
        layout.addWidget(self.message)
        self.result = ResultView(self.epi)
        layout.addWidget(self.result)
        layout.addStretch(1)
        self.scroll = self.fill(body)

    def _tools(self) -> QWidget:
        box = QWidget()
        row = QHBoxLayout(box)
        row.setContentsMargins(0, 0, 0, 0)
        self.check = button(
            "Check directions",
            CHECK,
            lambda: self.epi.attempt(self.epi.check),
        )
        self.arrows = QCheckBox("Arrows")
        self.arrows.setToolTip("Draw both directions on the images: where a field above 0 Hz "
                               "shifts what is seen")  # fmt: skip
        self.arrows.setChecked(True)
        self.arrows.toggled.connect(self._on_arrows)
        swap = small_button("⇅", "Swap up and down, with their directions", self.epi.swap)
        self.swap = swap
        row.addWidget(self.check, 1)
        row.addWidget(self.arrows)
        row.addWidget(swap)
        return box

    def _more(self) -> QWidget:
        self.motion = _box("The head moved between the two", "Also estimate how the second image "
                           "lies to the first: 6 parameters, in the same steps")  # fmt: skip
        self.mixed = _box("Different axes are meant", "The two images were read out along "
                          "different axes, as j and i")  # fmt: skip
        self.motion.setChecked(self.epi.options.motion)
        self.mixed.setChecked(self.epi.options.mixed_axes)
        self.motion.toggled.connect(lambda on: self.epi.set_options(motion=on))
        self.mixed.toggled.connect(lambda on: self.epi.set_options(mixed_axes=on))
        self.optional = {
            "structural": LayerCombo("Structural image", optional=True),
            "field_map": LayerCombo("Field map in Hz", optional=True),
        }
        tips = {
            "structural": "A T1 or T2 of the same head, aligned with the images: it says where "
            "things really are. Rarely needed with two directions.",
            "field_map": "A field that is known already corrects the images (one will do), and "
            "decides the sign of a direction.",
        }
        box = QWidget()
        form = QFormLayout(box)
        form.setContentsMargins(0, 4, 0, 4)
        form.addRow(self.motion)
        form.addRow(self.mixed)
        for key, combo in self.optional.items():
            combo.explain(tips[key])
            combo.chosen.connect(lambda layer, key=key: self.epi.set_options(**{key: layer}))
            form.addRow(combo.accessibleName(), combo)
        self.acqparams = button(
            "Read acqparams.txt…",
            "Directions and readout times from FSL's file: the first row is up, the second down",
            self._choose_file,
        )
        form.addRow(self.acqparams)
        return box

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "FSL's acqparams", "", "Text (*.txt);;All (*)")
        if path:
            self.epi.attempt(lambda: self.epi.read_acqparams(Path(path)))

    def _connect(self) -> None:
        epi = self.epi
        follow(self, epi.changed, self._on_changed)
        follow(self, epi.working, self._on_working)
        follow(self, epi.progressed, self._on_progress)
        follow(self, epi.told, self._on_told)
        session = self.controller.session
        session.busy_changed.connect(self._refresh)
        session.state_changed.connect(self._refresh)
        self.destroyed.connect(epi.stop)

    # ---------------------------------------------------------------- layers
    def reset_choices(self, event: Any = None) -> None:
        """napari calls this when layers come, go or are renamed."""
        own = self.epi.scene.own
        others = [x for x in self.viewer.layers if hasattr(x, "rgb") and x not in own]
        volumes = [x for x in others if x.ndim in (2, 3) and not x.rgb]
        for key, combo in self.optional.items():
            combo.offer(volumes, getattr(self.epi.options, key))
        self._offer("up", volumes)
        self._offer("down", volumes)
        series = [x for x in others if x.ndim == 4]
        self.result.series.side.offer(series, series[0] if series else None)
        self.hint.say("" if len(volumes) > 1 else HINT, "note")
        self._refresh()

    def _offer(self, name: str, volumes: list[Layer]) -> None:
        """What is chosen stays, and so is none; else the first that has no other part."""
        sides, options = self.epi.sides, self.epi.options
        other = sides["down" if name == "up" else "up"].layer
        taken = [x for x in (other, options.structural, options.field_map) if x is not None]
        default = sides[name].layer
        if default is None and name not in self.epi.asked:
            default = next((x for x in volumes if x not in taken), None)
        {"up": self.up, "down": self.down}[name].offer(volumes, default)

    # ---------------------------------------------------------------- what happens
    def _on_changed(self, name: str) -> None:
        if name in ("up", "down"):
            self._on_arrows(self.arrows.isChecked())
        self._refresh()

    def _on_arrows(self, on: bool) -> None:
        sides = {name: self.epi.sides[name] for name in ("up", "down")} if on else {}
        self.epi.scene.show_arrows(sides)

    def _on_working(self) -> None:
        if self.epi.task:
            self._timer.start()
            self.bar.setValue(0)
        else:
            self._timer.stop()
            self.status.setText("")
        self._refresh()

    def _on_progress(self, progress: Progress) -> None:
        self.bar.setValue(round(1000 * progress.fraction))
        self.status.setText(progress.text)

    def _on_told(self, sentence: str, tone: str) -> None:
        self.message.say(sentence, tone)

    def _refresh(self, *_: object) -> None:
        epi = self.epi
        busy, problem = self.controller.session.busy, epi.problem
        elsewhere = busy and not epi.task
        why = f"{self.controller.session.busy_with}; wait, or stop it." if elsewhere else problem
        self.run.setEnabled(not busy and not problem)
        self.run.setToolTip(why or "Find the field that bends both images, and undo it")
        self.stop.setVisible(epi.task in STOPPABLE)
        self.bar.setVisible(bool(epi.task))
        self.status.setVisible(bool(epi.task or why))
        if not epi.task:
            self.status.setText(why)
        ready = not busy and all(epi.sides[name].known for name in ("up", "down"))
        self.check.setEnabled(ready)
        self.check.setToolTip(CHECK if ready or busy else f"{CHECK}. First: {problem or NEEDED}")
        for each in (self.up, self.down, self.swap):
            each.setEnabled(not epi.task)
        self.result.series.set_ready(not busy and epi.found is not None)


def _box(text: str, tip: str) -> QCheckBox:
    out = QCheckBox(text)
    out.setToolTip(tip)
    return out
