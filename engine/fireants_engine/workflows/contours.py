"""Two outlines brought onto each other: whitened by their regions, scored by their contours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, apply_matrix
from fireants_engine.transforms import Affine

if TYPE_CHECKING:
    from scipy.spatial import KDTree

POINTS = 500
"""Of an outline, evenly along its length."""
STEP_DEG = 2.0
TRIM = 0.85
"""Share of the points, the nearest ones, whose distances count: tears and lost parts do not."""
KEPT = 4
"""Turns of either handedness that are refined."""
SEPARATE_DEG = 15.0
FLAT, ROUND = 0.01, 0.5
_SHORT = 0.02
_DENSE = 4


@dataclass(frozen=True, eq=False)
class Outline:
    """A region and its border, in mm.

    centre: (2,) mean place of the filled region; root: (2, 2) square root of its covariance, so
    that `root^-1 (x - centre)` is white; points: (n, 2) on the border, evenly along its length;
    normals: (n, 2) unit vectors across it; dense: (4 n, 2) on the border, so that distances from
    it are not those from the next point; diameter: of the circle of the same area.
    """

    centre: np.ndarray
    root: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    dense: np.ndarray
    diameter: float

    def white(self, points: np.ndarray) -> np.ndarray:
        return (points - self.centre) @ np.linalg.inv(self.root).T


@dataclass(frozen=True, eq=False)
class Fit:
    """affine: fixed mm -> moving mm. distance: trimmed mean distance of both outlines from each
    other, as a share of the moving diameter. turn_deg: of the whitened outlines."""

    affine: Affine
    turn_deg: float
    distance: float

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.affine.matrix[:2, :2]) < 0)


def outline_of(mask: np.ndarray, grid: Grid, points: int = POINTS) -> Outline:
    """The outline of `mask` (Y, X) bool, with its holes filled.

    Moments are those of the region and not of contour points, which do not follow affine maps
    (LESSONS 22). The border is that of the mask smoothed by a pixel, at a half; where the image
    ends, it ends there. Raises InputError for fewer than 30 pixels.
    """
    from scipy import ndimage
    from skimage.measure import find_contours

    filled = np.asarray(ndimage.binary_fill_holes(mask))
    if filled.sum() < 30:
        raise InputError("The tissue has hardly any pixels; give a larger image or another mask.")
    to_mm = grid.matrix("voxel", "mm")
    rows = apply_matrix(to_mm, np.argwhere(filled).astype(np.float64))
    covariance = np.cov(rows.T) + np.eye(2) * float(np.prod(grid.spacing_mm)) / 12
    values, vectors = np.linalg.eigh(covariance)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    soft = ndimage.gaussian_filter(np.pad(filled, 3).astype(np.float64), 1.0)
    curves = [apply_matrix(to_mm, line - 3) for line in find_contours(soft, 0.5)]
    dense, across = _even(curves, _DENSE * points)
    area = len(rows) * float(np.prod(grid.spacing_mm))
    return Outline(
        rows.mean(axis=0), root, dense[::_DENSE], across[::_DENSE], dense,
        2 * math.sqrt(area / math.pi),
    )  # fmt: skip


def _even(curves: Sequence[np.ndarray], points: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and unit vectors across closed curves, evenly along them; short ones are left out."""
    lengths = [float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) for line in curves]
    longest = max(lengths)
    places, normals = [], []
    whole = sum(n for n in lengths if n >= _SHORT * longest)
    for line, length in zip(curves, lengths, strict=True):
        if length < _SHORT * longest:
            continue
        along = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]
        count = max(8, round(points * length / whole))
        at = np.arange(count) * length / count
        own = np.stack([np.interp(at, along, line[:, k]) for k in range(2)], axis=1)
        ahead = np.roll(own, -1, axis=0) - np.roll(own, 1, axis=0)
        across = np.stack([ahead[:, 1], -ahead[:, 0]], axis=1)
        places.append(own)
        normals.append(across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12))
    return np.concatenate(places), np.concatenate(normals)


def fits(
    fixed: Outline, moving: Outline, *, mirrored: bool | None = None, refine: bool = True
) -> tuple[Fit, ...]:
    """Affine maps that bring the fixed onto the moving outline, best first.

        A = A_moving R A_fixed^-1,   A the roots of the regions' covariances, R orthonormal

    so that only the turn of R and its handedness are searched: every 2 degrees, by the Chamfer
    distance of the whitened outlines, then between those (thesis 6.1.2, after Mai et al. 2011).
    The best few turns are refined with all six numbers, from which lost parts drop out, where
    `refine`. mirrored: None for both kinds. At most 4 of each kind, 15 degrees apart.
    """
    kinds = (False, True) if mirrored is None else (mirrored,)
    found = []
    for kind in kinds:
        turns, scores = turn_scores(fixed, moving, kind)
        found += [_between(fixed, moving, kind, turns[k]) for k in _lowest(scores)]
    if refine:
        found = [refined(fixed, moving, one) for one in found]
    return tuple(sorted(found, key=lambda one: one.distance))


def turn_scores(
    fixed: Outline, moving: Outline, mirrored: bool, step_deg: float = STEP_DEG
) -> tuple[np.ndarray, np.ndarray]:
    """Turns in degrees and the Chamfer distance of the whitened outlines at each."""
    from scipy.spatial import KDTree

    thin = slice(None, None, max(1, len(fixed.points) // 250))
    own, other = fixed.white(fixed.points)[thin], moving.white(moving.points)[thin]
    tree, back = KDTree(other), KDTree(own)
    turns = np.arange(0.0, 360.0, step_deg)
    scores = [_chamfer(own, other, tree, back, turn(t, mirrored)) for t in turns]
    return turns, np.array(scores)


def turn(degrees: float, mirrored: bool) -> np.ndarray:
    """(2, 2) orthonormal; a mirrored one negates x first."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])


def _chamfer(
    own: np.ndarray, other: np.ndarray, tree: KDTree, back: KDTree, by: np.ndarray
) -> float:
    """Trimmed mean distance both ways of `by own` and `other`."""
    return (_trimmed(tree.query(own @ by.T)[0]) + _trimmed(back.query(other @ by)[0])) / 2


def _trimmed(distances: np.ndarray) -> float:
    kept = max(1, round(TRIM * len(distances)))
    return float(np.partition(distances, kept - 1)[:kept].mean())


def _lowest(scores: np.ndarray) -> list[int]:
    """Numbers of the best scores of a circle that are lower than their neighbours."""
    apart = round(SEPARATE_DEG / STEP_DEG)
    kept: list[int] = []
    for k in np.argsort(scores, kind="stable").tolist():
        near = [min((k - n) % len(scores), (n - k) % len(scores)) < apart for n in kept]
        if not any(near) and scores[k] <= min(scores[k - 1], scores[(k + 1) % len(scores)]):
            kept.append(k)
        if len(kept) == KEPT:
            break
    return kept


def _between(fixed: Outline, moving: Outline, mirrored: bool, turn_deg: float) -> Fit:
    """The best turn about one of the grid."""
    from scipy.optimize import minimize_scalar
    from scipy.spatial import KDTree

    own, other = fixed.white(fixed.points), moving.white(moving.points)
    tree, back = KDTree(other), KDTree(own)
    best: Any = minimize_scalar(
        lambda t: _chamfer(own, other, tree, back, turn(t, mirrored)),
        bounds=(turn_deg - STEP_DEG, turn_deg + STEP_DEG), method="bounded",
        options={"xatol": 0.01},
    )  # fmt: skip
    linear = moving.root @ turn(best.x, mirrored) @ np.linalg.inv(fixed.root)
    affine = Affine.about(linear, moving.centre - fixed.centre, fixed.centre)
    return Fit(affine, float(best.x % 360), distance(fixed, moving, affine))


def distance(fixed: Outline, moving: Outline, affine: Affine) -> float:
    """Trimmed mean distance both ways in the moving space, as a share of the moving diameter."""
    from scipy.spatial import KDTree

    there = KDTree(moving.dense).query(affine(fixed.points))[0]
    back = KDTree(affine(fixed.dense)).query(moving.points)[0]
    return (_trimmed(there) + _trimmed(back)) / 2 / moving.diameter


def refined(fixed: Outline, moving: Outline, fit: Fit, steps: int = 40) -> Fit:
    """`fit` with all six numbers moved to bring the outlines together along their normals.

    Iterated least squares on the nearest points both ways, each weighted by Tukey's function of
    its distance over twice the scatter, so that what is torn or lost in one image drops out.
    The result replaces `fit` only where the outlines are nearer.
    """
    from scipy.spatial import KDTree

    affine, tree = fit.affine, KDTree(moving.points)
    last = np.inf
    for _ in range(steps):
        affine, moved = _step(fixed, moving, affine, tree)
        if moved < 1e-5 * moving.diameter or moved > 10 * last:
            break
        last = moved
    now = distance(fixed, moving, affine)
    same_hand = np.linalg.det(affine.matrix[:2, :2]) * np.linalg.det(fit.affine.matrix[:2, :2]) > 0
    return replace(fit, affine=affine, distance=now) if same_hand and now < fit.distance else fit


def _step(fixed: Outline, moving: Outline, affine: Affine, tree: KDTree) -> tuple[Affine, float]:
    """One round of matching and fitting, and how far the outline has moved."""
    from scipy.spatial import KDTree

    mapped = affine(fixed.points)
    _, near = tree.query(mapped)
    _, own = KDTree(mapped).query(moving.points)
    start = np.r_[np.arange(len(mapped)), own]
    target = np.r_[near, np.arange(len(moving.points))]
    gap = moving.points[target] - mapped[start]
    away = np.linalg.norm(gap, axis=1)
    scatter = 1.4826 * np.median(away) + 1e-3 * moving.diameter
    weight = np.clip(1 - (away / (4 * scatter)) ** 2, 0, None) ** 2
    normal = moving.normals[target]
    about = (mapped[start] - moving.centre) / moving.diameter
    shape = np.c_[about, np.ones(len(about))]
    rows = np.concatenate([normal[:, :1] * shape, normal[:, 1:] * shape], axis=1)
    wanted = (normal * gap).sum(axis=1)
    square = (rows * weight[:, None]).T @ rows
    square += 1e-4 * np.trace(square) / 6 * np.eye(6)
    found = np.linalg.solve(square, (rows * weight[:, None]).T @ wanted).reshape(2, 3)
    change = np.eye(3)
    change[:2, :2] += found[:, :2] / moving.diameter
    change[:2, 2] = found[:, 2] - found[:, :2] @ moving.centre / moving.diameter
    after = Affine(change).after(affine)
    return after, float(np.abs(after(fixed.points) - mapped).max())


def is_round(scores: np.ndarray) -> bool:
    """True where the turn hardly matters: the best of `turn_scores` is no better than half the
    middle one, or the middle one is within 1 % of the diameter (whitened discs have diameter 4)."""
    middle = float(np.median(scores))
    return middle < 4 * FLAT or float(scores.min()) > ROUND * middle
