"""What a forecast has to know of the images of a run: sizes, nothing of their samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fireants_engine.errors import InputError

FLOAT = 4
"""Bytes of a sample in a run."""


@dataclass(frozen=True)
class ImageSize:
    """What a forecast has to know of an image: nothing of it is read.

    size, spacing_mm: x, y(, z). itemsize: bytes of a sample as loaded; real: it holds floats
    already. mask: whether there is one.
    """

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    channels: int = 1
    itemsize: int = 4
    real: bool = False
    mask: bool = False

    @classmethod
    def of(cls, image: Any) -> ImageSize:
        """Of an engine's Image."""
        data, grid = image.data, image.grid
        real, mask = data.is_floating_point() and data.itemsize == FLOAT, image.mask is not None
        return cls(grid.size, grid.spacing_mm, len(data), data.itemsize, real, mask)

    @classmethod
    def read(cls, path: str | Path, mask: bool = False) -> ImageSize:
        """Of a file, by its header alone; raises InputError."""
        import SimpleITK as sitk

        from fireants_engine.io.itk import read_header

        reader = read_header(Path(path))
        size, spacing = reader.GetSize(), reader.GetSpacing()
        if any(n != 1 for n in size[3:]):
            raise InputError(
                f"{path}: is {len(size)}D (size {' x '.join(map(str, size))}); only 2D and 3D "
                "images can be registered, extract one volume first."
            )
        name = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        bits = next((n for n in (8, 16, 32, 64) if f"{n}-bit" in name), 32)
        real = bits == 32 and "float" in name
        return cls(size[:3], spacing[:3], reader.GetNumberOfComponents(), bits // 8, real, mask)

    @property
    def voxels(self) -> int:
        return math.prod(self.size)

    @property
    def loaded(self) -> int:
        """Bytes of the samples as they lie in the process."""
        return self.voxels * self.channels * self.itemsize


@dataclass(frozen=True)
class Given:
    """What a run is given beside the pair: channels of further images, labels that both maps
    have (their number, which only the maps tell; a guess will do), carried moving labels."""

    images: Mapping[str, int] = field(default_factory=dict)
    labels: int = 0
    moving_labels: bool = False
