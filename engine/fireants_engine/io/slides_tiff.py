"""Pyramids in TIFF files: every level read by the tiles or strips that a box touches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry.lazy import Box

KEPT_BYTES = 2**27
"""Of decoded tiles that a slide keeps, for boxes beside one another."""


@dataclass(frozen=True, eq=False)
class Level:
    """One resolution of a slide.

    shape: (Y, X); tile: (Y, X) as it is stored; read: samples (C, *box) of a box; fault: what is
    wrong with it as far as the file's tables tell, else "".
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    read: Callable[[Box], np.ndarray]
    fault: str = ""


@dataclass(eq=False)
class Kept:
    """Decoded tiles by their place, the ones used last, up to `most` bytes (one at least)."""

    most: int = KEPT_BYTES
    tiles: OrderedDict[Any, np.ndarray] = field(default_factory=OrderedDict)
    size: int = 0

    def get(self, key: Any) -> np.ndarray | None:
        found = self.tiles.get(key)
        if found is not None:
            self.tiles.move_to_end(key)
        return found

    def put(self, key: Any, tile: np.ndarray) -> None:
        self.tiles[key] = tile
        self.size += tile.nbytes
        while self.size > self.most and len(self.tiles) > 1:
            self.size -= self.tiles.popitem(last=False)[1].nbytes


@dataclass(frozen=True, eq=False)
class TiffSlide:
    """What is in a TIFF file: levels, finest first, and what holds for all of them."""

    levels: tuple[Level, ...]
    channels: int
    dtype: np.dtype
    notes: tuple[str, ...]


@contextmanager
def _opened(page: Any) -> Iterator[Any]:
    """The file of a page, open within the `with`: between boxes a slide holds none."""
    handle = page.parent.filehandle
    before = not handle.closed
    handle.open()
    try:
        yield handle
    finally:
        if not before:
            handle.close()


def open_tiff(path: Path, tiff: Any) -> TiffSlide:
    """The levels of the first series of an open `tifffile.TiffFile`, which may be closed then.

    Raises InputError for time, z or other axes of more than one sample, and no image at all.
    """
    if not tiff.series:
        raise InputError(f"{path}: holds no image; export the slide again.")
    found = _pyramid(tiff.series)
    page = found[0].keyframe
    _check_axes(found[0], path)
    kept, lock = Kept(), RLock()
    channels = _count(found[0], "SC")
    notes = []
    used = channels
    if found[0].axes.endswith("S") and page.photometric == 2 and channels == 4:
        used = 3
        notes.append("the alpha channel is left out")
    size = tiff.filehandle.size
    levels = []
    for number, series in enumerate(found):
        levels.append(_level(series, number, used, kept, lock, size))
        if levels[-1].fault:
            notes.append(f"level {number} is damaged ({levels[-1].fault}) and is not used")
    return TiffSlide(tuple(levels), used, np.dtype(page.dtype), tuple(notes))


def _pyramid(series: Any) -> list[Any]:
    """The levels of the first series; where it has one, further series of the same shape are."""
    found = list(series[0].levels)
    if len(found) > 1 or series[0].kind not in ("shaped", "generic", "uniform"):
        return found
    for item in series[1:]:
        last = found[-1]
        if item.axes != last.axes or item.dtype != last.dtype:
            break
        sides = zip(item.axes, last.shape, item.shape, strict=True)
        ratios = [n / m for axis, n, m in sides if axis in "YX"]
        same = _count(item, "SC") == _count(last, "SC")
        if not same or min(ratios) < 1.5 or max(ratios) > 1.03 * min(ratios):
            break
        found.append(item)
    return found


def _check_axes(series: Any, path: Path) -> None:
    for axis, n in zip(series.axes, series.shape, strict=True):
        if axis not in "YXSC" and n != 1:
            raise InputError(
                f"{path}: has {n} images along {axis!r} (z, time or pages); extract one of them "
                "first."
            )
    if "Y" not in series.axes or "X" not in series.axes:
        raise InputError(f"{path}: its axes are {series.axes}; a slide has y and x.")


def _count(series: Any, axes: str) -> int:
    return int(np.prod([n for axis, n in zip(series.axes, series.shape, strict=True)
                        if axis in axes]))  # fmt: skip


def _pages(series: Any) -> tuple[Any, ...]:
    """The pages of a level; ImageJ writes one for all the planes that follow it."""
    try:
        return tuple(series.pages)
    except IndexError:
        return (series.keyframe,)


def _fault(pages: tuple[Any, ...], size: int) -> str:
    """Empty, or what is wrong with the places of the tiles in the file."""
    for page in pages:
        if page is None:
            return "a page is missing"
        offsets, counts = page.dataoffsets, page.databytecounts
        if len(offsets) == 0 or len(offsets) != len(counts):
            return "no tiles"
        if max(a + b for a, b in zip(offsets, counts, strict=True)) > size:
            return "its tiles lie beyond the end of the file"
    return ""


def _level(series: Any, number: int, channels: int, kept: Kept, lock: RLock, size: int) -> Level:
    axes = series.axes
    shape = (int(series.shape[axes.index("Y")]), int(series.shape[axes.index("X")]))
    page, pages = series.keyframe, _pages(series)
    fault = _fault(pages, size)
    whole = len(pages) * page.samplesperpixel == _count(series, "SC")
    if page.is_final and not page.is_tiled and (whole or series.dataoffset is not None):
        starts = [(item, item.dataoffsets[0]) for item in pages] if not fault else []
        if not whole:
            planes = _count(series, "SC") // page.samplesperpixel
            starts = [(page, series.dataoffset + k * page.nbytes) for k in range(planes)]
        rows = _Rows(tuple(starts), page, channels, shape, lock)
        return Level(shape, (min(256, shape[0]), shape[1]), rows.read, fault)
    if not whole:
        return Level(shape, shape, _Whole(series, channels).read, fault)
    tile = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, shape[1])
    tile = (min(int(tile[0]), shape[0]), min(int(tile[1]), shape[1]))
    segments = _Segments(pages, page, number, channels, kept, lock)
    return Level(shape, tile, segments.read, fault)


@dataclass(eq=False)
class _Whole:
    """A level whose pages do not stand for its channels: it is read once, whole."""

    series: Any
    channels: int
    array: np.ndarray | None = None

    def read(self, box: Box) -> np.ndarray:
        if self.array is None:
            axes = self.series.axes
            with _opened(self.series.keyframe):
                array = self.series.asarray()
            order = [k for k, axis in enumerate(axes) if axis not in "YX"]
            array = np.transpose(array, [*order, axes.index("Y"), axes.index("X")])
            self.array = array.reshape(-1, *array.shape[-2:])[: self.channels]
        return self.array[(slice(None), *box)]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Boxes of a level whose samples lie in the file row by row as they are.

    starts: a page and the place of its first sample, for every page.
    """

    starts: tuple[tuple[Any, int], ...]
    page: Any
    channels: int
    shape: tuple[int, int]
    lock: RLock

    def read(self, box: Box) -> np.ndarray:
        page = self.page
        apart = page.planarconfig == 2
        samples = 1 if apart else page.samplesperpixel
        planes = page.samplesperpixel if apart else 1
        kind = page.dtype.newbyteorder(page.parent.byteorder)
        row = self.shape[1] * samples * kind.itemsize
        first, count = box[0].start, box[0].stop - box[0].start
        parts = []
        for (found, start), plane in product(self.starts, range(planes)):
            with self.lock, _opened(found) as handle:
                handle.seek(start + (plane * self.shape[0] + first) * row)
                data = handle.read(count * row)
            if len(data) < count * row:
                raise OSError("the file ends within the level")
            rows = np.frombuffer(data, kind).reshape(count, self.shape[1], samples)
            parts.append(np.moveaxis(rows[:, box[1]], 2, 0))
        return np.concatenate(parts)[: self.channels].astype(page.dtype)


@dataclass(frozen=True, eq=False)
class _Segments:
    """Boxes of a level from the tiles or strips of its pages."""

    pages: tuple[Any, ...]
    page: Any
    number: int
    channels: int
    kept: Kept
    lock: RLock

    def read(self, box: Box) -> np.ndarray:
        size = [item.stop - item.start for item in box]
        out = np.zeros((self.channels, *size), self.page.dtype)
        with self.lock, _opened(self.page):
            for channel, rows, columns, tile in self._tiles(box):
                self._paste(out, box, channel, (rows, columns), tile)
        return out

    def _paste(
        self, out: np.ndarray, box: Box, channel: int, first: tuple[int, int], tile: np.ndarray
    ) -> None:
        """`tile` (h, w, samples), which begins at pixel `first`, into `out` (C, *box)."""
        into, of = [], []
        for item, start, n in zip(box, first, tile.shape, strict=False):
            low, high = max(item.start, start), min(item.stop, start + n)
            into.append(slice(low - item.start, high - item.start))
            of.append(slice(low - start, high - start))
        last = min(self.channels, channel + tile.shape[2])
        part = tile[(*of, slice(0, last - channel))]
        out[(slice(channel, last), *into)] = np.moveaxis(part, 2, 0)

    def _tiles(self, box: Box) -> Iterator[tuple[int, int, int, np.ndarray]]:
        """First channel, row and column of every tile that `box` touches, and the tile."""
        page = self.page
        if page.is_tiled:
            height, width = page.tilelength, page.tilewidth
        else:
            height, width = page.rowsperstrip, page.imagewidth
        across, down = -(-page.imagewidth // width), -(-page.imagelength // height)
        planes = page.samplesperpixel if page.planarconfig == 2 else 1
        rows = range(box[0].start // height, -(-box[0].stop // height))
        columns = range(box[1].start // width, -(-box[1].stop // width))
        for number, plane in product(range(len(self.pages)), range(planes)):
            channel = number * page.samplesperpixel + plane
            if channel >= self.channels:
                continue
            for row, column in product(rows, columns):
                index = (plane * down + row) * across + column
                yield channel, row * height, column * width, self._tile(number, index)

    def _tile(self, number: int, index: int) -> np.ndarray:
        key = (self.number, number, index)
        found = self.kept.get(key)
        if found is None:
            with _opened(self.pages[number]) as handle:
                found = _decoded(self.pages[number], handle, index)
            self.kept.put(key, found)
        return found


def _decoded(page: Any, handle: Any, index: int) -> np.ndarray:
    """One tile (h, w, samples), cut at the border of the image; of one value where the file
    leaves it out."""
    key = page.keyframe
    count = page.databytecounts[index]
    data = None
    if count:
        handle.seek(page.dataoffsets[index])
        data = handle.read(count)
        if len(data) < count:
            raise OSError("the file ends within a tile")
    extra: dict[str, Any] = {"_fullsize": False}
    if key.compression in (6, 7, 34892, 33007):  # JPEG keeps its tables apart
        extra |= {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
    segment, _, extent = key.decode(data, index, **extra)
    if segment is None:
        return np.full((*extent[1:3], extent[3]), page.nodata, key.dtype)
    return np.asarray(segment)[0]
