"""The three layers of landmarks: how they are made and drawn. Only layers are written.

Hidden layers are not drawn: napari slices none that are hidden, and what it keeps of their last
slice would no longer fit. Each is drawn at once: napari would draw anew for every property.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants._extras import shape_of
from napari_fireants._landmarks import LandmarkTable, Side
from napari_fireants._layers import like

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer, Points, Vectors

COLOURS = {"fixed": "#56b4e9", "moving": "#e69f00"}
"""Sky blue and orange of Okabe and Ito; told apart by their shapes, too."""
SYMBOLS = {"fixed": "ring", "moving": "x"}
WORST, CHOSEN, OFF, LINE, RIM = "#d55e00", "#ffffff", "#808080", "#56b4e9", "#000000"
SIZE = 0.025
"""Of a point, as a share of the longest side of the fixed image."""
DRAWN = "fireants drawn"
"""Key of a layer's metadata: the parts it shows."""


@dataclass(frozen=True)
class Look:
    """How one point looks: colours of face and rim, the rim's share of it, size in voxels."""

    face: str
    rim: str
    width: float
    size: float


def looks(table: LandmarkTable, side: Side, keys: Sequence[int], longest: int) -> list[Look]:
    """Selected ones are larger with a white rim, the worst has a red one; grey: not enabled."""
    chosen, worst, size = set(table.selected), table.worst, SIZE * longest
    out = []
    for key in keys:
        face = COLOURS[side] if table.row(key).enabled else OFF
        if key in chosen:
            out.append(Look(face, CHOSEN, 0.12, 1.4 * size))
        else:
            out.append(Look(face, *((WORST, 0.15) if key == worst else (RIM, 0.08)), size))
    return out


def make_lines(viewer: ViewerModel, fixed: Layer) -> Vectors:
    """A layer of lines that lies as the fixed image does."""
    return viewer.add_vectors(
        np.zeros((0, 2, fixed.ndim)), ndim=fixed.ndim, name="landmark residuals", edge_color=LINE,
        edge_width=SIZE * max(shape_of(fixed)) / 6, vector_style="line", length=1, **like(fixed),
    )  # fmt: skip


def make_points(viewer: ViewerModel, fixed: Layer, side: Side) -> Points:
    """A layer of points that lies as the fixed image does."""
    anchor = {"fixed": "lower_right", "moving": "upper_left"}[side]
    text = {"string": "{name}", "size": 10, "color": COLOURS[side], "anchor": anchor}
    layer = viewer.add_points(
        np.zeros((0, fixed.ndim)), ndim=fixed.ndim, name=f"{side} landmarks",
        symbol=SYMBOLS[side], face_color=COLOURS[side], border_color=RIM, border_width=0.08,
        size=SIZE * max(shape_of(fixed)), features={"name": np.array([], dtype=object)},
        canvas_size_limits=(2, 26), text=text, **like(fixed),
    )  # fmt: skip
    layer.feature_defaults = {"name": ""}
    return layer


def draw_points(
    layer: Points, data: np.ndarray, names: Sequence[str], look: Sequence[Look], chosen: set[int]
) -> None:
    """Nothing where all is as it was. chosen: indices of the selected ones."""
    styles = {
        "face_color": [x.face for x in look],
        "border_color": [x.rim for x in look],
        "border_width": [x.width for x in look],
        "size": [x.size for x in look],
    }
    changed = _changed(layer, {"data": data.tolist(), "names": list(names), **styles})
    if not changed:
        return
    with layer.events.blocker_all(), layer.text.events.blocker_all():
        if "data" in changed:
            layer.data = data
        if "names" in changed:
            layer.features = {"name": np.array(names, dtype=object)}
        for name, values in styles.items():
            if name in changed and values:
                setattr(layer, name, values)
        if set(layer.selected_data) != chosen:
            layer.selected_data = chosen
    layer.refresh(thumbnail="names" in changed)


def _changed(layer: Layer, parts: dict[str, list[Any]]) -> set[str]:
    """The parts that are not as they were drawn last, which every write of a layer takes its time
    for: all of them where there are more or fewer things to draw. They are taken for drawn."""
    known = layer.metadata.get(DRAWN, {})
    layer.metadata[DRAWN] = parts
    if len(known.get("data", ())) != len(parts["data"]):
        return set(parts)
    return {name for name, values in parts.items() if values != known.get(name)}


def forget_drawn(layer: Layer) -> None:
    """Somebody else has changed the layer: it is drawn next time in any case."""
    layer.metadata.pop(DRAWN, None)


def draw_lines(layer: Vectors, data: np.ndarray, colours: Sequence[str]) -> None:
    """Nothing where all is as it was."""
    changed = _changed(layer, {"data": data.tolist(), "colours": list(colours)})
    if not changed:
        return
    with layer.events.blocker_all():
        if "data" in changed:
            layer.data = data
        if "colours" in changed and len(data):
            layer.edge_color = list(colours)
    layer.refresh(thumbnail=False)
