"""Resampling what is larger than memory: the result chunk by chunk, from boxes of the source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.geometry.image import as_tensor
from fireants_engine.geometry.lazy import Box, LazyImage, boxes
from fireants_engine.ops.interpolate import KINDS, check_interpolation
from fireants_engine.ops.resample import (
    as_label_values,
    check_dimensions,
    coordinates,
    inside_box,
    result_type,
    vote,
)
from fireants_engine.transforms import Transform, sampled

CHUNK = {2: (1024, 1024), 3: (64, 128, 128)}
"""Size of a chunk of the result, array order, where nothing says otherwise."""
MAX_BOX = 2**25
"""Samples (of all channels) that are read at a time; a chunk that needs more is split."""


def tiled_type(source: LazyImage, interpolation: str) -> np.dtype:
    """The type of `apply_tiled`'s values: integers keep theirs by `nearest` and `label`."""
    if interpolation in ("nearest", "label") and source.dtype.kind != "f":
        return source.dtype
    return np.dtype(np.int32 if interpolation == "label" else np.float32)


def apply_tiled(
    source: LazyImage,
    transform: Transform,
    grid: Grid,
    out: Any,
    *,
    chunk: Sequence[int] | None = None,
    interpolation: str = "linear",
    fill: float = 0.0,
    max_box: int = MAX_BOX,
) -> None:
    """`warp_image` chunk by chunk: `source o transform` on `grid`, written into `out`.

    out: anything that takes `out[box] = values`: a zarr array, `np.lib.format.open_memmap`, a
    numpy array; of shape grid.shape, or (C, *grid.shape) when it has one axis more. chunk:
    size in array order; default that of `out`, or `CHUNK`. For each chunk the box of `source`
    that it needs is read, with the margin of the interpolation; where that is more than
    `max_box` samples, the chunk is split. So memory holds about one chunk (24 bytes a voxel for
    its coordinates) and one box (8 bytes a sample), whatever the size of both images.

    Equals `warp_image` to float32's rounding. Raises InputError for dimensions that differ, an
    unknown interpolation, or labels that are not whole numbers.
    """
    check_interpolation(interpolation)
    check_dimensions(source.name, source.grid, transform, grid)
    result_type(as_tensor(np.zeros(0, source.dtype)).dtype, interpolation, fill, source.name)
    if interpolation == "label" and source.channels != 1:
        raise InputError(f"{source.name}: a label map has one channel, not {source.channels}.")
    spatial = tuple(out.shape)[-grid.dim :]
    if spatial != grid.shape or (len(out.shape) == grid.dim and source.channels > 1):
        raise ValueError(f"an output of shape {out.shape} does not fit {grid.shape}")
    if chunk is None:
        chunk = tuple(getattr(out, "chunks", None) or CHUNK[grid.dim])[-grid.dim :]
    job = _Job(source, sampled(transform), grid, interpolation, fill, max_box)
    for box in boxes(grid.shape, chunk):
        values = job.chunk(box)
        if len(out.shape) == grid.dim:
            out[box] = values[0]
        else:
            out[(slice(None), *box)] = values


class _Job:
    """One application: what does not change from chunk to chunk."""

    def __init__(
        self,
        source: LazyImage,
        transform: Transform,
        grid: Grid,
        interpolation: str,
        fill: float,
        max_box: int,
    ) -> None:
        self.source, self.transform, self.grid = source, transform, grid
        self.interpolation, self.fill, self.max_box = interpolation, fill, max_box
        self.dtype = tiled_type(source, interpolation)
        self.support = 0 if interpolation == "label" else KINDS[interpolation].support
        self.outside = 0 if interpolation == "label" else fill

    def chunk(self, box: Box) -> np.ndarray:
        """Values (C, *box) of the result."""
        size = tuple(item.stop - item.start for item in box)
        coords, outside = coordinates(self.transform, self.grid.part(box), self.source.grid)
        out = np.full((self.source.channels, *size), self.outside, self.dtype)
        if bool(outside.all()):
            return out
        needed = self._needed(coords[:, ~outside.numpy()])
        samples = np.prod([item.stop - item.start for item in needed]) * self.source.channels
        if samples > self.max_box and max(size) > 1:
            del coords, outside
            axis = int(np.argmax(size))
            half = [*size]
            half[axis] = (size[axis] + 1) // 2
            for part in boxes(size, half):
                absolute = tuple(
                    slice(whole.start + p.start, whole.start + p.stop)
                    for whole, p in zip(box, part, strict=True)
                )
                out[(slice(None), *part)] = self.chunk(absolute)
            return out
        for axis, item in zip(coords, needed, strict=True):
            axis -= item.start
        inside_box(coords, [item.stop - item.start for item in needed])
        values = self._values(np.asarray(self.source.read(needed)), coords)
        out[:] = values
        out[:, outside.numpy()] = self.outside
        return out

    def _needed(self, coords: np.ndarray) -> Box:
        """The box of the source on which the values at `coords` (d, n) depend."""
        low = np.floor(coords.min(axis=1)).astype(int) - self.support
        high = np.floor(coords.max(axis=1)).astype(int) + 2 + self.support
        return tuple(
            slice(max(0, min(a, n - 1)), max(1, min(b, n)))
            for a, b, n in zip(low.tolist(), high.tolist(), self.source.grid.shape, strict=True)
        )

    def _values(self, array: np.ndarray, coords: np.ndarray) -> np.ndarray:
        data = as_tensor(array)
        if self.interpolation != "label":
            return KINDS[self.interpolation](data)(coords).numpy()
        grid = Grid.identity(data.shape[:0:-1])
        labels = as_label_values(Image(data, grid, name=self.source.name))
        voted = vote(labels, coords).numpy()[None]
        if labels.dtype == torch.int64 and self.dtype == np.int32:
            raise InputError(
                f"{self.source.name}: label values beyond 32 bits in a float image; store the "
                "labels as integers."
            )
        return voted
