"""The layers of an EPI correction as a stack: which there are, their order, and what they hide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from napari_fireants._extras import put

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

PANES = ("up", "down", "corrected")
ORDER = ("under", "map", "corrected", "lost", "down", "down arrow", "up", "up arrow")
"""Of the layers, from below; two to a pane, and the pane of the topmost comes first."""


class Stack:
    """Ours stand in ORDER at the top of the viewer's list."""

    def __init__(
        self, viewer: ViewerModel, hold: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self.viewer = viewer
        self.layers: dict[str, Layer] = {}
        self._hold = hold
        self._hidden: list[Layer] = []

    @property
    def own(self) -> tuple[Layer, ...]:
        """Layers that only show a correction: no inputs of the next one."""
        return tuple(self.layers.values())

    @property
    def hidden(self) -> tuple[Layer, ...]:
        """Layers that are to be seen again once ours are put away."""
        return tuple(self._hidden)

    def _layer(self, name: str) -> Layer | None:
        layer = self.layers.get(name)
        return layer if layer is not None and layer in self.viewer.layers else None

    def _present(self, layer: Layer) -> Layer | None:
        return layer if layer in self.viewer.layers else None

    def _insert(self, part: str, layer: Layer) -> Layer:
        """Below those of ours that belong above it, so that no pane changes what it shows."""
        above = [each for name in ORDER[ORDER.index(part) + 1 :]
                 if (each := self._layer(name)) is not None]  # fmt: skip
        layers = self.viewer.layers
        if part not in PANES:
            layer.metadata["fireants"] = {"only_shown": True}
        with self._adding():
            layers.insert(min([layers.index(each) for each in above], default=len(layers)), layer)
        self.layers[part] = layer
        return layer

    @contextmanager
    def _adding(self) -> Iterator[None]:
        """A new layer takes nobody's place in the controls."""
        selection = self.viewer.layers.selection
        active = selection.active
        with self._hold():
            yield
        if active is not None and active in self.viewer.layers:
            selection.active = active

    def _order(self) -> None:
        """Ours on top of the list, as the panes count from there."""
        layers = self.viewer.layers
        ours = [layer for name in ORDER if (layer := self._layer(name)) is not None]
        if list(layers[-len(ours) :]) != ours:
            for layer in ours:
                layers.move(layers.index(layer), len(layers))

    def _hide_others(self) -> None:
        others = [x for x in self.viewer.layers if x.visible and x not in self.own]
        self._hidden += [x for x in others if x not in self._hidden]
        for layer in others:
            layer.visible = False

    def _hide_all(self) -> None:
        """Hide ours, and show again what they have hidden."""
        for layer in self.own:
            put(self._present(layer), visible=False)
        for layer in self._hidden:
            put(self._present(layer), visible=True)
        self._hidden = []
