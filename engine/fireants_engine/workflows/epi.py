"""EPI distortion correction: volumes and how they were read out become a recipe and a field."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from fireants_engine.deformations import PhaseEncode
from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding, Image
from fireants_engine.pipeline import Control, Event, Extras, Outcome, RunFinished
from fireants_engine.recipe import Recipe
from fireants_engine.recipe.presets import workflow_recipe
from fireants_engine.similarity.structural import STRUCTURAL
from fireants_engine.transforms import Affine, Displacement
from fireants_engine.transforms.distortion import Distortion
from fireants_engine.transforms.invert import invert
from fireants_engine.workflows.registration import Execution, run
from fireants_engine.workflows.result import Result

Method = Literal["field", "pairwise"]
MOTION_STEPS = 60
"""Of the finest level where the motion is estimated, too."""


@dataclass(frozen=True, eq=False)
class Volume:
    """One EPI volume and how it was read out."""

    image: Image
    encoding: Encoding

    @property
    def name(self) -> str:
        return self.image.name


@dataclass(frozen=True, eq=False)
class Correction:
    """What a correction has found: the distortion on the grid of the volumes.

    result: the run behind it, None where the field was given.
    """

    volumes: tuple[Volume, ...]
    distortion: Distortion
    result: Result | None = None


# ------------------------------------------------------------------ what is given
def check_volumes(volumes: Sequence[Volume]) -> None:
    """Raise InputError, one sentence, for volumes that cannot be corrected together."""
    if len(volumes) < 2:
        raise InputError(
            "A field is told from two volumes with unlike phase encoding; give a second one, or a "
            "field map."
        )
    first = volumes[0]
    for one in volumes:
        if one.image.channels != 1:
            raise InputError(
                f"{one.name}: has {one.image.channels} channels; give one volume of one channel."
            )
        if not one.image.grid.same_space(first.image.grid):
            raise InputError(
                f"{one.name}: lies on another grid than {first.name} (size "
                f"{one.image.grid.size} against {first.image.grid.size}, or another origin, "
                "spacing or direction); volumes of one acquisition share theirs, so give images "
                "that were not resampled, or resample none or all of them alike."
            )
    encodings = [one.encoding for one in volumes]
    same = {(one.axis, one.signed_readout_s) for one in encodings}
    if len(same) == 1 and encodings[0].readout_s:
        raise InputError(
            f"{volumes[0].name} and {volumes[1].name}: both have the phase encoding "
            f"{encodings[0]}, so nothing tells how far they are bent; give volumes of opposite "
            "direction, or correct the directions that were given."
        )
    PhaseEncode(tuple(encodings)).check(first.image.dim)


def check_one_axis(volumes: Sequence[Volume]) -> None:
    """Raise InputError for a pair along different axes, which nobody may have meant."""
    first, second = (one.encoding for one in volumes[:2])
    if len(volumes) == 2 and first.axis != second.axis:
        raise InputError(
            f"{volumes[0].name} is encoded along {first.direction} and {volumes[1].name} along "
            f"{second.direction}: different axes, which is rarely meant; correct the directions, "
            "or say so with --mixed-axes."
        )


def epi_recipe(
    encodings: Sequence[Encoding], *, motion: bool = False, structural: bool = False
) -> Recipe:
    """The packaged EPI recipe for volumes that were read out so; it runs without this workflow.

    motion: also estimate how each volume after the first has moved; structural: compare with the
    input `structural`, too.
    """
    data = workflow_recipe("epi").to_dict()
    (stage,) = data["stages"]
    stage["deformation"]["volumes"] = [
        {"direction": one.direction, "readout_s": one.readout_s} for one in encodings
    ]
    stage["deformation"]["with_motion"] = motion
    if motion:  # field and motion explain each other in part, which takes longer to part
        stage["pyramid"]["levels"][-1]["max_steps"] = MOTION_STEPS
    if structural:
        stage["terms"].append({"kind": "structural", "weight": 0.05})
    return Recipe.from_dict(data, "epi")


def as_pair(volumes: Sequence[Volume]) -> tuple[Image, Image]:
    """Fixed and moving as a phase_encode stage takes them (`deformations.undistorted`)."""
    images = [one.image for one in volumes]
    if len(images) == 2:
        return images[0], images[1]
    data = torch.cat([image.data.float() for image in images])
    grid, names = images[0].grid, ", ".join(image.name for image in images)
    return Image(data, grid, name=names), Image(data.roll(-1, 0), grid, name=names)


# ------------------------------------------------------------------ the field
def correct(
    volumes: Sequence[Volume],
    *,
    recipe: Recipe | None = None,
    motion: bool = False,
    structural: Image | None = None,
    method: Method = "field",
    execution: Execution | None = None,
    control: Control | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Correction:
    """The distortion of `volumes`, of which the first defines the true grid's frame.

    recipe: default `epi_recipe`; motion, structural: see there; the structural image lies where
    the volumes lie (its header says so). method: `field` estimates one field on the true grid;
    `pairwise` registers the second volume onto the first along their axis and takes the inverted
    half deformation (`half_deformation`), as a check. Raises InputError before any work.
    """
    events = correction(
        volumes, recipe=recipe, motion=motion, structural=structural, method=method,
        execution=execution, control=control,
    )  # fmt: skip
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return end.value
        if on_event is not None:
            on_event(event)


def correction(
    volumes: Sequence[Volume],
    *,
    recipe: Recipe | None = None,
    motion: bool = False,
    structural: Image | None = None,
    method: Method = "field",
    execution: Execution | None = None,
    control: Control | None = None,
) -> Generator[Event, None, Correction]:
    """The events of `correct`; what it returns is returned."""
    check_volumes(volumes)
    encodings = [one.encoding for one in volumes]
    extras = Extras()
    if structural is not None:
        extras = Extras(images={STRUCTURAL: (structural, structural)})
    if method == "pairwise":
        recipe = recipe or pairwise_recipe(volumes)
    recipe = recipe or epi_recipe(encodings, motion=motion, structural=structural is not None)
    fixed, moving = as_pair(volumes)
    result: Any = None
    for event in run(fixed, moving, recipe, execution=execution, control=control, extras=extras):
        if isinstance(event, RunFinished):
            result = event.result
        yield event
    if method == "pairwise":
        warp = result.warp_field
        found = half_deformation(warp, encodings[0], encodings[1])
    else:
        found = distortion_of(result)
    return Correction(tuple(volumes), found.on(fixed.grid), result)


def distortion_of(result: Result) -> Distortion:
    """The field that the last phase_encode stage of a run has found; raises InputError."""
    for _, stage in reversed(result.output.stages):
        if isinstance(stage.found, Distortion):
            return stage.found
    if result.outcome is Outcome.STOPPED:
        raise InputError("The correction was stopped before it found a field; start it again.")
    raise InputError(
        "The run found no field: its recipe has no phase_encode stage, or that diverged; use the "
        "recipe of the EPI workflow."
    )


def given_field(volumes: Sequence[Volume], field_hz: Image) -> Correction:
    """Volumes with a field map in Hz, which is brought onto their grid by its place in the world.

    Beyond the map its border value goes on. Raises InputError for a map of another dimension.
    """
    from fireants_engine.ops import warp_image

    grid = volumes[0].image.grid
    if field_hz.grid.dim != grid.dim or field_hz.channels != 1:
        raise InputError(
            f"{field_hz.name}: is no field map for {volumes[0].name}; give one channel in Hz, "
            f"{grid.dim}D."
        )
    field = field_hz
    if not field.grid.same_space(grid):
        field = warp_image(field_hz, Affine.identity(grid.dim), grid)
    encodings = tuple(one.encoding for one in volumes)
    still = (Affine.identity(grid.dim),) * len(encodings)
    hz = field.data.float()[None]
    return Correction(
        tuple(volumes), Distortion(hz, grid, encodings, still, tuple(grid.spacing_zyx))
    )


# ------------------------------------------------------------------ the thesis's route
def pairwise_recipe(volumes: Sequence[Volume]) -> Recipe:
    """One image onto the other along their common axis (thesis 6.2); raises InputError."""
    first, second = (one.encoding for one in volumes[:2])
    if len(volumes) != 2 or first.axis != second.axis:
        raise InputError(
            "The pairwise method takes two volumes encoded along one axis; use the field method."
        )
    data = workflow_recipe("epi-pairwise").to_dict()
    dim = volumes[0].image.dim
    data["stages"][0]["deformation"]["axis_weights"] = [
        float(axis == first.axis) for axis in range(dim)
    ]
    return Recipe.from_dict(data, "epi-pairwise")


def half_deformation(warp: Displacement, first: Encoding, second: Encoding) -> Distortion:
    """The field behind `T(y) = y + u(y)`, which brings the second volume onto the first.

    What is at x lies at `y = x + s1 v` in the first and at `x + s2 v` in the second volume (s:
    voxels per Hz), so `u(y) = (s2 - s1) v(x)` and `x = y - s1 / (s2 - s1) u(y)`: half the way for
    opposite readouts. That is known where the *first volume* shows things, on its bent grid, and
    has to be inverted to be known at x (LESSONS 17). Neither half of u without inverting nor the
    group square root of T is the field. Raises InputError for readouts that do not differ.
    """
    apart = second.signed_readout_s - first.signed_readout_s
    if first.axis != second.axis or not apart or not first.readout_s:
        raise InputError(
            "A half deformation needs two volumes along one axis that are read out differently, "
            "of which the first is distorted."
        )
    back = invert(warp.u * (-first.signed_readout_s / apart))
    axis = first.array_axis(warp.dim)
    hz = back[:, axis : axis + 1] / first.signed_readout_s
    still = Affine.identity(warp.dim)
    return Distortion(hz, warp.grid, (first, second), (still, still), tuple(warp.grid.spacing_zyx))


def swapped(volumes: Sequence[Volume]) -> tuple[Volume, ...]:
    """The same images with the readouts of the others: what a wrong sign would have said."""
    encodings = [one.encoding for one in reversed(volumes)]
    pairs = zip(volumes, encodings, strict=True)
    return tuple(replace(one, encoding=encoding) for one, encoding in pairs)
