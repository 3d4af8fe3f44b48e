"""A viewer's layers and view as plain values, and back again. Only writes layers and the view.

Kinds of layers that are known: images, labels, points and shapes; others are told of by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants._layers import data_of, file_of, like

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

COMMON = ("name", "visible", "opacity", "blending")
LOOKS = {
    "image": ("gamma", "interpolation2d", "interpolation3d", "rendering", "depiction",
              "iso_threshold", "attenuation"),
    "labels": ("rendering", "contour", "selected_label", "brush_size", "n_edit_dimensions"),
    "points": ("border_width_is_relative", "antialiasing"),
    "shapes": ("edge_width", "shape_type"),
}  # fmt: skip
AFTER = ("selected_label", "brush_size", "n_edit_dimensions", "contour")
"""Set on the layer, which takes no such argument when it is made."""
ARRAYS = {
    "image": (),
    "labels": (),
    "points": ("size", "face_color", "border_color", "border_width"),
    "shapes": ("face_color", "edge_color"),
}


def kind_of(layer: Layer) -> str:
    """Name of the layer's class in lower case."""
    return type(layer).__name__.lower()


def known(layer: Layer) -> bool:
    """It can be described."""
    return kind_of(layer) in LOOKS


# ------------------------------------------------------------------ to plain values
def describe(layer: Layer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plain values of a known layer, and its arrays by name (by reference)."""
    kind = kind_of(layer)
    state = {name: plain(getattr(layer, name)) for name in (*COMMON, *LOOKS[kind])}
    state |= {name: plain(value) for name, value in like(layer).items()}
    state["units"] = [str(unit) for unit in layer.units]
    state["metadata"] = _metadata(layer)
    arrays = {name: getattr(layer, name) for name in ARRAYS[kind]}
    if kind == "image":
        state["rgb"] = bool(layer.rgb)
        if not layer.rgb:
            state["colormap"] = _colormap(layer.colormap)
            state["contrast_limits"] = plain(layer.contrast_limits)
            state["contrast_limits_range"] = plain(layer.contrast_limits_range)
    if kind == "labels":
        state["colormap"] = _label_colours(layer.colormap)
    if kind == "points":
        state["symbol"] = [str(symbol) for symbol in layer.symbol]
        state["features"] = {str(k): plain(v.to_list()) for k, v in layer.features.items()}
    if kind == "shapes":
        state["vertices"] = [plain(shape) for shape in layer.data]
        state["shapes_ndim"] = layer.ndim
    else:
        arrays["data"] = data_of(layer)
    return state, arrays


def plain(value: Any) -> Any:
    """As JSON holds it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    return str(value)


def _metadata(layer: Layer) -> dict[str, Any]:
    """What of it is plain, and the file that the layer came from."""
    out = {}
    for name, value in layer.metadata.items():
        try:
            out[str(name)] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            continue
    path = file_of(layer)
    if path is not None:
        ours = out.get("fireants")
        out["fireants"] = {**(ours if isinstance(ours, dict) else {}), "path": path}
    return out


def _colormap(colormap: Any) -> dict[str, Any]:
    return {
        "name": colormap.name,
        "colors": plain(np.asarray(colormap.colors)),
        "controls": plain(np.asarray(colormap.controls)),
        "interpolation": str(getattr(colormap.interpolation, "value", colormap.interpolation)),
    }


def _label_colours(colormap: Any) -> dict[str, Any]:
    if hasattr(colormap, "color_dict"):
        colours = colormap.color_dict.items()
        return {"direct": [[key, plain(np.asarray(value))] for key, value in colours]}
    colours = plain(np.asarray(colormap.colors))
    background = int(colormap.background_value)
    return {"cyclic": colours, "seed": float(colormap.seed), "background": background}


def describe_view(viewer: ViewerModel) -> dict[str, Any]:
    """The slice, the order of axes, and the camera."""
    dims, camera = viewer.dims, viewer.scene.camera
    return {
        "ndisplay": dims.ndisplay,
        "order": plain(dims.order),
        "point": plain(dims.point),
        "center": plain(camera.center),
        "zoom": float(camera.zoom),
        "angles": plain(camera.angles),
        "perspective": float(camera.perspective),
    }


# ------------------------------------------------------------------ and back
def make(viewer: ViewerModel, kind: str, state: dict[str, Any], arrays: dict[str, Any]) -> Layer:
    """Add the layer that `describe` told of."""
    state = dict(state)
    later = {name: state.pop(name) for name in AFTER if name in state}
    limits = state.pop("contrast_limits_range", None)
    state["affine"] = np.array(state["affine"])
    if kind == "image" and "colormap" in state:
        state["colormap"] = _made_colormap(state["colormap"])
    if kind == "labels":
        state["colormap"] = _made_labels(state["colormap"])
    if kind == "shapes":
        vertices = [np.array(shape) for shape in state.pop("vertices")]
        ndim = state.pop("shapes_ndim")
        if not vertices:
            for name in ("shape_type", "edge_width"):
                state.pop(name)
            return viewer.add_shapes(None, ndim=ndim, **state)
        return viewer.add_shapes(vertices, **state, **arrays)
    if kind == "points" and len(arrays["data"]) == 0:
        arrays = {"data": arrays["data"]}
        state.pop("symbol")
    arrays = dict(arrays)
    layer = getattr(viewer, f"add_{kind}")(arrays.pop("data"), **state, **arrays)
    for name, value in later.items():
        setattr(layer, name, value)
    if limits is not None:
        chosen = layer.contrast_limits
        layer.contrast_limits_range = limits
        layer.contrast_limits = chosen
    return layer


def look_like(layer: Layer, kind: str, state: dict[str, Any]) -> None:
    """Visibility and colours as they were; napari redraws for what does not change, too."""
    for name in ("visible", "opacity", "blending"):
        if getattr(layer, name) != state[name]:
            setattr(layer, name, state[name])
    if kind == "image" and "colormap" in state:
        if _colormap(layer.colormap) != state["colormap"]:
            layer.colormap = _made_colormap(state["colormap"])
        if list(layer.contrast_limits) != state["contrast_limits"]:
            layer.contrast_limits = state["contrast_limits"]


def _made_colormap(values: dict[str, Any]) -> Any:
    from napari.utils.colormaps import AVAILABLE_COLORMAPS, Colormap

    if values["name"] in AVAILABLE_COLORMAPS:
        return values["name"]
    return Colormap(**values)


def _made_labels(values: dict[str, Any]) -> Any:
    from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap

    if "direct" in values:
        return DirectLabelColormap(color_dict=dict(values["direct"]))
    return CyclicLabelColormap(
        colors=values["cyclic"], seed=values["seed"], background_value=values["background"]
    )


def slice_again(viewer: ViewerModel, view: dict[str, Any]) -> None:
    """The slice that `describe_view` told of, if the layers have as many axes as then."""
    dims, now = viewer.dims, describe_view(viewer)
    if len(view["order"]) == dims.ndim:
        for name in ("order", "ndisplay", "point"):
            if view[name] != now[name]:
                setattr(dims, name, view[name])


def look_again(viewer: ViewerModel, view: dict[str, Any]) -> None:
    """The whole view."""
    slice_again(viewer, view)
    now = describe_view(viewer)
    for name in ("perspective", "angles", "center", "zoom"):
        value = view[name]
        if value != now[name]:
            setattr(viewer.scene.camera, name, tuple(value) if isinstance(value, list) else value)
