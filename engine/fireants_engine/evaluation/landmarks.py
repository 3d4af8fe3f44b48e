"""Target registration error of corresponding landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fireants_engine.errors import InputError


@dataclass(frozen=True)
class LandmarkError:
    """Distances in mm between landmarks that should coincide, shape (n,), and their summary."""

    distances_mm: NDArray[np.float64]

    @property
    def mean_mm(self) -> float:
        return float(self.distances_mm.mean())

    @property
    def median_mm(self) -> float:
        return float(np.median(self.distances_mm))

    @property
    def p95_mm(self) -> float:
        """95th percentile, linearly interpolated between landmarks."""
        return float(np.percentile(self.distances_mm, 95))


def target_registration_error(mapped_mm: ArrayLike, target_mm: ArrayLike) -> LandmarkError:
    """Distances |mapped_i - target_i| of corresponding points, in mm (TRE; thesis, B.3.2).

    mapped_mm: the fixed landmarks after the transform (fixed to moving); target_mm: the moving
    landmarks in the same order. Both (n, 2) or (n, 3), in mm and in one frame (LPS), not in voxels.

    Raises InputError for other shapes, no points, or coordinates that are not finite.
    """
    mapped, target = (np.asarray(points, dtype=np.float64) for points in (mapped_mm, target_mm))
    if mapped.ndim != 2 or mapped.shape[1] not in (2, 3) or mapped.shape != target.shape:
        shapes = f"{mapped.shape} and {target.shape}"
        raise InputError(f"landmarks must be two equal (n, 2) or (n, 3) arrays, not {shapes}")
    if len(mapped) == 0:
        raise InputError("there are no landmarks")
    if not (np.isfinite(mapped).all() and np.isfinite(target).all()):
        raise InputError("landmarks have coordinates that are NaN or infinite")
    return LandmarkError(np.linalg.norm(mapped - target, axis=1))
