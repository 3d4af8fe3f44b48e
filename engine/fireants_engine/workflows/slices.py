"""A section in a volume: the plane it was cut on, the affine map and the deformation within it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.errors import InputError
from fireants_engine.geometry import Image
from fireants_engine.geometry.planes import PLANES, SIDES, Side
from fireants_engine.pipeline import Case, Control, Event, Extras, Outcome
from fireants_engine.recipe import Recipe
from fireants_engine.recipe.presets import workflow_recipe
from fireants_engine.transforms import Affine
from fireants_engine.workflows.registration import Execution, register, register_batch
from fireants_engine.workflows.result import Result
from fireants_engine.workflows.sheets import (
    Sheet,
    at_pixel_size,
    corners_of,
    flat_grid,
    middle_of,
    sheet_for,
    sheet_of,
    without_missing,
)
from fireants_engine.workflows.slice_search import Poses, Pulse, Search, best_of

AMBIGUOUS = 0.02
"""Share of the best score by which every other place has to be worse."""
_ELSEWHERE, _SAME = 0.15, 0.02
"""Of the length of the tissue: places that differ by more are others; by less, the same."""
_COARSE, _FINE = 46, 70
"""Samples of the volume along its longest side in the two searches."""
_KEPT = 8
"""Poses that the gradient is tried on."""
_SHARES = (0.29, 0.32, 0.21, 0.01, 0.11, 0.0, 0.03, 0.0, 0.03)
"""Of the time of a search, of its phases in turn; as measured on a brain at 3 mm."""
_ONCE = 0.6
"""Of what is told as the progress of a search: the first time through, where that is enough."""
_SURE = 0.04
"""Share of the best score: where another place is nearer to it, the search goes through once more,
as no place stands out where the true one was missed."""
_TURN_DEG = 15.0


@dataclass(frozen=True)
class _Way:
    """A way through all poses. tilts: shares of the largest; sizes: of the first rounds of ascent;
    care: factor on the samples."""

    tilts: tuple[float, ...]
    turn_from_deg: float
    sizes: tuple[float, ...]
    care: float


_FIRST = _Way((-1.0, -0.5, 0.0, 0.5, 1.0), 0.0, (1.0, 0.9), 1.0)
_AGAIN = _Way((-5 / 6, -0.5, -1 / 6, 1 / 6, 0.5, 5 / 6), _TURN_DEG / 2, (1.0, 1.0, 0.9), 2.5)


@dataclass(frozen=True, eq=False)
class Plane:
    """Where a section lies in the volume, to first order.

    point_mm: (3,) the middle of its tissue; edges: (3, 2) mm of the volume per mm of the section
    along x and y; normal: (3,) unit vector. LPS.
    """

    point_mm: np.ndarray
    edges: np.ndarray

    @property
    def normal(self) -> np.ndarray:
        out = np.cross(self.edges[:, 0], self.edges[:, 1])
        return out / np.linalg.norm(out)

    @property
    def name(self) -> str:
        return PLANES[int(np.abs(self.normal).argmax())]

    @property
    def seen_from(self) -> Side:
        """The side that the section faces: x to the right and y down are as seen from there."""
        axis = PLANES.index(self.name)
        return SIDES[axis][int(self.normal[axis] > 0)]

    @property
    def tilt_deg(self) -> float:
        """Between this plane and the one it is named after."""
        return float(np.degrees(np.arccos(min(1.0, float(np.abs(self.normal).max())))))

    def sentence(self) -> str:
        x, y, z = self.point_mm
        tilt = f"tilted by {self.tilt_deg:.1f} degrees"
        return (
            f"{self.name}, {tilt}, through {x:.1f}, {y:.1f}, {z:.1f} mm, seen from {self.seen_from}"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "plane": self.name,
            "seen_from": self.seen_from,
            "tilt_deg": self.tilt_deg,
            "point_mm": self.point_mm.tolist(),
            "edges": self.edges.tolist(),
            "normal": self.normal.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Candidate:
    """One place of the section; score: mutual information in nats, higher is better."""

    affine: Affine
    plane: Plane
    score: float

    def to_dict(self) -> dict[str, Any]:
        score = None if math.isnan(self.score) else self.score
        return {"score": score, **self.plane.to_dict()}


@dataclass(frozen=True, eq=False)
class Placement:
    """A section in a volume. result: section mm (x, y, 0) -> volume mm, and its inverse.

    candidates: best first. notes: sentences that a person should read.
    """

    sheet: Sheet
    candidates: tuple[Candidate, ...]
    result: Result
    notes: tuple[str, ...]

    @property
    def plane(self) -> Plane:
        """Of the result's affine part."""
        return plane_of(self.result.affine, middle_of(self.sheet))

    @property
    def margin(self) -> float | None:
        """Score of the best candidate minus that of the best that lies somewhere else."""
        other = elsewhere(self.candidates, self.sheet)
        return None if other is None else self.candidates[0].score - other.score

    def to_dict(self) -> dict[str, Any]:
        return {
            "chosen": 0,
            "margin": self.margin,
            "notes": list(self.notes),
            "candidates": [one.to_dict() for one in self.candidates],
        }


def plane_of(affine: Affine, middle_mm: np.ndarray) -> Plane:
    return Plane(affine(middle_mm[None])[0], affine.matrix[:3, :2])


def brain_of(volume: Image) -> Tensor:
    """(Z, Y, X) bool: the volume's mask, or what is brighter than its dark background."""
    if volume.mask is not None:
        return volume.mask
    values = volume.data[0].float()
    top = float(values.flatten()[:: max(1, values.numel() // 1_000_000)].quantile(0.99))
    low = float(values.min())
    return values > low + 0.08 * (top - low)


# ------------------------------------------------------------------ the search
def search(
    sheet: Sheet,
    volume: Image,
    *,
    planes: Sequence[str] = PLANES,
    tilt_deg: float = 15.0,
    seen_from: Side | None = None,
    control: Control | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[Candidate, ...]:
    """Where the section may lie, best first, from a search without gradients.

    Planes about the named ones, tilted by up to `tilt_deg` about both edges (a search goes on
    from there, so that somewhat more is found, too), everywhere along their normals, at all
    turns on the plane. Where no place stands out they are gone through a second time, in between
    and with more care. seen_from: the side that the section shows, None for either. on_progress:
    told how far it is, 0 to 1. Raises InputError where nothing can be compared, and StoppedError
    where `control` ends it.
    """
    if seen_from is not None:
        planes = [PLANES[k] for k, sides in enumerate(SIDES) if seen_from in sides]
    brain = brain_of(volume)
    shares = [part * share for part in (_ONCE, 1 - _ONCE) for share in _SHARES]
    pulse = Pulse(shares, control, on_progress)
    both = [_search_at(sheet, volume, brain, n, pulse) for n in (_COARSE, _FINE)]

    def through(way: _Way) -> Poses:
        return _through(way, both[0], both[1], planes, tilt_deg, seen_from, pulse)

    def candidates(poses: Poses) -> tuple[Candidate, ...]:
        order = poses.scores.argsort(descending=True).tolist()[:_KEPT]
        return tuple(_candidate(poses, k, both[1].centre_mm, sheet) for k in order)

    poses = through(_FIRST)
    found = candidates(poses)
    other = elsewhere(found, sheet)
    if other is None or found[0].score - other.score > _SURE * abs(found[0].score):
        if on_progress is not None:
            on_progress(1.0)
        return found
    voxel = max(both[0].grid.spacing_mm)
    return candidates(best_of(Poses.joined([poses, through(_AGAIN)]), 3, 3.0, 0.3 * voxel))


def _through(
    way: _Way, coarse: Search, fine: Search, planes: Sequence[str], tilt_deg: float,
    seen_from: Side | None, pulse: Pulse,
) -> Poses:  # fmt: skip
    """The best poses of all, in places of `fine`."""
    steps = sorted({share * tilt_deg for share in way.tilts})
    tilts = [(a, b) for a in steps for b in steps]
    voxel = max(coarse.grid.spacing_mm)
    poses = coarse.coarse(planes, tilts, _TURN_DEG, 1.1 * voxel, turn_from_deg=way.turn_from_deg)
    if seen_from is not None:
        axis, side = next((k, one.index(seen_from)) for k, one in enumerate(SIDES)
                          if seen_from in one)  # fmt: skip
        away = torch.linalg.cross(*poses.edges().unbind(2))[:, axis]
        poses = poses.rows(torch.nonzero((away > 0) == bool(side))[:, 0])
    few, some, many = (round(n * way.care) for n in (600, 1500, 3000))
    poses = coarse.refined(best_of(poses, 700, 6.0, 0.9 * voxel, pulse), way.sizes, few)
    poses = coarse.refined(best_of(poses, 100, 4.0, 0.7 * voxel, pulse), (0.8, 0.6, 0.5), some)
    poses = best_of(poses, 15, 4.0, 0.7 * voxel, pulse)
    apart = torch.from_numpy(fine.centre_mm - coarse.centre_mm).float()
    poses = replace(poses, points=poses.points + poses.edges() @ apart)
    poses = fine.refined(poses, (0.6, 0.5, 0.4), many)
    poses = fine.refined(best_of(poses, 5, 3.0, 0.5 * voxel, pulse), (0.4, 0.3, 0.2, 0.15))
    return best_of(poses, 3, 3.0, 0.3 * voxel, pulse)


def _candidate(poses: Poses, number: int, centre_mm: np.ndarray, sheet: Sheet) -> Candidate:
    affine = poses.affine(number, centre_mm)
    return Candidate(affine, plane_of(affine, middle_of(sheet)), float(poses.scores[number]))


def _search_at(
    sheet: Sheet, volume: Image, brain: Tensor, samples: int, pulse: Pulse | None = None
) -> Search:
    voxel = float(max(volume.grid.extent_mm)) / samples
    size = [max(1, round(e / voxel)) for e in volume.grid.extent_mm]
    grid = volume.grid.resized([min(n, m) for n, m in zip(size, volume.grid.size, strict=True)])
    values = F.interpolate(volume.data[:1][None].float(), size=grid.shape, mode="area")[0, 0]
    inside = F.interpolate(brain[None, None].float(), size=grid.shape, mode="area")[0, 0] > 0.5
    pixel = 0.67 * voxel

    plane = flat_grid(sheet.image.grid)

    def small(data: Tensor) -> Image:
        return at_pixel_size(Image(data[None].float(), plane), pixel)

    density = small(sheet.image.data[0, 0])
    tissue = small(sheet.tissue).data[0] > 0.5
    assert sheet.image.mask is not None
    counts = small(sheet.image.mask[0]).data[0] > 0.5
    return Search(density, tissue, counts, values, inside, grid, pulse)


# ------------------------------------------------------------------ the whole route
def slice_recipe() -> Recipe:
    """The packaged recipe: the affine map with its plane, then the deformation within it."""
    return workflow_recipe("slice")


def compared(
    sheet: Sheet, volume: Image, candidates: Sequence[Candidate],
    execution: Execution | None = None, control: Control | None = None,
) -> tuple[Candidate, ...]:  # fmt: skip
    """The candidates after the coarsest level of the recipe's first stage, best first, of those
    that have come to one place only the best. A stop leaves them as far as they have come."""
    data = slice_recipe().to_dict()
    (stage, *_) = data["stages"]
    stage["pyramid"]["levels"] = stage["pyramid"]["levels"][:1]
    recipe = Recipe.from_dict({**data, "stages": [stage]}, "slice")
    cases = [Case(sheet.image, volume, Extras(), one.affine) for one in candidates]
    results = register_batch(cases, recipe, execution=execution, control=control)
    middle = middle_of(sheet)
    found = []
    for one, result in zip(candidates, results, strict=True):
        for _, begun in result.output.stages:
            if begun.outcome is not Outcome.DIVERGED and math.isfinite(begun.loss):
                plane = plane_of(result.affine, middle)
                found.append(replace(one, affine=result.affine, plane=plane, score=-begun.loss))
    kept: list[Candidate] = []
    for one in sorted(found, key=lambda one: -one.score):
        if all(_apart(one, other, sheet) > _SAME for other in kept):
            kept.append(one)
    return tuple(kept) or tuple(candidates)


def _apart(one: Candidate, other: Candidate, sheet: Sheet) -> float:
    """How far the corners of the tissue lie apart at most, as a share of its length."""
    corners = corners_of(sheet)
    apart = np.linalg.norm(one.affine(corners) - other.affine(corners), axis=1).max()
    return float(apart / np.linalg.norm(corners[0] - corners[-1]))


def elsewhere(candidates: Sequence[Candidate], sheet: Sheet) -> Candidate | None:
    """The best of the candidates that lie somewhere else than the first, or are seen from the
    other side; None without any."""
    unlike = (one for one in candidates[1:] if _apart(one, candidates[0], sheet) > _ELSEWHERE)
    return next(unlike, None)


def place(
    sheet: Sheet,
    volume: Image,
    *,
    planes: Sequence[str] = PLANES,
    tilt_deg: float = 15.0,
    seen_from: Side | None = None,
    start: Affine | None = None,
    recipe: Recipe | None = None,
    labels: Image | None = None,
    execution: Execution | None = None,
    control: Control | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Placement:
    """Find a section in a volume: plane, oblique angle and affine map together, then in-plane.

    The section is the fixed image, a volume of one slice, so that its nine numbers (position and
    two tilts of the plane, affine map on it) are those of an affine map that its single slice can
    see, and the deformation is held to the plane. start: section mm (x, y, 0) -> volume mm, in
    place of a search. labels: label map of the volume, carried onto the section.
    Raises InputError, and StoppedError where `control` ends the search; later the best state stays.
    """
    if volume.dim != 3 or volume.channels != 1:
        raise InputError(f"{volume.name}: give a 3D volume of one channel.")
    notes: list[str] = []
    if start is None:
        found = search(
            sheet, volume, planes=planes, tilt_deg=tilt_deg, seen_from=seen_from, control=control
        )
    else:
        found = (Candidate(start, plane_of(start, middle_of(sheet)), float("nan")),)
    found = compared(sheet, volume, found, execution, control)
    best, other = found[0], elsewhere(found, sheet)
    if other is not None and best.score - other.score < AMBIGUOUS * abs(best.score):
        notes.append(
            f"Where the section lies is unsure: {best.plane.sentence()} (score {best.score:.3f}) "
            f"and {other.plane.sentence()} ({other.score:.3f}) fit about equally well; look at "
            "both, or say more of how it was cut (--plane, --seen-from)."
        )
    brain = Image(brain_of(volume)[None].float(), volume.grid, name=volume.name)
    sheet = without_missing(sheet, brain, found[0].affine)
    result = register(
        sheet.image, volume, recipe or slice_recipe(), initial=found[0].affine,
        extras=Extras(moving_labels=labels), execution=execution, control=control,
        on_event=on_event,
    )  # fmt: skip
    return Placement(sheet, found, result, tuple(notes))


__all__ = [
    "PLANES", "Candidate", "Placement", "Plane", "Sheet", "compared", "place", "search",
    "sheet_for", "sheet_of", "slice_recipe",
]  # fmt: skip
