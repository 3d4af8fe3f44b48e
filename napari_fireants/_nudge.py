"""Moving the moving image by hand: its matrices, and the layer that follows the hand.

Of the viewer only that layer's place, mode and selection are written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants._layers import data_of, index_to_mm, mm_to_world

if TYPE_CHECKING:
    from napari.layers import Layer


# ------------------------------------------------------------------ matrices, LPS mm
def about(linear: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Homogeneous `linear (x - centre) + centre`."""
    out = np.eye(len(centre) + 1)
    out[:-1, :-1] = linear
    out[:-1, -1] = centre - linear @ centre
    return out


def shift(vector: Sequence[float]) -> np.ndarray:
    """Homogeneous translation by `vector`."""
    out = np.eye(len(vector) + 1)
    out[:-1, -1] = vector
    return out


def turn(plane: tuple[int, int], degrees: float, centre: np.ndarray) -> np.ndarray:
    """Rotation from axis `plane[0]` towards `plane[1]` about `centre`."""
    linear = np.eye(len(centre))
    a, b = plane
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear[a, a], linear[a, b], linear[b, a], linear[b, b] = cosine, -sine, sine, cosine
    return about(linear, centre)


def scale(factor: float, centre: np.ndarray) -> np.ndarray:
    """The same scale along all axes about `centre`."""
    return about(factor * np.eye(len(centre)), centre)


def mirror(axis: int, centre: np.ndarray) -> np.ndarray:
    """Mirror across the plane through `centre` at right angles to `axis`."""
    linear = np.eye(len(centre))
    linear[axis, axis] = -1
    return about(linear, centre)


# ------------------------------------------------------------------ the layer
class Hand:
    """Follows one layer while a person drags it, or moves it by buttons.

    `pending` is what was moved since the last `sent`; the layer shows that and what was sent but
    is not yet part of its data (`settled`).
    """

    def __init__(self, layer: Layer, moved: Callable[[], Any]) -> None:
        self.layer, self._moved = layer, moved
        self._base = np.array(layer.affine.affine_matrix)
        self._home = index_to_mm(layer)
        self._sent = np.eye(layer.ndim + 1)
        self._mode = str(layer.mode)
        self._writing = False
        layer.events.affine.connect(self._dragged)

    def grasp(self, viewer: Any) -> None:
        """Let the mouse drag, turn and stretch the layer on the canvas."""
        viewer.layers.selection.active = self.layer
        self.layer.mode = "transform"

    def release(self) -> None:
        """Leave the layer alone, where it is."""
        self.layer.events.affine.disconnect(self._dragged)
        if str(self.layer.mode) == "transform":
            self.layer.mode = self._mode

    def put_back(self) -> None:
        """The layer where it was when it was taken up."""
        self._sent = np.eye(self.layer.ndim + 1)
        self._write(np.eye(self.layer.ndim + 1))

    @property
    def total(self) -> np.ndarray:
        """How the layer stands against its data, mm -> mm."""
        return index_to_mm(self.layer) @ np.linalg.inv(self._home)

    @property
    def pending(self) -> np.ndarray | None:
        """What nobody has been told of, None where there is nothing."""
        moved = self.total @ np.linalg.inv(self._sent)
        return None if np.allclose(moved, np.eye(len(moved)), atol=1e-7) else moved

    @property
    def centre_mm(self) -> np.ndarray:
        """The middle of the layer as it stands, LPS mm."""
        data = data_of(self.layer)
        middle = (np.array(data.shape[: self.layer.ndim][::-1]) - 1) / 2
        return (index_to_mm(self.layer) @ np.append(middle, 1.0))[:-1]

    def move(self, matrix: np.ndarray) -> None:
        """Move what is seen by `matrix`, mm -> mm."""
        self._write(matrix @ self.total)
        self._moved()

    def sent(self, matrix: np.ndarray) -> None:
        """`matrix` was handed on, and will come back as data."""
        self._sent = matrix @ self._sent

    def settled(self) -> None:
        """All that was sent is part of the data now."""
        rest = self.total @ np.linalg.inv(self._sent)
        self._sent = np.eye(len(rest))
        self._write(rest)

    def _write(self, total: np.ndarray) -> None:
        to_world = mm_to_world(self.layer)
        world = to_world @ total @ np.linalg.inv(to_world)
        self._writing = True
        try:
            self.layer.affine = world @ self._base
        finally:
            self._writing = False

    def _dragged(self, *_: object) -> None:
        if not self._writing:
            self._moved()
