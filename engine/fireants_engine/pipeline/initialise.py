"""Initial alignment by image moments: every proper orientation is scored and ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair
from fireants_engine.pipeline.moments import (
    NEARLY_EQUAL,
    Body,
    axis_matches,
    common_scale,
    mass,
    mass_of,
    moments,
    unsure,
)
from fireants_engine.pipeline.orientation import Candidate, Search, score
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.pipeline.rotations import degrees_between
from fireants_engine.transforms import Affine

AMBIGUOUS = 0.02
"""Margin between the two best scores below which the choice is reported as ambiguous."""
_SAMPLES = 48
"""Along the longest side of the fixed image where moments are taken and candidates scored."""
_SEARCHED = 20
"""The same where all orientations are tried."""


@dataclass(frozen=True)
class Moments:
    """Start from the images' moments: order 1 matches centres of mass, order 2 principal axes.

    The positions as stored are a candidate too: two scans of one session often need no move.
    Order 2 scores the identity orientation and all proper matches of the principal axes (4 in
    3D; 0 and 180 degrees in 2D: LESSONS 7); reflections only when `improper`. score: how
    candidates are ranked, see `orientation.score`. mass: what has moments, see
    `moments.mass_of`. scale: also scales along the axes (`moments.axis_matches`). search: over
    all orientations, `auto` where the axes cannot be relied on. Thesis 6.1, Eq. 6.1-6.4.
    """

    order: int = 2
    score: str = "ncc"
    mass: str = "intensity"
    scale: bool = False
    improper: bool = False
    search: str = "never"


@dataclass(frozen=True)
class Centre:
    """Start by matching the centres of the two fields of view."""


@dataclass(frozen=True)
class InitialAlignment:
    """The chosen start, all candidates best first, and sentences worth showing."""

    affine: Affine
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "candidates": [
                {"name": c.name, "score": c.score, "det": c.det} for c in self.candidates
            ],
            "margin": self.margin,
            "notes": list(self.notes),
        }

    @property
    def margin(self) -> float | None:
        """Score of the best minus that of the best other orientation (30 degrees away or more)."""
        other = self.runner_up
        return None if other is None else self.candidates[0].score - other.score

    @property
    def runner_up(self) -> Candidate | None:
        """The best candidate of another orientation than the chosen one."""
        others = (c for c in self.candidates if _differs(c.affine, self.affine))
        return next(others, None)


def initialise(
    spec: Moments | Centre | None, prepared: Prepared, ctx: ExecutionContext
) -> InitialAlignment:
    """The initial affine (fixed mm -> moving mm) for `spec`; None means identity."""
    dim = prepared.fixed_grid.dim
    if spec is None:
        return InitialAlignment(Affine.identity(dim), (), ())
    if isinstance(spec, Centre):
        shift = prepared.moving_grid.centre_mm - prepared.fixed_grid.centre_mm
        return InitialAlignment(
            Affine.about(np.eye(dim), shift, prepared.fixed_grid.centre_mm), (), ()
        )
    pair = _level(prepared, _SAMPLES)
    fixed, moving = bodies_of(pair, spec.mass)
    shift = moving.centre_mm - fixed.centre_mm
    starts = [("as stored", Affine.identity(dim))]
    starts.append(("centred", Affine.about(np.eye(dim), shift, fixed.centre_mm)))
    notes: list[str] = []
    if spec.order == 2:
        starts += _turned(spec, prepared, pair, (fixed, moving), notes, ctx)
        if fixed.least_ratio < NEARLY_EQUAL:
            notes.insert(
                0,
                "Two principal axes of the fixed image are nearly equal, so its orientation from "
                "moments is unstable.",
            )
    candidates = [
        Candidate(n, affine, score(pair, affine, spec.score, ctx)) for n, affine in starts
    ]
    return ranked(candidates, notes)


def bodies_of(pair: Pair, kind: str) -> tuple[Body, Body]:
    """Moments of both images of a level."""
    fixed = mass_of(pair.fixed, pair.fixed_mask, pair.fixed_grid, kind)
    moving = mass_of(pair.moving, pair.moving_mask, pair.moving_grid, kind)
    return Body(*moments(fixed, pair.fixed_grid)), Body(*moments(moving, pair.moving_grid))


def _level(prepared: Prepared, samples: int) -> Pair:
    """The pair with about so many samples along its longest side."""
    finest = min(prepared.fixed_grid.spacing_mm)
    return prepared.level(max(1.0, float(max(prepared.fixed_grid.extent_mm)) / samples / finest), 1)


def _turned(
    spec: Moments,
    prepared: Prepared,
    pair: Pair,
    bodies: tuple[Body, Body],
    notes: list[str],
    ctx: ExecutionContext,
) -> list[tuple[str, Affine]]:
    """Starts of other orientations: axes on axes, and what a search has found."""
    fixed, moving = bodies
    shift = moving.centre_mm - fixed.centre_mm
    why = None if spec.search == "never" else unsure(fixed, moving)
    how = {"improper": spec.improper, "scale": spec.scale}
    found = axis_matches(fixed, moving, reorder=spec.scale or why is not None, **how)
    starts = [(name, Affine.about(turn, shift, fixed.centre_mm)) for name, turn in found]
    if spec.search == "always" or why is not None:
        size = common_scale(fixed, moving) if spec.scale else 1.0
        coarse = _level(prepared, _SEARCHED)
        search = Search(coarse, pair, bodies, spec.score, ctx, size, spec.improper)
        seen = search.run([affine for _, affine in starts])
        starts += [(f"search {k}", affine) for k, affine in enumerate(seen, start=1)]
        if why is not None:
            notes.append(f"All orientations were searched, because {why}.")
    return starts


def ranked(candidates: Sequence[Candidate], notes: Sequence[str] = ()) -> InitialAlignment:
    """Best first, with what a person should know of the choice.

    A reflection is chosen only where it beats every rotation by more than the margin below which
    a choice is ambiguous, and said (LESSONS 9).
    """
    order = sorted(candidates, key=lambda c: -c.score)
    proper = next((c for c in order if c.det > 0), order[0])
    if order[0].det < 0 and order[0].score - proper.score < AMBIGUOUS:
        order.remove(proper)
        order.insert(0, proper)
    best = InitialAlignment(order[0].affine, tuple(order), tuple(notes))
    told = list(notes)
    if order[0].det < 0:
        told.append(f"The chosen orientation {order[0].name!r} is a reflection of the image.")
    runner_up, margin = best.runner_up, best.margin
    if runner_up is not None and margin is not None and margin < AMBIGUOUS:
        told.append(
            f"The orientation is ambiguous: {order[0].name!r} scores "
            f"{order[0].score:.3f} and {runner_up.name!r} {runner_up.score:.3f}."
        )
    return InitialAlignment(order[0].affine, tuple(order), tuple(told))


def _differs(a: Affine, b: Affine, degrees: float = 30.0) -> bool:
    """True when two maps turn by more than `degrees` against each other, or one mirrors."""
    return degrees_between(a.matrix[:-1, :-1], b.matrix[:-1, :-1]) > degrees


__all__ = [
    "AMBIGUOUS",
    "Candidate",
    "Centre",
    "InitialAlignment",
    "Moments",
    "initialise",
    "mass",
    "moments",
]
