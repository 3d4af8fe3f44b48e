"""Affine maps that agree with most pairs, whatever a wrong one says."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from fireants_engine.transforms import Affine
from fireants_engine.workflows.section_sync import Measured, synchronise

NAMES = ("a", "b", "c", "d", "e")
TRUE = {
    name: Affine.about(
        np.array([[np.cos(k), -np.sin(k)], [np.sin(k), np.cos(k)]]) @ np.diag([(-1.0) ** k, 1.1]),
        np.array([3.0 * k, -k]), np.zeros(2),
    )
    for k, name in enumerate(NAMES)
}  # fmt: skip
"""Base mm -> mm of the section."""
BASE = np.random.default_rng(0).uniform(-20, 20, (50, 2))


def measured(a: str, b: str, wrong: Affine | None = None) -> Measured:
    own, other = TRUE[a](BASE), TRUE[b](BASE)
    return Measured(a, b, own, other if wrong is None else wrong(other))


def worst(affines: dict[str, Affine]) -> float:
    """mm in the reference."""
    at = TRUE["a"](BASE)
    return max(float(np.abs(affines[name](TRUE[name](BASE)) - at).max()) for name in NAMES)


@pytest.mark.parametrize("pairs", [list(combinations(NAMES, 2)), list(pairwise(NAMES))])
def test_exact_pairs_give_exact_maps(pairs) -> None:
    found = synchronise(NAMES, "a", [measured(*pair) for pair in pairs], 100.0)
    assert worst(found.affines) < 1e-6
    assert found.off_mm.max() < 1e-6
    assert not found.outliers.any()


@pytest.mark.parametrize(
    "wrong",
    [
        Affine(np.diag([-1.0, 1.0, 1.0])),
        Affine(np.diag([-1.0, -1.0, 1.0])),
        Affine.about(np.eye(2), np.array([8.0, 0.0]), np.zeros(2)),
    ],
)
def test_wrong_pairs_have_no_say(wrong: Affine) -> None:
    bad = {("a", "e"), ("b", "c")}
    pairs = [measured(*p, wrong=wrong if p in bad else None) for p in combinations(NAMES, 2)]
    found = synchronise(NAMES, "a", pairs, 100.0)
    assert worst(found.affines) < 0.01
    assert {(p.fixed, p.moving) for p, out in zip(pairs, found.outliers, strict=True) if out} == bad


def test_what_is_off_by_chance_is_shared() -> None:
    rng = np.random.default_rng(3)
    shifts = {p: rng.normal(size=2) for p in combinations(NAMES, 2)}
    pairs = []
    for (a, b), shift in shifts.items():
        exact = measured(a, b)
        pairs.append(Measured(a, b, exact.own, exact.other + shift))
    found = synchronise(NAMES, "a", pairs, 100.0)
    alone = max(float(np.linalg.norm(shifts["a", name])) for name in NAMES[1:])
    assert worst(found.affines) < alone
    assert not found.outliers.any()


def test_a_pair_in_no_loop_cannot_be_judged() -> None:
    flipped = Affine(np.diag([-1.0, 1.0, 1.0]))
    pairs = [measured("a", "b"), measured("b", "c"), measured("a", "c"),
             measured("c", "d", wrong=flipped), measured("c", "e")]  # fmt: skip
    found = synchronise(NAMES, "a", pairs, 100.0)
    assert not found.outliers.any()
    assert found.off_mm.max() < 1e-6
