"""The two halves of a brain: the plane between them, from a label map or from symmetry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.pipeline.initialise import bodies_of
from fireants_engine.pipeline.orientation import many
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.transforms import Affine

Side = Literal["left", "right", "whole"]
_LEFT = (2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 17, 18, 19, 20, 25, 26, 27, 28, 30, 31)
_RIGHT = (41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 62, 63)
_LEFT_FROM = (1000, 3000, 11100, 13100)
_RIGHT_FROM = (2000, 4000, 12100, 14100)
"""Where FreeSurfer's cortical parcels begin; each has fewer than 100 after it, or 200."""
_PARCELS = 200
_POINTS = 20_000
"""Voxels that the plane is fitted to, at most."""
_PARTED = 0.95
"""Least share of labelled voxels on their own side."""
_LEAST = 0.2
"""Least size of one side as a share of the other's."""
_SAMPLES = 40
"""Along the longest side where symmetry is measured."""
_TILT = 45.0
"""Degrees that the plane's normal may lie off left-right as the header has it."""


@dataclass(frozen=True, eq=False)
class Midplane:
    """Between the halves: left is where `normal . (x - point_mm) > 0`. LPS mm.

    agreement: share of labelled voxels on their own side, or correlation of the brain with its
    mirror image. found_by: `labels` or `symmetry`.
    """

    point_mm: np.ndarray
    normal: np.ndarray
    agreement: float
    found_by: str

    def distance(self, points_mm: np.ndarray) -> np.ndarray:
        """Signed distance in mm, (n,) for (n, 3) points; positive on the left."""
        return (points_mm - self.point_mm) @ self.normal

    def to_dict(self) -> dict[str, object]:
        return {
            "found_by": self.found_by,
            "agreement": self.agreement,
            "point_mm": self.point_mm.tolist(),
            "normal": self.normal.tolist(),
        }


# ------------------------------------------------------------------ from labels
@dataclass(frozen=True)
class SideLabels:
    """The numbers of a label map that lie on the left, and those on the right.

    Raises InputError where one side has none, or a number is on both.
    """

    left: frozenset[int]
    right: frozenset[int]

    def __post_init__(self) -> None:
        if not self.left or not self.right:
            raise InputError(
                "Labels of one side alone part no halves; give both --left-labels and "
                "--right-labels."
            )
        if both := sorted(self.left & self.right):
            raise InputError(
                f"Label {both[0]} is named as left and as right; labels that cross the middle are "
                "left out of both."
            )


def sides_of(labels: Image, named: SideLabels | None = None) -> np.ndarray:
    """1 on the left, -1 on the right, 0 where a label says neither; int8 of the grid's shape.

    By `named`, else by FreeSurfer's numbers, which SynthSeg shares: 2-5, 7, 8, 10-13, 17, 18, 26,
    28, ... left; 41-44, 46, 47, 49-54, 58, 60, ... right; cortical parcels from 1000 left, from
    2000 right.
    """
    values = labels.data[0].cpu().numpy()
    found = np.unique(values)
    side = np.zeros(len(found), np.int8)
    if named is not None:
        for sign, numbers in ((1, named.left), (-1, named.right)):
            side[np.isin(found, sorted(numbers))] = sign
        return side[np.searchsorted(found, values)]
    for sign, names, starts in ((1, _LEFT, _LEFT_FROM), (-1, _RIGHT, _RIGHT_FROM)):
        parcels = [(found > first) & (found < first + _PARCELS) for first in starts]
        side[np.isin(found, names) | np.any(parcels, axis=0)] = sign
    return side[np.searchsorted(found, values)]


def plane_from_labels(labels: Image, named: SideLabels | None = None) -> Midplane:
    """The plane that parts the left labels from the right ones: a linear SVM (thesis 6.1).

        min_(w, b)  |w|^2 / 2 + C mean max(0, 1 - s (w . x + b))^2,   s = 1 left, -1 right

    both sides of equal weight, x in units of the labels' extent, at most 20 000 voxels. named:
    see `sides_of`. Raises InputError where left and right cannot be told from the numbers.
    """
    side = sides_of(labels, named)
    by = "FreeSurfer's numbers (2, 3, 4, ... left; 41, 42, 43, ... right)"
    remedy = (
        "say which labels are left and right with --left-labels and --right-labels, give a "
        "segmentation by SynthSeg or FreeSurfer, or no labels"
    )
    if named is not None:
        by, remedy = "--left-labels and --right-labels", "look at the numbers in the label map"
    counts = [int((side == sign).sum()) for sign in (1, -1)]
    if min(counts) < max(10, _LEAST * max(counts)):
        raise InputError(
            f"{labels.name}: has {counts[0]} voxels of left and {counts[1]} of right structures by "
            f"{by}, which part nothing; {remedy}."
        )
    points, signs = _labelled(labels.grid, side)
    centre, size = points.mean(0), float(points.std())
    normal, offset = _separated((points - centre) / size, signs)
    length = float(np.linalg.norm(normal))
    point = centre - normal / length * (offset / length) * size
    plane = Midplane(point, normal / length, 0.0, "labels")
    share = float((np.sign(plane.distance(points)) == signs).mean())
    if share < _PARTED:
        raise InputError(
            f"{labels.name}: its left and right structures by {by} lie mixed (no plane parts more "
            f"than {100 * share:.0f} % of them), so it is numbered otherwise; {remedy}."
        )
    return replace(plane, agreement=share)


def _labelled(grid: Grid, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evenly chosen voxels of both sides as points (n, 3) in mm, and their signs (n,)."""
    points, signs = [], []
    to_mm = grid.matrix("voxel", "mm")
    for sign in (1, -1):
        where = np.argwhere(side == sign)
        where = where[:: max(1, len(where) // (_POINTS // 2))]
        points.append(where @ to_mm[:3, :3].T + to_mm[:3, 3])
        signs.append(np.full(len(where), float(sign)))
    return np.concatenate(points), np.concatenate(signs)


def _separated(x: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, float]:
    """Normal (d,) and offset of a linear SVM with squared hinge loss."""
    from scipy.optimize import minimize

    share = np.where(signs > 0, 0.5 / (signs > 0).sum(), 0.5 / (signs < 0).sum())

    def loss(p: np.ndarray) -> tuple[float, np.ndarray]:
        short = np.maximum(0, 1 - signs * (x @ p[:-1] + p[-1]))
        pull = -2 * _HARD * share * short * signs
        value = 0.5 * float(p[:-1] @ p[:-1]) + _HARD * float(share @ short**2)
        return value, np.append(p[:-1] + x.T @ pull, pull.sum())

    first = np.append(x[signs > 0].mean(0) - x[signs < 0].mean(0), 0.0)
    p = minimize(loss, first, jac=True, method="L-BFGS-B").x
    return p[:-1], float(p[-1])


_HARD = 1e3
"""C of the SVM: voxels on the wrong side cost this much."""


# ------------------------------------------------------------------ from symmetry
def plane_by_symmetry(brain: Image, ctx: ExecutionContext) -> Midplane:
    """The plane in which the brain is most like its mirror image, by global correlation.

    Normals up to 45 degrees off the left-right axis of the header, refined to a quarter of a
    degree with the plane's place. Left is where x (LPS) grows: in-vivo scans lie in the world as
    their header says.
    """
    prepared = Prepared.create(brain, brain, ctx)
    finest = min(brain.grid.spacing_mm)
    pair = prepared.level(max(1.0, float(max(brain.grid.extent_mm)) / _SAMPLES / finest), 1)
    body, _ = bodies_of(pair, "foreground")
    tilts = [(a, b, 0.0) for a in np.arange(-_TILT, 46, 7.5) for b in np.arange(-_TILT, 46, 7.5)]
    best, score = _most_alike(pair, body.centre_mm, np.array(tilts), ctx)
    for step in (4.0, 2.0, 1.0, 0.5, 0.25):
        moves = np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)]) * step
        for _ in range(8):
            found, score = _most_alike(pair, body.centre_mm, best + moves, ctx)
            if np.array_equal(found, best):
                break
            best = found
    normal = _normal(best)
    return Midplane(body.centre_mm + best[2] * normal, normal, score, "symmetry")


def _normal(tilt: np.ndarray) -> np.ndarray:
    a, b = np.tan(np.radians(tilt[:2]))
    return np.array([1.0, a, b]) / np.sqrt(1 + a * a + b * b)


def _most_alike(
    pair: Pair, centre_mm: np.ndarray, tilts: np.ndarray, ctx: ExecutionContext
) -> tuple[np.ndarray, float]:
    """The best of planes (n, 3): two tilts in degrees, mm along the normal; and its score."""
    mirrors = []
    for tilt in tilts:
        normal = _normal(tilt)
        mirror = np.eye(3) - 2 * np.outer(normal, normal)
        mirrors.append(Affine.about(mirror, np.zeros(3), centre_mm + tilt[2] * normal))
    scores = many(pair, mirrors, "ncc", ctx)
    place = int(scores.argmax())
    return tilts[place], float(scores[place])


# ------------------------------------------------------------------ cutting
def part_of(
    brain: Image,
    side: Side,
    plane: Midplane | None = None,
    labels: Image | None = None,
    named: SideLabels | None = None,
) -> Image:
    """`brain` with background instead of all that is not on `side`.

    labels: what they leave out is background too, and what they call left or right is, on
    whichever side of the plane it lies (named: see `sides_of`). Background: the median of the
    outer faces.
    Raises InputError where nothing is left.
    """
    if side == "whole" and labels is None:
        return brain
    keep = np.ones(brain.grid.shape, bool)
    if side != "whole":
        assert plane is not None
        distance = plane.distance(brain.grid.points_mm()).reshape(brain.grid.shape)
        if labels is not None:
            told = sides_of(labels, named)
            distance = np.where(told == 0, distance, told)
        keep = distance > 0 if side == "left" else distance < 0
    if labels is not None:
        keep &= labels.data[0].cpu().numpy() != 0
    kept = torch.from_numpy(keep).to(brain.data.device)
    out = torch.stack([torch.where(kept, channel, _outside(channel)) for channel in brain.data])
    if bool(out.amin() == out.amax()):
        what = "brain" if side == "whole" else f"{side} hemisphere"
        raise InputError(f"{brain.name}: shows no {what}; choose another --hemisphere or scan.")
    name = brain.name if side == "whole" else f"{brain.name}, {side} half"
    return replace(brain, data=out, name=name, path=None)


def _outside(channel: torch.Tensor) -> torch.Tensor:
    """Median of the outer faces."""
    axes = [axis for axis, n in enumerate(channel.shape) if n > 1]
    return torch.cat([channel.select(a, k).reshape(-1) for a in axes for k in (0, -1)]).median()
