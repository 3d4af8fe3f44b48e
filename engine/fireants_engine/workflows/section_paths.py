"""One map from the paths of a graph: the shortest, or the middle of those that are nearly so."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from fireants_engine.geometry import Grid
from fireants_engine.transforms import (
    Affine,
    Chain,
    Displacement,
    Transform,
    affine_factor,
    sampled,
)
from fireants_engine.workflows.result import at_full_resolution
from fireants_engine.workflows.spaces import Route, SpaceGraph

_FEWEST = 3
LONGER = 3.0
"""Times the weight of the shortest path that another may have to count beside it."""


def shortest(graph: SpaceGraph, reference: str, grid: Grid) -> dict[str, Transform]:
    """Of every space the map reference mm -> its mm along the shortest path: one warp on `grid`,
    which is the reference's, then one affine map."""
    return {
        name: Affine.identity(grid.dim)
        if name == reference
        else at_full_resolution(graph.transform(reference, name), grid)
        for name in graph.spaces
    }


def averaged(graph: SpaceGraph, reference: str, grid: Grid) -> dict[str, Transform]:
    """As `shortest`, but at every place the middle of what several paths say.

    Those are the shortest, and the direct map and all through one other space that weigh at most
    `LONGER` times as much. The middle is the median of each coordinate in the reference, in which
    errors of pairs average out and a wrong one counts little. Of fewer than three nobody can tell
    which is wrong, and the shortest is kept.
    """
    found = shortest(graph, reference, grid)
    points = grid.points_mm()
    for name, first in found.items():
        ways = _ways(graph, reference, name)
        if name == reference or len(ways) < _FEWEST:
            continue
        back = affine_factor(first).inverse()
        places = []
        for way in ways:
            parts = tuple(part for a, b in pairwise(way) for part in graph.direct(a, b))
            route = Route(way, parts, (grid.dim, grid.dim))
            places.append(back(sampled(route.transform)(points)))
        middle = np.median(np.stack(places), axis=0)
        shift = (middle - points).reshape(*grid.shape, grid.dim)
        warp = Displacement.from_mm(shift, grid)
        found[name] = at_full_resolution(Chain([warp, back.inverse()]), grid)
    return found


def _ways(graph: SpaceGraph, start: str, end: str) -> list[tuple[str, ...]]:
    """The shortest path, and other direct or two-step ones that weigh little more."""
    weights = {frozenset((e.fixed, e.moving)): e.weight for e in graph.edges}

    def weight(way: tuple[str, ...]) -> float:
        return sum(weights.get(frozenset(step), np.inf) for step in pairwise(way))

    best = graph.path(start, end)
    others = [(start, end), *((start, via, end) for via in graph.spaces if via not in (start, end))]
    most = LONGER * weight(best)
    return [best, *(way for way in others if way != best and weight(way) <= most)]
