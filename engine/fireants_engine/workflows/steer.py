"""Steering a run from outside, and making the recorded changes of a run again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fireants_engine.geometry import Image, Landmarks
from fireants_engine.io.images import load_image
from fireants_engine.pipeline import Control, Edit, Edited, Event, Place
from fireants_engine.recipe import Recipe
from fireants_engine.recipe.build import build
from fireants_engine.transforms import Affine
from fireants_engine.transforms.fit import Kind


def edit(
    what: str = "",
    *,
    recipe: Recipe | None = None,
    landmarks: Landmarks | None = None,
    masks: Mapping[str, Image] | None = None,
    nudge: Affine | None = None,
    align: Kind | None = None,
    level: int | None = None,
) -> Edit:
    """A change for `Control.update`, made before the next step of the run.

    recipe: its weights, widths, steps, terms and later stages count from here on; the stages up
    to the present one keep name and deformation. landmarks: instead of those given (they count
    where a term uses them). masks: `fixed_mask`, `moving_mask` -> image whose non-zero voxels are
    matched. nudge: fixed mm -> fixed mm, moves what is seen of the moving image. align: rigid,
    similarity or affine: first bring the landmarks together by such a map. level: go on from
    that level (0 the coarsest) of the present stage. what: a sentence for the log.
    The run goes on from its present map; the steps of the level are counted anew. An edit that
    does not fit is left out with a Warning. Raises RecipeError for a recipe without an enabled
    stage.
    """
    return Edit(
        what=what,
        plan=None if recipe is None else build(recipe),
        landmarks=landmarks,
        masks=dict(masks or {}),
        nudge=nudge,
        align=align,
        level=level,
        recipe=None if recipe is None else recipe.to_dict(),
    )


def mask_file(number: int, role: str) -> str:
    """File of a run directory that keeps the mask of edit `number`, from 1."""
    return f"edit{number}_{role}.nii.gz"


def edits_of(events: tuple[Event, ...]) -> list[Edited]:
    """The changes that were made to a run, in their order."""
    return [event for event in events if isinstance(event, Edited)]


class Script(Control):
    """A control that makes the recorded edits of a run again, each at its place."""

    def __init__(self, recorded: list[dict[str, Any]], folder: Path) -> None:
        super().__init__()
        for number, item in enumerate(recorded, start=1):
            self.update(_again(number, item, folder))


def _again(number: int, item: dict[str, Any], folder: Path) -> Edit:
    values = item["values"]
    recipe = None if "recipe" not in values else Recipe.from_dict(values["recipe"])
    marks = values.get("landmarks")
    masks = {role: load_image(folder / mask_file(number, role)) for role in item["masks"]}
    return Edit(
        what=item["what"],
        plan=None if recipe is None else build(recipe),
        landmarks=None if marks is None else Landmarks.from_dict(marks),
        masks=masks,
        nudge=Affine(np.array(values["nudge"])) if "nudge" in values else None,
        align=values.get("align"),
        level=values.get("from_level"),
        stop=values.get("stop", False),
        recipe=values.get("recipe"),
        at=Place(item["index"], item["level"], item["step"]),
    )
