"""Series: 4D files, read and written one volume at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.io.complete import check_finite
from fireants_engine.io.images import as_image
from fireants_engine.io.itk import (
    file_suffix,
    grid_of,
    read_header,
    read_volume,
    to_sitk,
    write_image,
)

SERIES_FORMATS = (".nii.gz", ".nii", ".mha", ".nrrd")
"""What a 4D file may be written as."""


@dataclass(frozen=True, eq=False)
class Series:
    """Volumes of one file, read when they are asked for: `series[k]`, or by iteration.

    grid: of every volume, LPS mm; step and start: spacing and origin along the fourth axis, in
    seconds where the format knows units.
    """

    path: Path
    grid: Grid
    count: int
    step: float
    start: float

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, k: int) -> Image:
        if not 0 <= k < self.count:
            raise IndexError(f"volume {k} of {self.count}")
        return as_image(read_volume(read_header(self.path), k), self.path)

    def __iter__(self) -> Iterator[Image]:
        reader = read_header(self.path)
        for k in range(self.count):
            yield as_image(read_volume(reader, k), self.path)


def load_grid(path: str | Path) -> Grid:
    """The grid of an image file by its header alone; of a 4D file that of one volume."""
    path = Path(path)
    return grid_of(read_header(path), path)


def is_series(path: str | Path) -> bool:
    """True for a file of more than one 3D volume; raises InputError when it cannot be read."""
    size = read_header(Path(path)).GetSize()
    return len(size) == 4 and size[3] > 1


def load_series(path: str | Path) -> Series:
    """The volumes of a 4D file (NIfTI, MHA, NRRD, ...), read lazily.

    Raises InputError when the file is missing, damaged, not 4D, a NIfTI with NaN, or has
    channels.
    """
    path = Path(path)
    header = read_header(path)
    size = header.GetSize()
    if len(size) != 4:
        raise InputError(
            f"{path}: is {len(size)}D (size {' x '.join(map(str, size))}), a series is 4D; "
            "use it as one image."
        )
    components = header.GetNumberOfComponents()
    if components > 1:  # ITK's NIfTI reader ends the process when one volume of them is asked for
        raise InputError(
            f"{path}: has {components} values per voxel, a series has one; split its channels."
        )
    check_finite(path)
    return Series(
        path, grid_of(header, path), size[3], header.GetSpacing()[3], header.GetOrigin()[3]
    )


def check_series_format(path: Path) -> None:
    """Raise InputError unless the format of `path` has a fourth axis."""
    if file_suffix(path) not in SERIES_FORMATS:
        raise InputError(
            f"{path}: a 4D series cannot be written in this format; "
            f"use {', '.join(SERIES_FORMATS[:-1])} or {SERIES_FORMATS[-1]}."
        )


def save_series(
    volumes: Iterable[Image], path: str | Path, count: int, step: float = 1.0, start: float = 0.0
) -> Path:
    """Write `count` volumes of one channel, grid and type as a 4D file, taken one by one.

    The output is in memory once, in the type of the first volume. step and start: as in
    `Series`. Raises InputError as `save_image`, and for a format that has no fourth axis.
    """
    path = Path(path)
    check_series_format(path)
    whole: sitk.Image | None = None
    written = 0
    for volume in volumes:
        part = to_sitk(volume.data[0].cpu().numpy(), volume.grid)
        if whole is None:
            whole = _empty(part, volume.grid, count, step, start)
        whole[:, :, :, written] = part
        written += 1
    if whole is None or written != count:
        raise ValueError(f"{written} volumes for a series of {count}")
    write_image(whole, path)
    return path


def _empty(part: sitk.Image, grid: Grid, count: int, step: float, start: float) -> sitk.Image:
    """A 4D image of `count` volumes like `part`."""
    whole = sitk.Image([*grid.size, count], part.GetPixelID())
    direction = [*grid.direction[0], 0, *grid.direction[1], 0, *grid.direction[2], 0, 0, 0, 0, 1]
    whole.SetSpacing([*grid.spacing_mm, step])
    whole.SetOrigin([*grid.origin_mm, start])
    whole.SetDirection([float(value) for value in direction])
    return whole
