"""The Register dock: choose two layers and a preset, press Register, watch."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from fireants_engine.errors import FireantsError
from fireants_engine.recipe.models import Recipe
from napari_fireants._controller import controller_of
from napari_fireants._fields import Section, guard_wheel
from napari_fireants._preferences import preferences
from napari_fireants._session import Kernels, Machine, Product, Progress, State
from napari_fireants.panels import _tour
from napari_fireants.panels._cheatsheet import show_sheet
from napari_fireants.panels._curve import LossCurve
from napari_fireants.panels._gallery import Gallery
from napari_fireants.panels._inputs import InputsEditor
from napari_fireants.panels._memory import MemoryLine
from napari_fireants.panels._preset_combo import show_entry
from napari_fireants.panels._result import ResultPanel
from napari_fireants.panels._stages import StagesEditor
from napari_fireants.panels._steer import SteerPanel
from napari_fireants.panels._widgets import (
    LABEL_WIDTH,
    Dock,
    Message,
    button,
    caption,
    duration,
    follow,
    held_painting,
    later,
    primary,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel


def likely_devices() -> dict[str, str]:
    """Device name -> text, guessed without torch; the first run replaces it by what was found."""
    found = {"auto": "Auto (found at first run)"}
    if shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists():
        found["cuda"] = "NVIDIA GPU (CUDA)"
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        found["mps"] = "Apple GPU"
    return {**found, "cpu": "CPU"}


class RegisterPanel(Dock):
    """Thin: everything it knows comes from the controller's store and session."""

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.controller = controller_of(napari_viewer)
        self.session, self.store = self.controller.session, self.controller.store
        self._viewer = napari_viewer
        self.inputs = InputsEditor(napari_viewer, self.controller.scene)
        self.controller.current_roles = lambda: self.inputs.roles
        self.controller.hold_painting = lambda: held_painting(self)
        self.result = ResultPanel(self.controller, lambda: self.device.currentData())
        self._invalid = ""
        self._build()
        self._connect()
        self._on_recipe(self.store.recipe)
        self._on_state(self.session.state)
        self.inputs.choose(self.controller.last_roles)
        if _tour.due():
            self.tour.begin()

    # ---------------------------------------------------------------- build
    def _build(self) -> None:
        body, layout = self.column()
        self.advanced = StagesEditor(self.store)
        self.problem = Message()
        self.settings = QWidget()
        settings = QVBoxLayout(self.settings)
        settings.setContentsMargins(0, 0, 0, 0)
        settings.setSpacing(4)
        settings.addWidget(self.inputs)
        settings.addLayout(self._preset())
        settings.addWidget(self.description)
        settings.addLayout(self._device())
        settings.addWidget(self.kernels)
        self.advanced_section = Section("Advanced: stages", self.advanced)
        self.tour = _tour.tour_of(self)
        layout.addWidget(self.tour)
        layout.addWidget(self.settings)
        self.memory = MemoryLine(self.controller, self.inputs, self.device)
        layout.addWidget(self.memory)
        layout.addWidget(self.advanced_section)
        layout.addWidget(self.problem)
        layout.addWidget(_line())
        layout.addLayout(self._buttons())
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(10)
        self.status = caption()
        self.status.setMinimumHeight(2 * self.status.fontMetrics().height() + 2)
        self.status.setToolTip(
            "A run has stages (turn and shift first, bending last), each from a coarse level to a "
            "fine one. The loss says how unlike both images still are: it should fall"
        )
        self.message = Message()
        self.steer = SteerPanel(self.controller, self.message)
        self.steer_section = Section("Steer: move, ignore, landmarks", self.steer)
        self.curve = LossCurve()
        for widget in (
            self.bar,
            self.status,
            self.message,
            self.curve,
            self.steer_section,
            self.result,
        ):
            layout.addWidget(widget)
        self.curve.hide()
        layout.addStretch(1)
        layout.addLayout(self._foot())
        self.scroll = self.fill(body)

    def _foot(self) -> QHBoxLayout:
        row = QHBoxLayout()
        show = lambda: show_sheet(self.controller, self)  # noqa: E731
        self.keys = button("Keys…", "All keys, and the tour of the first steps (F1)", show)
        row.addStretch(1)
        row.addWidget(self.keys)
        return row

    def _preset(self) -> QHBoxLayout:
        self.preset = QComboBox()
        self.preset.setAccessibleName("Preset")
        guard_wheel(self.preset)
        self.description = caption()
        self.preset.activated.connect(self._choose_preset)
        row = _row("Preset", self.preset, "Settings for a kind of images")
        self.gallery = button("Gallery…", "All presets with pictures, and your own", self._gallery)
        row.addWidget(self.gallery)
        return row

    def _device(self) -> QHBoxLayout:
        self.device = QComboBox()
        self.device.setAccessibleName("Device")
        policy = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.device.setSizeAdjustPolicy(policy)
        self.device.setMinimumContentsLength(8)
        guard_wheel(self.device)
        self._kernels: dict[str, Kernels] = {}
        self.kernels = caption()
        self.kernels.hide()
        self.device.currentIndexChanged.connect(self._tell_kernels)
        self._offer_devices(likely_devices())
        self._choose_device(preferences().device)
        return _row(
            "Device", self.device, "Where the run computes: on a graphics card (GPU) or on the CPU"
        )

    def _buttons(self) -> QVBoxLayout:
        self.run = primary("Register")
        self.run.clicked.connect(lambda: self.start())
        self.pause = button("Pause", "Hold the run at the next step", self._pause_or_resume)
        self.stop = button(
            "Stop", "End at the next step and keep the best state so far", self.session.stop
        )
        rows = QVBoxLayout()
        rows.addWidget(self.run)
        row = QHBoxLayout()
        row.addWidget(self.pause)
        row.addWidget(self.stop)
        rows.addLayout(row)
        return rows

    def _connect(self) -> None:
        session = self.session
        session.state_changed.connect(self._on_state)
        session.progressed.connect(self._on_progress)
        session.losses_added.connect(self.curve.add)
        session.noted.connect(self._on_note)
        session.finished.connect(self._on_finished)
        session.failed.connect(self._on_failed)
        session.machine_found.connect(self._on_machine)
        session.busy_changed.connect(self._on_busy)
        self.store.changed.connect(self._on_recipe)
        follow(self, self.controller.presets.changed, self._on_presets)
        self.inputs.changed.connect(self._refresh_buttons)
        self.inputs.swapped.connect(self.controller.landmarks.swap)
        self.advanced.problem.connect(self._on_problem)
        self.result.said.connect(self.message.say)
        self.destroyed.connect(session.shutdown)
        self.destroyed.connect(self.controller.detach)
        self.controller.current_device = lambda: self.device.currentData()
        self.controller.choose_device = self._choose_device
        self.controller.choose_roles = self.inputs.choose
        session.product_changed.connect(self._on_other_product)

    def reset_choices(self, *_: object) -> None:
        """napari calls this when layers come, go or change their names."""
        self.inputs.reset_choices()
        self._offer_layers()

    def _offer_layers(self) -> None:
        own, kinds = self.controller.scene.own, ("contrast_limits", "brush_size")
        layers = [x for x in self._viewer.layers if any(hasattr(x, kind) for kind in kinds)]
        self.result.offer([x for x in layers if x not in own])

    # ---------------------------------------------------------------- commands
    def start(self) -> None:
        """What the Register button does."""
        self.message.say("")
        try:
            self.controller.start(self.inputs.roles, self.device.currentData())
        except FireantsError as error:
            self.message.say(str(error))

    def _pause_or_resume(self) -> None:
        if self.session.state is State.PAUSED:
            self.session.resume()
        else:
            self.session.pause()

    def _choose_preset(self, index: int) -> None:
        source = self.preset.itemData(index)
        if source is not None:
            self._use(source)

    def _use(self, source: str | Path) -> None:
        """Take a preset, by its name, or an own one's file."""
        try:
            self.controller.choose_recipe(source)
        except FireantsError as error:
            self.message.say(str(error))
            self._on_recipe(self.store.recipe)

    def _gallery(self) -> None:
        gallery = Gallery(self.controller, self)
        gallery.chosen.connect(lambda preset: self._use(preset.path or preset.name))
        gallery.show()

    def _choose_device(self, name: str) -> None:
        index = self.device.findData(name)
        if index >= 0:
            self.device.setCurrentIndex(index)

    # ---------------------------------------------------------------- what happens
    def _on_other_product(self, product: Product | None) -> None:
        """Another run of the history is shown, or none."""
        self.status.setText("Ready." if product is None else product.sentence)
        self.result.set_ready(product is not None)
        self._offer_layers()

    def _on_presets(self) -> None:
        self._on_recipe(self.store.recipe)

    def _on_recipe(self, recipe: Recipe) -> None:
        show_entry(self.preset, self.controller.presets, self.store.entry)
        self.description.setText(recipe.description)
        self.description.setVisible(bool(recipe.description))

    def _on_problem(self, sentence: str) -> None:
        self._invalid = sentence
        self.problem.say(sentence)
        self._refresh_buttons()

    def _on_state(self, state: State) -> None:
        if state is State.RUNNING and self.bar.isHidden():
            self.curve.clear()
            self.curve.show()
            self.status.setText("Starting…")
        self.bar.setVisible(state.active)
        self.pause.setText("Resume" if state is State.PAUSED else "Pause")
        self.pause.setEnabled(state.steerable)
        self.stop.setEnabled(state.steerable)
        self.settings.setEnabled(not state.active)
        self.result.load_recipe.setEnabled(not state.active)
        if state.active:
            self.result.set_ready(False)
        if state is State.PAUSED:
            self.steer_section.show_content()
            later(self, 60, lambda panel: panel.scroll.ensureWidgetVisible(panel.steer, 0, 4))
        if state in (State.PAUSED, State.STOPPING):
            self.status.setText(f"{state.value}…" if state is State.STOPPING else "Paused.")
        if not state.active:
            self.bar.setValue(0)
        self._refresh_buttons()

    def _refresh_buttons(self) -> None:
        idle = not self.session.state.active and not self.session.busy
        ready = self.inputs.ready and not self._invalid
        self.run.setEnabled(idle and ready)
        why = "" if ready else self._invalid or "Choose a fixed and a moving image first"
        other = "" if self.session.state.active else self.session.busy_with
        if other:
            why = f"{other}; wait until it is done, or stop it"
        batch = bool(other) and self.controller.batch.running
        self.run.setText("Waiting for the batch" if batch else "Register")
        self.run.setToolTip(why or "Bring the moving image onto the fixed one")
        if self.session.state is State.IDLE:
            self.status.setText("Ready." if ready else "Choose a fixed and a moving image.")

    def _on_progress(self, now: Progress) -> None:
        self.bar.setValue(max(1, round(1000 * now.fraction)))
        stopping = self.session.state is State.STOPPING
        if self.session.state is State.PAUSED or (stopping and now.fraction < 1):
            return
        if stopping or not now.max_steps:
            self.status.setText(f"{now.text}…")
            return
        stage = f"Stage {now.stage_index + 1} of {now.stages}, {now.stage}"
        parts = [f"level {now.level + 1} of {now.levels}", f"step {now.step} of {now.max_steps}"]
        loss = f"loss {now.loss:.4f}" if now.loss == now.loss else ""
        left = "" if now.remaining is None else f"at most about {duration(now.remaining)} left"
        if now.fraction >= 1:
            left = f"{now.text}…"
        head = f"{stage}: {', '.join(parts)}"
        self.status.setText("\n".join([head, " · ".join(x for x in (loss, left) if x)]))

    def _on_finished(self, product: Product | None) -> None:
        if product is None:
            self.status.setText("Stopped.")
            return
        info = product.info
        took = duration(info["seconds"])
        where = {"cpu": "CPU"}.get(info["device"], info["device"])
        self.status.setText(f"{product.sentence}\nTook {took} on {where}.")
        self.result.set_ready(True)
        self._offer_layers()
        later(self, 60, lambda panel: panel.scroll.ensureWidgetVisible(panel.result))

    def _on_failed(self, sentence: str) -> None:
        self.message.say(sentence, "error", self.session.details)
        if self.session.state is State.FAILED:
            self.status.setText("The run did not finish.")
        later(self, 0, lambda panel: panel.scroll.ensureWidgetVisible(panel.message))

    def _on_note(self, sentence: str) -> None:
        self.message.say(sentence, "note")

    def _on_busy(self, busy: bool) -> None:
        self.result.set_busy(busy)
        if not busy and self.message.tone == "note":
            self.message.say("")
        self._refresh_buttons()

    def _on_machine(self, found: Machine) -> None:
        best = next((text for name, text in found.devices.items() if name != "mps"), "CPU")
        self._kernels = found.kernels
        self._offer_devices({"auto": f"Auto: {best}", **found.devices})
        self._tell_kernels()

    def _tell_kernels(self, *_: object) -> None:
        """Which kernels the chosen device has; nothing before a run has found out."""
        known = self._kernels.get(self.device.currentData())
        self.kernels.setVisible(known is not None)
        if known is not None:
            self.kernels.setText(known.text)
            self.kernels.setToolTip(known.why)

    def _offer_devices(self, devices: dict[str, str]) -> None:
        chosen = self.device.currentData()
        self.device.clear()
        for name, text in devices.items():
            self.device.addItem(text if name in ("auto", "cpu") else f"{name}: {text}", name)
            self.device.setItemData(self.device.count() - 1, text, Qt.ItemDataRole.ToolTipRole)
        index = self.device.findData(chosen)
        index = self.device.findData(f"{chosen}:0") if index < 0 else index
        self.device.setCurrentIndex(max(0, index))


def _row(text: str, widget: QWidget, tip: str) -> QHBoxLayout:
    row = QHBoxLayout()
    label = QLabel(f"<b>{text}</b>")
    label.setFixedWidth(LABEL_WIDTH)
    label.setToolTip(tip)
    widget.setToolTip(tip)
    row.addWidget(label)
    row.addWidget(widget, 1)
    return row


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    return line
