"""Pairs of a set of sections: which are wanted, and what one is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import apply_matrix
from fireants_engine.ops.jacobian import strict_fold_mask
from fireants_engine.pipeline import Outcome
from fireants_engine.workflows.section_fit import local_fit
from fireants_engine.workflows.section_sync import Measured
from fireants_engine.workflows.sections import Match

PairsOf = Literal["chain", "star", "all"]
"""Each with the next, each with the reference, each with each."""
DOUBTFUL = 10.0
"""Factor on the weight of a pair that has failed, or that the others speak against."""
_POINTS = 400
_FOLDED = 1e-3
"""Share of the warp's pixels that may fold."""
_UNSURE = 0.1
"""Of the best score: where another orientation is nearer than this, a pair is doubtful."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two sections of a set. match: fixed mm -> moving mm; score: their fit (`local_fit`), higher
    is better; weight: what a path pays for it, `score^-2`, `DOUBTFUL` times that where it is
    doubtful (diverged, folded, another orientation scores nearly as well) or an outlier (the
    other pairs speak against it).

    off_mm, off_after_mm: root mean square distance, in the reference, between where this pair and
    where the shortest paths of the first weights (off_mm), the final maps (off_after_mm) say that
    tissue belongs. notes: for a person to read.
    """

    fixed: str
    moving: str
    match: Match
    score: float
    weight: float
    off_mm: float = float("nan")
    off_after_mm: float = float("nan")
    doubtful: bool = False
    outlier: bool = False
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.fixed} - {self.moving}"


def pairs_of(
    names: Sequence[str], reference: str, pairs: PairsOf | Sequence[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """(fixed, moving) of every pair that is wanted; raises InputError.

    Each with each other but for those named twice; all sections have to be connected.
    """
    if isinstance(pairs, str):
        match pairs:
            case "chain":
                found = list(pairwise(names))
            case "star":
                found = [(reference, name) for name in names if name != reference]
            case "all":
                found = list(combinations(names, 2))
            case _:
                raise InputError(f"pairs {pairs!r}: choose chain, star or all, or list the pairs.")
    else:
        found = [(a, b) for a, b in pairs]
    found = [(b, a) if b == reference else (a, b) for a, b in found]
    for a, b in found:
        if a == b or a not in names or b not in names:
            raise InputError(f"There is no pair {a} - {b}; the sections are {', '.join(names)}.")
    unique = {frozenset(pair): pair for pair in found}
    _must_connect(names, reference, list(unique.values()))
    return tuple(unique.values())


def _must_connect(names: Sequence[str], reference: str, pairs: Sequence[tuple[str, str]]) -> None:
    import networkx as nx

    graph = nx.Graph(list(pairs))
    graph.add_nodes_from(names)
    away = [name for name in names if not nx.has_path(graph, reference, name)]
    if away:
        raise InputError(
            f"{' and '.join(away)}: no pair connects it with the reference {reference}; add one."
        )


def pair_of(a: str, b: str, found: Match) -> Pair:
    """A pair with its score and its weight."""
    score = local_fit(found.fixed, found.moving, found.result.forward)
    notes, doubtful = list(found.notes), False
    if found.result.outcome is Outcome.DIVERGED:
        notes.append("The registration diverged.")
        doubtful = True
    warp = found.result.warp_field
    folded = 0.0 if warp is None else float(strict_fold_mask(warp.u).float().mean())
    if folded > _FOLDED:
        notes.append(f"{folded:.1%} of the warp folds.")
        doubtful = True
    margin = found.margin
    doubtful |= margin is not None and margin < _UNSURE * abs(found.candidates[0].score)
    weight = (DOUBTFUL if doubtful else 1.0) / max(score, 1e-3) ** 2
    return Pair(a, b, found, score, weight, doubtful=doubtful, notes=tuple(notes))


def measured(pair: Pair) -> Measured:
    """Places all over the tissue of the fixed section, and in the moving one."""
    fixed, moving = pair.match.fixed, pair.match.moving
    tissue = fixed.tissue
    rows = np.argwhere(tissue.mask.numpy()).astype(np.float64)
    rows = rows[:: max(1, len(rows) // _POINTS)]
    own = apply_matrix(tissue.image.grid.matrix("voxel", "mm"), rows)
    other = pair.match.result.forward(own)
    there = np.rint(apply_matrix(moving.tissue.image.grid.matrix("mm", "voxel"), other)).astype(int)
    shape = np.array(moving.tissue.mask.shape)
    inside = ((there >= 0) & (there < shape)).all(axis=1)
    row, column = there.clip(0, shape - 1).T
    inside &= moving.tissue.mask.numpy()[row, column]
    if inside.sum() >= 20:  # fewer tell no affine map
        own, other = own[inside], other[inside]
    return Measured(pair.fixed, pair.moving, own, other, 1 / pair.weight)
