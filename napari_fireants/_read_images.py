"""Image files and lists of points as layer data of napari. No torch.

Values, grid and unit are those of the engine's reader; the axes come in the order that napari
shows (`_layers.upright`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from fireants_engine.errors import InputError
from napari_fireants._layers import placed, upright
from napari_fireants._preview import robust_limits

LayerData = tuple[Any, dict[str, Any], str]
Opened = tuple[list[LayerData], list[str]]
"""Layers, and sentences that a person should read."""

LABEL_WORDS = re.compile(
    r"labels?|labelmap|d?seg|segmentation|masks?|rois?|parc|parcellation|aparc|aseg|tissues?"
)
"""Words in a file's name that make whole numbers labels."""
FEW = 32
"""An image of whole numbers with no more values than this shows labels."""
LABEL_INTENT = "1002"


def title(path: Path) -> str:
    """A file's name without its extension."""
    from fireants_engine.io.itk import file_suffix

    return path.name[: len(path.name) - len(file_suffix(path))] or path.name


def described(path: Path, shown: Path | None, **facts: Any) -> dict[str, Any]:
    """`metadata` of a layer read from `path`; shown: the file that holds just what it shows."""
    own = {"path": None if shown is None else str(shown.resolve()), "opened": str(path.resolve())}
    return {"fireants": own | facts}


# ------------------------------------------------------------------ images
def open_image(path: Path) -> Opened:
    """The layers of an image file: one image, labels, arrows of a displacement, or channels."""
    import SimpleITK as sitk

    from fireants_engine.io.itk import grid_of, read

    item = read(path)
    kind = item.GetPixelIDTypeAsString()
    if "complex" in kind:
        raise InputError(f"{path}: holds {kind} values; convert it to real numbers first.")
    grid, notes = grid_of(item, path), _not_finite(path, kind)
    array = sitk.GetArrayFromImage(item)
    channels = item.GetNumberOfComponentsPerPixel() > 1
    array, lead = _without_single(array, grid.dim, channels, path)
    if channels and not lead and array.dtype.kind == "f" and array.shape[-1] == grid.dim:
        from napari_fireants._read_warps import field_arrows

        return field_arrows(array, grid, path)
    array, grid = upright(array, grid, lead)
    look = placed(grid)
    if lead:
        look = _in_time(look, item.GetSpacing()[3], item.GetOrigin()[3])
    shown = None if lead or (channels and not _colour(array)) else path
    look |= {"name": title(path), "metadata": described(path, shown)}
    intent = item.GetMetaData("intent_code") if item.HasMetaDataKey("intent_code") else ""
    if channels:
        return [_channels(array, look)], notes
    if _are_labels(array, path, intent):
        array = array if array.dtype.kind in "iu" else array.astype(np.int32)
        return [(np.ascontiguousarray(array), look, "labels")], notes
    look["contrast_limits"] = robust_limits(array)
    return [(np.ascontiguousarray(array), look, "image")], notes


def _not_finite(path: Path, kind: str) -> list[str]:
    """A sentence where ITK made zeros of what is no number."""
    from fireants_engine.io.complete import check_finite

    if "float" not in kind:
        return []
    try:
        check_finite(path)
    except InputError:
        return [
            f"{path.name} holds NaN or infinite values, which are shown as 0; to register it, "
            "replace them in the file first."
        ]
    return []


def _without_single(
    array: np.ndarray, dim: int, channels: bool, path: Path
) -> tuple[np.ndarray, int]:
    """The array, with a fourth axis only where it has more than one volume; axes before space."""
    lead = array.ndim - dim - channels
    while lead and array.shape[0] == 1:
        array, lead = array[0], lead - 1
    if lead > 1:
        size = " x ".join(map(str, array.shape[::-1]))
        raise InputError(f"{path}: is {dim + lead}D (size {size}); images up to 4D can be opened.")
    return array, lead


def _in_time(look: dict[str, Any], step: float, start: float) -> dict[str, Any]:
    """`look` of a volume for a series of them: a time axis in seconds comes first."""
    out = {
        "units": ("s", *look["units"]),
        "axis_labels": ("t", *look["axis_labels"]),
        "scale": (step if step > 0 else 1.0, *look["scale"]),
        "translate": (start, *look.get("translate", (0.0,) * len(look["scale"]))),
    }
    if "affine" in look:
        inner = look["affine"]
        out["affine"] = np.eye(len(inner) + 1)
        out["affine"][1:, 1:] = inner
    return out


def _colour(array: np.ndarray) -> bool:
    return array.dtype == np.uint8 and array.shape[-1] in (3, 4)


def _channels(array: np.ndarray, look: dict[str, Any]) -> LayerData:
    """Bytes in threes or fours are one colour image, anything else is a layer per channel."""
    if _colour(array):
        return np.ascontiguousarray(array), look | {"rgb": True}, "image"
    parts = range(array.shape[-1])
    look["name"] = [f"{look['name']}, channel {k + 1}" for k in parts]
    look["contrast_limits"] = [robust_limits(array[..., k]) for k in parts]
    return array, look | {"channel_axis": array.ndim - 1}, "image"


# ------------------------------------------------------------------ labels
def _are_labels(array: np.ndarray, path: Path, intent: str) -> bool:
    """Whole numbers that are called labels (NIfTI intent or name), or a few integers."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", title(path))
    called = intent == LABEL_INTENT or any(LABEL_WORDS.fullmatch(word.lower()) for word in words)
    if array.dtype.kind == "f":
        return called and _whole(array)
    return called or _few(array)


def _whole(array: np.ndarray) -> bool:
    """Every value is an integer from 0 on that labels can hold; slice by slice."""
    return all(
        bool(np.all((part >= 0) & (part < 2**31) & (part == np.rint(part)))) for part in array
    )


def _few(array: np.ndarray) -> bool:
    """Integers from 0 on, and at most FEW of them."""
    flat = array.reshape(-1)
    if np.unique(flat[:: max(1, flat.size // 50_000)]).size > FEW:
        return False
    low, high = int(flat.min()), int(flat.max())
    if low < 0 or high >= 2**16:
        return low >= 0 and np.unique(flat).size <= FEW
    seen = np.zeros(high + 1, dtype=bool)
    seen[flat] = True
    return int(seen.sum()) <= FEW


# ------------------------------------------------------------------ points
def open_points(path: Path) -> Opened:
    """A list of points of Slicer (LPS mm) as a points layer in mm, with names."""
    from fireants_engine.io.markups import load_named_points

    named = load_named_points(path, 3)
    places = named.points_mm[:, ::-1]
    extent = float(np.ptp(places, axis=0).max()) if len(places) > 1 else 0.0
    look: dict[str, Any] = {
        "name": path.name.split(".")[0],
        "units": ("mm",) * 3,
        "axis_labels": ("z", "y", "x"),
        "features": {"name": list(named.names)},
        "size": extent / 30 or 4.0,
        "metadata": described(path, path),
    }
    if any(named.names):
        look["text"] = {"string": "{name}", "color": "yellow", "translation": [0, 0, 0]}
    return [(places, look, "points")], []
