"""Applying a map to files: images, 4D series, what is larger than memory, and surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.io.boxes import open_lazy
from fireants_engine.io.images import load_image, save_image
from fireants_engine.io.ome_zarr import check_new_zarr, is_zarr, new_zarr, open_zarr
from fireants_engine.io.series import (
    check_series_format,
    is_series,
    load_grid,
    load_series,
    save_series,
)
from fireants_engine.io.surfaces import load_surface, save_surface
from fireants_engine.ops import apply_tiled, warp_each
from fireants_engine.ops.interpolate import check_interpolation
from fireants_engine.ops.tiles import CHUNK, tiled_type
from fireants_engine.transforms import Transform, sampled
from fireants_engine.workflows.result import Mapping


def reference_grid(path: str | Path) -> Grid:
    """The grid of an image file by its header alone: .zarr, a 4D series, or what ITK reads."""
    return open_zarr(path).grid if is_zarr(path) else load_grid(path)


def apply_file(
    mapping: Mapping,
    image: str | Path,
    out: str | Path,
    *,
    interpolation: str = "linear",
    chunk: Sequence[int] | None = None,
) -> Path:
    """The image in a file, in the space that `mapping` leads to, on `mapping.grid`, as a file.

    A 4D file is carried volume by volume, with its time spacing. Where a name ends with .zarr,
    the result is made chunk by chunk (`ops.apply_tiled`): then neither image has to fit into
    memory, except a result that is no .zarr. A .zarr result has axes along +x, +y, +z, for
    OME-Zarr has no direction: flipped axes of the grid are turned, with the samples where they
    were. chunk: its size, z, y, x order. interpolation: as `ops.warp_image`.

    Raises InputError for files that cannot be read or written, and dimensions that differ.
    """
    image, out = Path(image), Path(out)
    check_interpolation(interpolation)
    if is_zarr(image) or is_zarr(out):
        _apply_tiled(mapping, image, out, interpolation, chunk)
    elif is_series(image):
        _apply_series(mapping, image, out, interpolation)
    else:
        save_image(mapping.warp(load_image(image), interpolation=interpolation), out)
    return out


def _apply_series(mapping: Mapping, image: Path, out: Path, interpolation: str) -> None:
    check_series_format(out)
    series = load_series(image)
    through = sampled(mapping.forward)
    volumes = warp_each(series, through, mapping.grid, interpolation=interpolation)
    save_series(volumes, out, len(series), series.step, series.start)


def _apply_tiled(
    mapping: Mapping,
    image: Path,
    out: Path,
    interpolation: str,
    chunk: Sequence[int] | None,
) -> None:
    source = open_lazy(image)
    dtype, through, grid = tiled_type(source, interpolation), mapping.forward, mapping.grid
    if not is_zarr(out):
        values = np.empty((source.channels, *grid.shape), dtype)
        apply_tiled(source, through, grid, values, chunk=chunk, interpolation=interpolation)
        array = np.moveaxis(values, 0, -1) if source.channels > 1 else values[0]
        done = Image.from_numpy(array, grid, channels=source.channels > 1, name=source.name)
        save_image(done, out)
        return
    check_new_zarr(out)
    try:
        grid = grid.axis_aligned()
    except InputError as error:
        raise InputError(f"{out}: {error}") from None
    with new_zarr(out, grid, dtype, source.channels, chunk or CHUNK[grid.dim]) as array:
        apply_tiled(source, through, grid, array, interpolation=interpolation)


def apply_surface(
    transform: Transform, surface: str | Path, out: str | Path, *, space: str | None = None
) -> bool:
    """Carry the vertices of a surface file through `transform` (points, LPS mm) into `out`.

    Formats and `space`: see `io.surfaces.load_surface`. Faces, scalars and other data stay; the
    faces' order of vertices too. Returns True when the transform reverses orientation
    at most of the vertices, so that faces which looked outwards now look inwards. Raises
    InputError for a 2D transform, and files that cannot be read or written.
    """
    if transform.dim != 3:
        raise InputError(f"{surface}: a surface is 3D but the transform is {transform.dim}D.")
    found = load_surface(surface, space)
    save_surface(found.moved(transform(found.points_mm)), out)
    return _reverses(transform, found.points_mm)


def _reverses(transform: Transform, points_mm: np.ndarray, step_mm: float = 0.1) -> bool:
    """Is the Jacobian determinant negative at most of up to 100 of the points?"""
    if len(points_mm) == 0:
        return False
    some = points_mm[:: max(1, len(points_mm) // 100)]
    columns = [
        (transform(some + step_mm * unit) - transform(some - step_mm * unit)) / (2 * step_mm)
        for unit in np.eye(3)
    ]
    return bool(np.median(np.linalg.det(np.stack(columns, axis=-1))) < 0)
