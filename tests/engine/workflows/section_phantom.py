"""A stained section painted from functions: irregular outline, inner parts, other colours, torn."""

from __future__ import annotations

import numpy as np

from fireants_engine.geometry import Grid, Image, apply_matrix
from fireants_engine.transforms import Affine

SIDE = 160
GLASS = np.array([243.0, 241.0, 244.0])
SPOTS = ((0.3, 0.1, 0.2, 1.1), (-0.25, 0.3, 0.14, 0.12), (0.05, -0.35, 0.16, 0.9))
PURPLE, BROWN = np.array([0.55, 0.75, 0.30]), np.array([0.25, 0.45, 0.60])


def radius(angle: np.ndarray, seed: int = 3, parts: int = 6) -> np.ndarray:
    """Of an irregular closed curve, about 1."""
    rng = np.random.default_rng(seed)
    k = np.arange(2, 2 + parts)
    size, phase = rng.normal(size=parts) / k**1.2 * 0.35, rng.uniform(0, 2 * np.pi, parts)
    return np.clip(1 + (size * np.cos(k * angle[..., None] + phase)).sum(-1), 0.4, 1.8)


def density(points: np.ndarray, seed: int = 3) -> np.ndarray:
    """How dense the tissue is at points (..., 2) in radii of the section, 0 outside."""
    angle = np.arctan2(points[..., 1], points[..., 0])
    inside = np.hypot(*np.moveaxis(points, -1, 0)) < radius(angle, seed)
    out = 0.45 + 0.1 * np.sin(9 * points[..., 0]) * np.cos(8 * points[..., 1])
    for x, y, r, value in (
        (0.3, 0.1, 0.2, 1.1),
        (-0.25, 0.3, 0.14, 0.12),
        (0.05, -0.35, 0.16, 0.9),
    ):
        out[np.hypot(points[..., 0] - x, points[..., 1] - y) < r] = value
    return out * inside


def section(
    affine: Affine | None = None,
    *,
    colour: np.ndarray = PURPLE,
    side: int = SIDE,
    pixel: float = 1.0,
    bite: float = 0.0,
    seed: int = 3,
    name: str = "section",
) -> Image:
    """RGB on glass. affine: base mm -> mm of this section; bite: share of the tissue torn away."""
    grid = Grid.identity((side, side), pixel)
    rng = np.random.default_rng(0)
    places = grid.points_mm().reshape(side, side, 2)
    base = (
        places if affine is None else affine.inverse()(places.reshape(-1, 2)).reshape(places.shape)
    )
    middle = np.full(2, (SIDE - 1) / 2)
    dense = density((base - middle) / (0.24 * SIDE), seed)
    if bite:
        rows, columns = np.nonzero(dense)
        edge = np.argmax(columns)
        away = np.hypot(
            *(np.mgrid[:side, :side] - np.array([rows[edge], columns[edge]])[:, None, None])
        )
        limit = np.sort(away[dense > 0])[int(bite * (dense > 0).sum())]
        dense = np.where(away <= limit, 0.0, dense)
    rgb = GLASS * np.exp(-dense[..., None] * colour * 1.6) + rng.normal(0, 1.5, (side, side, 3))
    return Image.from_numpy(
        np.clip(np.rint(rgb), 0, 255).astype(np.uint8), grid, channels=True, name=name
    )


def turned(degrees: float, mirrored: bool = False, stretch: float = 1.08) -> Affine:
    """About the middle: mirrored, stretched along x, turned."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = np.array([[c, -s], [s, c]]) @ np.diag([-stretch if mirrored else stretch, 1 / stretch])
    middle = np.full(2, (SIDE - 1) / 2)
    return Affine.about(linear, np.array([4.0, -3.0]), middle)


def points_inside(seed: int = 1, count: int = 200) -> np.ndarray:
    """(n, 2) mm of base points in the tissue."""
    rng = np.random.default_rng(seed)
    white = rng.uniform(-1.4, 1.4, (count * 6, 2))
    inside = density(white) > 0
    return white[inside][:count] * 0.24 * SIDE + (SIDE - 1) / 2


def error(found: Affine, true: Affine, points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(
        apply_matrix(found.matrix, points) - apply_matrix(true.matrix, points), axis=1
    )
