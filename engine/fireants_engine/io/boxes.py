"""An image file of which only boxes are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fireants_engine.geometry.lazy import Box, LazyImage
from fireants_engine.io.complete import check_finite
from fireants_engine.io.images import load_image
from fireants_engine.io.itk import file_suffix, grid_of, read_box, read_header
from fireants_engine.io.ome_zarr import is_zarr, open_zarr


def open_lazy(path: str | Path) -> LazyImage:
    """A 2D or 3D image whose boxes are read when needed: .zarr, and uncompressed .nii.

    Other formats have to be read whole: they are held in memory. Raises InputError as
    `load_image` and `open_zarr`.
    """
    path = Path(path)
    if is_zarr(path):
        return open_zarr(path)
    if file_suffix(path) != ".nii":
        return _in_memory(path)
    header = read_header(path)
    # More axes: the whole reader drops or refuses them. Channels: ITK's NIfTI reader ends the
    # process when a box of vectors is asked for (seen in ITK 5.4).
    if header.GetDimension() > 3 or header.GetNumberOfComponents() > 1:
        return _in_memory(path)
    check_finite(path)
    grid = grid_of(header, path)

    def read(box: Box) -> np.ndarray:
        return sitk.GetArrayFromImage(read_box(header, box))[None]

    first = read(tuple(slice(0, 1) for _ in grid.shape))  # its type is that after scaling
    return LazyImage(read, grid, first.dtype, 1, path.name)


def _in_memory(path: Path) -> LazyImage:
    image = load_image(path)
    return LazyImage.from_array(image.data.numpy(), image.grid, name=image.name)
