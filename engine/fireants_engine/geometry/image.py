"""Image: samples on a Grid, with an optional mask."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry.grid import Grid

if TYPE_CHECKING:
    import torch


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """A copy in a type that torch computes with: unsigned whole numbers widened, native order."""
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int32 if array.dtype.itemsize == 2 else np.int64)
    import torch  # files and grids are read without it

    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


@dataclass(frozen=True, eq=False)
class Image:
    """Samples `data` of shape (C, Z, Y, X) or (C, Y, X) on `grid`.

    mask: optional bool tensor of shape grid.shape (True = counts). name and path are only for
    messages and reports. The data are never modified by the engine.
    Raises InputError when shapes disagree.
    """

    data: torch.Tensor
    grid: Grid
    mask: torch.Tensor | None = None
    name: str = "image"
    path: str | None = None

    def __post_init__(self) -> None:
        if tuple(self.data.shape[1:]) != self.grid.shape:
            raise InputError(
                f"{self.name}: data of shape {tuple(self.data.shape)} do not fit a grid of "
                f"shape {self.grid.shape} (expected channels first)."
            )
        if self.mask is not None and tuple(self.mask.shape) != self.grid.shape:
            raise InputError(
                f"{self.name}: the mask has shape {tuple(self.mask.shape)} but the image "
                f"{self.grid.shape}; draw or resample the mask on this image."
            )

    @classmethod
    def from_numpy(
        cls,
        array: np.ndarray,
        grid: Grid | None = None,
        *,
        channels: bool = False,
        name: str = "image",
        path: str | None = None,
    ) -> Image:
        """Wrap an array in array order; `channels=True` when its *last* axis is channels."""
        array = np.asarray(array)
        if array.size == 0:
            raise InputError(f"{name}: the image is empty (shape {array.shape}).")
        if array.dtype == bool:
            array = array.astype(np.uint8)
        if array.dtype.kind not in "iuf":
            raise InputError(f"{name}: values of type {array.dtype} are not numbers.")
        array = np.moveaxis(array, -1, 0) if channels else array[None]
        if array.ndim - 1 not in (2, 3):
            raise InputError(
                f"{name}: has {array.ndim - 1} dimensions; only 2D and 3D images can be registered."
            )
        grid = grid or Grid.identity(array.shape[:0:-1])
        return cls(as_tensor(array), grid, name=name, path=path)

    @property
    def dim(self) -> int:
        return self.grid.dim

    @property
    def channels(self) -> int:
        return int(self.data.shape[0])

    def numpy(self) -> np.ndarray:
        """Array order without the channel axis when there is one channel, else channels last."""
        array = self.data.detach().cpu().numpy()
        return array[0] if self.channels == 1 else np.moveaxis(array, 0, -1)

    def with_mask(self, mask: Image | None) -> Image:
        """This image with the non-zero voxels of `mask`; the mask must lie on the same grid."""
        if mask is None:
            return self
        if mask.channels != 1:
            raise InputError(f"{mask.name}: a mask has one channel, not {mask.channels} (RGB?).")
        if not self.grid.same_space(mask.grid):
            raise InputError(
                f"{mask.name}: the mask lies on another grid than {self.name} "
                f"(size {mask.grid.size} against {self.grid.size}, or another origin, spacing or "
                f"direction); resample the mask onto {self.name}."
            )
        chosen = mask.data[0] != 0
        _check_chosen(chosen, f"{mask.name}: the mask")
        return replace(self, mask=chosen)


def _check_chosen(mask: torch.Tensor, what: str) -> None:
    """Raise InputError when `mask` chooses nothing; `what` begins the sentence."""
    if not bool(mask.any()):
        raise InputError(
            f"{what} is zero everywhere, nothing is left to match; choose another mask or none."
        )


def check_registrable(image: Image) -> None:
    """Raise InputError, naming the image, unless its values can drive a registration."""
    values = image.data
    if values.is_floating_point() and not bool(values.isfinite().all()):
        raise InputError(
            f"{image.name}: contains NaN or infinite values; replace them (for example by 0) first."
        )
    low, high = values.amin(), values.amax()
    if bool(low == high):
        raise InputError(
            f"{image.name}: every value is {low.item():g}, a constant image cannot be registered."
        )


def check_pair(fixed: Image, moving: Image) -> None:
    """Raise InputError unless both images can be registered to each other."""
    if fixed.dim != moving.dim:
        raise InputError(
            f"{fixed.name} is {fixed.dim}D and {moving.name} is {moving.dim}D; "
            "choose two images of the same dimension."
        )
    if fixed.channels != moving.channels:
        raise InputError(
            f"{fixed.name} has {fixed.channels} channel(s) and {moving.name} {moving.channels}; "
            "convert colour images to grey or give both the same channels."
        )
    for image in (fixed, moving):
        check_registrable(image)
        if image.mask is not None:
            _check_chosen(image.mask, f"{image.name}: its mask")
