"""Affine maps (identity, rigid, affine) of physical points."""

from __future__ import annotations

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import apply_matrix
from fireants_engine.transforms.base import Transform, parts_of


class Affine(Transform):
    """`T(x) = A x + b`, given as a homogeneous (d+1, d+1) float64 `matrix` in LPS mm.

    centre_mm only decides how ITK files write it (`A (x - c) + c + t`); the map is the same.
    Raises InputError for a singular or non-finite matrix.
    """

    def __init__(self, matrix: np.ndarray, centre_mm: np.ndarray | None = None) -> None:
        matrix = np.array(matrix, dtype=np.float64)
        if not np.all(np.isfinite(matrix)) or abs(np.linalg.det(matrix[:-1, :-1])) < 1e-12:
            raise InputError("The affine matrix is singular or not finite.")
        matrix.setflags(write=False)
        self.matrix = matrix
        self.dim = matrix.shape[0] - 1
        self.centre_mm = np.zeros(self.dim) if centre_mm is None else np.asarray(centre_mm, float)

    @classmethod
    def identity(cls, dim: int) -> Affine:
        return cls(np.eye(dim + 1))

    @classmethod
    def about(cls, linear: np.ndarray, translation: np.ndarray, centre_mm: np.ndarray) -> Affine:
        """`linear (x - centre) + centre + translation`."""
        dim = len(centre_mm)
        matrix = np.eye(dim + 1)
        matrix[:dim, :dim] = linear
        matrix[:dim, dim] = np.asarray(centre_mm) + translation - linear @ np.asarray(centre_mm)
        return cls(matrix, centre_mm)

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        return apply_matrix(self.matrix, points_mm)

    def inverse(self) -> Affine:
        return Affine(np.linalg.inv(self.matrix), self(self.centre_mm[None])[0])

    def after(self, first: Affine) -> Affine:
        """The single affine `self o first`."""
        return Affine(self.matrix @ first.matrix, first.centre_mm)


def affine_factor(transform: Transform) -> Affine:
    """The product of all affine parts: what remains when the warps are the identity."""
    total = Affine.identity(transform.dim)
    for part in parts_of(transform):
        if isinstance(part, Affine):
            total = part.after(total)
    return total


def linear_part(transform: Transform) -> Affine | None:
    """`transform` as one affine map, or None when a part of it is deformable."""
    linear = all(isinstance(part, Affine) for part in parts_of(transform))
    return affine_factor(transform) if linear else None
