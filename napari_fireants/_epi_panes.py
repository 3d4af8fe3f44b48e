"""Panes beside each other on the canvas: napari's grid, two layers to each. No Qt, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel

STRIDE = -2
"""Two layers to a pane, counted from the top of the list."""


class Panes:
    """The grid as it was comes back when the panes go."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._before: dict[str, Any] = {}

    @property
    def on(self) -> bool:
        return bool(self._before)

    def show(self, on: bool) -> None:
        """Panes for all layers that are seen, or the grid as it was."""
        grid = self._viewer.canvas.grid
        was = self._now()
        if on:
            self._before = self._before or was
            grid.stride, grid.shape = STRIDE, pane_shape(self._viewer)
            grid.enabled = True
        else:
            for key, value in self._before.items():
                setattr(grid, key, value)
            self._before = {}
        if was != self._now():
            self._viewer.reset_view()

    def fit(self) -> None:
        """The panes as large as they can be, where their number has changed."""
        if self.on:
            self.show(True)

    def _now(self) -> dict[str, Any]:
        grid = self._viewer.canvas.grid
        return {"stride": grid.stride, "shape": grid.shape, "enabled": grid.enabled}


def pane_shape(viewer: ViewerModel) -> tuple[int, int]:
    """Rows and columns of panes, two layers to each, in which all that is shown is largest."""
    layers = viewer.layers
    count = len({(len(layers) - 1 - k) // 2 for k, x in enumerate(layers) if x.visible})
    high, wide = viewer.canvas.size
    extent = layers.extent.world
    rows, columns = (float(extent[1, a] - extent[0, a]) or 1.0 for a in viewer.dims.displayed[-2:])

    def pixels(shape: tuple[int, int]) -> float:
        return min(high / shape[0] / rows, wide / shape[1] / columns)

    return max([(n, -(-count // n)) for n in range(1, max(count, 1) + 1)], key=pixels)
