"""Grid: where the samples of an image lie in the world, and the only place where frames change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from fireants_engine.errors import InputError

Frame = Literal["mm", "index", "voxel"]
"""`mm`: physical LPS, axis order x, y, z.  `index`: ITK index i, j, k (same axis order as mm).
`voxel`: array index, axis order z, y, x (the order of tensor axes)."""


def _reversal(dim: int) -> np.ndarray:
    """Homogeneous permutation that reverses the first `dim` coordinates."""
    out = np.zeros((dim + 1, dim + 1))
    out[:dim, :dim] = np.eye(dim)[::-1]
    out[dim, dim] = 1.0
    return out


def apply_linear(linear: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """`vectors @ linear.T` for a (d, d) matrix and (..., d) vectors.

    By einsum: a matrix product of three columns goes through threaded BLAS, which is 4 to 15
    times slower.
    """
    return np.einsum("...j,ij->...i", vectors, linear)


def apply_matrix(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`points @ A.T + t` for a homogeneous (d+1, d+1) `matrix` and (..., d) points."""
    dim = matrix.shape[0] - 1
    out = apply_linear(matrix[:dim, :dim], points)
    out += matrix[:dim, dim]
    return out


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of samples in physical space.

    A sample with ITK index `i` lies at `origin + direction @ (spacing * i)` mm (LPS).

    size: samples along x, y(, z); spacing_mm, origin_mm: same order; direction: (d, d),
    orthonormal, columns are the axes' unit vectors (determinant -1 is allowed: flipped axes).
    All float64 on the CPU. Raises InputError for sizes below 1, spacing that is not positive
    and finite, or a direction that is not orthonormal.
    """

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: np.ndarray

    def __post_init__(self) -> None:
        dim = len(self.size)
        if dim not in (2, 3):
            raise InputError(f"A grid has 2 or 3 axes, this one has {dim}.")
        object.__setattr__(self, "size", tuple(int(n) for n in self.size))
        object.__setattr__(self, "spacing_mm", tuple(float(s) for s in self.spacing_mm))
        object.__setattr__(self, "origin_mm", tuple(float(o) for o in self.origin_mm))
        direction = np.array(self.direction, dtype=np.float64).reshape(dim, dim)
        direction.setflags(write=False)
        object.__setattr__(self, "direction", direction)
        if any(n < 1 for n in self.size):
            raise InputError(f"The image is empty: its size is {self.size}.")
        spacing = np.asarray(self.spacing_mm)
        if spacing.size != dim or not np.all(np.isfinite(spacing)) or np.any(spacing <= 0):
            raise InputError(f"Spacing must be positive on every axis, got {self.spacing_mm} mm.")
        if len(self.origin_mm) != dim or not np.all(np.isfinite(self.origin_mm)):
            raise InputError(f"The origin must be {dim} finite numbers, got {self.origin_mm}.")
        if not np.allclose(direction.T @ direction, np.eye(dim), atol=1e-3):
            raise InputError(
                "The direction matrix is not orthonormal (sheared or scaled axes); "
                "resample the image to a rectangular grid first."
            )

    @classmethod
    def identity(cls, size: Sequence[int], spacing_mm: Sequence[float] | float = 1.0) -> Grid:
        """A grid at the origin with axis-aligned directions; `size` in x, y(, z) order."""
        dim = len(size)
        spacing = (spacing_mm,) * dim if isinstance(spacing_mm, int | float) else tuple(spacing_mm)
        return cls(tuple(size), spacing, (0.0,) * dim, np.eye(dim))

    # ---------------------------------------------------------------- what it is
    @property
    def dim(self) -> int:
        return len(self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Size in array order: (Z, Y, X) or (Y, X)."""
        return self.size[::-1]

    @property
    def spacing_zyx(self) -> tuple[float, ...]:
        return self.spacing_mm[::-1]

    @property
    def voxels(self) -> int:
        return int(np.prod(self.size))

    @property
    def extent_mm(self) -> np.ndarray:
        """Physical length of each axis, x, y(, z): size times spacing."""
        return np.asarray(self.size) * np.asarray(self.spacing_mm)

    @property
    def centre_mm(self) -> np.ndarray:
        """Physical centre of the field of view."""
        return apply_matrix(self._index_to_mm, (np.asarray(self.size) - 1) / 2)

    @cached_property
    def _index_to_mm(self) -> np.ndarray:
        out = np.eye(self.dim + 1)
        out[:-1, :-1] = self.direction * np.asarray(self.spacing_mm)
        out[:-1, -1] = self.origin_mm
        return out

    def matrix(self, src: Frame, dst: Frame) -> np.ndarray:
        """Homogeneous (d+1, d+1) float64 matrix taking coordinates of `src` to `dst`."""
        to_mm = {
            "mm": np.eye(self.dim + 1),
            "index": self._index_to_mm,
            "voxel": self._index_to_mm @ _reversal(self.dim),
        }
        if src not in to_mm or dst not in to_mm:
            raise ValueError(f"frames are mm, index and voxel, not {src!r} -> {dst!r}")
        return np.linalg.solve(to_mm[dst], to_mm[src])

    def same_space(self, other: Grid, tol: float = 1e-3) -> bool:
        """True when both grids have the same size and their corners agree within `tol` voxels."""
        if self.size != other.size:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.size], indexing="ij"))
        points = corners.reshape(self.dim, -1).T.astype(float)
        gap = apply_matrix(self._index_to_mm, points) - apply_matrix(other._index_to_mm, points)
        return bool(np.abs(gap).max() <= tol * min(self.spacing_mm))

    # ---------------------------------------------------------------- derived grids
    def resized(self, size: Sequence[int]) -> Grid:
        """The same field of view with another number of samples (voxel corners stay in place)."""
        new = np.maximum(1, np.asarray(size, dtype=int))
        factor = np.asarray(self.size) / new
        first = (factor - 1) / 2  # old index of the first new sample
        return Grid(
            tuple(int(n) for n in new),
            tuple(np.asarray(self.spacing_mm) * factor),
            tuple(apply_matrix(self._index_to_mm, first)),
            self.direction,
        )

    def plane(self, axis: int, index: int) -> Grid:
        """The one-sample-thick grid at array `axis` (z, y, x order) and `index`."""
        box = [slice(0, n) for n in self.shape]
        box[axis] = slice(index, index + 1)
        return self.part(box)

    def part(self, box: Sequence[slice]) -> Grid:
        """The samples of `box`: one slice of array indices per axis, z, y, x order, no steps."""
        first = np.array([item.start for item in box][::-1], dtype=np.float64)
        size = [item.stop - item.start for item in box][::-1]
        origin = apply_matrix(self._index_to_mm, first)
        return Grid(tuple(size), self.spacing_mm, tuple(origin), self.direction)

    def axis_aligned(self) -> Grid:
        """The grid of the same samples whose axes run along +x, +y(, +z), in another array order.

        Raises InputError when the axes of this grid are oblique.
        """
        order = np.argmax(np.abs(self.direction), axis=1)  # which of our axes runs along x, y, z
        signs = self.direction[np.arange(self.dim), order]
        if len(set(order)) < self.dim or not np.allclose(np.abs(signs), 1.0, atol=1e-5):
            raise InputError(
                "The grid is oblique to x, y, z, which this format cannot hold; choose a "
                "reference image whose axes run along them."
            )
        first = np.zeros(self.dim)
        for axis, sign in zip(order, signs, strict=True):
            first[axis] = 0 if sign > 0 else self.size[axis] - 1
        origin = apply_matrix(self._index_to_mm, first)
        size = tuple(self.size[k] for k in order)
        return Grid(size, tuple(self.spacing_mm[k] for k in order), tuple(origin), np.eye(self.dim))

    def points_mm(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Physical coordinates (n, d) of the samples in slices [start, stop) of array axis 0."""
        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        axes = [np.arange(start, stop), *[np.arange(n) for n in self.shape[1:]]]
        voxels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, self.dim)
        return apply_matrix(self.matrix("voxel", "mm"), voxels.astype(np.float64))

    def to_dict(self) -> dict:
        return {
            "size": list(self.size),
            "spacing_mm": list(self.spacing_mm),
            "origin_mm": list(self.origin_mm),
            "direction": np.asarray(self.direction).tolist(),
        }
