"""A small brain of two mirrored halves, and what is left of it after death."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from fireants_engine.geometry import Grid, Image
from fireants_engine.transforms import Affine

SPACING = 2.0


def grid_of(size: tuple[int, int, int], spacing: float = SPACING) -> Grid:
    middle = spacing * (np.array(size) - 1) / 2
    return Grid(size, (spacing,) * 3, tuple(-middle), np.eye(3))


def tissue(points: np.ndarray) -> np.ndarray:
    """0 outside, 1 grey, 2 white, 3 nucleus; the right half mirrors the left (x > 0)."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    inside = ((x - 2) / 26) ** 2 + ((y + 0.15 * z) / 38) ** 2 + (z / 22) ** 2 < 1
    inside |= ((x - 12) ** 2 + (y + 22) ** 2 + (z + 14) ** 2) < 144
    white = ((x - 3) / 17) ** 2 + ((y - 2) / 28) ** 2 + ((z - 3) / 12) ** 2 < 1
    nucleus = ((x - 9) / 5) ** 2 + ((y - 10) / 8) ** 2 + ((z - 2) / 5) ** 2 < 1
    return np.where(inside, np.where(white, np.where(nucleus, 3, 2), 1), 0)


def invivo(size: tuple[int, int, int] = (36, 48, 36)) -> Image:
    """T1-like: white brighter than grey, background 0."""
    grid = grid_of(size)
    values = np.array([0.0, 60.0, 100.0, 75.0])[tissue(grid.points_mm())]
    return Image.from_numpy(_soft(values, grid), grid, name="invivo")


def labels(size: tuple[int, int, int] = (36, 48, 36)) -> Image:
    """FreeSurfer's numbers of cortex, white matter and thalamus, left and right."""
    grid = grid_of(size)
    points = grid.points_mm()
    kind = tissue(points)
    left, right = np.array([0, 3, 2, 10])[kind], np.array([0, 42, 41, 49])[kind]
    values = np.where(points[:, 0] > 0, left, right).astype(np.int16)
    return Image.from_numpy(values.reshape(grid.shape), grid, name="seg")


def pose(seed: int = 0) -> Affine:
    """in-vivo mm -> ex-vivo mm: any turn, 6 to 8 % shrinkage, a shift."""
    rng = np.random.default_rng(seed)
    linear = Rotation.random(rng=seed).as_matrix() @ np.diag(rng.uniform(0.92, 0.94, 3))
    return Affine.about(linear, rng.uniform(-6, 6, 3), np.zeros(3))


def exvivo(side: str, through: Affine) -> Image:
    """Fixed: contrast reduced and inverted, noise, half of it (or `whole`), carried by a map."""
    grid = grid_of((48, 48, 48))
    points = through.inverse()(grid.points_mm())
    kind = tissue(points)
    if side != "whole":
        kind = np.where((points[:, 0] > 0) == (side == "left"), kind, 0)
    values = np.array([5.0, 80.0, 60.0, 72.0])[kind]
    noise = np.random.default_rng(1).standard_normal(grid.shape)
    return Image.from_numpy(_soft(values, grid) + noise, grid, name="exvivo")


def _soft(values: np.ndarray, grid: Grid) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(values.reshape(grid.shape), 0.6).astype(np.float32)
