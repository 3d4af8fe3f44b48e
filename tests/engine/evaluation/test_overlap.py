"""Overlap measures against counts made by hand and against their definition voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest

from fireants_engine.errors import InputError
from fireants_engine.evaluation import dice_per_label, label_overlap, mean_dice

# label 1: |T| 4, |S| 2, common 2; label 2: |T| 2, |S| 3, common 1; label 5 only fixed; 7 only moved
FIXED = np.array([1, 1, 1, 1, 2, 2, 5, 0, 0, 0])
MOVED = np.array([1, 1, 2, 2, 2, 0, 0, 7, 0, 0])


def test_measures_equal_hand_counts() -> None:
    result = label_overlap(FIXED, MOVED)
    np.testing.assert_array_equal(result.labels, [1, 2, 5, 7])
    np.testing.assert_array_equal(result.fixed_voxels, [4, 2, 1, 0])
    np.testing.assert_array_equal(result.moved_voxels, [2, 3, 0, 1])
    np.testing.assert_array_equal(result.common_voxels, [2, 1, 0, 0])
    np.testing.assert_allclose(result.dice, [4 / 6, 2 / 5, 0, 0])
    np.testing.assert_allclose(result.target_overlap, [0.5, 0.5, 0, np.nan])
    np.testing.assert_allclose(result.false_negatives, [0.5, 0.5, 1, np.nan])
    np.testing.assert_allclose(result.false_positives, [0, 2 / 3, np.nan, 1])
    np.testing.assert_allclose(result.volume_similarity, [-4 / 6, 2 / 5, -2, 2])


def test_means_count_absent_fixed_labels_as_zero_and_skip_labels_of_the_moved_map_only() -> None:
    assert mean_dice(FIXED, MOVED) == pytest.approx((4 / 6 + 2 / 5 + 0) / 3)
    assert label_overlap(FIXED, MOVED).mean_target_overlap() == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert dice_per_label(FIXED, MOVED) == pytest.approx({1: 4 / 6, 2: 2 / 5, 5: 0})


@pytest.mark.parametrize("offset", [0, -4, 3_000_000_000])
@pytest.mark.parametrize("stretch", [1, 1_000_003])
def test_agrees_with_the_definition_for_any_label_values(offset: int, stretch: int) -> None:
    rng = np.random.default_rng(3)
    values = np.arange(9, dtype=np.int64) * stretch + offset
    fixed, moved = (values[rng.integers(0, 9, (5, 6, 7))] for _ in range(2))
    result = label_overlap(fixed, moved, ignore=())
    np.testing.assert_array_equal(result.labels, values)
    for label, dice in zip(result.labels, result.dice, strict=True):
        target, source = fixed == label, moved == label
        assert dice == pytest.approx(2 * (target & source).sum() / (target.sum() + source.sum()))


def test_identical_maps_score_one_and_types_may_differ() -> None:
    assert mean_dice(FIXED.astype(np.uint8), FIXED.astype(np.int64)) == 1


def test_ignored_labels_leave_the_mean() -> None:
    assert mean_dice(FIXED, MOVED, ignore=(0, 5)) == pytest.approx((4 / 6 + 2 / 5) / 2)


def test_inputs_are_left_as_they_were() -> None:
    fixed, moved = FIXED.copy(), MOVED.copy()
    label_overlap(fixed, moved)
    np.testing.assert_array_equal(fixed, FIXED)
    np.testing.assert_array_equal(moved, MOVED)


@pytest.mark.parametrize(
    ("fixed", "moved", "message"),
    [
        (FIXED.astype(float), MOVED, "fixed labels must be integers"),
        (FIXED, MOVED > 0, "moved labels must be integers"),
        (FIXED, MOVED[:-1], "one grid"),
        (FIXED[:0], MOVED[:0], "empty"),
        (FIXED * 0, MOVED, "no label"),
    ],
)
def test_bad_input_is_named(fixed: np.ndarray, moved: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mean_dice(fixed, moved)
