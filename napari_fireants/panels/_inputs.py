"""Which layers take part: fixed, moving, masks and labels, with their geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from fireants_engine.errors import InputError
from napari_fireants._controller import Roles
from napari_fireants._fields import Section, small_button
from napari_fireants._layers import likely_pair, only_shown, snapshot
from napari_fireants._scene import Scene
from napari_fireants.panels._widgets import (
    LABEL_WIDTH,
    LayerCombo,
    Message,
    caption,
    primary,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

SAMPLE = "brain_pair"


def _is_image(layer: Layer) -> bool:
    return hasattr(layer, "contrast_limits") and hasattr(layer, "rgb")


def _is_labels(layer: Layer) -> bool:
    return hasattr(layer, "num_colors") or hasattr(layer, "brush_size")


class InputsEditor(QWidget):
    """`changed` fires when the choice of layers changes, `swapped` after fixed and moving have
    changed places."""

    changed = Signal()
    swapped = Signal()

    def __init__(self, viewer: ViewerModel, scene: Scene) -> None:
        super().__init__()
        self._viewer, self._scene = viewer, scene
        self._watched: list[Layer] = []
        self._by_hand = False
        self.fixed, self.moving = LayerCombo("Fixed image"), LayerCombo("Moving image")
        self.fixed_info, self.moving_info = caption(), caption()
        self.note = Message()
        self.optional = {
            role: LayerCombo(title, optional=True)
            for role, title in (
                ("fixed_mask", "Fixed mask"),
                ("moving_mask", "Moving mask"),
                ("moving_labels", "Moving labels"),
                ("fixed_labels", "Fixed labels"),
            )
        }
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self._hint())
        layout.addLayout(self._row("Fixed", self.fixed, "The image that stays where it is."))
        layout.addWidget(self.fixed_info)
        layout.addLayout(self._row("Moving", self.moving, "The image that is brought onto it."))
        layout.addWidget(self.moving_info)
        layout.addWidget(self.note)
        layout.addWidget(Section("Masks and labels", self._masks()))
        for combo in (self.fixed, self.moving):
            combo.chosen.connect(self._chosen)
            combo.activated.connect(self._choosing)
        self.reset_choices()

    def _hint(self) -> QWidget:
        self.hint = QWidget()
        box = QVBoxLayout(self.hint)
        box.setContentsMargins(0, 0, 0, 4)
        box.addWidget(caption("Open two images (File > Open), or try it on two real brains:"))
        self.open_sample = primary("Open the sample pair")
        self.open_sample.setToolTip("Two brain MR images that come with the plugin")
        self.open_sample.clicked.connect(self._open_sample)
        box.addWidget(self.open_sample)
        return self.hint

    def _row(self, text: str, combo: LayerCombo, tip: str) -> QHBoxLayout:
        row = QHBoxLayout()
        label = QLabel(f"<b>{text}</b>")
        label.setFixedWidth(LABEL_WIDTH)
        label.setToolTip(tip)
        combo.explain(tip)
        row.addWidget(label)
        row.addWidget(combo, 1)
        if combo is self.moving:
            self.swap = small_button("⇅", "Swap fixed and moving, landmarks included", self._swap)
            row.addWidget(self.swap)
        return row

    def _masks(self) -> QWidget:
        box = QWidget()
        form = QFormLayout(box)
        form.setContentsMargins(0, 4, 0, 4)
        tips = {
            "fixed_mask": "Only its non-zero voxels are matched; on the fixed image's grid.",
            "moving_mask": "Only its non-zero voxels are matched; on the moving image's grid.",
            "moving_labels": "Labels drawn on the moving image; brought along by the result.",
            "fixed_labels": "Labels drawn on the fixed image: the report tells how well both "
            "overlap, and a recipe may match them (Dice, contour).",
        }
        for role, combo in self.optional.items():
            combo.explain(tips[role])
            label = QLabel(combo.accessibleName())
            label.setToolTip(tips[role])
            form.addRow(label, combo)
        return box

    # ---------------------------------------------------------------- choices
    @property
    def roles(self) -> Roles:
        optional = {role: combo.layer() for role, combo in self.optional.items()}
        return Roles(self.fixed.layer(), self.moving.layer(), **optional)

    @property
    def ready(self) -> bool:
        """Two different images are chosen."""
        fixed, moving = self.fixed.layer(), self.moving.layer()
        return fixed is not None and moving is not None and fixed != moving

    def reset_choices(self, *_: object) -> None:
        """Follow the viewer's layers; napari calls this when they change."""
        own = self._scene.own
        layers = [x for x in self._viewer.layers if x not in own and not only_shown(x)]
        images = [x for x in layers if _is_image(x)]
        labels = [x for x in layers if _is_labels(x)]
        fixed, moving = likely_pair(images)
        self.fixed.offer(images, fixed)
        self.moving.offer(images, moving)
        if not self._by_hand:
            self.fixed.choose(fixed)
            self.moving.choose(moving)
        for role, combo in self.optional.items():
            combo.offer(labels if role.endswith("_labels") else [*labels, *images])
        self.hint.setVisible(len(images) < 2)
        self._chosen()

    def choose(self, roles: Roles) -> None:
        """Choose these layers, as if by hand; those that are None stay."""
        for role, combo in self._combos().items():
            layer = getattr(roles, role)
            if layer is not None:
                self._by_hand = True
                combo.choose(layer)

    def _combos(self) -> dict[str, LayerCombo]:
        return {"fixed": self.fixed, "moving": self.moving, **self.optional}

    def _choosing(self) -> None:
        self._by_hand = True

    def _swap(self) -> None:
        """Fixed and moving change places, with their masks and labels."""
        self._choosing()
        combos = self._combos()
        pairs = [
            (combos[f"fixed{end}"], combos[f"moving{end}"]) for end in ("", "_mask", "_labels")
        ]
        for fixed, moving in pairs:
            one, other = fixed.layer(), moving.layer()
            fixed.choose(other)
            moving.choose(one)
        self.swapped.emit()

    def _open_sample(self) -> None:
        self._viewer.open_sample("napari-fireants", SAMPLE)

    def _chosen(self, *_: object) -> None:
        self._watch()
        notes = []
        for combo, info in ((self.fixed, self.fixed_info), (self.moving, self.moving_info)):
            text, note = _describe(combo.layer())
            info.setText(text)
            info.setVisible(bool(text))
            notes.append(note)
        if self.fixed.layer() is not None and self.fixed.layer() == self.moving.layer():
            notes = ["Fixed and moving are the same layer; choose two different ones."]
        self.note.say(next((n for n in notes if n), ""), "note")
        self.changed.emit()

    def _watch(self) -> None:
        """Follow the geometry of the chosen layers."""
        for layer in self._watched:
            for event in (layer.events.extent, layer.events.units):
                event.disconnect(self._chosen)
        self._watched = [x for x in {self.fixed.layer(), self.moving.layer()} if x is not None]
        for layer in self._watched:
            for event in (layer.events.extent, layer.events.units):
                event.connect(self._chosen)


def _describe(layer: Layer | None) -> tuple[str, str]:
    """Geometry of a layer in one line, and a sentence worth reading (or none)."""
    if layer is None:
        return "", ""
    try:
        source = snapshot(layer)
    except InputError as error:
        return "", str(error)
    return source.geometry, " ".join(source.notes)
