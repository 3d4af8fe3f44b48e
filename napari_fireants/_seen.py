"""What pictures of a registration are made of, and what is made. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Key = tuple[int, int] | None
"""(array axis, index) of a plane, or None for the whole."""

BEFORE = "moving before"
"""Name of the picture of the moving image as it was."""


def _none() -> np.ndarray:
    raise ValueError("there is no picture of the moving image before")


@dataclass(frozen=True, eq=False)
class Seen:
    """Both images as bytes and the warp, on the whole fixed grid (or a coarser one) or on a plane.

    Arrays of a plane have size 1 along its axis. spacing: mm along the array's axes; axes: those on
    the canvas, the one across it last; whole, full: shapes of the whole at this spacing and of the
    fixed grid, where they are not that of the arrays.
    u: the warp in voxels, a tensor (1, d, *shape), of a plane on it and its neighbours, with the
    plane at `middle`; None where there is no warp. before: gives the moving image before the run.
    mapping: the engine's, after a run, for what needs more than this.
    """

    fixed: np.ndarray
    moved: np.ndarray
    spacing: Sequence[float]
    axes: Sequence[int]
    u: Any = None
    key: Key = None
    middle: int = 0
    whole: tuple[int, ...] = ()
    full: tuple[int, ...] = ()
    before: Callable[[], np.ndarray] = _none
    mapping: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole."""
        return self.whole or self.fixed.shape

    @property
    def displacement(self) -> np.ndarray | None:
        """The warp in voxels (d, *shape of the arrays)."""
        if self.u is None:
            return None
        return self.here(self.u[0].numpy(), 1)

    def here(self, values: np.ndarray, ahead: int = 0) -> np.ndarray:
        """The plane of `values`, which lie where `u` does (`ahead` axes come before)."""
        if self.key is None:
            return values
        index = (slice(None),) * (ahead + self.key[0])
        return values[(*index, slice(self.middle, self.middle + 1))]


@dataclass(frozen=True, eq=False)
class Picture:
    """An array on the fixed grid or a plane of it, and how it is shown.

    over: drawn on the moving image in grey or beside the fixed one in colour, otherwise alone.
    folds: voxels to be outlined. note: what it says, in a sentence.
    """

    data: np.ndarray
    name: str
    colormap: str = "gray"
    limits: tuple[float, float] = (0.0, 255.0)
    over: Literal["", "moved", "fixed"] = ""
    folds: np.ndarray | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Arrows:
    """Displacements as napari's vectors (n, 2, d), in voxels of the fixed grid.

    mm: their true lengths (n,); limit: that of the colours; width: of a line, in voxels.
    """

    vectors: np.ndarray
    mm: np.ndarray
    limit: float = 1.0
    width: float = 0.3
    note: str = ""


def round_step(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten from `value` on."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(k * power for k in (1, 2, 5, 10) if k * power >= value * (1 - 1e-9)))
