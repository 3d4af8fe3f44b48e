"""Images from and to files, through SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.io.complete import check_finite
from fireants_engine.io.itk import file_suffix, grid_of, read, to_sitk, write_image

SMALL_RANGE = {".png": (8, 16), ".jpg": (8,), ".jpeg": (8,), ".bmp": (8,)}
"""Formats that only hold unsigned integers, and of how many bits."""


def _without_single_axes(image: sitk.Image, path: Path) -> sitk.Image:
    """A 4D file of one volume is that volume; more volumes are an InputError."""
    size = image.GetSize()
    if len(size) <= 3:
        return image
    if any(n != 1 for n in size[3:]):
        raise InputError(
            f"{path}: is {len(size)}D (size {' x '.join(map(str, size))}); only 2D and 3D images "
            "can be registered, extract one volume first."
        )
    while image.GetDimension() > 3:
        size = image.GetSize()
        image = sitk.Extract(image, [*size[:-1], 0], [0] * len(size))
    return image


def load_image(path: str | Path, name: str | None = None) -> Image:
    """The image in a file (NIfTI, NRRD, MHA, TIFF, PNG, JPEG, ...) with its grid in LPS mm.

    Vector and colour images become channels; integers stay integers (so labels do). name:
    for messages, default the file's name. Raises InputError, one sentence with the file and the
    remedy, for files that are missing, damaged, truncated, empty, 4D, not orthonormal, or NIfTI
    with NaN (of which ITK would make zeros).
    """
    path = Path(path)
    image = _without_single_axes(read(path), path)
    check_finite(path)
    return as_image(image, path, name)


def as_image(image: sitk.Image, path: Path, name: str | None = None) -> Image:
    """What SimpleITK read from `path` as an Image; raises InputError naming the file."""
    grid = grid_of(image, path)
    kind = image.GetPixelIDTypeAsString()
    if "complex" in kind or "label" in kind:
        raise InputError(f"{path}: holds {kind} values; convert it to real numbers first.")
    channels = image.GetNumberOfComponentsPerPixel() > 1
    array = sitk.GetArrayFromImage(image)
    return Image.from_numpy(array, grid, channels=channels, name=name or path.name, path=str(path))


def _as_unsigned(array: np.ndarray, path: Path) -> np.ndarray:
    """Values rounded to the smallest unsigned integers the format of `path` holds."""
    bits = SMALL_RANGE[file_suffix(path)]
    low, high = float(array.min()), float(array.max())
    for n in bits:
        if low >= 0 and high <= 2**n - 1:
            return np.rint(array).astype(np.uint8 if n == 8 else np.uint16)
    raise InputError(
        f"{path}: values from {low:g} to {high:g} do not fit into {file_suffix(path)}; "
        "save as .nii.gz, .mha or .tif."
    )


def save_image(image: Image, path: str | Path) -> Path:
    """Write `image`; the extension chooses the format, the values' type is kept.

    .png, .jpg and .bmp hold unsigned integers only: values are rounded if they fit. These and
    .tif keep no origin or direction. Written to a temporary name and renamed.
    Raises InputError when the folder is not there or not writable, or the format does not fit.
    """
    path = Path(path)
    array = image.numpy()
    if file_suffix(path) in SMALL_RANGE:
        array = _as_unsigned(array, path)
    save_array(array, image.grid, path, vector=image.channels > 1)
    return path


def save_array(array: np.ndarray, grid: Grid, path: Path, *, vector: bool = False) -> None:
    """Write an array (channels last when `vector`) on `grid` as a whole file; see `save_image`."""
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    write_image(to_sitk(array, grid, vector), path)
