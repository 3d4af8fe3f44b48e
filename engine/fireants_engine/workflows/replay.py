"""Repeating a saved run from its folder: same inputs, recipe, start and seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fireants_engine.errors import InputError, RecipeError
from fireants_engine.geometry import Image, Landmarks
from fireants_engine.geometry.orientation import array_axes, nearest_order, reordered
from fireants_engine.io.images import load_image
from fireants_engine.io.transforms import load_displacement, load_transform
from fireants_engine.pipeline import Event, Extras
from fireants_engine.pipeline.inputs import LABELS
from fireants_engine.recipe.build import build
from fireants_engine.transforms import Affine, Chain, Transform
from fireants_engine.workflows.registration import Execution, register
from fireants_engine.workflows.report import data_sha256, file_sha256
from fireants_engine.workflows.result import Result
from fireants_engine.workflows.rundir import (
    INITIAL_FILE,
    MASK_FILE,
    Made,
    SavedRun,
    load_run,
    load_transforms,
    save_transforms,
)
from fireants_engine.workflows.steer import Script
from fireants_engine.workflows.units import own_units, scaled, through


def _check_same(item: dict[str, Any], given: Image, name: str) -> Image:
    """`given`, whose content must be that of the run."""
    if given.path is not None and "sha256" in item:
        same = file_sha256(Path(given.path)) == item["sha256"]
    elif "data_sha256" in item:
        same = data_sha256(given.data) == item["data_sha256"]
    else:
        return given  # data in memory against a file: nothing to compare
    if not same:
        raise _changed(given.path or given.name, name)
    return given


def _changed(what: str, name: str) -> InputError:
    return InputError(
        f"{what}: the {name} has changed since the run (its sha256 differs); restore the file, "
        "or start a new run."
    )


def _same_input(saved: SavedRun, role: str, given: Image | None) -> Image:
    """The image of a run again: kept in its folder, loaded from its path, or as given; its content
    must agree."""
    item = saved.report["inputs"][role]
    name = role.replace("_", " ")
    if given is None and "kept" in item:
        return _kept(saved, role)
    if given is None:
        if item["path"] is None:
            raise InputError(
                f"The {name} of this run did not come from a file; give it to replay({role}=...)."
            )
        given = _check_same(item, _load(saved.report, role), name)
        if role in ("fixed", "moving") and not _as_registered(saved, role, given):
            raise InputError(
                f"{item['path']}: is not what this run registered as its {name} image (it has "
                "another grid or other channels), so it was made from it and not kept; repeat the "
                "command that made the run."
            )
    return _check_same(item, given, name)


def _as_registered(saved: SavedRun, role: str, image: Image) -> bool:
    channels = saved.report["inputs"][role]["channels"]
    return image.channels == channels and image.grid.same_space(saved.grid_of(role))


def _kept(saved: SavedRun, role: str) -> Image:
    """An input that a workflow made, from the folder; on its grid to the bit."""
    item = saved.report["inputs"][role]
    path = saved.folder / item["kept"]
    grid = saved.grid_of(role)
    found = load_image(path)
    if data_sha256(found.data) != item["data_sha256"]:
        raise _changed(str(path), f"{role} image")
    return Image(found.data.reshape(-1, *grid.shape), grid, name=item["name"])


def _load(report: dict[str, Any], role: str) -> Image:
    """The image of a file again, its axes in the order in which the run had those of its pair.

    A run of a viewer's layers may have had the axes of a file in the viewer's order.
    """
    image = load_image(report["inputs"][role]["path"])
    side = role.rsplit(":", 1)[-1].split("_")[0]
    run = np.asarray(report["inputs"][side]["grid"]["direction"])
    if len(run) != image.dim:
        return image
    order = nearest_order(image.grid.direction, run)
    axes = [0, *(1 + axis for axis in array_axes(order))]
    return replace(
        image, data=image.data.permute(axes).contiguous(), grid=reordered(image.grid, order)
    )


def _pair(saved: SavedRun, given: dict[str, Image | None]) -> dict[str, Image]:
    """Fixed and moving with their masks."""
    report = saved.report
    pair = {role: _same_input(saved, role, image) for role, image in given.items()}
    for role, image in pair.items():
        item = report["inputs"].get(f"{role}_mask")
        if item is None:
            pair[role] = replace(image, mask=None)
        elif item["path"] is not None:
            pair[role] = image.with_mask(_same_input(saved, f"{role}_mask", None))
        elif (saved.folder / f"{role}{MASK_FILE}").is_file():
            pair[role] = image.with_mask(load_image(saved.folder / f"{role}{MASK_FILE}"))
        elif image.mask is None or data_sha256(image.mask) != item["data_sha256"]:
            raise InputError(
                f"The {role} mask of this run did not come from a file; give "
                f"replay({role}=...) the image with that mask."
            )
    return pair


def _initial(saved: SavedRun) -> Transform | None:
    """The start that was given to the run, None where the recipe's own was used."""
    start = saved.report["start"]
    if start["kind"] != "given":
        return None
    item = saved.report["inputs"].get("init")
    if start.get("deformable") and item is not None and item["path"] is not None:
        path = Path(item["path"])
        if path.is_file() and file_sha256(path) != item["sha256"]:
            raise _changed(str(path), "initial transform")
        return load_transform(path)
    affine = Affine(np.array(start["matrix"]), np.array(start["centre_mm"]))
    if not start.get("deformable"):
        return affine
    return Chain([load_displacement(saved.folder / INITIAL_FILE), affine])


def _extras(saved: SavedRun, given: Extras | None) -> Extras:
    """What the run's terms used: from `given`, or from the files and points of the report."""
    report, given = saved.report, given or Extras()
    inputs = report["inputs"]
    wanted = {name for _, name in build(saved.recipe).needs()}
    marks, landmarks = report.get("landmarks"), given.landmarks
    if marks is not None:
        landmarks = Landmarks.from_dict(marks)

    def again(role: str, image: Image | None, name: str) -> Image | None:
        item = inputs.get(role)
        if item is None or name not in wanted:
            return image
        if image is None and item["path"] is None:
            raise InputError(
                f"The {role.replace('_', ' ')} of this run did not come from a file; give it to "
                "replay(extras=...)."
            )
        return _check_same(item, _load(report, role) if image is None else image, role)

    images = {}
    for role in (key for key in inputs if key.endswith(":fixed")):
        name = role.removesuffix(":fixed")
        fixed, moving = given.images.get(name, (None, None))
        both = (again(role, fixed, name), again(f"{name}:moving", moving, name))
        if both[0] is not None and both[1] is not None:
            images[name] = both
    return Extras(
        again("moving_labels", given.moving_labels, LABELS),
        again("fixed_labels", given.fixed_labels, LABELS),
        landmarks,
        images,
    )


def replay(
    folder: str | Path,
    *,
    fixed: Image | None = None,
    moving: Image | None = None,
    extras: Extras | None = None,
    execution: Execution | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Result:
    """Repeat a saved run: same inputs (checked by sha256), recipe, start, seed, and the changes
    that were made on its way (a stop included), each at its step.

    fixed, moving, extras: needed where the inputs did not come from files (then with their
    masks). execution: default the run's own device and kernels. On the same machine and number
    of threads the transform is the same to the bit. Raises InputError for changed inputs.
    """
    saved = load_run(folder)
    if saved.recipe.hash != saved.report["recipe"]["hash"]:
        raise RecipeError(
            f"{saved.folder / 'recipe.yaml'}: the recipe was changed since the run; "
            "use it for a new run instead of a replay."
        )
    pair = _pair(saved, {"fixed": fixed, "moving": moving})
    where = saved.report["execution"]
    scale = saved.report["inputs"]["moving"].get("scale", 1.0)
    initial = _initial(saved)
    result = register(
        pair["fixed"],
        scaled(pair["moving"], scale),
        saved.recipe,
        execution=execution or Execution(where["device"], where["kernels"]),
        initial=None if initial is None else through(initial, scale),
        extras=_extras(saved, extras),
        control=Script(saved.report.get("edits", []), saved.folder),
        on_event=on_event,
    )
    return own_units(result, pair["moving"], scale)


def made_again(saved: SavedRun) -> dict[str, Made]:
    """What `save_run` has to keep of a replay of `saved`, so that it can be replayed, too."""
    inputs = {role: saved.report["inputs"][role] for role in ("fixed", "moving")}
    return {
        role: Made(tuple(one["path"] for one in item["made_from"]), item["scale"])
        for role, item in inputs.items()
        if "kept" in item
    }


def difference_mm(saved: SavedRun, again: Result) -> float:
    """How far the maps of a run and of its replay lie apart at most, at the samples of the fixed
    grid; 0 where the files of both would be the same to the bit."""
    with TemporaryDirectory() as place:
        save_transforms(again, Path(place))
        other = load_transforms(Path(place), saved.grid)
    points = saved.grid.points_mm()
    return float(np.abs(other(points) - saved.forward(points)).max())
