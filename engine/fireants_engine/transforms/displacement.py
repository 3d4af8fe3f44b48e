"""Displacement fields on a grid."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fireants_engine.geometry import Grid, apply_linear, apply_matrix
from fireants_engine.kernels import chosen_for
from fireants_engine.transforms.base import Chain, Transform, parts_of
from fireants_engine.transforms.invert import invert


class Displacement(Transform):
    """`T(p) = p + d(p)`, d linear between the samples of `grid`, zero outside it (as in ITK).

    u: (1, d, *grid.shape) float tensor in *voxels* of `grid`, channel order = array axes.
    The half voxel around the outermost samples belongs to the grid and takes their value.
    """

    def __init__(self, u: Tensor, grid: Grid) -> None:
        if tuple(u.shape) != (1, grid.dim, *grid.shape):
            raise ValueError(f"u of shape {tuple(u.shape)} does not fit a grid of {grid.shape}")
        self.u = u.detach()
        self.grid = grid
        self.dim = grid.dim

    @classmethod
    def from_mm(cls, field_mm: np.ndarray, grid: Grid) -> Displacement:
        """From an array (*grid.shape, d) of displacements in mm, x, y(, z) order."""
        linear = grid.matrix("mm", "voxel")[:-1, :-1]
        u = np.moveaxis(apply_linear(linear, np.asarray(field_mm, dtype=np.float64)), -1, 0)[None]
        return cls(torch.from_numpy(np.ascontiguousarray(u, dtype=np.float32)), grid)

    def field_mm(self) -> np.ndarray:
        """Displacements (*grid.shape, d) in mm, x, y(, z) order, float32."""
        linear = torch.from_numpy(self.grid.matrix("voxel", "mm")[:-1, :-1]).float()
        field = linear @ self.u[0].float().cpu().flatten(1)
        return field.T.contiguous().view(*self.grid.shape, self.dim).numpy()

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        voxels = apply_matrix(self.grid.matrix("mm", "voxel"), points_mm)
        shape = np.asarray(self.grid.shape)
        inside = np.all((voxels >= -0.5 - 1e-6) & (voxels <= shape - 0.5 + 1e-6), axis=1)
        coords = torch.from_numpy(voxels.T).to(self.u.device, self.u.dtype)
        coords = coords.reshape(1, self.dim, -1, *(1,) * (self.dim - 1))
        moved = chosen_for(self.u).sample(self.u, coords, border=True)[0].reshape(self.dim, -1)
        step = moved.double().cpu().numpy().T * inside[:, None]
        return points_mm + apply_linear(self.grid.matrix("voxel", "mm")[:-1, :-1], step)

    def inverse(self) -> Inverse:
        """The inverse map; see `Inverse` and `transforms.invert.invert`."""
        return Inverse(self, Displacement(invert(self.u), self.grid))


class Inverse(Transform):
    """`T^-1` of a Displacement T: finds q with `T(q) = p` for every point p.

    nearly: a sampled inverse on some grid, where the search starts. Between its samples a sampled
    inverse is off by its interpolation (0.06 voxel in the mean and more than 1 at the worst
    between two brains); here `|T(q) - p|` is brought under 0.01 voxel wherever T is invertible.
    """

    def __init__(self, warp: Displacement, nearly: Displacement) -> None:
        if nearly.dim != warp.dim:
            raise ValueError(f"a {nearly.dim}D inverse does not fit a {warp.dim}D warp")
        self.warp, self.nearly, self.dim = warp, nearly, warp.dim

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        to_voxel = self.warp.grid.matrix("mm", "voxel")
        start = self.nearly(points_mm)
        target, guess = apply_matrix(to_voxel, points_mm), apply_matrix(to_voxel, start)
        limit = np.asarray(self.warp.grid.shape) - 0.5
        inside = np.all((target >= -0.5) & (target <= limit), axis=1)
        u = self.warp.u

        def column(voxels: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(voxels[inside].T)).to(u.device, u.dtype)

        if not inside.any():
            return start
        found = (
            chosen_for(u).solve_points(u, column(guess), column(target)).double().cpu().numpy().T
        )
        # T jumps to the identity where its grid ends: the nearest point is on this side of it
        np.clip(found, -0.5, limit, out=found)
        out = np.array(start, dtype=np.float64)
        out[inside] = apply_matrix(self.warp.grid.matrix("voxel", "mm"), found)
        return out

    def inverse(self) -> Displacement:
        return self.warp


def sampled(transform: Transform) -> Transform:
    """`transform` with every `Inverse` as its samples, linear between them: for images.

    As ITK and ANTs do with a saved inverse; solving for every voxel would take minutes.
    """
    parts = parts_of(transform)
    if not any(isinstance(part, Inverse) for part in parts):
        return transform
    return Chain(part.nearly if isinstance(part, Inverse) else part for part in parts)
