"""Two stained sections, or a section and a slice, brought onto each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.errors import InputError, StoppedError
from fireants_engine.geometry import Image
from fireants_engine.geometry.planes import turn_deg_of
from fireants_engine.pipeline import Case, Control, Event, Extras, Outcome
from fireants_engine.recipe import Recipe
from fireants_engine.recipe.presets import workflow_recipe
from fireants_engine.transforms import Affine
from fireants_engine.workflows import contours
from fireants_engine.workflows.registration import Execution, register, register_batch
from fireants_engine.workflows.result import Result
from fireants_engine.workflows.section_loss import without_lost
from fireants_engine.workflows.stains import haematoxylin
from fireants_engine.workflows.tissue import (
    Tissue,
    as_bytes,
    at_most,
    cover,
    density_of,
    distance_inside,
    find_tissue,
)
from fireants_engine.workflows.units import own_units, scaled, zoom

Flip = Literal["auto", "yes", "no"]
Compare = Literal["cover", "density", "haematoxylin"]

PIXELS = 600
"""Of the long side at which sections are compared."""
AMBIGUOUS = 0.02
"""Share of the best score by which any other orientation has to be worse."""
OTHER_DEG = 30.0
"""Turned by more than this is another orientation."""
_TRIED = 10
_SCALES = (0.5, 2.0)
_RIM = 0.015
"""Of the long side: what is so near to the tissue is kept with it."""


@dataclass(frozen=True, eq=False)
class Section:
    """A section made ready.

    original: as given; image: (1, Y, X) what is compared, 0 off the tissue, at most `pixels`
    long, with the mask that was given; tissue: where it is; outline: its border.
    """

    original: Image
    image: Image
    tissue: Tissue
    outline: contours.Outline


@dataclass(frozen=True, eq=False)
class Candidate:
    """A start, fixed mm -> moving mm. score: of the recipe's first term after a short affine fit,
    higher is better; distance: of the outlines, as a share of the diameter; source: what it is
    from."""

    affine: Affine
    source: str
    distance: float
    score: float = float("nan")

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.affine.matrix[:2, :2]) < 0)

    @property
    def turn_deg(self) -> float:
        """Of the rotation nearest to the map; of a mirrored one after x is negated."""
        return turn_deg_of(self.affine.matrix[:2, :2])

    def to_dict(self) -> dict[str, Any]:
        linear = self.affine.matrix[:2, :2]
        return {
            "score": self.score if math.isfinite(self.score) else None,
            "outline_distance": self.distance,
            "turn_deg": self.turn_deg,
            "mirrored": self.mirrored,
            "determinant": float(np.linalg.det(linear)),
            "source": self.source,
            "matrix": self.affine.matrix.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Match:
    """result: fixed mm -> moving mm; candidates: best first; notes: for a person to read; scale: by
    which the moving section's mm were taken while it was registered."""

    fixed: Section
    moving: Section
    candidates: tuple[Candidate, ...]
    result: Result
    notes: tuple[str, ...]
    scale: float = 1.0

    @property
    def margin(self) -> float | None:
        """Score of the best candidate minus that of the best of another orientation."""
        return margin_of(self.candidates)

    def to_dict(self) -> dict[str, Any]:
        return {
            "chosen": 0,
            "margin": self.margin,
            "notes": list(self.notes),
            "candidates": [one.to_dict() for one in self.candidates],
            "fixed_tissue": self.fixed.tissue.to_dict(),
            "moving_tissue": self.moving.tissue.to_dict(),
        }


# ------------------------------------------------------------------ what is given
def section_of(
    image: Image,
    *,
    component: int | None = None,
    compare: Compare = "cover",
    pixels: int = PIXELS,
) -> Section:
    """Find the tissue of a 2D image (RGB, grey; light or dark background) and what to compare.

    image.mask: only where it is true is there anything to match; component: see `find_tissue`.
    compare: `cover` saturates, so that unlike stains look alike; `density`, the mean optical
    density; `haematoxylin`, of RGB images. On a dark background it is the brightness.
    Raises InputError.
    """
    image = without_alpha(image)
    tissue = find_tissue(image, component)
    small = at_most(image, pixels)
    values = _compared(small, tissue, compare)
    keep = F.interpolate(_near(tissue)[None, None], size=small.grid.shape, mode="bilinear")[0, 0]
    data = (values * keep)[None].float()
    made = Image(data, small.grid, small.mask, image.name)  # no longer what its file holds
    return Section(image, made, tissue, contours.outline_of(tissue.mask.numpy(), tissue.image.grid))


def without_alpha(image: Image) -> Image:
    """RGBA as RGB, grey with opacity as grey."""
    if image.channels not in (2, 4):
        return image
    return replace(image, data=image.data[: image.channels - 1])


def _compared(small: Image, tissue: Tissue, compare: Compare) -> Tensor:
    if compare == "haematoxylin":
        data, scale = as_bytes(small)
        return haematoxylin(data, [scale * value for value in tissue.background])
    density = density_of(small, tissue.background, tissue.kind)
    return cover(density) if compare == "cover" and tissue.kind == "light" else density


def _near(tissue: Tissue) -> Tensor:
    """1 on the tissue and close to it, 0 elsewhere."""
    away = distance_inside(~tissue.mask.numpy())
    return torch.from_numpy(away <= _RIM * max(tissue.mask.shape)).float()


def sections_recipe() -> Recipe:
    """The packaged recipe: affine, then greedy, both by LNCC."""
    return workflow_recipe("sections")


# ------------------------------------------------------------------ where to start
def starts(fixed: Section, moving: Section, flip: Flip = "auto") -> tuple[Candidate, ...]:
    """Affine maps worth trying, those whose outlines agree best first.

    The fits of the outlines, the images as they are stored with their tissues' middles and sizes
    matched, and, where outlines are round, turns all around.
    """
    a, b = fixed.outline, moving.outline
    wanted = {"auto": (False, True), "no": (False,), "yes": (True,)}[flip]
    found = []
    for mirrored in wanted:
        found += [
            Candidate(one.affine, "outline", one.distance)
            for one in contours.fits(a, b, mirrored=mirrored)
        ]
        size = math.sqrt(np.linalg.det(b.root) / np.linalg.det(a.root))
        found.append(_about(a, b, size * np.diag([-1.0 if mirrored else 1.0, 1.0]), "as stored"))
        turns, scores = contours.turn_scores(a, b, mirrored)
        if contours.is_round(scores):
            for turn in turns[:: round(20 / contours.STEP_DEG)]:
                white = contours.turn(float(turn), mirrored)
                found.append(_about(a, b, b.root @ white @ np.linalg.inv(a.root), "turn"))
    return tuple(sorted(found, key=lambda one: one.distance))


def _about(a: contours.Outline, b: contours.Outline, linear: np.ndarray, source: str) -> Candidate:
    affine = Affine.about(linear, b.centre - a.centre, a.centre)
    return Candidate(affine, source, contours.distance(a, b, affine))


def compared(
    fixed: Image,
    moving: Image,
    candidates: Sequence[Candidate],
    recipe: Recipe,
    execution: Execution | None = None,
    *,
    coarser: float = 1.0,
    control: Control | None = None,
) -> tuple[Candidate, ...]:
    """The candidates after the coarsest level of the recipe's first stage, best first.

    coarser: factor on that level's voxels. Those that have come to the same orientation as a
    better one are left out. Raises InputError where the images cannot be compared, StoppedError
    where `control` ends it.
    """
    data = recipe.to_dict()
    (stage, *_) = data["stages"]
    stage["deformation"] = {"kind": "affine"}
    stage["terms"] = stage["terms"][:1]
    (level, *_) = stage["pyramid"]["levels"]
    stage["pyramid"]["levels"] = [{**level, "shrink": level["shrink"] * coarser}]
    short = Recipe.from_dict({**data, "stages": [stage]}, "sections")
    cases = [Case(fixed, moving, Extras(), one.affine) for one in candidates]
    results = register_batch(cases, short, execution=execution, control=control)
    if control is not None and control.stopped:
        raise StoppedError("Stopped during the search; there was nothing to save yet.")
    found = []
    for one, result in zip(candidates, results, strict=True):
        (_, after), *_ = result.output.stages
        flipped = np.linalg.det(result.affine.matrix[:2, :2]) < 0
        if after.outcome is not Outcome.DIVERGED and flipped == one.mirrored:
            found.append(replace(one, affine=result.affine, score=-after.loss))
    found.sort(key=lambda one: -one.score)
    kept: list[Candidate] = []
    for one in found:
        if all(_differ(one, other) for other in kept):
            kept.append(one)
    return tuple(kept) or tuple(candidates)


def _differ(a: Candidate, b: Candidate) -> bool:
    gap = abs((a.turn_deg - b.turn_deg + 180) % 360 - 180)
    return a.mirrored != b.mirrored or gap > OTHER_DEG


def margin_of(candidates: Sequence[Candidate]) -> float | None:
    """Score of the best minus that of the best of another orientation; None without any, and where
    the start was given and has no score."""
    best, *rest = candidates
    if not math.isfinite(best.score):
        return None
    others = [one.score for one in rest if _differ(one, best)]
    return best.score - max(others) if others else None


def _notes(candidates: Sequence[Candidate]) -> list[str]:
    best, *_ = candidates
    margin = margin_of(candidates)
    if margin is None or margin >= AMBIGUOUS * abs(best.score):
        return []
    other = next(one for one in candidates[1:] if _differ(one, best))
    return [
        f"The orientation is ambiguous: {_words(best)} scores {best.score:.3f} and "
        f"{_words(other)} {other.score:.3f}; look at both candidates, or say whether the section "
        "is flipped (flip)."
    ]


def _words(one: Candidate) -> str:
    return f"turned by {one.turn_deg:.0f} degrees{' and mirrored' if one.mirrored else ''}"


# ------------------------------------------------------------------ the whole route
def match(
    fixed: Image | Section,
    moving: Image | Section,
    *,
    flip: Flip = "auto",
    start: Affine | None = None,
    recipe: Recipe | None = None,
    execution: Execution | None = None,
    control: Control | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Match:
    """Register the moving section onto the fixed one: outlines, affine, then deformation.

    Images are made ready with `section_of`. flip: whether the moving section lies the other way
    up; auto: both are tried and the better one is taken, its margin said. start: fixed mm ->
    moving mm, in place of a search. The map is in mm of the sections, so that it applies to them
    at full resolution; where a pixel size is not known 1 pixel is 1 unit.
    Raises InputError before any registration, StoppedError where `control` ends the search.
    """
    if flip not in ("auto", "yes", "no"):
        raise InputError(f"flip {flip!r}: choose auto, yes or no.")
    fixed = fixed if isinstance(fixed, Section) else section_of(fixed)
    moving = moving if isinstance(moving, Section) else section_of(moving)
    recipe = recipe or sections_recipe()
    scale, notes = common_scale(fixed, moving)
    near = scaled(moving.image, scale)
    if start is None:
        found = search(
            fixed, moving, flip=flip, recipe=recipe, execution=execution, control=control
        )
        notes += _notes(found)
    else:
        distance = contours.distance(fixed.outline, moving.outline, start)
        found = (Candidate(start, "given", distance),)
    initial = zoom(scale, found[0].affine)
    tissues = region(fixed), region(moving, scale)
    whole, lost = without_lost(fixed.image, near, tissues, initial)
    result = register(
        whole, near, recipe, initial=initial,
        execution=execution, control=control, on_event=on_event,
    )  # fmt: skip
    notes += lost
    result = own_units(result, moving.image, scale)
    return Match(fixed, moving, found, result, tuple(notes), scale)


def region(section: Section, scale: float = 1.0) -> Image:
    """1 on the tissue."""
    tissue = section.tissue
    return scaled(Image(tissue.mask[None].float(), tissue.image.grid), scale)


def search(
    fixed: Section,
    moving: Section,
    *,
    flip: Flip = "auto",
    recipe: Recipe | None = None,
    execution: Execution | None = None,
    control: Control | None = None,
) -> tuple[Candidate, ...]:
    """How the moving section may lie on the fixed one, best first, without any registration.

    The fits of the outlines (`starts`), compared as images; where there are many, first at half
    the resolution. Raises InputError where the images cannot be compared, StoppedError where
    `control` ends it.
    """
    recipe = recipe or sections_recipe()
    scale, _ = common_scale(fixed, moving)
    near = scaled(moving.image, scale)
    found = starts(fixed, moving, flip)
    ranked = tuple(replace(one, affine=zoom(scale, one.affine)) for one in found)
    for coarser in (2.0, 1.0) if len(ranked) > _TRIED else (1.0,):
        ranked = compared(
            fixed.image, near, ranked, recipe, execution, coarser=coarser, control=control
        )[:_TRIED]
    return tuple(replace(one, affine=zoom(1 / scale, one.affine)) for one in ranked)


# ------------------------------------------------------------------ unlike units
def common_scale(fixed: Section, moving: Section) -> tuple[float, list[str]]:
    """What brings the moving section's mm to about the fixed one's, 1 where they fit already.

    Levels and steps go by mm of both images, which must not differ by orders of magnitude. A power
    of two, so that a replay can go there and back to the bit.
    """
    scale = fixed.outline.diameter / moving.outline.diameter
    if _SCALES[0] < scale < _SCALES[1]:
        return 1.0, []
    return 2.0 ** round(math.log2(scale)), [
        f"The tissue of {moving.image.name} is {1 / scale:.3g} times as large as that of "
        f"{fixed.image.name}; the map goes between the units of both, so check the pixel sizes if "
        "this is not meant."
    ]
