"""The layers of one registration: the only file that writes to the viewer."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants._layers import Snapshot, like
from napari_fireants._preview import Pictures, Wanted, robust_limits
from napari_fireants._views import Look, Picture, View

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class Scene:
    """The layers of one registration in a viewer: fixed in green, moving in magenta."""

    VOLUME_VOXELS = 64**3

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.fixed: Layer | None = None
        self.moving: Layer | None = None
        self.live: Layer | None = None
        self.extra: Layer | None = None
        self.result: Layer | None = None
        self._pictures: Pictures | None = None
        self.folds: Layer | None = None
        self.spacing: tuple[float, ...] = ()
        self._before_run: list[tuple[Layer, dict[str, Any]]] = []
        self._blank: tuple[tuple[int, ...], tuple[float, float]] = ((), (0.0, 1.0))
        self._blanking: threading.Thread | None = None

    @property
    def own(self) -> tuple[Layer | None, ...]:
        """Layers that only show a run: no inputs of the next one."""
        return (self.live, self.extra, self.folds)

    # ------------------------------------------------------------- during a run
    def begin(self, fixed: Layer, moving: Layer, source: Snapshot) -> None:
        """Show `fixed` in green and `moving` in magenta, until the first frame replaces it."""
        self.restore()
        self._hide(self.extra)
        self._hide(self.folds)
        if self.live is not None and self.live is self.result:
            self._hide(self.live)
            self.live = None  # the last run's result stays as it is
        self.fixed, self.moving, self._pictures = fixed, moving, None
        self.spacing = source.spacing_mm[::-1]
        limits = _limits(moving)
        parts = (fixed, "green", _limits(fixed)), (moving, "magenta", limits)
        for layer, colormap, contrast in parts:
            look = {"visible": True, "opacity": 1.0, "blending": "additive"}
            if not getattr(layer, "rgb", False):
                look |= {"colormap": colormap, "contrast_limits": contrast}
            self._remember(layer, *look)
            self._set(layer, **look)
        self._blank = source.size[::-1], limits

    def open(self) -> None:
        """Make the hidden, blank live layer on the fixed grid.

        Apart from `begin`, since napari takes a while to add a layer; a thread blanks its data.
        """
        shape, limits = self._blank
        look = {"visible": False, "blending": "additive", "colormap": "magenta"}
        look |= {"contrast_limits": limits, **like(self.fixed)}
        if self.live is None or self.live.data.shape != shape or not self._present(self.live):
            self._remove(self.live)
            blank = np.zeros(shape, np.float32)
            self.live = self.viewer.add_image(blank, name="moving (live)", **look)
        else:
            self._set(self.live, **look)
        self._blanking = threading.Timer(0.3, self.live.data.fill, args=(limits[0],))
        self._blanking.start()

    def wanted(self) -> Wanted:
        """What the canvas shows now of the fixed image."""
        fixed = self.fixed
        if fixed is None or fixed.ndim == 2:
            return Wanted(shrink=1.0)
        dims = self.viewer.dims
        shape = _shape(fixed)
        hidden = [a - (dims.ndim - fixed.ndim) for a in dims.not_displayed]
        hidden = [a for a in hidden if a >= 0]
        if not hidden:
            return Wanted(shrink=max(1.0, (np.prod(shape) / self.VOLUME_VOXELS) ** (1 / 3)))
        planes = []
        for axis in hidden[:1]:
            point = np.zeros(fixed.ndim)
            world_axis = axis + dims.ndim - fixed.ndim
            point[axis] = dims.point[world_axis] * self._unit_ratio(world_axis, axis)
            index = round(float(fixed.world_to_data(point)[axis]))
            planes.append((axis, min(max(index, 0), shape[axis] - 1)))
        return Wanted(planes=tuple(planes))

    def _unit_ratio(self, world_axis: int, axis: int) -> float:
        """Layer units per viewer unit: the viewer shows the smallest unit of all layers."""
        units = self.viewer.layers.units
        if units is None or units[world_axis] == self.fixed.units[axis]:
            return 1.0
        return float((1.0 * units[world_axis]).to(self.fixed.units[axis]).magnitude)

    @property
    def waiting(self) -> bool:
        """The first frame has yet to come."""
        return self._blanking is not None

    def show(self, frames: Mapping[Any, np.ndarray]) -> None:
        """Write new frames into the live layer in place."""
        if self.live is None or not self._present(self.live):
            return
        if self._blanking is not None:
            self._blanking.join()
            self._blanking = None
            self._hide(self.moving)
            self.live.visible = True
        data = self.live.data
        for key, frame in frames.items():
            if key is None:
                data[...] = frame
            else:
                axis, index = key
                data[(slice(None),) * axis + (index,)] = frame
        self.live.refresh(thumbnail=False, highlight=False, extent=False)

    # ------------------------------------------------------------- after a run
    def finish(self, pictures: Pictures, info: dict[str, Any], labels: Layer | None) -> None:
        """The live layer becomes the result; colour images and labels get layers of their own."""
        assert self.fixed is not None
        assert self.moving is not None
        name = f"{self.moving.name} (registered)"
        self._pictures = pictures
        grey = pictures.moved.ndim == self.fixed.ndim
        if self.live is None or not self._present(self.live):
            low, high = _limits(self.moving)
            blank = np.full(pictures.fixed_bytes.shape, low, np.float32)
            self.live = self.viewer.add_image(
                blank, contrast_limits=(low, high), **like(self.fixed)
            )
        if grey:
            self.live.data = pictures.moved
            self.live.name = name
            self.result = self.live
        else:
            self.live.data = pictures.moved_bytes.astype(np.float32)
            self.live.contrast_limits = (0, 255)
            self.result = self.add_image(pictures.moved, name, info, rgb=True, visible=False)
        self.result.metadata["fireants"] = info
        self._set(self.moving, **self._look_before(self.moving) | {"visible": False})
        if pictures.labels is not None and labels is not None:
            self.add_labels(pictures.labels, labels, info)
        self.apply(Look())

    def add_image(self, data: np.ndarray, name: str, info: dict[str, Any], **options: Any) -> Layer:
        """A new image layer on the fixed grid."""
        assert self.fixed is not None
        metadata = {"fireants": info}
        return self.viewer.add_image(
            data, name=name, metadata=metadata, **like(self.fixed), **options
        )

    def add_labels(self, data: np.ndarray, source: Layer, info: dict[str, Any]) -> Layer:
        """A new labels layer on the fixed grid, in the colours of `source`."""
        assert self.fixed is not None
        return self.viewer.add_labels(
            data,
            name=f"{source.name} (registered)",
            metadata={"fireants": info},
            colormap=source.colormap,
            **like(self.fixed),
        )

    def apply(self, look: Look) -> None:
        """Show a view that needs no picture; before a run has finished that is the overlay."""
        if self.fixed is None or self.live is None:
            return
        if look.view is View.BLEND:
            self._two("gray", "gray", "opaque", "translucent_no_depth", look.share)
            return
        self._two("green", "magenta", "additive", "additive", 1.0)
        if look.view is View.BEFORE_AFTER and look.before and self._pictures is not None:
            self._set(self.live, visible=False)
            before = Picture(self._pictures.before_bytes, "moving before", "magenta")
            self._only_extra(before, "additive")

    def present(self, picture: Picture) -> None:
        """Show a picture alone, or drawn on the moving image."""
        if self.fixed is None or self.live is None:
            return
        self._set(self.fixed, visible=False)
        beneath = picture.over_moved
        dim = {"colormap": "gray", "blending": "translucent_no_depth", "opacity": 0.6}
        look = dim if beneath else {}
        self._set(self.live, visible=beneath, **look)
        self._only_extra(picture, "additive" if beneath else "opaque")
        self._outline(picture.folds)

    def canvas_axes(self) -> tuple[int, ...]:
        """Array axes of the fixed image that the canvas shows, the one across it last."""
        if self.fixed is None:
            return ()
        dims, ndim = self.viewer.dims, self.fixed.ndim
        return tuple(a - (dims.ndim - ndim) for a in dims.displayed if a >= dims.ndim - ndim)

    def _two(self, below: str, above: str, lower: str, upper: str, opacity: float) -> None:
        self._hide(self.extra)
        self._hide(self.folds)
        colour = {"colormap": below} if self._colour(self.fixed) else {}
        self._set(self.fixed, visible=True, blending=lower, opacity=1.0, **colour)
        self._set(self.live, visible=True, blending=upper, opacity=opacity, colormap=above)

    def _only_extra(self, picture: Picture, blending: str) -> None:
        data = picture.data
        if self.extra is None or not self._present(self.extra):
            self.extra = self.viewer.add_image(
                data, contrast_limits=picture.limits, **like(self.fixed)
            )
        elif self.extra.data.shape != data.shape:
            self.extra.data = data
            self._set(self.extra, **like(self.fixed))
        else:
            self.extra.data = data
        self.extra.contrast_limits = picture.limits
        look = {"name": picture.name, "colormap": picture.colormap, "blending": blending}
        self._set(self.extra, visible=True, **look)

    def _outline(self, folds: np.ndarray | None) -> None:
        if folds is None:
            self._hide(self.folds)
            return
        self._remove(self.folds)
        self.folds = self.viewer.add_labels(
            folds.astype(np.uint8), name="folded voxels", **like(self.fixed)
        )
        self.folds.contour = 1

    # ------------------------------------------------------------- housekeeping
    def abandon(self) -> None:
        """A run ended without a result: the layers look as before it."""
        self._hide(self.live)
        self.restore()

    def _look_before(self, layer: Layer | None) -> dict[str, Any]:
        return next((look for known, look in self._before_run if known == layer), {})

    def restore(self) -> None:
        """Give the input layers the looks they had before the run."""
        for layer, look in self._before_run:
            self._set(layer, **look)
        self._before_run = []

    def _remember(self, layer: Layer, *names: str) -> None:
        self._before_run.append((layer, {name: getattr(layer, name) for name in names}))

    @staticmethod
    def _colour(layer: Layer | None) -> tuple[str, ...]:
        return () if getattr(layer, "rgb", False) else ("colormap",)

    @staticmethod
    def _set(layer: Layer | None, **values: Any) -> None:
        for name, value in values.items():
            now = getattr(layer, name, None)
            now = now.name if name == "colormap" and isinstance(value, str) else now
            same = isinstance(value, str | float | bool) and now == value
            if not same:  # napari redraws for what does not change, too
                setattr(layer, name, value)

    def _present(self, layer: Layer) -> bool:
        return layer in self.viewer.layers

    def _hide(self, layer: Layer | None) -> None:
        if layer is not None:
            layer.visible = False

    def _remove(self, layer: Layer | None) -> None:
        if layer is not None and self._present(layer):
            self.viewer.layers.remove(layer)


def _shape(layer: Layer) -> tuple[int, ...]:
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    return tuple(data.shape[: layer.ndim])


def _limits(layer: Layer) -> tuple[float, float]:
    """Contrast limits for an overlay: as a person set them, else robust ones of data in memory.

    Colour images span their bytes.
    """
    if getattr(layer, "rgb", False):
        return (0.0, 255.0) if np.dtype(layer.dtype).kind in "iu" else (0.0, 1.0)
    low, high = layer.contrast_limits
    if isinstance(layer.data, np.ndarray) and [low, high] == list(layer.contrast_limits_range):
        return robust_limits(layer.data, 50_000)
    return float(low), float(high)
