"""Layers of what is composed to look at a registration; only writes layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants._layers import like
from napari_fireants._seen import BEFORE, Arrows, Key, Picture

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class Extras:
    """An image, the outlines of folds, and arrows: one layer each, made when first needed."""

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.image: Layer | None = None
        self.folds: Layer | None = None
        self.arrows: Layer | None = None

    @property
    def own(self) -> tuple[Layer | None, ...]:
        return (self.image, self.folds, self.arrows)

    def lacks(self, picture: Picture | Arrows) -> bool:
        """A layer has to be added for it, which takes napari a while."""
        if isinstance(picture, Arrows):
            return self.arrows is None
        return self.image is None or (picture.folds is not None and self.folds is None)

    def hide(self) -> None:
        for layer in self.own:
            if layer is not None:
                layer.visible = False

    def show(self, picture: Picture | Arrows, fixed: Layer, key: Key) -> None:
        """Show a picture where `fixed` is; of a plane (array axis, index), only there.

        The other planes keep what they show of the same picture, or are blank.
        """
        if isinstance(picture, Arrows):
            self._hide(self.image)
            self._hide(self.folds)
            self._draw(picture, fixed)
            return
        self._hide(self.arrows)
        self._paint(picture, fixed, key)
        self._outline(picture.folds, fixed, key)

    def _there(self, layer: Layer | None) -> bool:
        return layer is not None and layer in self.viewer.layers

    @staticmethod
    def _hide(layer: Layer | None) -> None:
        if layer is not None:
            layer.visible = False

    def _paint(self, picture: Picture, fixed: Layer, key: Key) -> None:
        image, shape = self.image, shape_of(fixed)
        if self._there(image) and key is not None and _holds(image, picture, shape):
            _plane(image.data, key)[...] = picture.data
            image.refresh(thumbnail=False, highlight=False, extent=False)
        else:
            data = picture.data if key is None else _alone(picture.data, shape, key)
            if self._there(image):
                image.data = data
                put(image, **like(fixed))
            else:
                limits = {"contrast_limits": picture.limits}
                self.image = self.viewer.add_image(data, **limits, **like(fixed))
        self.image.contrast_limits = picture.limits
        blending = {"moved": "additive", "fixed": "additive", "": "opaque"}[picture.over]
        if picture.over == "moved" and picture.name == BEFORE:
            blending = "translucent_no_depth"
        look = {"name": picture.name, "colormap": picture.colormap, "blending": blending}
        put(self.image, visible=True, opacity=1.0, **look)

    def _outline(self, folds: np.ndarray | None, fixed: Layer, key: Key) -> None:
        if folds is None:
            self._hide(self.folds)
            return
        data = folds.astype(np.uint8)
        if key is not None:
            data = _alone(data, shape_of(fixed), key)
        if self._there(self.folds):
            self.folds.data = data
            put(self.folds, visible=True, **like(fixed))
            return
        self.folds = self.viewer.add_labels(data, name="folded voxels", **like(fixed))
        self.folds.contour = 1

    def _draw(self, arrows: Arrows, fixed: Layer) -> None:
        colours: dict[str, Any] = {"edge_contrast_limits": (0.0, arrows.limit)}
        if not self._there(self.arrows):
            self.arrows = self.viewer.add_vectors(
                arrows.vectors,
                ndim=fixed.ndim,
                name="arrows",
                vector_style="arrow",
                features={"mm": arrows.mm},
                **like(fixed),
            )
        layer = self.arrows
        layer.data = arrows.vectors
        layer.features = {"mm": arrows.mm}
        if len(arrows.mm):
            layer.edge_color, layer.edge_colormap = "mm", "turbo"
            layer.edge_contrast_limits = colours["edge_contrast_limits"]
        put(layer, visible=True, edge_width=arrows.width, **like(fixed))


def put(layer: Layer | None, **values: Any) -> None:
    """Set what is not so already: napari redraws for what does not change, too."""
    for name, value in values.items():
        now = getattr(layer, name, None)
        now = now.name if name == "colormap" and isinstance(value, str) else now
        same = isinstance(value, str | float | bool) and now == value
        if not same:
            setattr(layer, name, value)


def shape_of(layer: Layer) -> tuple[int, ...]:
    """Of its samples at full resolution, without channels."""
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    return tuple(data.shape[: layer.ndim])


def _plane(data: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """The plane of `data` at `key`, with its axis kept."""
    axis, index = key
    return data[(slice(None),) * axis + (slice(index, index + 1),)]


def _alone(plane: np.ndarray, shape: tuple[int, ...], key: tuple[int, int]) -> np.ndarray:
    """A plane in an otherwise blank volume."""
    out = np.zeros(shape, plane.dtype)
    _plane(out, key)[...] = plane
    return out


def _holds(image: Layer, picture: Picture, shape: tuple[int, ...]) -> bool:
    """The layer shows planes of this picture, in an array that may be written."""
    same = image.name == picture.name and image.data.dtype == picture.data.dtype
    return same and image.visible and image.data.shape == shape and image.data.flags.writeable
