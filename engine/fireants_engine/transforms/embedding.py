"""A plane in space: the map from a section's own two coordinates to those of a volume, and back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, apply_linear


class Projected(NamedTuple):
    """points_mm: (n, 2) in the section; distance_mm: (n,) off its plane, along its normal."""

    points_mm: np.ndarray
    distance_mm: np.ndarray


class Embedding:
    """`E(x) = L x + o`: 2D mm of a section -> 3D mm of the volume it lies in.

    edges: L, (3, 2), mm of the volume per mm of the section along x and y; origin_mm: o, (3,),
    where the section's (0, 0) lies. within_mm: points of the volume further off the plane than
    this have no place in the section. Raises InputError when the edges are parallel or not finite.
    """

    dims = (2, 3)

    def __init__(
        self, edges: np.ndarray, origin_mm: np.ndarray, within_mm: float = float("inf")
    ) -> None:
        self.edges = np.array(edges, dtype=np.float64).reshape(3, 2)
        self.origin_mm = np.array(origin_mm, dtype=np.float64).reshape(3)
        self.within_mm = float(within_mm)
        normal = np.cross(self.edges[:, 0], self.edges[:, 1])
        size = np.linalg.norm(normal)
        good = np.all(np.isfinite(self.origin_mm)) and np.isfinite(size)
        if not good or size < 1e-12 * max(1e-300, float((self.edges**2).sum())):
            raise InputError(
                "The plane of the section is not finite or its edges are parallel; give two "
                "directions that span it."
            )
        self.normal = normal / size
        for array in (self.edges, self.origin_mm, self.normal):
            array.setflags(write=False)

    @classmethod
    def flat(cls, within_mm: float = float("inf")) -> Embedding:
        """(x, y) -> (x, y, 0): a section in a space of its own."""
        return cls(np.eye(3)[:, :2], np.zeros(3), within_mm)

    @classmethod
    def of_plane(cls, grid: Grid, within_mm: float | None = None) -> Embedding:
        """The plane of a 3D grid of one slice, whose own 2D space has its first sample at (0, 0)
        and its axes along the grid's; within_mm: default half the slice's thickness.

        Raises InputError for more slices, or another dimension.
        """
        if grid.dim != 3 or grid.size[2] != 1:
            raise InputError(f"a plane is a 3D grid of one slice, not one of size {grid.size}.")
        within = grid.spacing_mm[2] / 2 if within_mm is None else within_mm
        return cls(grid.direction[:, :2], np.asarray(grid.origin_mm), within)

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """(n, 2) -> (n, 3)."""
        return apply_linear(self.edges, points_mm) + self.origin_mm

    def project(self, points_mm: np.ndarray) -> Projected:
        """(n, 3) -> the nearest points of the plane, and how far it is (signed, along the normal).

        `x = (L^T L)^-1 L^T (p - o)`: orthogonal projection onto the plane.
        """
        off = points_mm - self.origin_mm
        return Projected(apply_linear(np.linalg.pinv(self.edges), off), off @ self.normal)

    def inverse(self) -> Projection:
        return Projection(self)


class Projection:
    """The reverse of an Embedding: 3D mm -> 2D mm by orthogonal projection onto the plane.

    Points further off than `embedding.within_mm` become NaN. `E^-1(E(x)) = x`, but `E(E^-1(p))`
    is the foot of p.
    """

    dims = (3, 2)

    def __init__(self, embedding: Embedding) -> None:
        self.embedding = embedding

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """(n, 3) -> (n, 2)."""
        found = self.embedding.project(points_mm)
        far = np.abs(found.distance_mm) > self.embedding.within_mm
        return np.where(far[:, None], np.nan, found.points_mm)

    def inverse(self) -> Embedding:
        return self.embedding


def embed_grid(grid: Grid, embedding: Embedding | None = None, thickness_mm: float = 1.0) -> Grid:
    """A section's 2D grid as a 3D grid of one slice, `thickness_mm` thick.

    Its samples lie where `embedding` takes those of `grid` (default: at z = 0 of a space of its
    own). Raises InputError for a 3D grid, and where the embedding shears the section's axes, for
    which no grid exists.
    """
    if grid.dim != 2:
        raise InputError(f"a section has a 2D grid; this one is {grid.dim}D.")
    embedding = embedding or Embedding.flat()
    axes = embedding.edges @ grid.direction
    lengths = np.linalg.norm(axes, axis=0)
    direction = np.column_stack([axes / lengths, embedding.normal])
    if abs(direction[:, 0] @ direction[:, 1]) > 1e-6:
        raise InputError(
            "The map of the section into the volume shears it, so that its pixels are no grid "
            "there; take the volume onto the section instead."
        )
    spacing = (*(np.asarray(grid.spacing_mm) * lengths), thickness_mm)
    origin = embedding(np.asarray(grid.origin_mm)[None])[0]
    return Grid((*grid.size, 1), spacing, tuple(origin), direction)
