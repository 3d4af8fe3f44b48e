"""A fit of the landmarks on trial: computed with the engine, shown on the fixed image. No Qt.

Of the viewer one layer is written, and for as long as it is shown how those beneath look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fireants_engine.errors import InputError
from napari_fireants._extras import put
from napari_fireants._following import Follower, settled
from napari_fireants._landmarks import Place, Row, engine_landmarks
from napari_fireants._layers import Snapshot, grid_of, like, to_image

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_fireants._scene import Scene

Kind = Literal["rigid", "similarity", "affine"]
KINDS: tuple[Kind, ...] = ("rigid", "similarity", "affine")
NAME = "moving (fit on trial)"


@dataclass(frozen=True, eq=False)
class Trial:
    """matrix: fixed mm -> moving mm, homogeneous; mapped: fixed places through it; picture: the
    moving image through it, on the fixed grid."""

    kind: Kind
    matrix: np.ndarray
    follower: Follower
    mapped: dict[int, Place]
    picture: np.ndarray

    def exact(self, points_mm: np.ndarray) -> np.ndarray:
        return points_mm @ self.matrix[:-1, :-1].T + self.matrix[:-1, -1]


class Fitter:
    """Computes trials for one thread at a time; the moving image is read once."""

    def __init__(self) -> None:
        self._image: Any = None
        self._of: Any = None

    def __call__(self, kind: Kind, rows: Sequence[Row], fixed: Snapshot, moving: Snapshot) -> Trial:
        """Raises InputError where the pairs do not determine the fit."""
        from fireants_engine.ops import warp_image
        from fireants_engine.transforms import fit_points
        from napari_fireants._job import as_layer_data

        pairs = engine_landmarks([row for row in rows if row.counts])
        if pairs is None:
            raise InputError("There is no complete pair yet: set a place in both images first.")
        affine = fit_points(pairs, kind)
        follower, mapped = settled(rows, affine, min(fixed.spacing_mm) / 2)
        if self._image is None or self._of is not moving.data:
            self._image, self._of = to_image(moving), moving.data
        moved = warp_image(self._image, affine, grid_of(fixed)).numpy()
        picture = as_layer_data(moved, moving)
        return Trial(kind, np.array(affine.matrix), follower, mapped, picture)


class TrialView:
    """Shows a trial as one layer over the fixed image, in the colours of an overlay."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._before: list[tuple[Layer, dict[str, Any]]] = []

    @property
    def shown(self) -> bool:
        return bool(self._before)

    def show(self, picture: np.ndarray, fixed: Layer, moving: Layer) -> None:
        scene = self._scene
        others = [x for x in (moving, *scene.own) if x is not None and x != scene.trial]
        if not self.shown:
            self._remember(fixed, others)
        below, above = scene.colours
        colour = {} if getattr(fixed, "rgb", False) else {"colormap": below}
        for layer in others:
            put(layer, visible=False)
        put(fixed, visible=True, opacity=1.0, blending="additive", **colour)
        layer = scene.trial
        if layer is not None and layer.data.shape == picture.shape:
            layer.data = picture
            return
        self._drop()
        self._add(picture, fixed, moving, above)

    def _add(self, picture: np.ndarray, fixed: Layer, moving: Layer, colormap: str) -> None:
        from napari.layers import Image

        rgb = picture.ndim > fixed.ndim
        look = {"rgb": True}
        if not rgb:
            look = {"colormap": colormap, "contrast_limits": moving.contrast_limits}
        viewer, scene = self._scene.viewer, self._scene
        scene.trial = Image(picture, name=NAME, blending="additive", **look, **like(fixed))
        active = viewer.layers.selection.active
        viewer.add_layer(scene.trial)  # known before it is there: no input of a run
        viewer.layers.selection.active = active

    def hide(self) -> None:
        """Take the layer away; the others look as before."""
        self._drop()
        for layer, look in self._before:
            if layer in self._scene.viewer.layers:
                put(layer, **look)
        self._before = []

    def _remember(self, fixed: Layer, others: Sequence[Layer]) -> None:
        names = ["visible", "opacity", "blending"]
        if not getattr(fixed, "rgb", False):
            names.append("colormap")
        self._before = [(fixed, {name: getattr(fixed, name) for name in names})]
        self._before += [(layer, {"visible": layer.visible}) for layer in others]

    def _drop(self) -> None:
        layer, self._scene.trial = self._scene.trial, None
        if layer is not None and layer in self._scene.viewer.layers:
            self._scene.viewer.layers.remove(layer)
