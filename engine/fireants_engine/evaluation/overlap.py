"""Agreement of two label maps: Dice, target overlap and their companions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DENSE_RANGE = 1 << 20  # labels spanning less than this are counted without sorting


@dataclass(frozen=True)
class LabelOverlap:
    """Voxel counts per label of a moved map S and a fixed map T, and the overlap measures made of them.

    All arrays have one entry per label, shape ``(labels,)``, in ascending order of ``labels``: the labels present
    in either map, ignored ones left out. Measures are without unit; one whose denominator is empty is NaN.

    Source: Klein et al. 2009, as written in the FireANTs thesis, Eq. B.2 and B.4.
    """

    labels: NDArray[np.int64]
    fixed_voxels: NDArray[np.int64]
    moved_voxels: NDArray[np.int64]
    common_voxels: NDArray[np.int64]

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice, or mean overlap: ``2 |S n T| / (|S| + |T|)`` (B.2). 0 for a label that one of the maps lacks."""
        return _ratio(2 * self.common_voxels, self.fixed_voxels + self.moved_voxels)

    @property
    def target_overlap(self) -> NDArray[np.float64]:
        """``|S n T| / |T|`` (B.2). NaN for a label that the fixed map lacks."""
        return _ratio(self.common_voxels, self.fixed_voxels)

    @property
    def false_negatives(self) -> NDArray[np.float64]:
        """``|T \\ S| / |T|`` (B.4). NaN for a label that the fixed map lacks."""
        return _ratio(self.fixed_voxels - self.common_voxels, self.fixed_voxels)

    @property
    def false_positives(self) -> NDArray[np.float64]:
        """``|S \\ T| / |S|`` (B.4). NaN for a label that the moved map lacks."""
        return _ratio(self.moved_voxels - self.common_voxels, self.moved_voxels)

    @property
    def volume_similarity(self) -> NDArray[np.float64]:
        """``2 (|S| - |T|) / (|S| + |T|)`` (B.4), in -2..2; positive where the moved label is too large."""
        return _ratio(2 * (self.moved_voxels - self.fixed_voxels), self.fixed_voxels + self.moved_voxels)

    @property
    def in_fixed(self) -> NDArray[np.bool_]:
        """Which labels the fixed map has: the ones that the means are taken over."""
        return self.fixed_voxels > 0

    def mean_dice(self) -> float:
        """``(1/N) sum_r MO_r`` over the N labels of the fixed map (B.3).

        A label of the fixed map that the moved one lacks counts as 0. A label that only the moved map has is no part
        of the mean: it still lowers the Dice of the labels it covers.

        Raises ValueError when the fixed map has no label.
        """
        return self._mean(self.dice)

    def mean_target_overlap(self) -> float:
        """``(1/N) sum_r TO_r`` over the N labels of the fixed map (B.3); absent labels as in `mean_dice`."""
        return self._mean(self.target_overlap)

    def _mean(self, measure: NDArray[np.float64]) -> float:
        if not self.in_fixed.any():
            raise ValueError("the fixed label map has no label besides the ignored ones, so there is no mean")
        return float(measure[self.in_fixed].mean())


def label_overlap(
    fixed: NDArray[np.integer], moved: NDArray[np.integer], ignore: Collection[int] = (0,)
) -> LabelOverlap:
    """Counts every label of two label maps in one pass.

    Parameters: ``fixed`` (T) and ``moved`` (S), integer arrays of one shape on one grid, ``moved`` being the moving
    labels after warping; ``ignore``, labels left out, by default the background 0.

    Raises TypeError for arrays that are not of integers, ValueError for different shapes or empty arrays.
    """
    fixed, moved = np.asarray(fixed), np.asarray(moved)
    for name, array in (("fixed", fixed), ("moved", moved)):
        if not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"{name} labels must be integers, not {array.dtype}; round them first")
    if fixed.shape != moved.shape:
        raise ValueError(f"label maps must lie on one grid: fixed has shape {fixed.shape}, moved {moved.shape}")
    if fixed.size == 0:
        raise ValueError("label maps are empty")

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
    """Dice (Eq. B.2) of each label of the fixed map, by label. Arguments and errors as in `label_overlap`."""
    overlap = label_overlap(fixed, moved, ignore)
    pairs = zip(overlap.labels[overlap.in_fixed], overlap.dice[overlap.in_fixed], strict=True)
    return {int(label): float(value) for label, value in pairs}


def mean_dice(fixed: NDArray[np.integer], moved: NDArray[np.integer], ignore: Collection[int] = (0,)) -> float:
    """Mean Dice (Eq. B.3) over the labels of the fixed map; see `LabelOverlap.mean_dice` for absent labels."""
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
    return labels, *(np.searchsorted(labels, array.astype(np.int64)) for array in (fixed, moved))


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    result = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)
