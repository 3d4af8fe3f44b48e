"""OME-Zarr: the levels of an image as LazyImages, and a new image to be filled chunk by chunk."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.geometry.lazy import ArrayLike, Box, LazyImage

SUFFIX = ".zarr"
MM = {
    None: 1.0,
    "angstrom": 1e-7,
    "nanometer": 1e-6,
    "micrometer": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "decimeter": 100.0,
    "meter": 1000.0,
    "inch": 25.4,
}
"""Millimetres in a unit of space; without a unit numbers are taken as mm."""


def is_zarr(path: str | Path) -> bool:
    """True when the name ends with .zarr (so also with .ome.zarr)."""
    return Path(path).name.lower().endswith(SUFFIX)


def need_zarr(path: Path) -> Any:
    """The module zarr; raises InputError, naming `path`, where it is not installed."""
    try:
        import zarr
    except ImportError:
        raise InputError(
            f"{path}: Zarr images need zarr; install it with pip install 'napari-fireants[zarr]'."
        ) from None
    return zarr


def open_zarr(path: str | Path) -> LazyImage:
    """Level 0 of an OME-Zarr image (0.4 to 0.6), or a plain Zarr array; nothing is read yet.

    Spacing and origin come from `scale` and `translation` in the axes' unit, turned into mm; the
    direction is the identity (LPS axes x, y, z). Channels stay, a time axis has to be of one
    point; axes of one sample that are not spatial are dropped. A plain array has a voxel of 1 mm
    and its axes are z, y, x or y, x. Needs zarr. Raises InputError naming the path otherwise.
    """
    return _opened(Path(path), only_first=True).images[0]


@dataclass(frozen=True, eq=False)
class ZarrLevels:
    """images: finest first; chunks: their chunks along the spatial axes, array order; sized: the
    spatial axes have units, so that the images' mm are more than a guess."""

    images: tuple[LazyImage, ...]
    chunks: tuple[tuple[int, ...], ...]
    sized: bool


def open_levels(path: str | Path) -> ZarrLevels:
    """All levels of what `open_zarr` opens; raises InputError as it does."""
    return _opened(Path(path), only_first=False)


def _opened(path: Path, only_first: bool) -> ZarrLevels:
    zarr = need_zarr(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file; check the path of the image.")
    try:
        found = zarr.open(path, mode="r")
        if isinstance(found, zarr.Array):
            image = LazyImage.from_array(found, name=path.name)
            return ZarrLevels((image,), (tuple(found.chunks),), False)
        count = 1 if only_first else len(_image(found, path)["datasets"])
        images, chunks, sized = [], [], False
        for number in range(count):
            array, axes, scale, shift = _level(found, path, number)
            images.append(_lazy(array, axes, scale, shift, path))
            space = [k for k, axis in enumerate(axes) if axis["name"].lower() in "zyx"]
            chunks.append(tuple(array.chunks[k] for k in space))
            sized = all(axes[k].get("unit") for k in space)
        return ZarrLevels(tuple(images), tuple(chunks), sized)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{path}: this is not an OME-Zarr image ({str(error)[:100]}); give the folder whose "
            "metadata name the image's axes, or write it again."
        ) from None


def _image(group: Any, path: Path) -> dict[str, Any]:
    attributes = dict(group.attrs)
    images = attributes.get("ome", attributes).get("multiscales")
    if not images:
        raise InputError(
            f"{path}: holds no image itself (no multiscales); give the folder of one image in it."
        )
    return images[0]


def _level(group: Any, path: Path, number: int) -> tuple[Any, list[dict], np.ndarray, np.ndarray]:
    """The array of a level, its axes, and scale and translation in the axes' units."""
    image = _image(group, path)
    dataset = image["datasets"][number]
    array = group[dataset["path"]]
    sources = [dataset, image]
    names = image.get("axes")
    if "coordinateSystems" in image:  # 0.6: other maps of the image lead to other systems
        names, sources = _system(image, dataset)["axes"], [dataset]
    names = names or list("tczyx"[-array.ndim :])
    axes = [{"name": axis} if isinstance(axis, str) else dict(axis) for axis in names]
    if len(axes) != array.ndim:
        raise ValueError(f"{len(axes)} axes for {array.ndim} dimensions")
    scale, shift = np.ones(array.ndim), np.zeros(array.ndim)
    for source in sources:
        for item in _steps(source.get("coordinateTransformations", ())):
            if item["type"] == "scale":
                scale, shift = scale * item["scale"], shift * item["scale"]
            elif item["type"] == "translation":
                shift = shift + item["translation"]
    return array, axes, scale, shift


def _system(image: dict[str, Any], dataset: dict[str, Any]) -> dict[str, Any]:
    """The coordinate system (0.6) to which the transformation of a level leads."""
    output = dataset["coordinateTransformations"][0]["output"]
    name = output["name"] if isinstance(output, dict) else output
    return next(item for item in image["coordinateSystems"] if item["name"] == name)


def _steps(items: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The transformations in `items`, those of a sequence one by one."""
    for item in items:
        if item["type"] == "sequence":
            yield from _steps(item["transformations"])
        else:
            yield item


def _lazy(
    array: Any, axes: list[dict], scale: np.ndarray, shift: np.ndarray, path: Path
) -> LazyImage:
    """Spatial axes (and channels) of an array with OME axes as a LazyImage."""
    names = [axis["name"].lower() for axis in axes]
    space = [k for k, name in enumerate(names) if name in "zyx"]
    channel = names.index("c") if "c" in names else None
    for k, name in enumerate(names):
        if k not in space and k != channel and array.shape[k] != 1:
            raise InputError(
                f"{path}: has {array.shape[k]} samples along {name!r}; extract one of them first."
            )
    if "".join(names[k] for k in space) not in ("zyx", "yx"):
        raise InputError(f"{path}: its axes are {', '.join(names)}; reorder them to z, y, x.")
    factors = np.array([_mm(axes[k].get("unit"), path) for k in space])
    spacing, origin = scale[space] * factors, shift[space] * factors
    size = tuple(array.shape[k] for k in space)[::-1]
    grid = Grid(size, tuple(spacing[::-1]), tuple(origin[::-1]), np.eye(len(space)))

    def read(box: Box) -> np.ndarray:
        key: list[Any] = [0] * array.ndim
        for k, item in zip(space, box, strict=True):
            key[k] = item
        if channel is None:
            return np.asarray(array[tuple(key)])[None]
        key[channel] = slice(None)
        place = sum(k < channel for k in space)  # where the channels stand among what is left
        return np.moveaxis(np.asarray(array[tuple(key)]), place, 0)

    channels = 1 if channel is None else int(array.shape[channel])
    return LazyImage(read, grid, np.dtype(array.dtype), channels, path.name)


def _mm(unit: str | None, path: Path) -> float:
    if unit not in MM:
        known = ", ".join(name for name in MM if name)
        raise InputError(f"{path}: the unit {unit!r} is not known; use one of {known}.")
    return MM[unit]


@contextmanager
def new_zarr(
    path: str | Path, grid: Grid, dtype: np.dtype, channels: int, chunk: Sequence[int]
) -> Iterator[ArrayLike]:
    """An OME-Zarr 0.5 image of one level on `grid`, to be filled inside the `with`.

    Yields the array, (C, *grid.shape) when channels > 1, else grid.shape; its axes are in
    millimetres. It stands under a temporary name until the `with` ends without an error. Raises
    InputError when `path` is there already or its folder is not, and for a grid with a direction
    (OME-Zarr keeps none: `Grid.axis_aligned` turns flipped axes).
    """
    path = Path(path)
    zarr = need_zarr(path)
    check_new_zarr(path)
    if not np.allclose(grid.direction, np.eye(grid.dim), atol=1e-5):
        raise InputError(f"{path}: OME-Zarr keeps no direction; choose a grid without one.")
    temporary = path.parent / f".{uuid.uuid4().hex[:12]}.partial{SUFFIX}"
    lead = [channels] if channels > 1 else []
    names = [*["c" for _ in lead], *"zyx"[-grid.dim :]]
    pieces = [min(n, step) for n, step in zip(grid.shape, chunk, strict=True)]
    try:
        group = zarr.open_group(temporary, mode="w", zarr_format=3)
        array = group.create_array(
            "0",
            shape=(*lead, *grid.shape),
            chunks=(*[1 for _ in lead], *pieces),
            dtype=dtype,
            dimension_names=names,
        )
        group.attrs["ome"] = _metadata(path, grid, names)
        yield array
        temporary.rename(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_new_zarr(path: Path) -> None:
    """Raise InputError unless a new Zarr folder can be made at `path`; none is replaced."""
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; create it first.")
    if path.exists():
        raise InputError(f"{path}: is there already; remove it or choose another name.")


def _metadata(path: Path, grid: Grid, names: Sequence[str]) -> dict[str, Any]:
    lead = len(names) - grid.dim
    axes = [
        {"name": name, "type": "channel"} if name == "c"
        else {"name": name, "type": "space", "unit": "millimeter"}
        for name in names
    ]  # fmt: skip
    scale = [*[1.0] * lead, *grid.spacing_zyx]
    translation = [*[0.0] * lead, *grid.origin_mm[::-1]]
    steps = [
        {"type": "scale", "scale": scale},
        {"type": "translation", "translation": translation},
    ]
    level = {"path": "0", "coordinateTransformations": steps}
    name = path.name.removesuffix(SUFFIX).removesuffix(".ome")
    return {
        "version": "0.5",
        "multiscales": [{"name": name, "axes": axes, "datasets": [level]}],
    }
