"""Initial alignment by image moments: every proper orientation is scored and ranked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Pulled
from fireants_engine.geometry import Grid, apply_matrix
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.similarity import MutualInformation
from fireants_engine.transforms import Affine

_AMBIGUOUS = 0.02
"""Margin between the two best scores below which the choice is reported as ambiguous."""


@dataclass(frozen=True)
class Moments:
    """Start from the images' moments: order 1 matches centres of mass, order 2 principal axes.

    The positions as stored are a candidate too: two scans of one session often need no move.
    Order 2 scores the identity orientation and all proper matches of the principal axes (4 in
    3D; 0 and 180 degrees in 2D: LESSONS 7), never a reflection. score: "ncc" (squared global
    correlation, one contrast) or "mi". Thesis 6.1, Eq. 6.1-6.4.
    """

    order: int = 2
    score: str = "ncc"


@dataclass(frozen=True)
class Centre:
    """Start by matching the centres of the two fields of view."""


@dataclass(frozen=True)
class Candidate:
    """One scored start; higher is better."""

    name: str
    affine: Affine
    score: float


@dataclass(frozen=True)
class InitialAlignment:
    """The chosen start, all candidates best first, and sentences worth showing."""

    affine: Affine
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "candidates": [{"name": c.name, "score": c.score} for c in self.candidates],
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
        others = (c for c in self.candidates[1:] if _differs(c.affine, self.affine))
        return next(others, None)


def mass(image: Tensor, mask: Tensor | None) -> Tensor:
    """Non-negative mass without background pedestal: |intensity - background| above 5% (LESSONS 8).

    image: (1, C, *spatial), normalised so that the background is 0.
    """
    total = image.abs().sum(dim=1)[0]
    total = (total - 0.05 * image.shape[1]).clamp(min=0)
    return total if mask is None else total * mask[0, 0]


def moments(weights: Tensor, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass (d,) in mm and covariance (d, d) in mm^2 of a mass on `grid`."""
    array = weights.double().cpu().numpy()
    total = array.sum()
    if total <= 0:
        return grid.centre_mm, np.diag(grid.extent_mm**2 / 12)
    coords = [np.arange(n, dtype=float) for n in array.shape]
    dim = array.ndim
    first = np.zeros(dim)
    second = np.zeros((dim, dim))
    for i in range(dim):
        others = tuple(k for k in range(dim) if k != i)
        line = array.sum(axis=others)
        first[i] = (line * coords[i]).sum() / total
        second[i, i] = (line * coords[i] ** 2).sum() / total
        for j in range(i + 1, dim):
            plane = array.sum(axis=tuple(k for k in range(dim) if k not in (i, j)))
            second[i, j] = second[j, i] = coords[i] @ plane @ coords[j] / total
    to_mm = grid.matrix("voxel", "mm")
    linear = to_mm[:-1, :-1]
    return apply_matrix(to_mm, first), linear @ (second - np.outer(first, first)) @ linear.T


def _rotations(fixed_cov: np.ndarray, moving_cov: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """All rotations that take the fixed principal axes to the moving ones, up to their signs."""
    dim = len(fixed_cov)
    fixed_axes = np.linalg.eigh(fixed_cov)[1]
    moving_axes = np.linalg.eigh(moving_cov)[1]
    for signs in product((1.0, -1.0), repeat=dim):
        rotation = moving_axes @ np.diag(signs) @ fixed_axes.T
        if np.linalg.det(rotation) > 0:
            yield "axes " + "".join("+" if s > 0 else "-" for s in signs), rotation


def _score(pair: Pair, affine: Affine, score: str, ctx: ExecutionContext) -> float:
    matrix = torch.as_tensor(pair.voxel_matrix(affine), device=ctx.device, dtype=ctx.dtype)
    views = Pulled(matrix).views(pair, ctx)
    if score == "mi":
        return -float(MutualInformation().bind(pair, ctx)(views))
    moving, weight = views.moving, views.weight
    weight = torch.ones_like(moving[:, :1]) if weight is None else weight
    total = weight.sum().clamp(min=1e-6)
    f = pair.fixed - (pair.fixed * weight).sum((0, *range(2, moving.ndim)), True) / total
    m = moving - (moving * weight).sum((0, *range(2, moving.ndim)), True) / total
    cross, ff, mm = ((a * b * weight).sum() for a, b in ((f, m), (f, f), (m, m)))
    return float(cross / (ff * mm).clamp(min=1e-20).sqrt())


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
    finest = min(prepared.fixed_grid.spacing_mm)
    shrink = max(1.0, float(max(prepared.fixed_grid.extent_mm)) / 48 / finest)
    pair = prepared.level(shrink, 1)
    fixed_centre, fixed_cov = moments(mass(pair.fixed, pair.fixed_mask), pair.fixed_grid)
    moving_centre, moving_cov = moments(mass(pair.moving, pair.moving_mask), pair.moving_grid)
    shift = moving_centre - fixed_centre
    starts = [("as stored", Affine.identity(dim))]
    starts.append(("centred", Affine.about(np.eye(dim), shift, fixed_centre)))
    notes: list[str] = []
    if spec.order == 2:
        for name, rotation in _rotations(fixed_cov, moving_cov):
            starts.append((name, Affine.about(rotation, shift, fixed_centre)))
        values = np.sort(np.linalg.eigvalsh(fixed_cov))
        if np.any(values[1:] < 1.1 * values[:-1]):
            notes.append(
                "Two principal axes of the fixed image are nearly equal, so its orientation from "
                "moments is unstable."
            )
    candidates = []
    for name, affine in starts:
        candidates.append(Candidate(name, affine, _score(pair, affine, spec.score, ctx)))
    candidates.sort(key=lambda c: -c.score)
    best = InitialAlignment(candidates[0].affine, tuple(candidates), tuple(notes))
    runner_up, margin = best.runner_up, best.margin
    if runner_up is not None and margin is not None and margin < _AMBIGUOUS:
        notes.append(
            f"The orientation is ambiguous: {candidates[0].name!r} scores "
            f"{candidates[0].score:.3f} and {runner_up.name!r} {runner_up.score:.3f}."
        )
    return replace(best, notes=tuple(notes))


def _differs(a: Affine, b: Affine, degrees: float = 30.0) -> bool:
    """True when two rigid maps rotate by more than `degrees` against each other."""
    relative = a.matrix[:-1, :-1] @ b.matrix[:-1, :-1].T
    dim = len(relative)
    cosine = (np.trace(relative) - (1 if dim == 3 else 0)) / 2
    return bool(np.degrees(np.arccos(np.clip(cosine, -1, 1))) > degrees)
