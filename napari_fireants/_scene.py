"""The layers of one registration: the only file that writes to the viewer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants._extras import Extras, limits_of, put, shape_of
from napari_fireants._layers import Snapshot, along, coordinates_at, like, plane_shown
from napari_fireants._preferences import preferences
from napari_fireants._preview import Pictures, Wanted
from napari_fireants._seen import BEFORE, Arrows, Key, Picture
from napari_fireants._views import Look, View

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


PAIRS = {
    "green and magenta": ("green", "magenta"),
    "cyan and red": ("cyan", "red"),
    "blue and orange": ("bop blue", "bop orange"),
    "grey, edges of fixed": ("gray", "gray"),
}
"""Colours of fixed and moving in an overlay. The first three add up to grey or white."""
EDGES = "grey, edges of fixed"
LIVE = "moving (live)"


def preferred_pair() -> str:
    """The pair of colours of napari's Preferences, a name in PAIRS."""
    asked = preferences().colours
    return asked if asked in PAIRS else next(iter(PAIRS))


class Scene:
    """The layers of one registration in a viewer: fixed and moving in a pair of colours."""

    VOLUME_VOXELS = 64**3

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.fixed: Layer | None = None
        self.moving: Layer | None = None
        self.live: Layer | None = None
        self.trial: Layer | None = None
        self.result: Layer | None = None
        self.extras = Extras(viewer)
        self.others: list[Layer] = []
        self.pair = preferred_pair()
        self.spacing: tuple[float, ...] = ()
        self._before_run: list[tuple[Layer, dict[str, Any]]] = []
        self._blank: tuple[tuple[int, ...], tuple[float, float]] = ((), (0.0, 1.0))
        self._blanking: threading.Thread | None = None
        self.spare: Callable[[], Layer | None] = lambda: None
        """A grey picture of the fixed image's dimension that nobody needs any more."""

    @property
    def own(self) -> tuple[Layer | None, ...]:
        """Layers that only show a run: no inputs of the next one."""
        return (self.live, self.trial, *self.extras.own)

    @property
    def there(self) -> bool:
        """The fixed image is still in the viewer."""
        return self.fixed is not None and self._present(self.fixed)

    @property
    def extra(self) -> Layer | None:
        """What was composed last."""
        return self.extras.image

    @property
    def colours(self) -> tuple[str, str]:
        """Colour maps of fixed and moving."""
        return PAIRS[self.pair]

    # ------------------------------------------------------------- during a run
    def begin(self, fixed: Layer, moving: Layer, source: Snapshot) -> None:
        """Show `fixed` and `moving` in their colours, until the first frame replaces the latter."""
        self.restore()
        self.extras.hide()
        if self.live is not None and self.live is self.result:
            self._hide(self.live)
            self.live = None  # the last run's result stays as it is
        self.fixed, self.moving = fixed, moving
        self.spacing = source.spacing_mm[::-1]
        limits = limits_of(moving)
        below, above = self.colours
        parts = (fixed, below, limits_of(fixed)), (moving, above, limits)
        for layer, colormap, contrast in parts:
            look = {"visible": True, "opacity": 1.0, "blending": "additive"}
            if not getattr(layer, "rgb", False):
                look |= {"colormap": colormap, "contrast_limits": contrast}
            self._remember(layer, *look)
            put(layer, **look)
        self._blank = source.size[::-1], limits

    def open(self) -> None:
        """Make the hidden, blank live layer on the fixed grid.

        Apart from `begin`, since napari takes a while to add a layer; a thread blanks its data.
        """
        shape, limits = self._blank
        look = {"visible": False, "blending": "additive", "colormap": self.colours[1]}
        look |= {"contrast_limits": limits, **like(self.fixed)}
        if self.live is None or self.live.data.shape != shape or not self._present(self.live):
            self._remove(self.live)
            self.live = self._blank_layer(np.zeros(shape, np.float32), look)
        else:
            put(self.live, **look)
        self._blanking = threading.Timer(0.3, self.live.data.fill, args=(limits[0],))
        self._blanking.start()

    def _blank_layer(self, blank: np.ndarray, look: dict[str, Any]) -> Layer:
        """A layer that is no longer needed in a new place, or a new one."""
        spare, layers = self.spare(), self.viewer.layers
        if spare is None:
            return self.viewer.add_image(blank, name=LIVE, **look)
        spare.metadata.clear()
        spare.visible = False  # napari draws nothing of the following
        spare.data, spare.name = blank, LIVE
        put(spare, **look, opacity=1.0, gamma=1.0)
        layers.move(layers.index(spare), len(layers))
        layers.selection.active = spare
        return spare

    def wanted(self) -> Wanted:
        """What the canvas shows now of the fixed image."""
        fixed = self.fixed
        if fixed is None or fixed.ndim == 2:
            return Wanted(shrink=1.0)
        plane = plane_shown(self.viewer, fixed)
        if plane is not None:
            return Wanted(planes=(plane,))
        voxels = np.prod(shape_of(fixed))
        return Wanted(shrink=max(1.0, (voxels / self.VOLUME_VOXELS) ** (1 / 3)))

    def index_at(self, position: Any) -> tuple[float, ...]:
        """Voxel coordinates in the fixed image of a place in the viewer's world."""
        assert self.fixed is not None
        return tuple(float(x) for x in coordinates_at(self.viewer, self.fixed, position))

    def go(self, voxel: tuple[float, ...]) -> None:
        """Bring a voxel of the fixed image (array order) on the canvas' slice."""
        if self.fixed is None:
            return
        dims = self.viewer.dims
        for axis, index in enumerate(voxel):
            at_zero, per_unit = along(self.viewer, self.fixed, axis)
            if per_unit:
                dims.set_point(axis + dims.ndim - self.fixed.ndim, (index - at_zero) / per_unit)

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
        grey = pictures.moved.ndim == self.fixed.ndim
        if self.live is None or not self._present(self.live):
            low, high = limits_of(self.moving)
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
        put(self.moving, **self._look_before(self.moving) | {"visible": False})
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
            visible=source.visible,
            **like(self.fixed),
        )

    def apply(self, look: Look) -> None:
        """Show a view that needs no picture."""
        if self.fixed is None or self.live is None:
            return
        match look.view:
            case View.BLEND:
                self._two("gray", "gray", "opaque", "translucent_no_depth", look.share)
            case View.FLICKER:
                self._two("gray", "gray", "opaque", "translucent_no_depth", 1.0)
            case _:
                self._two(*self.colours, "additive", "additive", 1.0)

    def flick(self, first: bool, before: bool = False) -> None:
        """Of two images in turn the first (fixed; with `before`, moving as it was) or the second.

        Only opacities change, which napari draws at once.
        """
        layer = self.extra if before else self.live
        if layer is not None:
            put(layer, opacity=float(first == before))

    def present(self, picture: Picture | Arrows, key: Key = None) -> None:
        """Show a picture alone, on the moving image, or beside the fixed one.

        key: (axis, index) of the plane that it is of; the others keep what they show.
        """
        if self.fixed is None or self.live is None:
            return
        alone = isinstance(picture, Picture) and not picture.over
        beside = isinstance(picture, Picture) and picture.over == "fixed"
        colour = {"colormap": self.colours[0]} if beside and self._colour(self.fixed) else {}
        put(self.fixed, visible=beside, **colour)
        dim = {"colormap": "gray", "blending": "translucent_no_depth"}
        opacity = 1.0 if isinstance(picture, Picture) and picture.name == BEFORE else 0.6
        look = {} if alone or beside else dim | {"opacity": opacity}
        put(self.live, visible=not alone and not beside, **look)
        if beside:
            picture = replace(picture, colormap=self.colours[1])
        self.extras.show(picture, self.fixed, key)

    def canvas_axes(self) -> tuple[int, ...]:
        """Array axes of the fixed image that the canvas shows, the one across it last."""
        if self.fixed is None:
            return ()
        dims, ndim = self.viewer.dims, self.fixed.ndim
        return tuple(a - (dims.ndim - ndim) for a in dims.displayed if a >= dims.ndim - ndim)

    def _two(self, below: str, above: str, lower: str, upper: str, opacity: float) -> None:
        self.extras.hide()
        colour = {"colormap": below} if self._colour(self.fixed) else {}
        put(self.fixed, visible=True, blending=lower, opacity=1.0, **colour)
        put(self.live, visible=True, blending=upper, opacity=opacity, colormap=above)

    def forget(self) -> None:
        """All layers are about to go."""
        self.extras.hide()
        self.fixed = self.moving = self.live = self.result = None
        self._before_run = []

    def take(
        self,
        fixed: Layer,
        moving: Layer | None,
        live: Layer,
        result: Layer,
        spacing: tuple[float, ...],
    ) -> None:
        """The layers of another run take the place of those that are shown."""
        self.restore()
        self.extras.hide()
        for layer in (self.fixed, self.live, moving):
            if layer not in (None, fixed, live):
                self._hide(layer)
        self.fixed, self.moving, self.live, self.result = fixed, moving, live, result
        self.spacing = spacing
        self._remember(fixed, "visible", "opacity", "blending", *self._colour(fixed))

    # ------------------------------------------------------------- housekeeping
    def abandon(self) -> None:
        """A run ended without a result: the layers look as before it."""
        self._hide(self.live)
        self.extras.hide()
        self.restore()

    def _look_before(self, layer: Layer | None) -> dict[str, Any]:
        return next((look for known, look in self._before_run if known == layer), {})

    def restore(self) -> None:
        """Give the input layers the looks they had before the run."""
        for layer, look in self._before_run:
            put(layer, **look)
        self._before_run = []

    def _remember(self, layer: Layer, *names: str) -> None:
        self._before_run.append((layer, {name: getattr(layer, name) for name in names}))

    @staticmethod
    def _colour(layer: Layer | None) -> tuple[str, ...]:
        return () if getattr(layer, "rgb", False) else ("colormap",)

    def _present(self, layer: Layer) -> bool:
        return layer in self.viewer.layers

    def _hide(self, layer: Layer | None) -> None:
        if layer is not None:
            layer.visible = False

    def _remove(self, layer: Layer | None) -> None:
        if layer is not None and self._present(layer):
            self.viewer.layers.remove(layer)
