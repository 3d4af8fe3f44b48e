"""A set of sections: pairs registered to each other, a graph of them, and one map for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from fireants_engine.errors import InputError, StoppedError
from fireants_engine.geometry import Image
from fireants_engine.geometry.planes import turn_deg_of
from fireants_engine.pipeline import Control, Event, Outcome
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Affine, Chain, Transform, affine_factor
from fireants_engine.workflows.registration import Execution
from fireants_engine.workflows.section_fit import local_fit
from fireants_engine.workflows.section_joint import joined
from fireants_engine.workflows.section_pairs import (
    DOUBTFUL,
    Pair,
    PairsOf,
    measured,
    pair_of,
    pairs_of,
)
from fireants_engine.workflows.section_paths import averaged, shortest
from fireants_engine.workflows.section_sync import Measured, Synchronised, synchronise
from fireants_engine.workflows.sections import (
    OTHER_DEG,
    Flip,
    Section,
    match,
    section_of,
    sections_recipe,
)
from fireants_engine.workflows.spaces import SpaceGraph

_WORSE = 0.02
"""Squared correlation by which the final map may fit less well than the direct pair untold."""


@dataclass(frozen=True, eq=False)
class SectionSet:
    """Sections and the map of each, reference mm -> section mm, as of a run whose fixed image is
    the reference.

    pairs: what was measured; graph: its shortest paths (weights after all loops are known); maps:
    the final ones; fits: (of the direct pair or None, of the final map) for each but the
    reference; diagonal_mm: of the reference's image.
    """

    reference: str
    sections: dict[str, Section]
    pairs: tuple[Pair, ...]
    graph: SpaceGraph
    maps: dict[str, Transform]
    fits: dict[str, tuple[float | None, float]]
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.sections)

    @property
    def diagonal_mm(self) -> float:
        return _diagonal(self.sections[self.reference])

    def transform(self, name: str) -> Transform:
        """Points of the reference to the section `name`, whose images it brings the other way."""
        if name not in self.maps:
            raise InputError(f"There is no section {name!r}; the set has {', '.join(self.names)}.")
        return self.maps[name]

    def between(self, a: str, b: str) -> Transform:
        """Points of section `a` to section `b`, through the reference."""
        return Chain([self.transform(a).inverse(), self.transform(b)])

    def path(self, name: str) -> tuple[str, ...]:
        """The names on the shortest way from the reference."""
        return self.graph.path(self.reference, name)

    def spaces(self) -> SpaceGraph:
        """The final maps as a graph: every section beside the reference."""
        found = _spaces(self.sections)
        for name in self.names:
            if name != self.reference:
                found = found.with_edge(self.reference, name, self.maps[name])
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "reference": self.reference,
            "notes": list(self.notes),
            "sections": [
                {
                    "name": name,
                    "path": list(self.path(name)),
                    "fit_direct": self.fits.get(name, (None, None))[0],
                    "fit": self.fits.get(name, (None, None))[1],
                    "mirrored": _mirrored(affine_factor(self.maps[name])),
                    "tissue": section.tissue.to_dict(),
                }
                for name, section in self.sections.items()
            ],
            "pairs": [self._of(pair) for pair in self.pairs],
        }

    def _of(self, pair: Pair) -> dict[str, Any]:
        off = {"before": pair.off_mm, "after": pair.off_after_mm}
        return {
            "fixed": pair.fixed,
            "moving": pair.moving,
            "score": pair.score,
            "margin": pair.match.margin,
            "weight": pair.weight,
            "doubtful": pair.doubtful,
            "outlier": pair.outlier,
            "disagreement_mm": {k: v if math.isfinite(v) else None for k, v in off.items()},
            "disagreement_share": {
                k: v / self.diagonal_mm if math.isfinite(v) else None for k, v in off.items()
            },
            "notes": list(pair.notes),
        }


# ------------------------------------------------------------------ what is given
def _named(
    sections: Mapping[str, Image | Section], reference: str | None
) -> tuple[dict[str, Section], str]:
    """Sections made ready, and the reference's name."""
    if len(sections) < 2:
        raise InputError("A set needs two sections or more.")
    chosen = next(iter(sections)) if reference is None else reference
    if chosen not in sections:
        raise InputError(f"The reference {chosen} is none of {', '.join(sections)}.")
    ready = {
        name: one if isinstance(one, Section) else section_of(one) for name, one in sections.items()
    }
    return ready, chosen


# ------------------------------------------------------------------ the whole route
def match_set(
    sections: Mapping[str, Image | Section],
    *,
    reference: str | None = None,
    pairs: PairsOf | Sequence[tuple[str, str]] = "all",
    joint: bool = True,
    flip: Flip = "auto",
    recipe: Recipe | None = None,
    execution: Execution | None = None,
    control: Control | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_step: Callable[[str], None] | None = None,
) -> SectionSet:
    """Register sections to one of them: pairs, their graph, and what all of them say together.

    sections: by name, in order; reference: one of them, default the first. Every wanted pair is a
    `match`. Affine maps that agree best with all pairs are found (`synchronise`); pairs that the
    others speak against are told and cost more, as do those that have failed. The map of a section
    is the shortest path from the reference. joint: the middle of it and of those that cost little
    more (`section_paths.averaged`); a section that only doubtful pairs reach is registered onto
    the mean of the others, from its affine map (`section_joint.joined`). on_step: told in words
    what comes next.

    Raises InputError before any registration, StoppedError where `control` stops it before all
    pairs are there.
    """
    ready, name = _named(sections, reference)
    wanted = pairs_of(tuple(ready), name, pairs)
    recipe = recipe or sections_recipe()
    say = on_step or (lambda text: None)
    where = {"execution": execution, "control": control, "on_event": on_event}
    found = []
    for number, (a, b) in enumerate(wanted, start=1):
        say(f"pair {number} of {len(wanted)}: {b} -> {a}")
        one = match(ready[a], ready[b], flip=flip, recipe=recipe, **where)
        if one.result.outcome is Outcome.STOPPED and number < len(wanted):
            raise StoppedError(f"Stopped after {number} of {len(wanted)} pairs; nothing is saved.")
        found.append(pair_of(a, b, one))
    known, graph, sync, notes = _agreed(ready, name, found)
    grid = ready[name].image.grid
    maps = averaged(graph, name, grid) if joint else shortest(graph, name, grid)
    unsure = {k: over for k in ready if (over := _doubtful(graph.path(name, k), known))}
    sure = {k: one for k, one in ready.items() if k not in unsure}
    for k, over in unsure.items():
        better = None
        if joint and len(sure) > 1:
            say(f"{k} -> the mean of the others")
            start = sync.affines[k].inverse()
            better = joined(ready[k], sure, maps, grid, maps[k], start, recipe=recipe, **where)
        maps[k] = better or maps[k]
        notes.append(_unsure(k, name, over, better is not None))
    fits = _fits(ready, name, maps, known)
    notes += [text for k, pair in fits.items() if (text := _worse(k, name, *pair))]
    known = [replace(pair, off_after_mm=_off(measured(pair), maps)) for pair in known]
    return SectionSet(name, ready, tuple(known), graph, maps, fits, tuple(notes))


def _agreed(
    ready: dict[str, Section], reference: str, pairs: Sequence[Pair]
) -> tuple[list[Pair], SpaceGraph, Synchronised, list[str]]:
    """The pairs with what the others say of them, their graph, the affine maps, and notes."""
    said = [measured(pair) for pair in pairs]
    diagonal = _diagonal(ready[reference])
    sync = synchronise(tuple(ready), reference, said, diagonal)
    grid = ready[reference].image.grid
    before = shortest(graph_of(ready, pairs), reference, grid)
    known, notes = [], []
    for number, pair in enumerate(pairs):
        notes += [f"{pair.name}: {text}" for text in pair.notes]
        off, wrong = float(sync.off_mm[number]), bool(sync.outliers[number])
        if wrong:
            notes.append(_against(pair, sync, off, diagonal))
        weight = pair.weight * (DOUBTFUL if wrong else 1.0)
        off_mm = _off(said[number], before)
        known.append(replace(pair, weight=weight, outlier=wrong, off_mm=off_mm))
    return known, graph_of(ready, known), sync, notes


def _off(said: Measured, maps: dict[str, Transform]) -> float:
    """Root mean square distance, in the reference, of what was measured from what `maps` say."""
    here = maps[said.fixed].inverse()(said.own)
    there = maps[said.moving].inverse()(said.other)
    return float(np.sqrt(((here - there) ** 2).sum(axis=1).mean()))


def _against(pair: Pair, sync: Synchronised, off_mm: float, diagonal_mm: float) -> str:
    """What the other pairs say of this one."""
    said = sync.affines[pair.moving].inverse().after(sync.affines[pair.fixed])
    own = affine_factor(pair.match.result.forward)
    between = said.inverse().after(own)
    turn = turn_deg_of(between.matrix[:2, :2])
    if _mirrored(between):
        how = "it takes the section for turned over"
    elif abs(turn) > OTHER_DEG:
        how = f"it turns the section by {turn:.0f} degrees more"
    else:
        how = "it puts the section elsewhere"
    return (
        f"{pair.name}: the other pairs disagree, {how} ({off_mm:.3g} mm, "
        f"{off_mm / diagonal_mm:.0%} of the diagonal); it has no say."
    )


def _mirrored(affine: Affine) -> bool:
    return bool(np.linalg.det(affine.matrix[:2, :2]) < 0)


def _diagonal(section: Section) -> float:
    return float(np.linalg.norm(section.original.grid.extent_mm))


def _spaces(sections: dict[str, Section]) -> SpaceGraph:
    found = SpaceGraph()
    for name, one in sections.items():
        found = found.with_space(name, 2, one.original.grid, one.original.path)
    return found


def graph_of(sections: dict[str, Section], pairs: Sequence[Pair]) -> SpaceGraph:
    """The sections and their pairs, with the pairs' weights."""
    found = _spaces(sections)
    for pair in pairs:
        forward = pair.match.result.forward
        found = found.with_edge(pair.fixed, pair.moving, forward, weight=pair.weight)
    return found


def _fits(
    sections: dict[str, Section], reference: str, maps: dict[str, Transform], pairs: Sequence[Pair]
) -> dict[str, tuple[float | None, float]]:
    """Of each section with the reference: of the direct pair where there is one, and of its map."""
    direct = {pair.moving: pair.score for pair in pairs if pair.fixed == reference}
    fixed = sections[reference]
    return {
        name: (direct.get(name), local_fit(fixed, one, maps[name]))
        for name, one in sections.items()
        if name != reference
    }


def _doubtful(path: Sequence[str], pairs: Sequence[Pair]) -> list[str]:
    """The pairs on a path that may be wrong."""
    steps = {frozenset(step) for step in pairwise(path)}
    return [
        pair.name
        for pair in pairs
        if (pair.doubtful or pair.outlier) and {pair.fixed, pair.moving} in steps
    ]


def _unsure(name: str, reference: str, over: Sequence[str], again: bool) -> str:
    """What to say of a section that no sure pairs connect with the reference."""
    also = ", and was then registered onto the mean of the others" if again else ""
    return (
        f"{name}: comes onto {reference} only over {' and '.join(over)}, which may be wrong{also}; "
        "look at it, mask what is damaged, or say whether it is flipped."
    )


def _worse(name: str, reference: str, direct: float | None, now: float) -> str | None:
    if direct is None or now >= direct - _WORSE:
        return None
    return (
        f"{name}: fits {reference} less well by the map of the set ({now:.3f}) than by its direct "
        f"pair ({direct:.3f}); look at both."
    )
