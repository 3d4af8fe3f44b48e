"""Affine maps of many sections to one of them that agree best with all measured pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fireants_engine.transforms import Affine

_ROUNDS, _TREES = 60, 200
_NEAR = 2e-3
"""Of the diagonal: what pairs disagree by less than this is not told apart."""
_LOST = 0.05
"""Of the diagonal: a pair that disagrees by more counts as one that disagrees by this."""
_FAR = 3.0
"""Robust deviations by which a pair may disagree before it loses its say."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Corresponding points of two sections. own, other: (n, 2) mm of each; trust: above 0."""

    fixed: str
    moving: str
    own: np.ndarray
    other: np.ndarray
    trust: float = 1.0


@dataclass(frozen=True, eq=False)
class Synchronised:
    """affines: section mm -> reference mm; off_mm: (pairs,) root mean square by which each pair
    disagrees, in the reference; outliers: (pairs,) bool; scatter_mm: robust deviation of off_mm."""

    affines: dict[str, Affine]
    off_mm: np.ndarray
    outliers: np.ndarray
    scatter_mm: float


def synchronise(
    names: Sequence[str], reference: str, pairs: Sequence[Measured], diagonal_mm: float
) -> Synchronised:
    """Affine maps B of every section to the reference, B_reference the identity, that minimise

        sum_p trust_p rho(r_p),   r_p^2 = mean_k |B_i y_k - B_j T_p(y_k)|^2

    over the pairs p of i and j, T_p(y_k) what was measured, with Geman and McClure's
    `rho(r) = r^2 / (r^2 + s^2)`, s three robust deviations: one weight per pair, for a pair is
    right or wrong as a whole, by iteratively reweighted least squares. The start is that of the
    spanning trees, drawn at random, the trusted first, whose maps most pairs agree with: least
    squares or least distances over all pairs would shrink sections to a point where many are
    wrong. Every section has to be connected with the reference.
    """
    others = [name for name in names if name != reference]
    rows, wanted, of = _equations(others, reference, pairs)
    trust = np.array([pair.trust for pair in pairs])
    least = _NEAR * diagonal_mm
    found = _best_tree(others, reference, pairs, (rows, wanted, of), _LOST * diagonal_mm)
    off = _off(rows, wanted, of, found)
    looped = np.array([_in_loop(pairs, k) for k in range(len(pairs))])
    scale = least
    for _ in range(_ROUNDS):
        scatter = 1.4826 * float(np.median(off[looped])) if looped.any() else 0.0
        scale = max(least, scatter)
        weights = trust / (1 + (off / (_FAR * scale)) ** 2) ** 2
        root = np.sqrt(weights / weights.max())[of, None]
        found = np.linalg.lstsq(root * rows, root * wanted, rcond=None)[0]
        off = _off(rows, wanted, of, found)
    affines = {reference: Affine.identity(2)}
    for k, name in enumerate(others):
        affines[name] = Affine(np.vstack([found[3 * k : 3 * k + 3].T, [0.0, 0.0, 1.0]]))
    return Synchronised(affines, off, looped & (off > 2 * _FAR * scale), scale)


def _equations(
    others: Sequence[str], reference: str, pairs: Sequence[Measured]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows `B_i y - B_j z = 0`, the reference's part on the right, and the pair of each row; those
    of one pair weigh together as much as those of another."""
    blocks, wanted, of = [], [], []
    for number, pair in enumerate(pairs):
        block = np.zeros((len(pair.own), 3 * len(others)))
        right = np.zeros((len(pair.own), 2))
        for name, points, sign in ((pair.fixed, pair.own, 1.0), (pair.moving, pair.other, -1.0)):
            if name == reference:
                right -= sign * points
            else:
                at = 3 * others.index(name)
                block[:, at : at + 3] = sign * np.c_[points, np.ones(len(points))]
        share = 1 / np.sqrt(len(pair.own))
        blocks.append(share * block)
        wanted.append(share * right)
        of.append(np.full(len(pair.own), number))
    return np.concatenate(blocks), np.concatenate(wanted), np.concatenate(of)


def _off(rows: np.ndarray, wanted: np.ndarray, of: np.ndarray, found: np.ndarray) -> np.ndarray:
    """How far each pair is off, root mean square."""
    return np.sqrt(np.bincount(of, ((rows @ found - wanted) ** 2).sum(axis=1)))


def _best_tree(
    others: Sequence[str],
    reference: str,
    pairs: Sequence[Measured],
    equations: tuple[np.ndarray, np.ndarray, np.ndarray],
    most_mm: float,
) -> np.ndarray:
    """(3 n, 2) unknowns: the maps along a tree that the pairs contradict least, each by no more
    than `most_mm`."""
    import networkx as nx

    rng = np.random.default_rng(0)
    steps = {}
    for pair in pairs:
        steps[pair.fixed, pair.moving] = _fitted(pair.own, pair.other)
        steps[pair.moving, pair.fixed] = _fitted(pair.other, pair.own)
    trust = np.array([pair.trust for pair in pairs])
    best, least = np.zeros((3 * len(others), 2)), np.inf
    for draw in range(_TREES):
        chance = rng.exponential(size=len(pairs)) if draw else np.ones(len(pairs))
        graph = nx.Graph()
        for pair, length in zip(pairs, chance / trust, strict=True):
            graph.add_edge(pair.fixed, pair.moving, weight=length)
        tree = nx.minimum_spanning_tree(graph)
        maps = {reference: np.vstack([np.eye(2), np.zeros(2)])}
        for near, name in nx.bfs_edges(tree, reference):
            across = np.c_[steps[name, near], [0.0, 0.0, 1.0]]
            maps[name] = across @ maps[near]
        found = np.concatenate([maps[name] for name in others])
        cost = float(trust @ np.minimum(_off(*equations, found), most_mm))
        if cost < least:
            best, least = found, cost
    return best


def _fitted(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(3, 2) of `[x 1] M`, least squares."""
    return np.linalg.lstsq(np.c_[own, np.ones(len(own))], other, rcond=None)[0]


def _in_loop(pairs: Sequence[Measured], number: int) -> bool:
    """True where the two sections are connected without this pair, too."""
    import networkx as nx

    graph = nx.MultiGraph()
    graph.add_nodes_from((pairs[number].fixed, pairs[number].moving))
    graph.add_edges_from((p.fixed, p.moving) for k, p in enumerate(pairs) if k != number)
    return nx.has_path(graph, pairs[number].fixed, pairs[number].moving)
