"""Parts of an image that a person paints over so that they are not matched; writes one layer each.

A painted voxel is ignored. Together with a mask that was chosen, both count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fireants._extras import shape_of
from napari_fireants._layers import Snapshot, like, snapshot, world_of

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_fireants._scene import Scene

Side = Literal["fixed", "moving"]
SIDES: tuple[Side, ...] = ("fixed", "moving")
BRUSH_SHARE = 0.06
"""Width of the brush at first, of the image's longest side."""


class Ignoring:
    """The layers that are painted on, and the masks that come of them."""

    def __init__(self, scene: Scene, changed: Callable[[Side], Any]) -> None:
        self._scene, self._viewer, self._changed = scene, scene.viewer, changed
        self.layers: dict[Side, Layer | None] = dict.fromkeys(SIDES)
        self._watched: list[tuple[Layer, Side]] = []
        self._hidden: list[tuple[Layer, bool]] = []
        self._seen: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def layer(self, side: Side) -> Layer | None:
        """The layer of that image that is painted on, while it is in the viewer."""
        layer = self.layers[side]
        return layer if layer is not None and layer in self._viewer.layers else None

    @property
    def painted(self) -> tuple[str, ...]:
        """Names of the layers that have something painted on them."""
        layers = [layer for layer in map(self.layer, SIDES) if layer is not None]
        return tuple(layer.name for layer in layers if layer.data.any())

    def paint(self, side: Side, image: Layer) -> None:
        """Take up the brush over `image`; its layer is made when first needed.

        The moving image is shown alone and as it is meanwhile: its voxels are painted, not those
        of the overlay.
        """
        self.put_down()
        if side == "moving":
            self._show_alone(image)
        layer = self.layer(side)
        if layer is None or tuple(layer.data.shape) != shape_of(image):
            if layer is not None:
                self._viewer.layers.remove(layer)
            layer = self._viewer.add_labels(
                np.zeros(shape_of(image), np.uint8), name=f"ignore in {side}", opacity=0.5,
                **like(image),
            )  # fmt: skip
            layer.brush_size = max(1, round(BRUSH_SHARE * max(shape_of(image))))
            layer.contour = 0
            self.layers[side] = layer
            self._scene.others.append(layer)
            self.watch(layer, side)
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = "paint"

    def put_down(self) -> None:
        """No brush any more; what is painted is hidden, and still counts."""
        for layer in filter(None, map(self.layer, SIDES)):
            layer.mode, layer.visible = "pan_zoom", False
        for layer, visible in self._hidden:
            if layer in self._viewer.layers:
                layer.visible = visible
        self._hidden = []
        if self._seen is not None:
            self._look(*self._seen)
            self._seen = None

    def _show_alone(self, image: Layer) -> None:
        """The image in the middle of the canvas, and nothing else."""
        for layer in self._viewer.layers:
            self._hidden.append((layer, layer.visible))
            layer.visible = layer == image
        dims, camera = self._viewer.dims, self._viewer.scene.camera
        self._seen = dims.point, camera.center
        middle = (np.array(shape_of(image)) - 1) / 2
        world = world_of(self._viewer, image, middle)
        self._look(tuple(world), tuple(world[-len(camera.center) :]))

    def _look(self, point: tuple[float, ...], centre: tuple[float, ...]) -> None:
        dims = self._viewer.dims
        dims.set_point(range(dims.ndim)[-len(point) :], point)
        self._viewer.scene.camera.center = centre

    def watch(self, layer: Layer | None, side: Side) -> None:
        """Tell when somebody paints on a layer of labels; image layers are left alone."""
        if layer is None or not hasattr(layer, "brush_size"):
            return
        if any(known == layer for known, _ in self._watched):
            return
        self._watched.append((layer, side))
        for event in (layer.events.paint, layer.events.labels_update, layer.events.data):
            event.connect(lambda _=None: self._changed(side))

    def mask(self, side: Side, chosen: Snapshot | None) -> Snapshot | None:
        """What is matched, as it is painted now (a copy), of the chosen mask; None for all."""
        layer = self.layer(side)
        if layer is None or not layer.data.any():
            return None if chosen is None else replace(chosen, data=np.array(chosen.data))
        keep = np.asarray(layer.data) == 0
        if chosen is not None and tuple(chosen.data.shape) == keep.shape:
            keep &= np.asarray(chosen.data) != 0
        named = f"{side} without what is ignored"
        return replace(snapshot(layer), name=named, data=keep.astype(np.uint8), path=None)

    def everything(self, side: Side) -> Snapshot | None:
        """A mask that leaves nothing out, on the painted layer's grid."""
        layer = self.layer(side)
        if layer is None:
            return None
        ones = np.ones(layer.data.shape, np.uint8)
        return replace(snapshot(layer), name=f"all of {side}", data=ones, path=None)
