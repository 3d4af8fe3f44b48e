"""What the images, maps and arrows of an EPI correction look like. No Qt, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants._epi_link import Key
from napari_fireants._epi_sides import Side
from napari_fireants._extras import shape_of

if TYPE_CHECKING:
    from napari.layers import Layer

COLOURS = {"up": "#e69f00", "down": "#56b4e9"}
"""Of the arrows, and beside the names in the dock."""
ACROSS = {"up": 0.15, "down": 0.85}
"""Where an arrow lies across its direction, so that two of them can lie on one image."""
DIM = 0.4
"""Of its brightness an image keeps under a map."""
LENGTH, WIDTH = 0.3, 0.014
"""Of an arrow, as shares of the image."""


# ------------------------------------------------------------------ images
def as_floats(layer: Layer, shape: tuple[int, ...]) -> np.ndarray:
    """Its data where they lie in memory and fit; else nothing to see until the first picture."""
    if isinstance(layer.data, np.ndarray) and layer.data.shape == shape:
        return np.array(layer.data, np.float32)
    return np.zeros(shape, np.float32)


def dimmed(limits: tuple[float, float]) -> tuple[float, float]:
    """Contrast limits with which an image lies dark under a map."""
    low, high = limits
    return low, low + (high - low) / DIM


# ------------------------------------------------------------------ maps
@dataclass(frozen=True)
class Map:
    """A map beside the corrected image, or added to it: black is `centre`."""

    name: str
    title: str
    tip: str
    centre: float = 0.0


MAPS = (
    Map("field", "Field (Hz)", "Off-resonance: orange above, blue below 0 Hz", 0.0),
    Map(
        "stretch up",
        "Stretch of up (Jacobian)",
        "1 + dshift/dx of up: blue where its signal is piled up, orange where it is spread",
        1.0,
    ),
    Map(
        "stretch down",
        "Stretch of down (Jacobian)",
        "1 + dshift/dx of down: blue where its signal is piled up, orange where it is spread",
        1.0,
    ),
)


def map_limits(data: np.ndarray, centre: float) -> tuple[float, float]:
    """Equally far to both sides of `centre`, as far as 99.5% of the values go."""
    thin = data.reshape(-1)[:: max(1, data.size // 200_000)]
    away = float(np.percentile(np.abs(thin - centre), 99.5)) if thin.size else 0.0
    return (centre - away, centre + away) if away else (centre - 1.0, centre + 1.0)


def map_colours(two: bool) -> Any:
    from napari.utils import Colormap

    warm, cold, none = [1.0, 0.5, 0.05, 1.0], [0.1, 0.5, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]
    if two:
        return Colormap([cold, none, warm], name="cold, nothing, warm")
    return Colormap([none, [1.0, 0.1, 0.1, 1.0]], name="nothing, red")


# ------------------------------------------------------------------ arrows
def arrow_vectors(name: str, side: Side, base: Layer, key: Key) -> np.ndarray:
    """One arrow (1, 2, d) on the plane that is shown; none where it would point through it."""
    phase = side.phase
    if side.axes.dim != base.ndim or phase.axis >= base.ndim:
        return np.zeros((0, 2, base.ndim), np.float32)
    axis, sign = side.axes.along(phase.axis)
    shape = np.array(shape_of(base))
    if key is not None and key[0] == axis:
        return np.zeros((0, 2, base.ndim), np.float32)
    place, way = (shape - 1) / 2, np.zeros(base.ndim)
    if key is not None:
        place[key[0]] = key[1]
    free = [a for a in range(base.ndim) if a != axis and (key is None or a != key[0])]
    if free:
        place[free[-1]] = ACROSS[name] * (shape[free[-1]] - 1)
    way[axis] = sign * phase.sign * LENGTH * shape[axis]
    return np.stack([place - way / 2, way])[None].astype(np.float32)
