"""One EPI volume or series and how it was read out: chosen, read from sidecars, or typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_fireants._epi import Epi
from napari_fireants._epi_look import COLOURS
from napari_fireants._epi_sides import DIRECTIONS
from napari_fireants._fields import DecimalBox, guard_wheel
from napari_fireants.panels._widgets import LABEL_WIDTH, LayerCombo, caption, follow

if TYPE_CHECKING:
    from napari.layers import Layer

UNKNOWN, SWATCH = "?", 10
DIRECTION_TIP = (
    "Phase-encoding direction as BIDS names it: the voxel axis i, j or k of the stored image, "
    "with - where it runs against the axis. Read from the sidecar where there is one, and never "
    "guessed."
)
READOUT_TIP = "Total readout time in seconds, about 0.01 to 0.2; read from the sidecar"


class SideEditor(QWidget):
    """A layer, its direction and its readout time; what is known of them is `epi`'s."""

    def __init__(self, epi: Epi, name: str, title: str, tip: str) -> None:
        super().__init__()
        self._epi, self._name = epi, name
        self.layers = LayerCombo(f"{title} image", optional=True)
        self.layers.explain(tip)
        self.direction = QComboBox()
        self.direction.addItems([UNKNOWN, *DIRECTIONS])
        self.direction.setAccessibleName(f"Phase encoding of {title}")
        self.direction.setToolTip(DIRECTION_TIP)
        self.readout = DecimalBox()
        self.readout.setRange(0.0, 9.999)
        self.readout.setDecimals(6)
        self.readout.setSingleStep(0.005)
        self.readout.setSuffix(" s")
        self.readout.setSpecialValueText("readout ?")
        self.readout.setAccessibleName(f"Total readout time of {title} in seconds")
        self.readout.setToolTip(READOUT_TIP)
        self.readout.setKeyboardTracking(False)
        for box in (self.direction, self.readout):
            guard_wheel(box)
        self.words = caption()
        self._build(title, tip)
        self.layers.chosen.connect(lambda layer: epi.choose(name, layer))
        self.layers.activated.connect(lambda _: epi.asked.add(name))
        self.direction.currentIndexChanged.connect(self._on_direction)
        self.readout.valueChanged.connect(self._on_readout)
        follow(self, epi.changed, self._on_changed)
        self._on_changed(name)

    def _build(self, title: str, tip: str) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        label = QLabel(f"<b>{title}</b>")
        label.setToolTip(tip)
        row = QHBoxLayout()
        if self._name in COLOURS:
            row.addWidget(_swatch(COLOURS[self._name]))
            label.setFixedWidth(LABEL_WIDTH - SWATCH - row.spacing())
        else:
            label.setFixedWidth(LABEL_WIDTH)
        row.addWidget(label)
        row.addWidget(self.layers, 1)
        layout.addLayout(row)
        row = QHBoxLayout()
        row.addSpacing(LABEL_WIDTH + row.spacing())
        row.addWidget(self.direction)
        row.addWidget(self.readout, 1)
        layout.addLayout(row)
        layout.addWidget(self.words)

    def offer(self, layers: Sequence[Layer], default: Layer | None = None) -> None:
        self.layers.offer(layers, default)

    def _on_direction(self, index: int) -> None:
        self._epi.set_direction(self._name, ("", *DIRECTIONS)[index])

    def _on_readout(self, value: float) -> None:
        self._epi.set_readout(self._name, value or None)

    def _on_changed(self, name: str) -> None:
        if name != self._name:
            return
        side = self._epi.sides[name]
        for box in (self.layers, self.direction, self.readout):
            box.blockSignals(True)
        self.layers.choose(side.layer)
        self.direction.setCurrentIndex(("", *DIRECTIONS).index(side.direction))
        self.readout.setValue(side.readout_s or 0.0)
        for box in (self.layers, self.direction, self.readout):
            box.blockSignals(False)
            box.setEnabled(side.layer is not None or box is self.layers)
        self.words.setText(side.words())
        self.words.setToolTip("\n".join(side.sources))
        self.words.setVisible(bool(side.words()))


def _swatch(colour: str) -> QFrame:
    """The colour of its arrow."""
    out = QFrame()
    out.setFixedSize(SWATCH, SWATCH)
    out.setStyleSheet(f"QFrame {{ background: {colour}; border-radius: {SWATCH // 2}px; }}")
    out.setToolTip("The colour of its arrow on the image")
    return out
