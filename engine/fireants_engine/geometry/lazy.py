"""LazyImage: an image that stays where it is; only boxes of it are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry.grid import Grid

Box = tuple[slice, ...]
"""One slice of array indices per axis of the grid, z, y, x order; no steps."""


class ArrayLike(Protocol):
    """What numpy arrays, memory maps and zarr arrays have in common."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class LazyImage:
    """`read(box)` gives the samples of a box, (C, *box); nothing else is read.

    dtype: of the samples; name: for messages. Raises InputError when values are not numbers.
    """

    read: Callable[[Box], np.ndarray]
    grid: Grid
    dtype: np.dtype
    channels: int = 1
    name: str = "image"

    def __post_init__(self) -> None:
        if self.dtype.kind not in "iuf":
            raise InputError(f"{self.name}: values of type {self.dtype} are not numbers.")

    @classmethod
    def from_array(
        cls, array: ArrayLike, grid: Grid | None = None, *, name: str = "image"
    ) -> LazyImage:
        """An array of shape (Z, Y, X), (Y, X), or with channels first: np.memmap, zarr, numpy.

        grid: default the array's own samples, 1 mm apart (then without channels). Raises
        InputError when the array does not fit it.
        """
        shape = tuple(array.shape)
        grid = grid or Grid.identity(shape[::-1])
        if shape == grid.shape:
            return cls(
                lambda box: np.asarray(array[box])[None], grid, np.dtype(array.dtype), 1, name
            )
        if shape[1:] != grid.shape:
            raise InputError(
                f"{name}: an array of shape {shape} does not fit a grid of shape {grid.shape}."
            )
        return cls(
            lambda box: np.asarray(array[(slice(None), *box)]),
            grid, np.dtype(array.dtype), shape[0], name,
        )  # fmt: skip


def boxes(shape: Sequence[int], chunk: Sequence[int]) -> list[Box]:
    """The boxes of size `chunk` (smaller at the end) that make up an array of `shape`."""
    out: list[Box] = [()]
    for n, step in zip(shape, chunk, strict=True):
        cuts = [slice(k, min(k + step, n)) for k in range(0, n, step)]
        out = [(*box, cut) for box in out for cut in cuts]
    return out
