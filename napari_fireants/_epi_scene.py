"""The layers of an EPI correction: up, down, corrected and a map side by side, and arrows.

Of napari's layers only this file writes those. They stand at the top of the list, two to a pane of
its grid: an image and what lies on it. Other layers that are shown have panes after those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Vectors
from qtpy.QtCore import QTimer

from napari_fireants._epi_link import AFTER, BEFORE, Key, Pictures
from napari_fireants._epi_look import (
    COLOURS,
    MAPS,
    WIDTH,
    arrow_vectors,
    as_floats,
    dimmed,
    map_colours,
    map_limits,
)
from napari_fireants._epi_panes import Panes
from napari_fireants._epi_sides import Side
from napari_fireants._epi_stack import PANES, Stack
from napari_fireants._extras import limits_of, place, put, shape_of
from napari_fireants._layers import like, plane_shown
from napari_fireants._preview import robust_limits

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

TITLES = {"up": "Up", "down": "Down", "corrected": "Mean of both"}
TURN_MS = 20
BAR = (12, 90), 8
"""Size of a colour bar in pixels, and of its numbers in points."""


class EpiScene(Stack):
    """Shows a pair, its correction while it is found and after, and the directions as arrows."""

    def __init__(
        self, viewer: ViewerModel, hold: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        super().__init__(viewer, hold)
        self.pictures: Pictures = {}
        self.beside, self.map, self.marking = True, "field", False
        self._base: Layer | None = None
        self._last: tuple[Pictures, Layer | None, tuple[str, ...]] = ({}, None, ())
        self._pair: tuple[str, ...] = ()
        self._combined = ""
        self._steps: Iterator[None] = iter(())
        self._arrows: dict[str, Side] = {}
        self.panes = Panes(viewer)
        events = viewer.dims.events
        for event in (events.current_step, events.order, events.ndisplay):
            event.connect(self._turned)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self._on_layers)

    @property
    def there(self) -> bool:
        """A correction is on the canvas."""
        return self._layer("corrected") is not None

    @property
    def seen(self) -> bool:
        """The corrected image is on the canvas."""
        layer = self._layer("corrected")
        return layer is not None and layer.visible

    @property
    def key(self) -> Key:
        """The plane on the canvas."""
        layer = self._layer("corrected") or self._base
        return None if layer is None else plane_shown(self.viewer, layer)

    # ------------------------------------------------------------ a correction
    def begin(self, up: Side, down: Side) -> None:
        """Hide all other layers, and show the pair as it is where the corrected one will be.

        In turns, since napari takes a while to add a layer; whatever needs them ends them.
        """
        self._steps = self._beginning(up, down)
        self._turn()

    def _turn(self) -> None:
        if next(self._steps, self) is not self:
            QTimer.singleShot(TURN_MS, self._turn)

    def _begun(self) -> None:
        """All layers are there."""
        for _ in self._steps:
            pass

    def _beginning(self, up: Side, down: Side) -> Iterator[None]:
        self._last = self.pictures, self._base, self._pair
        base, self.pictures = up.layer, {}
        self._base = base
        self._hide_others()
        put(self._layer("lost"), visible=False)
        if (old := self._layer("map")) is not None:
            old.data = np.zeros_like(old.data)
        pair = [side.layer for side in (up, down) if side.layer is not None]
        self._pair = ("up", "down")[: len(pair)]
        raw = [as_floats(layer, shape_of(base)) for layer in pair]
        mean = np.mean(raw, axis=0, dtype=np.float32)
        images = {"up": raw[0], "down": raw[-1], "corrected": mean}
        look = {"contrast_limits": limits_of(base), "blending": "additive"}
        for name in ("corrected", *self._pair):
            self._show(name, images[name], name=self._title(name, False), **look)
            yield
        for name in self._pair:  # the place of an arrow in its pane is taken without one, too
            arrow = self._layer(f"{name} arrow")
            if arrow is not None and arrow.ndim != base.ndim:
                self.viewer.layers.remove(arrow)
                arrow = None
            if arrow is None:
                self._add_arrow(name, np.zeros((0, 2, base.ndim), np.float32), base)
                put(self._layer(f"{name} arrow"), visible=False)
                yield
        self._draw()
        self.arrange()

    def _title(self, name: str, after: bool) -> str:
        title = TITLES[name]
        if name == "corrected":
            title = self._combined if after and self._combined else title
            title = title if len(self._pair) > 1 else "The image"
        return f"{title}, {'corrected' if after else 'as recorded'}"

    def _show(self, part: str, data: np.ndarray, **look: Any) -> None:
        """An image layer of ours with these data, where the pair is."""
        layer = self._layer(part)
        if layer is None or layer.data.shape != data.shape:
            if layer is not None:
                self.viewer.layers.remove(layer)
            self._insert(part, Image(data, **look, **like(self._base)))
            return
        layer.data = data
        place(layer, self._base)
        put(layer, **{"visible": True} | look)

    def show(self, key: Key, pictures: Mapping[str, np.ndarray]) -> None:
        """New pictures of a plane, or of all, while the field is being found."""
        for name, picture in zip((*PANES, "map"), (*AFTER, "field"), strict=True):
            layer = self._layer(name)
            if layer is None or (name == "map" and self.map != "field"):
                continue
            old = any(layer.data is known for known in self._last[0].values())
            if old or layer.data.shape != shape_of(self._base):
                continue  # of the correction before, about to be replaced
            where = ... if key is None else (slice(None),) * key[0] + (key[1],)
            layer.data[where] = pictures[picture]
            if name == "map":
                self._show_live_map(layer, pictures[picture])
            else:
                put(layer, name=self._title(name, True))
            layer.refresh(thumbnail=False, highlight=False, extent=False)

    def _show_live_map(self, layer: Layer, picture: np.ndarray) -> None:
        """Its range grows with what is found."""
        away = max(1.0, float(np.abs(picture).max()))
        if not layer.visible or away > layer.contrast_limits[1]:
            layer.contrast_limits_range = (-away, away)
            put(layer, contrast_limits=(-away, away))
        self._label_map(layer, "field")

    def _label_map(self, layer: Layer, name: str) -> None:
        title = next(each.title for each in MAPS if each.name == name)
        put(layer, name=title, visible=True)
        layer.colorbar.size, layer.colorbar.font_size = BAR
        layer.colorbar.visible = True
        self.panes.fit()

    def finish(self, pictures: Pictures) -> None:
        """The correction is found."""
        self._begun()
        self.pictures = pictures
        self.flick(False)
        self._steps = self._finishing()
        self._turn()

    def _finishing(self) -> Iterator[None]:
        """The layers that only a correction has."""
        blank = np.zeros(shape_of(self._base), np.float32)
        for name, colours in (("lost", map_colours(False)), ("map", map_colours(True))):
            layer = self._layer(name)
            if layer is None or layer.data.shape != blank.shape:
                look = {"blending": "additive", "colormap": colours, "visible": False}
                self._show(name, blank, name=name, **look)
                yield
        below = self.pictures["corrected after"]
        look = {"contrast_limits": dimmed(limits_of(self._base)), "visible": False}
        self._show("under", below, name="Corrected, under the map", **look)
        yield
        self.show_map(self.map)
        self.mark_lost(self.marking)
        self.arrange()

    def put_corrected(self, image: np.ndarray, title: str) -> None:
        """Another image of all volumes, and what it is called."""
        self.pictures["corrected after"] = image
        self._combined = title
        self.flick(False)
        if (below := self._layer("under")) is not None:
            below.data = image

    def abandon(self) -> None:
        """Nothing was found: the layers look as before."""
        pictures, base, pair = self._last
        self._steps = iter(())
        if not pictures or base is None:
            self.put_away()
            return
        self._base, self._pair = base, pair
        look = {"contrast_limits": limits_of(base), "blending": "additive"}
        for name in ("corrected", *pair):
            self._show(name, pictures[f"{name} after"], **look)
        self.finish(pictures)

    def put_away(self) -> None:
        """Hide what shows a correction; the layers look as before it."""
        self._lay_out(False)
        self._hide_all()

    def add_series(self, data: np.ndarray, source: Layer) -> str:
        """A corrected series as a layer in the place of `source`; its name."""
        self._begun()
        look = {"contrast_limits": robust_limits(data)}
        name = f"{source.name}, corrected"
        with self._adding():
            self.viewer.add_image(data, name=name, **look, **like(source))
        put(source, visible=False)
        return name

    # ------------------------------------------------------------ ways to look
    def flick(self, before: bool) -> None:
        """The pair as recorded and its plain mean, or corrected."""
        names = BEFORE if before else AFTER
        for name, picture in zip(PANES, names, strict=True):
            self._swap(name, picture, self._title(name, not before))

    def flick_pair(self, first: bool) -> None:
        """In the place of the corrected image the one or the other volume, corrected."""
        name = "up" if first else "down"
        self._swap("corrected", f"{name} after", self._title(name, True))

    def _swap(self, name: str, picture: str, title: str) -> None:
        layer = self._layer(name)
        if layer is not None and picture in self.pictures:
            put(layer, name=title)
            if layer.data is not self.pictures[picture]:
                layer.data = self.pictures[picture]

    def show_map(self, name: str) -> None:
        """Show a map of MAPS beside the corrected image, or over it where that stands alone.

        An empty name: none.
        """
        self.map = name
        layer, data = self._layer("map"), self.pictures.get(name)
        below = self._layer("under")
        put(below, visible=self.beside and data is not None)
        if layer is None or data is None:
            put(layer, visible=False)
            self.panes.fit()
            return
        chosen = next(each for each in MAPS if each.name == name)
        low, high = limits = map_limits(data[self.pictures["inside"] > 0], chosen.centre)
        layer.data = data
        layer.contrast_limits_range = (min(low, float(data.min())), max(high, float(data.max())))
        put(layer, contrast_limits=limits)
        self._label_map(layer, name)

    def mark_lost(self, on: bool) -> None:
        """Red on the corrected image: where volumes have lost what is here."""
        self.marking = on
        layer, data = self._layer("lost"), self.pictures.get("lost")
        if layer is None or data is None or not on:
            put(layer, visible=False)
            return
        layer.data = data
        limits = (0.0, max(1.0, float(data.max())))
        put(layer, name="Lost in so many volumes", contrast_limits=limits, visible=True)

    def beside_each_other(self, on: bool) -> None:
        """Each image in a pane of its own, or the corrected one alone; brings them back."""
        self.beside = on
        if not self.there:
            return
        if not self.seen:
            self._hide_others()
        put(self._layer("corrected"), visible=True)
        put(self._layer("map"), visible=self.map in self.pictures)
        self._lay_out(on)

    def _lay_out(self, on: bool) -> None:
        for name in COLOURS:
            shown = on and name in self._pair
            put(self._layer(name), visible=shown)
            put(self._layer(f"{name} arrow"), visible=shown and name in self._arrows)
        put(self._layer("under"), visible=on and self.map in self.pictures)
        for name in (*PANES, "map"):
            if (layer := self._layer(name)) is not None:
                layer.name_overlay.visible = on
        self.panes.show(on)

    def arrange(self) -> None:
        """Ours in order, and as a person has chosen to see them."""
        if self.there:
            self._order()
            self._lay_out(self.beside)

    def _on_layers(self, event: Any) -> None:
        """A person's layers go below ours, into panes of their own; ours may be deleted."""
        if event.type == "inserted" and event.value in self.own:
            return
        if self.panes.on:
            QTimer.singleShot(0, self._settle)

    def _settle(self) -> None:
        if not self.panes.on:
            return
        if not self.there:
            self.put_away()
            return
        self._order()
        self.panes.fit()

    # ------------------------------------------------------------ arrows
    def show_arrows(self, sides: Mapping[str, Side]) -> None:
        """Draw the directions of these sides on the images; of none: no arrows."""
        self._arrows = {name: side for name, side in sides.items() if side.direction}
        for name in COLOURS:
            if name not in self._arrows:
                put(self._layer(f"{name} arrow"), visible=False)
        self._draw()

    def _turned(self, *_: object) -> None:
        if self._arrows:
            self._draw()

    def _draw(self) -> None:
        for name, side in self._arrows.items():
            base = self._base if self.there else side.layer
            if base is None or base not in self.viewer.layers:
                continue
            vectors = arrow_vectors(name, side, base, plane_shown(self.viewer, base))
            layer = self._layer(f"{name} arrow")
            if layer is not None and layer.ndim != base.ndim:
                self.viewer.layers.remove(layer)
                layer = None
            if layer is None:
                layer = self._add_arrow(name, vectors, base)
            elif not np.array_equal(layer.data, vectors):
                layer.data = vectors
            place(layer, base)
            title = f"{name}: phase encoding {side.direction}"
            seen = not self.there or (self.beside and name in self._pair)
            put(layer, name=title, visible=seen)

    def _add_arrow(self, name: str, vectors: np.ndarray, base: Layer) -> Layer:
        look = {"vector_style": "arrow", "edge_color": COLOURS[name], "opacity": 1.0}
        look["edge_width"] = WIDTH * max(shape_of(base))
        part = f"{name} arrow"
        return self._insert(part, Vectors(vectors, name=part, ndim=base.ndim, **look, **like(base)))
