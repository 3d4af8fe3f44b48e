"""A slide through a transform, at full resolution: tile by tile into a pyramidal OME-TIFF."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, apply_matrix
from fireants_engine.geometry.lazy import LazyImage
from fireants_engine.io.itk import write_whole
from fireants_engine.io.slides import Slide
from fireants_engine.ops import apply_tiled
from fireants_engine.ops.interpolate import check_interpolation
from fireants_engine.ops.resample import check_dimensions
from fireants_engine.transforms import (
    Affine,
    Chain,
    Displacement,
    Transform,
    linear_part,
    sampled,
)

TILE = 512
SMALLEST = 1024
"""Pixels along the longer side at which no coarser level follows."""
STEP = 8
"""Pixels between the places where a deformable map is evaluated; linear between them."""
ERROR_PX = 0.05
"""Pixels of the moving slide by which that may differ; tiles where it does are evaluated whole."""
_BUFFER = 2**24
_BIG = 2**31
_COMPRESSION: dict[str, tuple[str | None, dict[str, int]]] = {
    "deflate": ("zlib", {"level": 6}), "none": (None, {}),
}  # fmt: skip

Progress = Callable[[float], None]
"""Called with the share that is done, 0 to 1."""


@dataclass(frozen=True, eq=False)
class WarpedSlide:
    """What `warp_slide` has written.

    shapes: (Y, X) of its levels, finest first; level: of the moving slide that was sampled;
    background: (C,) values outside it; error_px: the largest difference found between the map and
    its linear interpolation, pixels of that level; exact: tiles that were evaluated whole.
    """

    path: Path
    shapes: tuple[tuple[int, int], ...]
    level: int
    background: np.ndarray
    error_px: float
    exact: int
    notes: tuple[str, ...]


@dataclass(eq=False)
class _Found:
    """What is learnt tile by tile."""

    error_px: float = 0.0
    exact: int = 0


@dataclass(frozen=True, eq=False)
class _Job:
    """One slide, one map: what does not change from tile to tile."""

    source: LazyImage
    transform: Transform
    grid: Grid
    fill: np.ndarray
    interpolation: str
    tile: int
    progress: Progress | None
    found: _Found = field(default_factory=_Found)

    @property
    def samples(self) -> tuple[int, ...]:
        return (self.source.channels,) if self.source.channels > 1 else ()

    def bands(self) -> Iterator[np.ndarray]:
        """The result from the top down, (rows, X[, C]), a tile high."""
        height, width = self.grid.shape
        for top in range(0, height, self.tile):
            rows = slice(top, min(height, top + self.tile))
            band = np.empty((rows.stop - top, width, *self.samples), self.source.dtype)
            for left in range(0, width, self.tile):
                columns = slice(left, min(width, left + self.tile))
                values = self._values(self.grid.part((rows, columns)))
                band[:, columns] = np.moveaxis(values, 0, -1) if self.samples else values[0]
            yield band
            if self.progress is not None:
                self.progress(rows.stop / height)

    def _values(self, grid: Grid) -> np.ndarray:
        """(C, Y, X) on a tile's grid in the slide's own type."""
        through, error = nearly(self.transform, grid, self.source.grid)
        self.found.error_px = max(self.found.error_px, error or 0.0)
        self.found.exact += error is None
        smooth = self.interpolation not in ("nearest", "label")
        kind = np.float32 if smooth else self.source.dtype
        out = np.empty((self.source.channels, *grid.shape), kind)
        apply_tiled(
            self.source, through, grid, out, chunk=grid.shape,
            interpolation=self.interpolation, fill=np.nan if smooth else float(self.fill[0]),
        )  # fmt: skip
        if not smooth:
            return out
        outside = np.isnan(out)
        if outside.any():
            out = np.where(outside, self.fill.reshape(-1, 1, 1), out)
        return _as_type(out, self.source.dtype)


def _as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def nearly(
    transform: Transform, grid: Grid, source: Grid, error_px: float = ERROR_PX
) -> tuple[Transform, float | None]:
    """`transform` on the samples of a 2D `grid`, evaluated at every `STEP`th and linear between.

    Compared with `transform` itself in the middle of the cells, where that interpolation is worst
    for smooth maps. Returns the map and the largest difference in pixels of `source`; a linear
    map as it is with 0; and where the difference exceeds `error_px` the transform with None.
    """
    if linear_part(transform) is not None:
        return transform, 0.0
    voxels = [_lattice(n) for n in grid.shape]
    to_mm, to_source = grid.matrix("voxel", "mm"), source.matrix("mm", "voxel")
    nodes = _evaluated(transform, voxels, to_mm)
    between = _evaluated(transform, [(a[1:] + a[:-1]) / 2 for a in voxels], to_mm)
    means = (nodes[1:, 1:] + nodes[:-1, 1:] + nodes[1:, :-1] + nodes[:-1, :-1]) / 4
    gap = np.abs((means - between) @ to_source[:-1, :-1].T).max(initial=0)
    if not gap <= error_px:
        return transform, None
    moved = apply_matrix(grid.matrix("mm", "voxel"), nodes)
    u = moved - np.stack(np.meshgrid(*voxels, indexing="ij"), axis=-1)
    shift = u.mean(axis=(0, 1))
    coarse = torch.from_numpy(np.moveaxis(u - shift, -1, 0)[None].copy()).float()
    fine = F.interpolate(coarse, size=grid.shape, mode="bilinear", align_corners=True)
    matrix = np.eye(3)
    matrix[:2, 2] = to_mm[:2, :2] @ shift
    return Chain([Displacement(fine, grid), Affine(matrix)]), float(gap)


def _lattice(n: int) -> np.ndarray:
    """Places from the first to the last of n samples, about `STEP` apart, two at least."""
    return np.linspace(0, max(n - 1, 0), max(2, -(-(n - 1) // STEP) + 1))


def _evaluated(transform: Transform, voxels: list[np.ndarray], to_mm: np.ndarray) -> np.ndarray:
    """The map (rows, columns, 2) in mm at the crossings of rows and columns of voxels."""
    places = np.stack(np.meshgrid(*voxels, indexing="ij"), axis=-1)
    moved = transform(apply_matrix(to_mm, places.reshape(-1, 2)))
    return moved.reshape(places.shape)


# ------------------------------------------------------------------ the slide
def warp_slide(
    transform: Transform,
    moving: Slide,
    fixed: Slide | Grid,
    path: str | Path,
    *,
    background: float | Sequence[float] | None = None,
    interpolation: str = "linear",
    compression: str = "deflate",
    tile: int = TILE,
    progress: Progress | None = None,
) -> WarpedSlide:
    """`moving o transform` on the fixed slide's grid as a tiled, pyramidal OME-TIFF.

    transform: fixed mm -> moving mm, 2D (LPS axes x, y). One interpolation from the coarsest
    level of `moving` that is fine enough; values keep their type. background: outside the moving
    slide, one value or one per channel; default what its border has (white on bright-field).
    interpolation: as `ops.warp_image`; `nearest` and `label` for label images, whose coarser
    levels are then every second pixel instead of the mean of four. compression: deflate or none.

    Memory holds a row of tiles of each image and what is compressed, whatever their sizes; a
    third of the result's size is needed on the disk beside `path` while it is written.
    Deformable maps: see `nearly`. OME-TIFF keeps no origin or direction.

    Raises InputError for maps and grids that are not 2D, an unknown interpolation or compression,
    a damaged moving slide, and a file that cannot be written.
    """
    path, grid = Path(path), fixed.grid if isinstance(fixed, Slide) else fixed
    check_interpolation(interpolation)
    check_dimensions(moving.name, moving.grid, transform, grid)
    if compression not in _COMPRESSION:
        raise InputError(f"compression {compression!r} is not known; choose deflate or none.")
    if tile < 16 or tile % 16:
        raise InputError(f"a tile of {tile} pixels is not possible in TIFF; use 256 or 512.")
    through = sampled(transform)
    level = _level(moving, through, grid)
    smooth = interpolation not in ("nearest", "label")
    fill = _fill(moving, background, smooth)
    job = _Job(moving.lazy(level), through, grid, fill, interpolation, tile, progress)
    sized = moving.sized and (not isinstance(fixed, Slide) or fixed.sized)
    shapes = _shapes(grid.shape)
    write_whole(path, lambda place: _write(job, place, shapes, compression, sized))
    notes = [] if sized else ["the size of a pixel is not known and is not in the file"]
    if any(grid.origin_mm) or not np.allclose(grid.direction, np.eye(2)):
        notes.append("OME-TIFF keeps no origin or direction: the first pixel lies at 0, 0 mm")
    return WarpedSlide(path, shapes, level, fill, job.found.error_px, job.found.exact, tuple(notes))


def _fill(moving: Slide, background: Any, smooth: bool) -> np.ndarray:
    if background is None:
        found = moving.background() if smooth else np.zeros(moving.channels)
        return _as_type(found, moving.dtype)
    values = np.atleast_1d(np.asarray(background, dtype=np.float64))
    if values.size not in (1, moving.channels):
        raise InputError(
            f"{moving.name}: {values.size} background values for {moving.channels} channels; give "
            "one, or one per channel."
        )
    if not np.array_equal(_as_type(values, moving.dtype), values):
        raise InputError(
            f"{moving.name}: the background {background} does not fit its {moving.dtype} values."
        )
    return np.broadcast_to(values, (moving.channels,)).astype(moving.dtype)


def _level(moving: Slide, transform: Transform, grid: Grid) -> int:
    """The coarsest whole level whose pixels are no larger than those of `grid`, carried over."""
    places = [(n - 1) * np.array([0.25, 0.5, 0.75]) for n in grid.shape]
    voxels = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, 2)
    to_mm, to_pixel = grid.matrix("voxel", "mm"), moving.grid.matrix("mm", "voxel")

    def pixels(places: np.ndarray) -> np.ndarray:
        return apply_matrix(to_pixel, transform(apply_matrix(to_mm, places)))

    steps = [np.linalg.norm(pixels(voxels + e) - pixels(voxels), axis=1) for e in np.eye(2)]
    step = float(np.median(np.stack(steps)))
    fine = [
        k for k, item in enumerate(moving.levels)
        if not item.fault and max(moving.downsample(k)) <= max(1.0, step * 1.01)
    ]  # fmt: skip
    return max(fine, default=0)


# ------------------------------------------------------------------ the file
def _shapes(shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Of all levels: halved, rounded up, until they are small."""
    out = [(shape[0], shape[1])]
    while max(out[-1]) > SMALLEST:
        out.append((-(-out[-1][0] // 2), -(-out[-1][1] // 2)))
    return tuple(out)


def _write(
    job: _Job, path: Path, shapes: tuple[tuple[int, int], ...], compression: str, sized: bool
) -> None:
    import tifffile

    dtype, channels = job.source.dtype, job.source.channels
    name, arguments = _COMPRESSION[compression]
    options: dict[str, Any] = {
        "dtype": dtype, "tile": (job.tile, job.tile), "compression": name,
        "compressionargs": arguments, "buffersize": _BUFFER,
        "photometric": "rgb" if channels == 3 and dtype == np.uint8 else "minisblack",
    }  # fmt: skip
    if channels > 1:
        options["planarconfig"] = "contig"
    metadata: dict[str, Any] = {"axes": "YXS" if channels > 1 else "YX", "Name": job.source.name}
    if sized:
        for axis, size in zip("XY", job.grid.spacing_mm, strict=True):
            metadata |= {f"PhysicalSize{axis}": size * 1e3, f"PhysicalSize{axis}Unit": "µm"}
    big = 2 * dtype.itemsize * channels * job.grid.voxels > _BIG
    smooth = job.interpolation not in ("nearest", "label")
    bands, last = job.bands(), len(shapes) - 1
    with ExitStack() as open_files:
        file = open_files.enter_context(tifffile.TiffWriter(path, ome=True, bigtiff=big))
        for number, shape in enumerate(shapes):
            coarser = None
            if number < last:
                coarser = open_files.enter_context(tempfile.TemporaryFile(dir=path.parent))
            tiles = _tiles(bands, job.tile, coarser, smooth)
            if number == 0:
                more = {"subifds": last, "metadata": metadata}
            else:
                more = {"subfiletype": 1, "metadata": None}
            file.write(tiles, shape=(*shape, *job.samples), **options, **more)
            if coarser is not None:
                bands = _stored(coarser, shapes[number + 1], job)


def _tiles(
    bands: Iterator[np.ndarray], tile: int, coarser: BinaryIO | None, smooth: bool
) -> Iterator[np.ndarray]:
    """Whole tiles of the bands, row by row; their halves go to `coarser`."""
    for band in bands:
        if coarser is not None:
            coarser.write(np.ascontiguousarray(_halved(band, smooth)).data)
        for left in range(0, band.shape[1], tile):
            piece = band[:, left : left + tile]
            lacks = [(0, tile - n) for n in piece.shape[:2]]
            rest = [(0, 0)] * (piece.ndim - 2)
            yield (
                np.pad(piece, [*lacks, *rest], mode="edge")
                if any(n for _, n in lacks)
                else np.ascontiguousarray(piece)
            )


def _halved(band: np.ndarray, smooth: bool) -> np.ndarray:
    """Means of 2 x 2 pixels (odd sides: the last one repeated), or the first of each four."""
    if not smooth:
        return band[::2, ::2]
    odd = [(0, n % 2) for n in band.shape[:2]] + [(0, 0)] * (band.ndim - 2)
    if any(n for _, n in odd):
        band = np.pad(band, odd, mode="edge")
    kind = band.dtype if band.dtype.kind == "f" else np.dtype(np.int64)
    if band.dtype.kind in "iu" and band.dtype.itemsize < 4:
        kind = np.dtype(np.int32)
    total = band[::2, ::2].astype(kind)
    for part in (band[1::2, ::2], band[::2, 1::2], band[1::2, 1::2]):
        total += part
    return (total / 4 if kind.kind == "f" else (total + 2) // 4).astype(band.dtype)


def _stored(spool: BinaryIO, shape: tuple[int, int], job: _Job) -> Iterator[np.ndarray]:
    """The bands of a level that lies row by row in a file."""
    spool.seek(0)
    row = (shape[1], *job.samples)
    for top in range(0, shape[0], job.tile):
        rows = min(job.tile, shape[0] - top)
        data = spool.read(rows * int(np.prod(row)) * job.source.dtype.itemsize)
        yield np.frombuffer(data, job.source.dtype).reshape(rows, *row)
