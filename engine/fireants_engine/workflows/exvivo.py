"""Ex-vivo to in-vivo: which half it is, how it lies, and the deformation onto the living brain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fireants_engine.context import ExecutionContext
from fireants_engine.errors import InputError
from fireants_engine.geometry import Image, check_pair
from fireants_engine.pipeline import Control, Event, InitialAlignment
from fireants_engine.pipeline.initialise import AMBIGUOUS, Candidate, initialise
from fireants_engine.pipeline.moments import foreground
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.pipeline.rotations import nearest_rotation
from fireants_engine.recipe import Recipe
from fireants_engine.recipe.build import build
from fireants_engine.recipe.presets import workflow_recipe
from fireants_engine.workflows.hemispheres import (
    Midplane,
    Side,
    SideLabels,
    part_of,
    plane_by_symmetry,
    plane_from_labels,
)
from fireants_engine.workflows.registration import Execution, register
from fireants_engine.workflows.result import Result

Hemisphere = Literal["auto", "left", "right", "whole"]
_TRIED: dict[str, tuple[Side, ...]] = {
    "auto": ("left", "right", "whole"),
    "left": ("left",),
    "right": ("right",),
    "whole": ("whole",),
}
_LIKE_ITS_MIRROR = 0.7
"""Correlation of the in-vivo brain with its mirror image below which the plane is in doubt."""


@dataclass(frozen=True, eq=False)
class Fit:
    """The ex-vivo brain on one part of the in-vivo brain: `fixed` is that part alone."""

    side: Side
    fixed: Image
    start: InitialAlignment

    @property
    def score(self) -> float:
        """Of its best start, higher is better."""
        return self.start.candidates[0].score


@dataclass(frozen=True, eq=False)
class Orientation:
    """Which part the ex-vivo brain is and how it lies.

    fits: best first. plane: between the halves, None where none was needed. notes: sentences
    that a person should read. labels: those that were given.
    """

    exvivo: Image
    invivo: Image
    fits: tuple[Fit, ...]
    plane: Midplane | None
    notes: tuple[str, ...]
    labels: Image | None = None

    @property
    def chosen(self) -> Fit:
        return self.fits[0]

    @property
    def margin(self) -> float | None:
        """Score of the chosen part minus that of the next; None where one was asked for."""
        return self.fits[0].score - self.fits[1].score if len(self.fits) > 1 else None

    def candidates(self) -> list[tuple[Fit, Candidate]]:
        """Every start on every part, best first; what was chosen is the first."""
        every = [(fit, one) for fit in self.fits for one in fit.start.candidates]
        first, *others = every
        return [first, *sorted(others, key=lambda pair: -pair[1].score)]


@dataclass(frozen=True, eq=False)
class Alignment:
    """An ex-vivo brain on the in-vivo brain. result: in-vivo mm -> ex-vivo mm."""

    orientation: Orientation
    result: Result


# ------------------------------------------------------------------ what is given
def check_brains(
    exvivo: Image,
    invivo: Image,
    labels: Image | None = None,
    hemisphere: Hemisphere = "auto",
    improper: bool = False,
) -> None:
    """Raise InputError, one sentence, for what cannot be aligned."""
    if hemisphere not in _TRIED:
        raise InputError(f"A hemisphere is auto, left, right or whole, not {hemisphere!r}.")
    if improper and hemisphere == "auto":
        raise InputError(
            "A mirrored left half looks like the right one, so with reflections the half cannot "
            "be found; say which it is with --hemisphere, or leave out --improper."
        )
    for image in (exvivo, invivo):
        if image.dim != 3:
            raise InputError(
                f"{image.name}: is {image.dim}D; a brain is a volume, sections go to 'histology'."
            )
        if image.channels != 1:
            raise InputError(
                f"{image.name}: has {image.channels} channels; give one volume of one channel."
            )
    check_pair(invivo, exvivo)
    if labels is not None and not labels.grid.same_space(invivo.grid):
        raise InputError(
            f"{labels.name}: the labels lie on another grid than {invivo.name} (size "
            f"{labels.grid.size} against {invivo.grid.size}, or another origin, spacing or "
            f"direction); resample them onto {invivo.name}."
        )


def check_tissue(image: Image, ctx: ExecutionContext) -> None:
    """Raise InputError where nothing stands out from the background of `image`."""
    prepared = Prepared.create(image, image, ctx)
    shrink = max(1.0, float(max(image.grid.extent_mm)) / 48 / min(image.grid.spacing_mm))
    pair = prepared.level(shrink, 1)
    if not bool(foreground(pair.fixed, pair.fixed_mask).any()):
        raise InputError(
            f"{image.name}: no tissue was found, only background or noise; give another image, or "
            "a mask of the tissue."
        )


def exvivo_recipe(*, improper: bool = False) -> Recipe:
    """The packaged recipe: orientation by local correlation, then rigid, affine and greedy.

    improper: also try reflections.
    """
    recipe = workflow_recipe("exvivo")
    return recipe.with_values({"start.improper": True}) if improper else recipe


# ------------------------------------------------------------------ orientation
def orient(
    exvivo: Image,
    invivo: Image,
    *,
    hemisphere: Hemisphere = "auto",
    labels: Image | None = None,
    side_labels: SideLabels | None = None,
    recipe: Recipe | None = None,
    improper: bool = False,
    execution: Execution | None = None,
) -> Orientation:
    """Which half of the in-vivo brain the ex-vivo one is, and how it lies (thesis 6.1.1).

    The in-vivo brain is parted by `plane_from_labels`, without labels by `plane_by_symmetry`.
    The ex-vivo brain is put onto the left half, the right half and the whole, each by the start
    of the recipe; the best score wins. Only rotations count unless `improper`, so a half is
    never taken for the mirrored other one. labels: segmentation of the in-vivo brain on its grid,
    numbered as FreeSurfer's or as `side_labels` says; it also takes the skull away, which without
    labels has to be stripped. Raises InputError.
    """
    check_brains(exvivo, invivo, labels, hemisphere, improper)
    if side_labels is not None and labels is None:
        raise InputError(
            "--left-labels and --right-labels name numbers of a label map; give it with --labels."
        )
    where = execution or Execution()
    ctx = ExecutionContext.create(where.device, where.kernels)
    recipe = recipe or exvivo_recipe(improper=improper)
    start: Any = build(recipe).start
    notes: list[str] = []
    check_tissue(exvivo, ctx)
    plane = None
    if hemisphere != "whole":
        check_tissue(invivo, ctx)
        if labels is None:
            plane = plane_by_symmetry(invivo, ctx)
        else:
            plane = plane_from_labels(labels, side_labels)
        notes += _doubts(plane, invivo)
    fits = []
    for side in _TRIED[hemisphere]:
        part = part_of(invivo, side, plane, labels, side_labels)
        check_tissue(part, ctx)
        found = initialise(start, Prepared.create(part, exvivo, ctx), ctx)
        if not found.candidates:
            found = InitialAlignment(found.affine, (Candidate("start", found.affine, 0.0),), ())
        fits.append(Fit(side, part, found))
    fits.sort(key=lambda fit: -fit.score)
    if len(fits) > 1 and fits[0].score - fits[1].score < AMBIGUOUS:
        notes.append(
            f"Which part of the brain it is stays in doubt: {fits[0].side} scores "
            f"{fits[0].score:.3f} and {fits[1].side} {fits[1].score:.3f}; look at both candidates "
            "and choose with --hemisphere."
        )
    notes += fits[0].start.notes
    return Orientation(exvivo, invivo, tuple(fits), plane, tuple(notes), labels)


def _doubts(plane: Midplane, invivo: Image) -> list[str]:
    """What makes the plane doubtful."""
    if plane.found_by == "labels" and plane.normal[0] < 0:
        return [
            f"The labels call left what the header of {invivo.name} calls right; the labels were "
            "believed."
        ]
    if plane.found_by == "symmetry" and plane.agreement < _LIKE_ITS_MIRROR:
        return [
            f"{invivo.name} is little like its mirror image (correlation {plane.agreement:.2f}), "
            "so the plane between its halves is in doubt; labels would tell it."
        ]
    return []


# ------------------------------------------------------------------ the whole way
def align(
    exvivo: Image,
    invivo: Image,
    *,
    hemisphere: Hemisphere = "auto",
    labels: Image | None = None,
    side_labels: SideLabels | None = None,
    improper: bool = False,
    recipe: Recipe | None = None,
    execution: Execution | None = None,
    control: Control | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Alignment:
    """Register an ex-vivo brain or hemisphere onto the in-vivo brain, whatever its pose.

    The in-vivo brain is fixed, so the ex-vivo image is warped into living space (thesis 6.1.1):
    `orient`, then `register_oriented`. Raises InputError before any work.
    """
    recipe = recipe or exvivo_recipe(improper=improper)
    how: dict[str, Any] = {"recipe": recipe, "execution": execution}
    found = orient(
        exvivo, invivo, hemisphere=hemisphere, labels=labels, side_labels=side_labels,
        improper=improper, **how,
    )  # fmt: skip
    return register_oriented(found, control=control, on_event=on_event, **how)


def register_oriented(
    orientation: Orientation,
    *,
    recipe: Recipe | None = None,
    execution: Execution | None = None,
    control: Control | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Alignment:
    """The recipe's stages (default `exvivo_recipe`) from the chosen start, onto the chosen part."""
    chosen = orientation.chosen
    result = register(
        chosen.fixed,
        orientation.exvivo,
        recipe or exvivo_recipe(),
        execution=execution,
        initial=chosen.start.affine,
        control=control,
        on_event=on_event,
    )
    return Alignment(orientation, result)


def turned_by(candidate: Candidate) -> float:
    """Degrees of the rotation of a start (of its mirror image where it is a reflection)."""
    rotation = nearest_rotation(candidate.affine.matrix[:-1, :-1]) * candidate.det
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
