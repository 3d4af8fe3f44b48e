"""`run`: register two images and write the run directory."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fireants_engine.cli.progress import Progress, stop_on_interrupt
from fireants_engine.context import ExecutionContext
from fireants_engine.errors import InputError
from fireants_engine.geometry import Image, check_pair
from fireants_engine.io.images import load_image
from fireants_engine.io.points import load_landmarks
from fireants_engine.io.transforms import load_transform
from fireants_engine.pipeline import Control, Extras, Outcome
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Transform
from fireants_engine.workflows.registration import Execution, register
from fireants_engine.workflows.rundir import check_output_folder, read_report, save_run

DEFAULT_PRESET = "brain-mri"


@dataclass(frozen=True)
class Inputs:
    """Everything a run reads, loaded and checked."""

    fixed: Image
    moving: Image
    initial: Transform | None
    extras: Extras


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`path=value` texts as a mapping, values read as YAML; raises InputError."""
    out: dict[str, Any] = {}
    for text in assignments:
        path, sign, value = text.partition("=")
        if not sign or not path.strip():
            raise InputError(
                f"--set {text}: expected PATH=VALUE, such as stages.greedy.descent.step=0.3."
            )
        try:
            out[path.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--set {text}: {value!r} is not a value in YAML.") from None
    return out


def load_recipe(args: argparse.Namespace) -> Recipe:
    """The recipe of the command line, with --set and --seed; raises RecipeError."""
    if args.recipe is not None:
        recipe = Recipe.load(args.recipe)
    else:
        recipe = Recipe.preset(args.preset or DEFAULT_PRESET)
    values = parse_assignments(args.assignments)
    if args.seed is not None:
        values["seed"] = args.seed
    return recipe.with_values(values) if values else recipe


def _initial(path: Path | None, fixed: Image) -> Transform | None:
    if path is None:
        return None
    initial = load_transform(path)
    if initial.dim != fixed.dim:
        raise InputError(
            f"{path}: the initial transform is {initial.dim}D but {fixed.name} is {fixed.dim}D; "
            "give a transform of the same dimension."
        )
    return initial


def _images(given: list[list[str]]) -> dict[str, tuple[Image, Image]]:
    """--input NAME FIXED MOVING, as often as it is given."""
    images: dict[str, tuple[Image, Image]] = {}
    for name, fixed, moving in given:
        if name in images:
            raise InputError(f"--input {name}: is given twice; use another name.")
        images[name] = (load_image(fixed), load_image(moving))
    return images


def load_inputs(args: argparse.Namespace) -> Inputs:
    """Read and check every input before anything is computed; raises InputError."""
    optional = {
        role: None if path is None else load_image(path)
        for role, path in (
            ("fixed_mask", args.fixed_mask),
            ("moving_mask", args.moving_mask),
            ("moving_labels", args.moving_labels),
            ("fixed_labels", args.fixed_labels),
        )
    }
    fixed, moving = load_image(args.fixed), load_image(args.moving)
    check_pair(fixed, moving)
    fixed = fixed.with_mask(optional["fixed_mask"])
    moving = moving.with_mask(optional["moving_mask"])
    roles = ("fixed_mask", "moving_mask", "landmarks", "init")
    files = {role: path for role in roles if (path := getattr(args, role)) is not None}
    extras = Extras(
        optional["moving_labels"],
        optional["fixed_labels"],
        None if args.landmarks is None else load_landmarks(args.landmarks, fixed.dim),
        _images(args.inputs),
        files,
    )
    extras.check(fixed, moving)
    return Inputs(fixed, moving, _initial(args.init, fixed), extras)


def run(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 when interrupted with the best state saved."""
    recipe = load_recipe(args)
    check_output_folder(args.output)
    if args.threads is not None:
        _set_threads(args.threads)
    ExecutionContext.create(args.device, args.kernels)
    inputs = load_inputs(args)
    control = Control()
    with Progress(args.quiet) as progress, stop_on_interrupt(control, progress):
        progress.say(f"{inputs.moving.name} -> {inputs.fixed.name}, recipe {recipe.name}")
        result = register(
            inputs.fixed,
            inputs.moving,
            recipe,
            execution=Execution(args.device, args.kernels),
            initial=inputs.initial,
            control=control,
            extras=inputs.extras,
            on_event=progress,
        )
    save_run(result, args.output)
    if not args.quiet:
        print(summary(read_report(args.output), args.output))
    return 130 if result.outcome is Outcome.STOPPED else 0


def _set_threads(number: int) -> None:
    import torch

    if number < 1:
        raise InputError(f"--threads {number}: at least one thread is needed.")
    torch.set_num_threads(number)


def summary(report: dict[str, Any], folder: Path) -> str:
    """A few lines for the person who waited."""
    quality = report["quality"]
    lines = [
        f"{report['sentence']} {report['seconds']:.1f} s on {report['execution']['device']} "
        f"with {report['execution']['kernels']} kernels."
    ]
    if dice := quality.get("dice"):
        before, after = (dice[k]["mean"] for k in ("before", "after"))
        if after is not None:
            lines.append(
                f"Mean Dice of {len(dice['after']['labels'])} labels: {before:.3f} -> {after:.3f}"
            )
    if tre := quality.get("tre_mm"):
        lines.append(
            f"Mean landmark distance: {tre['before']['mean']:.2f} -> {tre['after']['mean']:.2f} mm "
            f"({tre['points']} points)"
        )
    if quality["deformable"]:
        folds = quality["folds_inside"]
        lines.append(
            f"Folded voxels inside the {quality['inside']}: {folds['voxels']} "
            f"({folds['fraction']:.1e})"
        )
    lines.append(f"Look at {folder / 'report.html'}")
    return "\n".join(lines)
