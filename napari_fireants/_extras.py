"""Layers of what is composed to look at a registration; only writes layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants._layers import data_of, like
from napari_fireants._preview import robust_limits
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
        look: dict[str, Any] = {
            "contrast_limits": picture.limits,
            "name": picture.name,
            "colormap": picture.colormap,
            "blending": _blending(picture),
            "opacity": 1.0,
        }
        if self._there(image) and key is not None and _holds(image, picture, shape):
            _plane(image.data, key)[...] = picture.data
            put(image, **look)
            image.refresh(thumbnail=False, highlight=False, extent=False)
            return
        data = picture.data if key is None else _alone(picture.data, shape, key)
        if not self._there(image):
            self.image = self.viewer.add_image(data, **look, **like(fixed))
            return
        with _at_once(image):
            image.data = data
            place(image, fixed)
            put(image, **look)

    def _outline(self, folds: np.ndarray | None, fixed: Layer, key: Key) -> None:
        if folds is None:
            self._hide(self.folds)
            return
        data = folds.astype(np.uint8)
        if key is not None:
            data = _alone(data, shape_of(fixed), key)
        if not self._there(self.folds):
            self.folds = self.viewer.add_labels(data, name="folded voxels", **like(fixed))
            self.folds.contour = 1
            return
        with _at_once(self.folds):
            self.folds.data = data
            place(self.folds, fixed)

    def _draw(self, arrows: Arrows, fixed: Layer) -> None:
        if len(arrows.mm) == 0:
            self._hide(self.arrows)
            return
        values: dict[str, Any] = {
            "features": {"mm": arrows.mm},
            "edge_contrast_limits": (0.0, arrows.limit),
            "edge_width": arrows.width,
        }
        if not self._there(self.arrows):
            look = {"name": "arrows", "vector_style": "arrow"}
            colours = {"edge_color": "mm", "edge_colormap": "turbo"}
            self.arrows = self.viewer.add_vectors(
                arrows.vectors, ndim=fixed.ndim, **values, **look, **colours, **like(fixed)
            )
            return
        with _at_once(self.arrows):
            self.arrows.data = arrows.vectors
            for name, value in values.items():
                setattr(self.arrows, name, value)
            self.arrows.refresh_colors()
            place(self.arrows, fixed)


@contextmanager
def _at_once(layer: Layer) -> Iterator[None]:
    """Several changes, after which the layer is seen; napari slices and draws it once only."""
    layer.visible = False
    yield
    layer.visible = True


def _blending(picture: Picture) -> str:
    if picture.over == "moved" and picture.name == BEFORE:
        return "translucent_no_depth"
    return "additive" if picture.over else "opaque"


def put(layer: Layer | None, **values: Any) -> None:
    """Set what is not so already: napari redraws for what does not change, too."""
    if layer is None:
        return
    for name, value in values.items():
        now = getattr(layer, name, None)
        now = now.name if name == "colormap" and isinstance(value, str) else now
        now = tuple(now) if isinstance(value, tuple) and isinstance(now, list | tuple) else now
        same = isinstance(value, str | float | bool | tuple) and now == value
        if not same:
            setattr(layer, name, value)


def place(layer: Layer, fixed: Layer) -> None:
    """Put a layer where `fixed` is, unless it is there."""
    for name, value in like(fixed).items():
        now = getattr(layer, name)
        if name == "affine":
            same = np.array_equal(now.affine_matrix, value)
        elif name in ("units", "axis_labels"):
            same = now == value
        else:
            same = np.array_equal(now, value)
        if not same:
            setattr(layer, name, value)


def limits_of(layer: Layer) -> tuple[float, float]:
    """Contrast limits for an overlay: as a person set them, else robust ones of data in memory.

    Colour images span their bytes.
    """
    if getattr(layer, "rgb", False):
        return (0.0, 255.0) if np.dtype(layer.dtype).kind in "iu" else (0.0, 1.0)
    low, high = layer.contrast_limits
    if isinstance(layer.data, np.ndarray) and [low, high] == list(layer.contrast_limits_range):
        return robust_limits(layer.data, 50_000)
    return float(low), float(high)


def shape_of(layer: Layer) -> tuple[int, ...]:
    """Of its samples at full resolution, without channels."""
    data = data_of(layer)
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
