"""Agreement of two label maps: Dice, target overlap and their companions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fireants_engine.errors import InputError

_DENSE_RANGE = 1 << 20  # labels spanning less than this are counted without sorting


@dataclass(frozen=True)
class LabelOverlap:
    """Voxels per label of a moved map S and a fixed map T, and the overlap measures made of them.

    All arrays have one entry per label, shape (labels,), in ascending order of `labels`: those
    present in either map, without the ignored ones. Measures have no unit; one whose denominator
    is empty is NaN.

    Source: Klein et al. 2009; FireANTs thesis, Eq. B.2 to B.4.
    """

    labels: NDArray[np.int64]
    fixed_voxels: NDArray[np.int64]
    moved_voxels: NDArray[np.int64]
    common_voxels: NDArray[np.int64]

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice or mean overlap, 2 |S ∩ T| / (|S| + |T|) (B.2); 0 for a label one map lacks."""
        return _ratio(2 * self.common_voxels, self.fixed_voxels + self.moved_voxels)

    @property
    def target_overlap(self) -> NDArray[np.float64]:
        """|S ∩ T| / |T| (B.2); NaN for a label the fixed map lacks."""
        return _ratio(self.common_voxels, self.fixed_voxels)

    @property
    def false_negatives(self) -> NDArray[np.float64]:
        """|T - S| / |T| (B.4); NaN for a label the fixed map lacks."""
        return _ratio(self.fixed_voxels - self.common_voxels, self.fixed_voxels)

    @property
    def false_positives(self) -> NDArray[np.float64]:
        """|S - T| / |S| (B.4); NaN for a label the moved map lacks."""
        return _ratio(self.moved_voxels - self.common_voxels, self.moved_voxels)

    @property
    def volume_similarity(self) -> NDArray[np.float64]:
        """2 (|S| - |T|) / (|S| + |T|) (B.4), -2 to 2; positive: the moved label is too large."""
        return _ratio(
            2 * (self.moved_voxels - self.fixed_voxels), self.fixed_voxels + self.moved_voxels
        )

    @property
    def in_fixed(self) -> NDArray[np.bool_]:
        """Which labels the fixed map has: the ones that the means are taken over."""
        return self.fixed_voxels > 0

    def mean_dice(self) -> float:
        """Mean of `dice` over the labels of the fixed map (B.3).

        A label of the fixed map that the moved one lacks counts as 0. A label that only the moved
        map has is no part of the mean; it still lowers the Dice of the labels it covers.

        Raises InputError when the fixed map has no label.
        """
        return self._mean(self.dice)

    def mean_target_overlap(self) -> float:
        """Mean of `target_overlap` (B.3); labels and errors as in `mean_dice`."""
        return self._mean(self.target_overlap)

    def _mean(self, measure: NDArray[np.float64]) -> float:
        if not self.in_fixed.any():
            raise InputError(
                "the fixed label map has no label left to average: give one with labels > 0"
            )
        return float(measure[self.in_fixed].mean())


def label_overlap(
    fixed: NDArray[np.integer], moved: NDArray[np.integer], ignore: Collection[int] = (0,)
) -> LabelOverlap:
    """Counts every label of two label maps in one pass.

    fixed (T), moved (S): integer arrays of one shape on one grid, `moved` being the moving labels
    after warping. ignore: labels left out, by default the background 0.

    Raises InputError for arrays that are not of integers, different shapes or empty arrays.
    """
    fixed, moved = np.asarray(fixed), np.asarray(moved)
    for name, array in (("fixed", fixed), ("moved", moved)):
        if not np.issubdtype(array.dtype, np.integer):
            raise InputError(f"{name} labels must be integers, not {array.dtype}; round them first")
    if fixed.shape != moved.shape:
        raise InputError(
            f"label maps must lie on one grid: fixed has shape {fixed.shape}, moved {moved.shape}"
        )
    if fixed.size == 0:
        raise InputError("label maps are empty")

    labels, fixed_codes, moved_codes = _encode(fixed.ravel(), moved.ravel())
    counts = [
        np.bincount(codes, minlength=labels.size)
        for codes in (fixed_codes, moved_codes, fixed_codes[fixed_codes == moved_codes])
    ]
    keep = (counts[0] + counts[1] > 0) & ~np.isin(labels, list(ignore))
    return LabelOverlap(labels[keep], *(count[keep].astype(np.int64) for count in counts))


def dice_per_label(
    fixed: NDArray[np.integer], moved: NDArray[np.integer], ignore: Collection[int] = (0,)
) -> dict[int, float]:
    """Dice (B.2) of each label of the fixed map; arguments and errors as in `label_overlap`."""
    overlap = label_overlap(fixed, moved, ignore)
    pairs = zip(overlap.labels[overlap.in_fixed], overlap.dice[overlap.in_fixed], strict=True)
    return {int(label): float(value) for label, value in pairs}


def mean_dice(
    fixed: NDArray[np.integer], moved: NDArray[np.integer], ignore: Collection[int] = (0,)
) -> float:
    """Mean Dice (B.3) over the labels of the fixed map, as `LabelOverlap.mean_dice` counts them."""
    return label_overlap(fixed, moved, ignore).mean_dice()


def _encode(
    fixed: NDArray[np.integer], moved: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Labels, and both arrays as indices into them."""
    low = min(int(fixed.min()), int(moved.min()))
    high = max(int(fixed.max()), int(moved.max()))
    if high - low < _DENSE_RANGE:
        return np.arange(low, high + 1), fixed.astype(np.int64) - low, moved.astype(np.int64) - low
    labels = np.union1d(fixed, moved).astype(np.int64)
    return labels, np.searchsorted(labels, fixed), np.searchsorted(labels, moved)


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    result = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)
