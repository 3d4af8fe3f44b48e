"""The curtain's line, dragged in the canvas. Of the viewer only camera and pointer are written."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants._layers import along
from napari_fireants._looking import Looking
from napari_fireants._views import View

if TYPE_CHECKING:
    from napari.components import ViewerModel

NEAR_PX = 9
"""A press so close to the line takes hold of it."""


class CurtainHandle:
    """Takes hold of the line on a press near it; elsewhere the mouse does what it always does."""

    def __init__(self, viewer: ViewerModel, looking: Looking) -> None:
        self._viewer, self._looking = viewer, looking
        known = weakref.ref(self)

        def drag(_: Any, event: Any) -> Iterator[None]:
            handle = known()
            if handle is not None and handle.near(event.position):
                yield from handle._drag(event)

        def hover(_: Any, event: Any) -> None:
            handle = known()
            if handle is not None:
                handle._hover(event.position)

        viewer.mouse_drag_callbacks.append(drag)
        viewer.mouse_move_callbacks.append(hover)
        self._pointing = False

    @property
    def hangs(self) -> bool:
        """A curtain is on the canvas and can be dragged there."""
        looking = self._looking
        flat = self._viewer.dims.ndisplay == 2
        return flat and looking.possible and looking.look.view is View.CURTAIN

    def _index(self, position: Any) -> tuple[float, int]:
        """Voxel index along the axis across the canvas, and the number of voxels."""
        scene = self._looking.scene
        axis = scene.canvas_axes()[-1]
        return scene.index_at(position)[axis], scene.extra.data.shape[axis]

    def near(self, position: Any) -> bool:
        """Whether a place of the viewer's world is close enough to the line."""
        scene = self._looking.scene
        if not self.hangs or scene.extra is None:
            return False
        index, count = self._index(position)
        away = abs(index + 0.5 - self._looking.look.curtain * count)
        return away * self._pixels_per_voxel() <= NEAR_PX

    def _pixels_per_voxel(self) -> float:
        scene = self._looking.scene
        axis = scene.canvas_axes()[-1]
        _, per_unit = along(scene.viewer, scene.fixed, axis)
        return float(self._viewer.scene.camera.zoom) / max(abs(per_unit), 1e-12)

    def _drag(self, event: Any) -> Iterator[None]:
        camera = self._viewer.scene.camera
        panned, camera.mouse_pan = camera.mouse_pan, False
        try:
            yield
            while event.type == "mouse_move":
                self._put(event.position, sliding=True)
                yield
            self._put(event.position, sliding=False)
        finally:
            camera.mouse_pan = panned

    def _put(self, position: Any, sliding: bool) -> None:
        index, count = self._index(position)
        share = float(np.clip((index + 0.5) / count, 0.0, 1.0))
        looking = self._looking
        looking.choose(replace(looking.look, curtain=share), sliding=sliding)

    def _hover(self, position: Any) -> None:
        near = self.near(position)
        if near != self._pointing:
            self._pointing = near
            self._viewer.cursor.style = "pointing" if near else "standard"
