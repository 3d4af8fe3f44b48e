"""What this plugin writes for napari: layers as files that keep their place in LPS mm.

Every writer writes the whole of what it was given, or raises one sentence: a file is there under
its own name when it is complete, and never instead of an error. Functions take what napari hands
to writers: a path and a layer's data, attributes and, for several, type.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fireants_engine.errors import InputError
from napari_fireants._layers import Snapshot, file_of, grid_of, places_mm, snapshot, time_points

if TYPE_CHECKING:
    from napari.layers import Layer

FullLayerData = tuple[Any, dict[str, Any], str]

IMAGES = (".nii.gz", ".nii", ".nrrd", ".mha")
POINTS = (".fcsv", ".mrk.json", ".csv")
LINEAR = (".mat", ".tfm", ".txt")
_OTHERS = re.compile(
    r"\.(tiff?|png|jpe?g|bmp|gif|np[yz]|zarr|h5|hdf5|mg[zh]|mnc|img|hdr|gz|json|csv|txt|pts|mat|tfm|"
    r"xfm|vtk|obj|ya?ml|pdf|svg|nhdr|mhd)"
)
"""Extensions that mean another format; what stands after any other dot is part of the name."""
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
_KEPT = (*_PLACE, "name", "metadata")


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """An image layer as NIfTI, NRRD or MHA: 2D, 3D, RGB, or 3D with time."""
    return [_written(path, (data, attributes, "image"))]


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """A labels layer as NIfTI, NRRD or MHA."""
    return [_written(path, (data, attributes, "labels"))]


def write_points(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """A points layer as a list of points of Slicer or ANTs, LPS mm."""
    return [_written(path, (data, attributes, "points"))]


def write_vectors(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """The transform whose arrows a layer shows, in full, as ITK and ANTs read it."""
    return [_written(path, (data, attributes, "vectors"))]


def write_folder(path: str, layers: Sequence[FullLayerData]) -> list[str]:
    """Every layer as a file of its own, called by its name, in one folder.

    Nothing is written when one of them cannot be.
    """
    folder = Path(path)
    if _extension(folder) or folder.is_file():
        raise InputError(
            f"{folder}: several layers are written into a folder; give a name without extension."
        )
    if not folder.parent.is_dir():
        raise InputError(f"{folder}: there is no folder {folder.parent}; create it first.")
    temporary = Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=folder.parent))
    try:
        names = [Path(_written(str(temporary / _free(temporary, d)), d)).name for d in layers]
        folder.mkdir(exist_ok=True)
        for name in names:
            os.replace(temporary / name, folder / name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}).") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [str(folder / name) for name in names]


# ------------------------------------------------------------------ names
def _extension(path: Path) -> str:
    """What stands for a format at the end of a name, "" where nothing does."""
    name = path.name.lower()
    known = (*IMAGES, *POINTS, *LINEAR)
    long = next((each for each in known if name.endswith(each)), "")
    return long or (path.suffix.lower() if _OTHERS.fullmatch(path.suffix.lower()) else "")


def _with_extension(path: str, allowed: Sequence[str], what: str) -> Path:
    """`path` with one of the allowed extensions, the first by default."""
    file = Path(path)
    found = _extension(file)
    if not found:
        return file.with_name(file.name + allowed[0])
    if found not in allowed:
        raise InputError(
            f"{file}: {what} written as {', '.join(allowed[:-1])} or {allowed[-1]}; choose one "
            "of these extensions."
        )
    return file


def _free(folder: Path, data: FullLayerData) -> str:
    """A file name from the layer's, that none in `folder` has yet, with an extension."""
    attributes, kind = data[1:]
    name = re.sub(r'[\\/:*?"<>|\s]+', "_", str(attributes.get("name", kind))).strip("._") or kind
    ours = attributes.get("metadata", {}).get("fireants")
    linear = kind == "vectors" and isinstance(ours, dict) and ours.get("kind") == "affine"
    end = {"points": POINTS[0]}.get(kind, LINEAR[0] if linear else IMAGES[0])
    candidates = [name, *(f"{name}_{k}" for k in range(2, 10_000))]
    return next(f"{each}{end}" for each in candidates if not (folder / f"{each}{end}").exists())


# ------------------------------------------------------------------ writing
def _written(path: str, given: FullLayerData) -> str:
    data, attributes, kind = given
    layer = _layer(data, attributes, kind)
    if kind == "points":
        file = _points(layer, _with_extension(path, POINTS, "points are"))
    elif kind == "vectors":
        file = _transform(layer, _with_extension(path, (*IMAGES, *LINEAR), "transforms are"))
    elif kind in ("image", "labels"):
        file = _image(layer, _with_extension(path, IMAGES, f"{kind} layers with their place are"))
    else:
        raise InputError(
            f"{attributes.get('name', kind)}: {kind} layers cannot be written; leave it out of "
            "the selection."
        )
    return str(file)


def _layer(data: Any, attributes: dict[str, Any], kind: str) -> Layer:
    """A layer of its own with the data and the place of the one to be written."""
    from napari.layers import Layer

    more = {"image": ("rgb", "multiscale", "contrast_limits"), "labels": ("multiscale",)}
    more |= {"points": ("features",), "vectors": ("ndim",)}
    kept = {key: attributes[key] for key in (*_KEPT, *more.get(kind, ())) if key in attributes}
    return Layer.create(data, kept, kind)


def _image(layer: Layer, path: Path) -> Path:
    from fireants_engine.io.images import save_array

    if layer.ndim == 4:
        return _series(layer, path)
    source = snapshot(layer)
    array = _values(source)
    save_array(array, grid_of(source), path, vector=source.rgb)
    _show(source.notes)
    return path


def _values(source: Snapshot) -> np.ndarray:
    """The samples in a type that files hold: colours as bytes, labels in 32 bits where they fit."""
    array = np.asarray(source.data)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise InputError(
            f"{source.name}: {array.dtype} values cannot be written; convert them to real numbers."
        )
    if source.rgb and array.dtype.kind == "f":
        return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    if source.labels and array.dtype.itemsize == 8:
        low, high = int(array.min(initial=0)), int(array.max(initial=0))
        return array.astype(np.int32) if low >= -(2**31) and high < 2**31 else array
    return array


def _series(layer: Layer, path: Path) -> Path:
    from fireants_engine.io.series import save_series
    from napari_fireants._layers import to_image

    parts, step, start = time_points(layer)
    if parts[0].rgb:
        raise InputError(
            f"{layer.name}: a series of colour images cannot be written; write its channels apart "
            "(right-click the layer, Split RGB)."
        )
    volumes = (to_image(part) for part in parts)
    save_series(volumes, path, len(parts), step, start)
    _show(parts[0].notes)
    return path


def _points(layer: Layer, path: Path) -> Path:
    from fireants_engine.io.markups import NamedPoints, save_named_points

    if layer.ndim not in (2, 3):
        raise InputError(
            f"{layer.name} has {layer.ndim} axes; lists of points are 2D or 3D: keep those of one "
            "time point."
        )
    features = layer.features
    column = next((each for each in ("name", "label") if each in features), None)
    names = tuple(map(str, features[column])) if column and len(features) else ()
    save_named_points(NamedPoints(places_mm(layer, layer.data), names), path)
    return path


def _transform(layer: Layer, path: Path) -> Path:
    """The file that the arrows came from, read again and written in full."""
    from fireants_engine.io.transforms import load_transform, save_affine, save_displacement
    from fireants_engine.transforms import parts_of
    from napari_fireants._read_warps import as_affine

    source = file_of(layer)
    ours = layer.metadata.get("fireants")
    if source is None or not isinstance(ours, dict) or "kind" not in ours:
        raise InputError(
            f"{layer.name}: these arrows are not those of a transform file, and arrows alone do "
            "not hold a whole transform; save the run they belong to instead."
        )
    transform = load_transform(source)
    affine, suffix = as_affine(transform), _extension(path)
    if affine is not None:
        if suffix not in LINEAR:
            raise InputError(f"{path}: {layer.name} is an affine map; write it as .mat or .tfm.")
        return save_affine(affine, path)
    if suffix in LINEAR:
        raise InputError(
            f"{path}: {layer.name} is a deformation; write it as .nii.gz, .nrrd or .mha."
        )
    from fireants_engine.transforms import Displacement

    parts = parts_of(transform)
    warp = next(part for part in parts if isinstance(part, Displacement))
    if len(parts) > 1:
        warp = Displacement.from_mm(transform.displacement(warp.grid), warp.grid)
    return save_displacement(warp, path)


def _show(notes: Sequence[str]) -> None:
    from napari.utils.notifications import show_info

    for note in notes:
        show_info(note)
