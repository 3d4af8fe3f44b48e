"""The order of a stack: one plane, one side and one distance for all of its sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.transforms import Affine
from fireants_engine.workflows.slices import Plane

_SIGMA = 1.4826
"""Standard deviations of a normal distribution per median absolute deviation."""
_TILT_DEG = 6.0
"""A section that is tilted by no more than this against the others is never an outlier."""
_MOST_DEG = 20.0
"""One that is tilted by more always is."""
_NEAR = 0.75
"""The same for its distance from its place in the order, in distances of two sections."""
_UNLIKE = 0.15
"""Share by which the distance that the places tell may differ from the one that is given."""
_MANY = 4
"""Sections from which on their places tell a distance."""


@dataclass(frozen=True, eq=False)
class Order:
    """Parallel planes through a volume, section number k on the k-th.

    frame: (3, 3) unit columns: two edges of the planes and their normal, in the direction in which
    the sections count up, right-handed; origin_mm: a point of plane 0; LPS. agreed: numbers of the
    sections that the planes are taken from; notes: sentences that a person should read.
    """

    frame: np.ndarray
    origin_mm: np.ndarray
    spacing_mm: float
    agreed: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def normal(self) -> np.ndarray:
        return self.frame[:, 2]

    @property
    def affine(self) -> Affine:
        """Stack mm (along both edges, along the normal from plane 0) -> volume mm, rigid."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.frame, self.origin_mm
        return Affine(matrix)

    def onto(self, affine: Affine, number: int, middle_mm: np.ndarray) -> Affine:
        """`affine` (section mm -> volume mm) with plane `number` in place of its own.

        Its in-plane map is projected along the normal: `middle_mm` of the section moves along it.
        """
        flat = np.eye(3) - np.outer(self.normal, self.normal)
        edges = flat @ affine.matrix[:3, :2]
        point = affine(middle_mm[None])[0]
        height = (self.origin_mm - point) @ self.normal + number * self.spacing_mm
        matrix = np.eye(4)
        matrix[:3, :2], matrix[:3, 2] = edges, self.normal
        matrix[:3, 3] = point + height * self.normal - matrix[:3, :3] @ middle_mm
        return Affine(matrix, middle_mm)


def fit_order(planes: Sequence[Plane | None], spacing_mm: float) -> Order:
    """The planes that most sections agree on; None: a section of unknown place.

    The side is that of the majority; the normal is the geometric median of its normals; heights
    along it are `h_0 +- k spacing_mm`, h_0 the median, with the sign that leaves less. Outliers
    (another side, a tilt or a height beyond three robust standard deviations) have no say.
    Raises InputError unless at least two sections, and more than half of those given, agree.
    """
    known = [k for k, plane in enumerate(planes) if plane is not None]
    given = [plane for plane in planes if plane is not None]
    if len(given) < 2:
        raise InputError(f"A stack needs two sections with a place, and {len(given)} has one.")
    normals = np.stack([plane.normal for plane in given])
    main = np.linalg.svd(normals)[2][0]
    side = normals @ main > 0
    if 2 * side.sum() < len(side):
        side, main = ~side, -main
    normal = _median_direction(normals[side], main)
    heights = np.stack([plane.point_mm for plane in given]) @ normal
    numbers = np.array(known, dtype=float)
    sign, base = _line(numbers[side], heights[side], spacing_mm)
    off = np.abs(heights - base - sign * spacing_mm * numbers)
    tilt = np.degrees(np.arccos(np.clip(normals @ normal, -1, 1)))
    good = side & (off <= _limit(off[side], _NEAR * spacing_mm))
    good &= tilt <= min(_MOST_DEG, _limit(tilt[side], _TILT_DEG))
    if good.sum() < 2 or 2 * good.sum() <= len(given):
        raise InputError(
            f"Only {good.sum()} of {len(given)} sections agree on one plane and their order; "
            "check the order and the distance of the sections, or give where some of them lie."
        )
    base = float(np.median((heights - sign * spacing_mm * numbers)[good]))
    agreed = tuple(np.array(known)[good].tolist())
    first = given[int(np.flatnonzero(good)[0])]
    normal = sign * normal
    frame = _frame(normal, first.edges[:, 0])
    point = first.point_mm + (sign * base - first.point_mm @ normal) * normal
    return Order(frame, point, spacing_mm, agreed, _notes(numbers, heights, good, spacing_mm))


def _median_direction(normals: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Unit vector with the least sum of distances from `normals` (Weiszfeld)."""
    found = start
    for _ in range(50):
        weights = 1 / np.maximum(np.linalg.norm(normals - found, axis=1), 1e-4)
        found = weights @ normals
        found = found / np.linalg.norm(found)
    return found


def _line(numbers: np.ndarray, heights: np.ndarray, spacing_mm: float) -> tuple[float, float]:
    """Sign and start of the line of known slope that leaves least in the median."""
    tried = []
    for sign in (1.0, -1.0):
        rest = heights - sign * spacing_mm * numbers
        base = float(np.median(rest))
        tried.append((float(np.abs(rest - base).sum()), sign, base))
    _, sign, base = min(tried)
    return sign, base


def _limit(values: np.ndarray, least: float) -> float:
    return max(least, 3 * _SIGMA * float(np.median(values)))


def _frame(normal: np.ndarray, along: np.ndarray) -> np.ndarray:
    edge = along - (along @ normal) * normal
    edge = edge / np.linalg.norm(edge)
    return np.column_stack([edge, np.cross(normal, edge), normal])


def _notes(
    numbers: np.ndarray, heights: np.ndarray, good: np.ndarray, spacing_mm: float
) -> tuple[str, ...]:
    """Where the places scatter, or tell another distance (median of all slopes) than was given."""
    x, y = numbers[good], heights[good]
    sign, base = _line(x, y, spacing_mm)
    scatter = float(np.median(np.abs(y - base - sign * spacing_mm * x)))
    if scatter > spacing_mm:
        return (
            f"The sections, each found on its own, lie {scatter:.2f} mm from their places in the "
            f"order, more than the {spacing_mm:.2f} mm between two; look whether the stack as a "
            "whole is where it should be, and not the wrong way round.",
        )
    first, second = np.triu_indices(len(x), 1)
    if len(x) < _MANY:
        return ()
    slope = abs(float(np.median((y[second] - y[first]) / (x[second] - x[first]))))
    if abs(slope - spacing_mm) <= _UNLIKE * spacing_mm:
        return ()
    return (
        f"The sections lie {slope:.2f} mm apart where each is found on its own, not "
        f"{spacing_mm:.2f} mm; check the distance between them.",
    )
