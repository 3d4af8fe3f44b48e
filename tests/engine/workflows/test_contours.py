"""H4 in small: outlines give the affine map, either way round, also torn ones (LESSONS 22)."""

from __future__ import annotations

import numpy as np
import pytest

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.transforms import Affine
from fireants_engine.workflows import contours
from tests.engine.workflows.section_phantom import radius

SIDE = 300
GRID = Grid.identity((SIDE, SIDE), 0.5)
MIDDLE = GRID.centre_mm
RADIUS = 0.2 * SIDE * 0.5


def region(seed: int, affine: Affine | None = None) -> np.ndarray:
    """(Y, X) bool: a blob of its own for each seed, carried by `affine` (base mm -> mm)."""
    points = GRID.points_mm()
    base = (points if affine is None else affine.inverse()(points)) - MIDDLE
    angle = np.arctan2(base[:, 1], base[:, 0])
    return (np.hypot(*base.T) < RADIUS * radius(angle, seed)).reshape(SIDE, SIDE)


def mapping(seed: int, mirrored: bool) -> Affine:
    """Condition number up to 1.6, any turn."""
    rng = np.random.default_rng(seed)
    c = np.sqrt(rng.uniform(1.0, 1.6))
    before, after = (contours.turn(t, False) for t in rng.uniform(0, 360, 2))
    linear = after @ np.diag([-c if mirrored else c, 1 / c]) @ before
    return Affine.about(linear, rng.uniform(-5, 5, 2), MIDDLE)


def bitten(mask: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Without a round bite out of the border of `share` of the area."""
    rows, columns = np.nonzero(mask)
    turn = np.random.default_rng(seed).uniform(0, 2 * np.pi)
    k = np.argmax(np.cos(turn) * columns + np.sin(turn) * rows)
    away = np.hypot(rows - rows[k], columns - columns[k])
    out = mask.copy()
    lost = away <= np.sort(away)[int(share * len(away))]
    out[rows[lost], columns[lost]] = False
    return out


def errors(found: Affine, true: Affine, mask: np.ndarray) -> np.ndarray:
    """Of the map over the whole region, in pixels."""
    points = GRID.points_mm()[mask.ravel()]
    return np.linalg.norm(found(points) - true(points), axis=1) / 0.5


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("seed", [100, 102])
def test_affine_maps_of_whole_and_torn_regions(seed: int, mirrored: bool) -> None:
    true = mapping(seed, mirrored)
    fixed, moved = region(seed), region(seed, true)
    first = contours.outline_of(fixed, GRID)
    best, *_ = contours.fits(first, contours.outline_of(moved, GRID))
    assert best.mirrored == mirrored
    whole = errors(best.affine, true, fixed)
    assert whole.mean() <= 0.5
    assert whole.max() <= 1.5
    torn = contours.outline_of(bitten(moved, 0.1, seed), GRID)
    best, *_ = contours.fits(first, torn)
    assert best.mirrored == mirrored
    assert errors(best.affine, true, fixed).mean() * 0.5 <= 0.02 * first.diameter


def test_whitening_follows_affine_maps() -> None:
    true = mapping(7, True)
    fixed, moving = (contours.outline_of(region(5, t), GRID) for t in (None, true))
    linear = true.matrix[:2, :2]
    assert linear @ fixed.root @ fixed.root @ linear.T == pytest.approx(
        moving.root @ moving.root, rel=0.02, abs=0.02 * moving.root.max() ** 2
    )
    assert true(fixed.centre[None])[0] == pytest.approx(moving.centre, abs=0.2)


def test_one_handedness_only() -> None:
    outline = contours.outline_of(region(5), GRID)
    for wanted in (False, True):
        found = contours.fits(outline, outline, mirrored=wanted)
        assert {one.mirrored for one in found} == {wanted}


def test_candidates_are_ranked_and_apart() -> None:
    outline = contours.outline_of(region(5), GRID)
    found = contours.fits(outline, outline, mirrored=False)
    assert 1 <= len(found) <= contours.KEPT
    assert [one.distance for one in found] == sorted(one.distance for one in found)
    assert found[0].distance < 1e-3


def test_round_outlines_do_not_tell_the_turn() -> None:
    points = GRID.points_mm() - MIDDLE
    disc, larger = (
        contours.outline_of((np.hypot(*points.T) < r).reshape(SIDE, SIDE), GRID) for r in (30, 33)
    )
    blob, turned = (contours.outline_of(region(100, t), GRID) for t in (None, mapping(3, False)))
    for one, other, is_round in ((disc, disc, True), (disc, larger, True), (blob, turned, False)):
        assert contours.is_round(contours.turn_scores(one, other, False)[1]) == is_round


def test_hardly_any_tissue() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[5:8, 5:8] = True
    with pytest.raises(InputError, match="hardly any pixels"):
        contours.outline_of(mask, GRID)
