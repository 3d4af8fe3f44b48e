"""One line on memory: what the run will need before it, what it uses during it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_fireants._latest import Latest
from napari_fireants._memory import Meter, Told, asked, tell
from napari_fireants._session import State
from napari_fireants.panels._widgets import Message, button, caption, follow

if TYPE_CHECKING:
    from fireants_engine.workflows.forecast import Remedy
    from napari_fireants._controller import Controller
    from napari_fireants.panels._inputs import InputsEditor

SETTLE_MS = 150
"""Changes that follow each other faster are answered once."""
READ_MS = 1000


class MemoryLine(QWidget):
    """The forecast for the present layers, recipe and device; a button where a remedy helps.

    It stands outside of the settings, which a run greys out: it is read then, too.
    """

    def __init__(self, controller: Controller, inputs: InputsEditor, device: QComboBox) -> None:
        super().__init__()
        self.told: Told | None = None
        self._store, self._session = controller.store, controller.session
        self._inputs, self._device = inputs, device
        self._latest = Latest(engine=False)
        self._latest.setParent(self)  # Qt ends it with the dock
        self._meter: Meter | None = None
        self.line = caption()
        self.alarm = Message()
        self.remedy = button("", "", self._apply)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.line, self.alarm, self.remedy):
            layout.addWidget(widget)
            widget.hide()
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._ask)
        self._reading = QTimer(self)
        self._reading.setInterval(READ_MS)
        self._reading.timeout.connect(self._read)
        follow(self, self._store.changed, self.refresh)
        self._session.state_changed.connect(self._on_state)
        self._session.machine_found.connect(self.refresh)
        device.currentIndexChanged.connect(self.refresh)
        inputs.changed.connect(self.refresh)
        self.refresh()

    def refresh(self, *_: object) -> None:
        """Something has changed that the forecast depends on."""
        if not self._session.state.active:
            self._settle.start()

    def _ask(self) -> None:
        if self._session.state.active:
            return
        given = asked(self._inputs.roles, self._store.recipe, self._device.currentData())
        if given is None:
            self._latest.forget()
            self._show(None)
        else:
            self._latest.ask(lambda: tell(given), self._show, lambda _: self._show(None))

    def _show(self, told: Told | None) -> None:
        if self._session.state.active:
            return
        self.told = told
        calm = told is not None and told.tone == "good"
        self.line.setText(told.text if told is not None and calm else "")
        self.line.setToolTip("" if told is None else told.details)
        self.line.setVisible(calm)
        if told is None or calm:
            self.alarm.say("")
        else:
            self.alarm.say(told.text, told.tone, told.details)
        remedy = None if told is None else told.remedy
        self.remedy.setVisible(remedy is not None)
        if remedy is not None:
            self.remedy.setText(_button_text(remedy))
            self.remedy.setToolTip(f"Loss: {remedy.loss}. Undo takes it back.")

    def _apply(self) -> None:
        remedy = None if self.told is None else self.told.remedy
        if remedy is None:
            return
        if remedy.recipe is not None:
            self._store.edit(remedy.recipe)
        elif remedy.device is not None:
            self._choose(remedy.device.partition(":")[0])

    def _choose(self, name: str) -> None:
        """Take another device, as a step that can be undone."""
        known = weakref.ref(self._device)

        def choose(data: str) -> None:
            combo = known()
            if combo is not None:
                found = [k for k in range(combo.count()) if combo.itemData(k).startswith(data)]
                combo.setCurrentIndex(found[0] if found else 0)

        before = self._device.currentData()
        self._store.steps.push("device", lambda: choose(before), lambda: choose(name))
        choose(name)

    # ------------------------------------------------------------ during a run
    def _on_state(self, state: State) -> None:
        if state.active and not self._reading.isActive():
            self._settle.stop()
            self._latest.forget()
            self._meter = Meter()
            self._meter.begin("cpu" if self.told is None else self.told.device)
            self.alarm.say("")
            self.remedy.hide()
            self.line.setVisible(bool(self.line.text()))
            self._reading.start()
        elif not state.active and self._reading.isActive():
            self._reading.stop()
            self.refresh()

    def _read(self) -> None:
        from fireants_engine.workflows.forecast import as_text

        used = None if self._meter is None else self._meter.read()
        if used is None or self._meter is None:
            return
        most = self._meter.most
        peak = f", at most {as_text(most)} so far" if most > 1.05 * used else ""
        self.line.setText(f"Uses {as_text(used)} of memory{peak}.")
        self.line.setToolTip("What this run has taken since it began; read every second.")
        self.line.show()


def _button_text(remedy: Remedy) -> str:
    from fireants_engine.workflows.forecast import as_text

    need = "" if remedy.peak_bytes is None else f" ({as_text(remedy.peak_bytes)})"
    return f"{remedy.text}{need}"
