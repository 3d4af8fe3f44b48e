"""Points in physical space: (n, d) float64 arrays of LPS mm, checked at the door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry.grid import Grid, apply_matrix


def as_points(points: object, dim: int, name: str = "points") -> np.ndarray:
    """`points` as a finite float64 (n, dim) array; raises InputError naming `name` otherwise."""
    try:
        array = np.atleast_2d(np.asarray(points, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: coordinates must be numbers.") from error
    if array.size == 0:
        return array.reshape(0, dim)
    if array.ndim != 2 or array.shape[1] != dim:
        raise InputError(f"{name}: expected {dim} coordinates each, got shape {array.shape}.")
    if not np.all(np.isfinite(array)):
        raise InputError(f"{name}: coordinates must be finite numbers.")
    return array


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Corresponding points: fixed_mm[i] and moving_mm[i] show the same place.

    fixed_mm, moving_mm: (n, d) LPS mm; weights: (n,) >= 0, default 1 each; names: n of them.
    Raises InputError for no points, unequal counts, or weights that are negative or all zero.
    """

    fixed_mm: np.ndarray
    moving_mm: np.ndarray
    weights: np.ndarray | None = None
    name: str = "landmarks"
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.fixed_mm) != len(self.moving_mm):
            raise InputError(
                f"{self.name}: {len(self.fixed_mm)} fixed and {len(self.moving_mm)} moving points; "
                "every landmark needs both."
            )
        if len(self.fixed_mm) == 0:
            raise InputError(f"{self.name}: holds no landmarks; give at least one.")
        weights = np.ones(len(self.fixed_mm)) if self.weights is None else self.weights
        weights = np.asarray(weights, dtype=np.float64)
        if weights.shape != (len(self.fixed_mm),):
            raise InputError(
                f"{self.name}: {weights.size} weights for {len(self.fixed_mm)} points."
            )
        if not np.all(weights >= 0) or not weights.sum() > 0 or not np.all(np.isfinite(weights)):
            raise InputError(f"{self.name}: weights must be >= 0 and not all zero.")
        object.__setattr__(self, "weights", weights)
        if self.names is not None and len(self.names) != len(weights):
            raise InputError(f"{self.name}: {len(self.names)} names for {len(weights)} points.")

    def to_dict(self) -> dict[str, Any]:
        """The points themselves as plain values: few, and a replay needs them exactly."""
        kept = {"fixed_mm": self.fixed_mm, "moving_mm": self.moving_mm, "weights": self.weights}
        plain = {key: np.asarray(value).tolist() for key, value in kept.items()}
        return plain | ({"names": list(self.names)} if self.names else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Landmarks:
        """What `to_dict` gave."""
        fixed, moving, weights = (
            np.array(data[key], dtype=np.float64) for key in ("fixed_mm", "moving_mm", "weights")
        )
        names = tuple(data["names"]) if "names" in data else None
        return cls(fixed, moving, weights, names=names)

    def check_inside(self, fixed: Grid, moving: Grid) -> None:
        """Raise InputError unless every point lies in the field of view of its image."""
        for role, points, grid in (
            ("fixed", self.fixed_mm, fixed),
            ("moving", self.moving_mm, moving),
        ):
            voxels = apply_matrix(grid.matrix("mm", "index"), points)
            outside = np.any((voxels < -0.5) | (voxels > np.asarray(grid.size) - 0.5), axis=1)
            if outside.any():
                first = int(outside.nonzero()[0][0])
                place = ", ".join(f"{x:.1f}" for x in points[first])
                raise InputError(
                    f"{self.name}: {int(outside.sum())} {role} point(s) lie outside the {role} "
                    f"image, the first at ({place}) mm; coordinates are LPS mm (RAS has the first "
                    "two negated)."
                )
