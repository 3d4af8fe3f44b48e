"""Slides: pyramids of TIFF, OME-TIFF, OME-Zarr and scanners, of which only boxes are read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.geometry.image import as_tensor
from fireants_engine.geometry.lazy import Box, LazyImage
from fireants_engine.io.itk import file_suffix, must_exist
from fireants_engine.io.ome_zarr import is_zarr, open_levels
from fireants_engine.io.slides_pixel import Pixel, as_pixel, pixel_of_tiff
from fireants_engine.io.slides_tiff import Level, open_tiff

TIFF = (".tif", ".tiff", ".svs", ".ndpi", ".scn", ".bif", ".btf")
SCANNERS = (".svs", ".ndpi", ".scn", ".bif", ".mrxs", ".vms", ".vmu", ".svslide", ".vsi", ".dcm")
"""Formats that openslide reads; those that are TIFFs too are read without it."""
PLAIN = (".png", ".jpg", ".jpeg", ".bmp")
STRIP = 2**22
"""Samples that are read at a time to be averaged (one row of the result at least)."""
_COLUMNS = 2**12
_EDGE = 0.02
"""Of a level's sides: the border in which the background is looked for."""


@dataclass(frozen=True, eq=False)
class Slide:
    """An image with its coarser copies, as a scanner leaves it.

    levels: finest first; grid: of level 0, 2D, x to the right and y down; sized: False where
    nobody knows the size of a pixel and 1 mm stands for it; notes: sentences for the report.
    """

    path: Path
    levels: tuple[Level, ...]
    grid: Grid
    channels: int
    dtype: np.dtype
    sized: bool = True
    notes: list[str] = field(default_factory=list)
    close: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def shape(self) -> tuple[int, int]:
        """(Y, X) of level 0."""
        return self.levels[0].shape

    @property
    def pixel_size_mm(self) -> Pixel:
        """x, y of level 0."""
        return self.grid.spacing_mm[0], self.grid.spacing_mm[1]

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---------------------------------------------------------------- levels
    def downsample(self, level: int) -> tuple[float, float]:
        """How many pixels of level 0 are one of `level`, along x and y.

        The whole number where the level has that many pixels, rounded up or down; otherwise the
        ratio of the sizes.
        """
        ratios = []
        for n, whole in zip(self._level(level).shape[::-1], self.shape[::-1], strict=True):
            near = max(1, round(whole / n))
            fits = n in (whole // near, -(-whole // near))
            ratios.append(float(near) if fits else whole / n)
        return ratios[0], ratios[1]

    def grid_of(self, level: int) -> Grid:
        """The grid of a level; its first pixel is the middle of those of level 0 it stands for."""
        factor = np.asarray(self.downsample(level))
        spacing = np.asarray(self.grid.spacing_mm)
        origin = np.asarray(self.grid.origin_mm) + self.grid.direction @ (
            spacing * (factor - 1) / 2
        )
        size = self._level(level).shape[::-1]
        return Grid(size, tuple(spacing * factor), tuple(origin), self.grid.direction)

    def read(self, box: Box, level: int = 0) -> np.ndarray:
        """Samples (C, *box) of a box of a level, y and x order; nothing else is decoded.

        Raises InputError for a box beyond the level, and where the level is damaged.
        """
        found = self._level(level)
        for item, n in zip(box, found.shape, strict=True):
            if not 0 <= item.start < item.stop <= n:
                raise InputError(
                    f"{self.path}: a box from {item.start} to {item.stop} lies outside level "
                    f"{level}, which has {n} pixels there."
                )
        if found.fault:
            raise self._damaged(level, found.fault)
        try:
            return found.read(box)
        except InputError:
            raise
        except Exception as error:  # decoders raise what they like
            raise self._damaged(level, str(error)) from None

    def lazy(self, level: int = 0) -> LazyImage:
        """A level as an image of which boxes are read."""
        grid = self.grid_of(level)
        return LazyImage(
            lambda box: self.read(box, level), grid, self.dtype, self.channels, self.name
        )

    def level(self, number: int) -> Image:
        """A whole level; its values keep their type. Raises InputError when it is damaged."""
        whole = tuple(slice(0, n) for n in self._level(number).shape)
        data = as_tensor(self.read(whole, number))
        return Image(data, self.grid_of(number), name=self.name, path=str(self.path))

    def at_most(self, pixels: int = 1000) -> Image:
        """The slide with `pixels` along its longer side (or as many as it has).

        The coarsest level that has as many is averaged over areas, strip by strip, so that no
        more than a strip and the result are in memory. A damaged level is passed over for the
        next finer one, and `notes` say so. Whole numbers are rounded.
        """
        if pixels < 1:
            raise InputError(f"{self.path}: {pixels} pixels are no image; ask for 1 or more.")
        enough = [k for k, item in enumerate(self.levels) if max(item.shape) >= pixels] or [0]
        for number in reversed(enough):
            try:
                return self._reduced(number, pixels)
            except InputError:
                if number == 0:
                    raise
                text = f"level {number} is damaged; level {number - 1} is used instead"
                if text not in self.notes:
                    self.notes.append(text)
        raise AssertionError("level 0 either works or raises")

    def coarsest(self) -> int:
        """The smallest level that is not known to be damaged."""
        return max(k for k, item in enumerate(self.levels) if not item.fault or k == 0)

    def background(self) -> np.ndarray:
        """(C,) values of what is not tissue: the median along the border of the slide."""
        image = self.at_most(512).data.numpy()
        edge = max(1, round(_EDGE * min(image.shape[1:])))
        inner = np.ones(image.shape[1:], dtype=bool)
        inner[edge:-edge, edge:-edge] = False
        return np.median(image[:, inner], axis=1)

    # ---------------------------------------------------------------- within
    def _level(self, number: int) -> Level:
        if not 0 <= number < len(self.levels):
            raise InputError(
                f"{self.path}: there is no level {number}; it has 0 to {len(self.levels) - 1}."
            )
        return self.levels[number]

    def _damaged(self, level: int, reason: str) -> InputError:
        if "imagecodecs" in reason:
            return InputError(
                f"{self.path}: its tiles are compressed in a way that needs imagecodecs; install "
                "it with pip install 'napari-fireants[histology]'."
            )
        others = [str(k) for k, item in enumerate(self.levels) if k != level and not item.fault]
        way = f"use level {' or '.join(others)}" if others else "export the slide again"
        short = reason.splitlines()[0][:100] if reason else "it cannot be decoded"
        return InputError(f"{self.path}: level {level} is damaged ({short}); {way}.")

    def _reduced(self, number: int, pixels: int) -> Image:
        shape = self._level(number).shape
        if max(shape) <= pixels:
            return self.level(number)
        size = [max(1, round(n * pixels / max(shape))) for n in shape]
        edges = [np.linspace(0, n, m + 1) for n, m in zip(shape, size, strict=True)]
        out = np.empty((self.channels, *size), self.dtype)
        step = max(1, int(STRIP * size[0] / (self.channels * shape[0] * shape[1])))
        for start in range(0, size[0], step):
            stop = min(size[0], start + step)
            low, high = int(edges[0][start]), int(np.ceil(edges[0][stop] - 1e-9))
            strip = self.read((slice(low, high), slice(0, shape[1])), number)
            cuts = np.split(strip, range(_COLUMNS, shape[1], _COLUMNS), axis=2)
            rows = [_averaged(cut, edges[0][start : stop + 1] - low, 1) for cut in cuts]
            part = _averaged(np.concatenate(rows, axis=2), edges[1], 2)
            out[:, start:stop] = part if self.dtype.kind == "f" else np.rint(part)
        grid = self.grid_of(number).resized(size[::-1])
        return Image(as_tensor(out), grid, name=self.name, path=str(self.path))


def _averaged(array: np.ndarray, edges: np.ndarray, axis: int) -> np.ndarray:
    """Means of `array` along `axis` between `edges`, given in samples, parts of them included."""
    inside = np.clip(edges, 0, array.shape[axis])
    first = np.minimum(inside.astype(int), array.shape[axis] - 1)
    sums = np.cumsum(array, axis=axis, dtype=np.float64)
    lead = [1 if k == axis else n for k, n in enumerate(array.shape)]
    sums = np.concatenate([np.zeros(lead), sums], axis=axis)
    part = (inside - first).reshape([-1 if k == axis else 1 for k in range(array.ndim)])
    at = np.take(sums, first, axis) + part * np.take(array, first, axis)
    width = np.diff(inside).reshape((*part.shape[:axis], -1, *part.shape[axis + 1 :]))
    return np.diff(at, axis=axis) / width


# ------------------------------------------------------------------ open
def open_slide(
    path: str | Path,
    pixel_size_mm: float | Pixel | None = None,
    *,
    unknown: Literal["ask", "pixel"] = "ask",
) -> Slide:
    """A slide from TIFF, OME-TIFF, OME-Zarr, PNG or JPEG, or a scanner's own format.

    Nothing but tables is read. pixel_size_mm: one number or (x, y), before what the file says.
    The file is asked for OME-XML's PhysicalSize with its unit, Aperio's MPP, ImageJ's unit, a
    resolution in dots that a microscope may have, OME-Zarr's scale with its unit. Where it says
    nothing: with unknown="ask" an InputError asks for it; with "pixel" one pixel is 1 mm and
    `Slide.sized` is False. `openslide` is used for what is no TIFF, where it is installed.

    Raises InputError for what is no slide: other files, more than one z plane or time.
    """
    path = Path(path)
    size = None if pixel_size_mm is None else as_pixel(pixel_size_mm, path)
    suffix = file_suffix(path)
    if is_zarr(path):
        return _of_zarr(path, size, unknown)
    must_exist(path, "slide")
    if suffix in TIFF or _looks_like_tiff(path):
        return _of_tiff(path, size, unknown)
    if suffix in SCANNERS:
        return _of_openslide(path, size, unknown)
    if suffix in PLAIN:
        return _of_picture(path, size, unknown)
    raise InputError(
        f"{path}: {suffix or 'a name without an extension'} is no slide; give a TIFF, OME-TIFF, "
        "OME-Zarr, PNG or JPEG, or a scanner's file that openslide reads."
    )


def is_slide(path: str | Path) -> bool:
    """By its name a file that `open_slide` reads."""
    return is_zarr(path) or file_suffix(Path(path)) in (*TIFF, *SCANNERS, *PLAIN)


def _looks_like_tiff(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    return False


def _pixel(path: Path, given: Pixel | None, found: Pixel | None, why: str, unknown: str) -> Pixel:
    """The pixel to use; raises InputError that asks for one where nobody knows it."""
    size = given or found
    if size is not None:
        return size
    if unknown == "pixel":
        return 1.0, 1.0
    raise InputError(
        f"{path}: the size of a pixel is not known ({why}); give it in mm, such as 0.00025 for "
        "0.25 um (--pixel-size, or pixel_size_mm= in Python)."
    )


def _grid(shape: tuple[int, int], pixel: Pixel, origin: tuple[float, float] = (0, 0)) -> Grid:
    return Grid(shape[::-1], pixel, origin, np.eye(2))


def _of_tiff(path: Path, given: Pixel | None, unknown: str) -> Slide:
    import tifffile

    try:
        tiff = tifffile.TiffFile(path)
    except (tifffile.TiffFileError, OSError, ValueError, IndexError) as error:
        raise InputError(
            f"{path}: this is not a TIFF, or it is damaged ({str(error)[:80]}); copy or export it "
            "again."
        ) from None
    with tiff:
        found = open_tiff(path, tiff)
        size, why = pixel_of_tiff(tiff)
    pixel = _pixel(path, given, size, why, unknown)
    return Slide(
        path, found.levels, _grid(found.levels[0].shape, pixel), found.channels, found.dtype,
        (given or size) is not None, list(found.notes),
    )  # fmt: skip


def _of_zarr(path: Path, given: Pixel | None, unknown: str) -> Slide:
    found = open_levels(path)
    grid = found.images[0].grid
    size = (grid.spacing_mm[0], grid.spacing_mm[1]) if found.sized else None
    pixel = _pixel(path, given, size, "its axes have no unit", unknown)
    keeps = size is not None and given is None
    origin = (grid.origin_mm[0], grid.origin_mm[1]) if keeps else (0.0, 0.0)
    levels = [_flat(*item, path) for item in zip(found.images, found.chunks, strict=True)]
    first = found.images[0]
    return Slide(
        path, tuple(levels), _grid(levels[0].shape, pixel, origin), first.channels, first.dtype,
        (given or size) is not None,
    )  # fmt: skip


def _flat(image: LazyImage, chunk: tuple[int, ...], path: Path) -> Level:
    """A LazyImage of one plane as a level."""
    *planes, height, width = image.grid.shape
    tile = (min(chunk[-2], height), min(chunk[-1], width))
    if planes in ([], [1]):
        lead = tuple(slice(0, 1) for _ in planes)
        return Level(
            (height, width), tile,
            lambda box: image.read((*lead, *box)).reshape(-1, *(i.stop - i.start for i in box)),
        )  # fmt: skip
    raise InputError(f"{path}: has {planes[0]} planes along z; extract one of them first.")


def _of_picture(path: Path, given: Pixel | None, unknown: str) -> Slide:
    from fireants_engine.io.images import load_image

    image = load_image(path)
    if image.dim != 2:
        raise InputError(f"{path}: is {image.dim}D; a slide is 2D.")
    array = image.data.numpy()
    pixel = _pixel(path, given, None, "such a picture does not keep it", unknown)
    shape = (array.shape[1], array.shape[2])
    level = Level(shape, shape, lambda box: array[(slice(None), *box)])
    return Slide(
        path, (level,), _grid(shape, pixel), image.channels, array.dtype, given is not None
    )


def _of_openslide(path: Path, given: Pixel | None, unknown: str) -> Slide:
    try:
        import openslide  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            f"{path}: this format needs openslide; install it with pip install openslide-python "
            "openslide-bin, or export the slide as OME-TIFF."
        ) from None
    try:
        item = openslide.OpenSlide(str(path))
    except Exception as error:  # openslide's own classes
        raise InputError(
            f"{path}: openslide cannot read this slide ({str(error)[:80]}); copy it with all the "
            "files beside it, or export it as OME-TIFF."
        ) from None
    mpp = [item.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
    found = (float(mpp[0]) * 1e-3, float(mpp[1]) * 1e-3) if all(mpp) else None
    pixel = _pixel(path, given, found, "the scanner did not write it", unknown)
    levels = [_scanned(item, k) for k in range(item.level_count)]
    return Slide(
        path, tuple(levels), _grid(levels[0].shape, pixel), 3, np.dtype(np.uint8),
        (given or found) is not None, [], item.close,
    )  # fmt: skip


def _scanned(item: Any, number: int) -> Level:
    """A level through openslide: RGB on white, where the scanner has seen nothing."""
    width, height = item.level_dimensions[number]
    factor = item.level_downsamples[number]

    def read(box: Box) -> np.ndarray:
        rows, columns = box
        place = (round(columns.start * factor), round(rows.start * factor))
        size = (columns.stop - columns.start, rows.stop - rows.start)
        rgba = np.asarray(item.read_region(place, number, size), dtype=np.float32)
        alpha = rgba[..., 3:] / 255
        return np.moveaxis(np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)), 2, 0).astype(
            np.uint8
        )

    return Level((height, width), (min(512, height), min(512, width)), read)
