"""Landmarks are found in the fixed image through maps that are known only point by point."""

from __future__ import annotations

import numpy as np

from napari_fireants._following import Follower, settled
from napari_fireants._landmarks import Row

RNG = np.random.default_rng(0)
LINEAR = np.array([[0.9, -0.3, 0.1], [0.2, 1.1, 0.0], [0.0, 0.1, 0.8]])


def affine(points: np.ndarray) -> np.ndarray:
    return points @ LINEAR.T + [10.0, -40, 5]


def bent(points: np.ndarray) -> np.ndarray:
    """Smooth and invertible: the displacement's slope stays below 0.5."""
    return affine(points) + 6 * np.sin(points[:, ::-1] / 15)


def rows_of(transform, count: int = 6, apart: float = 0.0) -> tuple[list[Row], np.ndarray]:
    """Landmarks whose moving places are seen at the second value."""
    seen = RNG.uniform(-60, 60, (count, 3))
    fixed = seen + apart * RNG.normal(size=seen.shape)
    places = zip(fixed.tolist(), transform(seen).tolist(), strict=True)
    return [Row(k, str(k), tuple(q), tuple(p)) for k, (q, p) in enumerate(places)], seen


def test_an_affine_map_is_met_with_one_answer() -> None:
    rows, seen = rows_of(affine, apart=20)
    follower = Follower()
    points = follower.ask(rows)
    assert points is not None
    mapped = follower.take(affine(points))
    np.testing.assert_allclose([mapped[row.key] for row in rows],
                               affine(np.array([row.fixed_mm for row in rows])))  # fmt: skip
    np.testing.assert_allclose([follower.seen(row) for row in rows], seen, atol=1e-6)


def test_a_warp_is_met_after_some() -> None:
    rows, seen = rows_of(bent, apart=8)
    follower, mapped = settled(rows, bent)
    np.testing.assert_allclose([follower.seen(row) for row in rows], seen, atol=0.02)
    assert sorted(mapped) == [row.key for row in rows]
    x = seen[2] + [0.2, -0.1, 0.1]
    np.testing.assert_allclose(follower.forward(x, key=2), bent(x[None])[0], atol=0.02)
    np.testing.assert_allclose(follower.forward(x), bent(x[None])[0], atol=0.02)


def test_a_map_that_changes_is_followed() -> None:
    """The map grows over forty previews; the places seen stay right but for one step of it."""
    rows, _ = rows_of(bent, apart=5)
    follower = Follower()
    for k in range(40):
        share = (k + 1) / 40

        def now(points: np.ndarray, share: float = share) -> np.ndarray:
            return (1 - share) * points + share * bent(points)

        points = follower.ask(rows)
        assert points is not None
        follower.take(now(points))
        if k > 3:
            places = np.array([follower.seen(row) for row in rows])
            gap = np.linalg.norm(now(places) - [row.moving_mm for row in rows], axis=1)
            assert gap.max() < 1.0, k


def test_answers_find_their_questions() -> None:
    """Answers come late and without a name; a deleted landmark must not shift the others."""
    rows, _ = rows_of(affine)
    follower = Follower()
    first, second = follower.ask(rows), follower.ask(rows[1:] + rows[:1])
    assert first is not None
    assert second is not None
    assert len(first) != len(second)
    late = follower.take(affine(first))
    for row in rows:
        np.testing.assert_allclose(late[row.key], affine(np.array([row.fixed_mm]))[0])
    assert follower.take(np.zeros((3, 3))) == {}


def test_half_pairs_and_no_pairs() -> None:
    half = [Row(1, "a", (1.0, 2.0, 3.0)), Row(2, "b", None, (4.0, 5.0, 6.0))]
    follower, mapped = settled(half, affine)
    assert list(mapped) == [1]
    assert follower.seen(half[0]) is None
    seen = follower.seen(half[1])
    assert seen is not None
    np.testing.assert_allclose(affine(np.array([seen])), [half[1].moving_mm], atol=1e-6)
    assert Follower().ask([]) is None
    assert Follower().forward((0.0, 0.0, 0.0)) is None
