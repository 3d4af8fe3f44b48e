"""The border to SimpleITK: grids, reading, and writing whole files only."""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.io.complete import check_complete

COMPOUND = (".nii.gz", ".mgh.gz")


def file_suffix(path: Path) -> str:
    """Extension in lower case, `.nii.gz` counting as one."""
    name = path.name.lower()
    return next((s for s in COMPOUND if name.endswith(s)), path.suffix.lower())


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of ITK on stderr while reading a header that it repairs by itself."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def must_exist(path: Path, what: str) -> None:
    """Raise InputError unless `path` is a file that may be read; `what`: "image", ..."""
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; give the file of one {what}.")
    if not path.exists():
        raise InputError(f"{path}: there is no such file; check the path of the {what}.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read this {what}.")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what SimpleITK raises while it reads `path` into one sentence."""
    try:
        with quiet():
            yield
    except RuntimeError as error:
        text = str(error)
        if "orthonormal" in text or "determinant" in text:
            raise InputError(
                f"{path}: its direction matrix is not orthonormal (sheared or scaled axes); "
                "resample it to a rectangular grid first."
            ) from None
        if "Unable to determine ImageIO reader" in text:
            raise InputError(
                f"{path}: this is not an image in a known format (NIfTI, NRRD, MHA, TIFF, PNG, "
                "...); convert it, or check that it was copied completely."
            ) from None
        raise InputError(
            f"{path}: the image cannot be read ({_reason(text)}); the file is damaged or "
            "incomplete, copy or export it again."
        ) from None


def read(path: Path) -> sitk.Image:
    """The file as SimpleITK sees it; raises InputError naming the file and what is wrong."""
    must_exist(path, "image")
    check_complete(path)
    with _explained(path):
        return sitk.ReadImage(str(path))


def read_header(path: Path) -> sitk.ImageFileReader:
    """A reader that knows the size and the space of the file, but holds no values yet."""
    must_exist(path, "image")
    check_complete(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _explained(path):
        reader.ReadImageInformation()
    return reader


def read_volume(reader: sitk.ImageFileReader, index: int) -> sitk.Image:
    """Volume `index` along the fourth axis: nothing else is kept in memory."""
    size = reader.GetSize()
    reader.SetExtractIndex([0, 0, 0, index])
    reader.SetExtractSize([*size[:3], 0])
    with _explained(Path(reader.GetFileName())):
        return reader.Execute()


def read_box(reader: sitk.ImageFileReader, box: Sequence[slice]) -> sitk.Image:
    """The samples of a box: one slice of array indices per axis, z, y, x order, no steps."""
    reader.SetExtractIndex([item.start for item in box][::-1])
    reader.SetExtractSize([item.stop - item.start for item in box][::-1])
    with _explained(Path(reader.GetFileName())):
        return reader.Execute()


def _reason(text: str) -> str:
    """The last line of an ITK message without addresses and source paths."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1].split("): ", 1)[-1].removeprefix("ITK ERROR: ")
    return last.rstrip(".")[:120]


def grid_of(image: sitk.Image | sitk.ImageFileReader, path: Path) -> Grid:
    """The grid of a SimpleITK image, or by its header; raises InputError naming the file.

    Axes beyond the third (time) are left out.
    """
    dim = image.GetDimension()
    kept = min(dim, 3)
    if any(n < 1 for n in image.GetSize()):
        raise InputError(f"{path}: the image is empty: its size is {image.GetSize()}.")
    try:
        return Grid(
            image.GetSize()[:kept],
            image.GetSpacing()[:kept],
            image.GetOrigin()[:kept],
            np.asarray(image.GetDirection()).reshape(dim, dim)[:kept, :kept],
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def to_sitk(array: np.ndarray, grid: Grid, vector: bool = False) -> sitk.Image:
    """An array in array order (channels last when `vector`) on `grid`."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=vector)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def write_image(item: sitk.Image, path: Path) -> Path:
    """Write `item`, compressed where the format can; see `write_whole`.

    Numbers with fractions hardly repeat: in .nii.gz they are coded by frequency and runs alone,
    in 40% of the time of a search for repeats and as small.
    """
    fractions = "float" in item.GetPixelIDTypeAsString()
    if not (fractions and file_suffix(path) == ".nii.gz"):
        return write_whole(path, lambda temporary: sitk.WriteImage(item, str(temporary), True))

    def write(temporary: Path) -> None:
        plain = temporary.with_suffix("")  # .nii
        try:
            sitk.WriteImage(item, str(plain), False)
            _pack(plain, temporary)
        finally:
            plain.unlink(missing_ok=True)

    return write_whole(path, write)


def _pack(source: Path, target: Path) -> None:
    """gzip without a search for repeats longer than runs."""
    coder = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS, 9, zlib.Z_RLE)
    with source.open("rb") as plain, target.open("wb") as packed:
        while block := plain.read(1 << 22):
            packed.write(coder.compress(block))
        packed.write(coder.flush())


def write_whole(path: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a temporary file beside `path`, then rename it: never half a file.

    The temporary name keeps the extension, by which formats are chosen. Raises InputError when
    the folder is missing or not writable or the format cannot hold the data.
    """
    suffix = file_suffix(path)
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; create it first.")
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; give the name of a file in it.")
    temporary = path.parent / f".{uuid.uuid4().hex[:12]}.partial{suffix}"
    try:
        with quiet():
            write(temporary)
        os.replace(temporary, path)
    except RuntimeError as error:
        if "Unable to determine ImageIO writer" in str(error):
            raise InputError(
                f"{path}: {suffix or 'no extension'} is not a known format; use .nii.gz, .nrrd, "
                ".mha, .tif or .png."
            ) from None
        raise InputError(f"{path}: cannot be written ({_reason(str(error))}).") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from None
    finally:
        temporary.unlink(missing_ok=True)
    return path
