"""Points in physical space: (n, d) float64 arrays of LPS mm, checked at the door."""

from __future__ import annotations

import numpy as np

from fireants_engine.errors import InputError


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
