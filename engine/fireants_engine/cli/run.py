"""`run`: register two images and write the run directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from fireants_engine.cli.progress import Progress, stop_on_interrupt
from fireants_engine.context import ExecutionContext
from fireants_engine.errors import InputError
from fireants_engine.pipeline import Case, Control, Outcome
from fireants_engine.recipe import Recipe
from fireants_engine.workflows.cases import load_case
from fireants_engine.workflows.registration import Execution, register
from fireants_engine.workflows.result import Result
from fireants_engine.workflows.rundir import check_output_folder, read_report, save_run
from fireants_engine.workflows.tables import ROLES

DEFAULT_PRESET = "brain-mri"


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
    return changed(recipe, args)


def changed(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """`recipe` with --set and --seed; raises RecipeError."""
    values = parse_assignments(args.assignments)
    if args.seed is not None:
        values["seed"] = args.seed
    return recipe.with_values(values) if values else recipe


def own_or(packaged: Recipe, args: argparse.Namespace) -> Recipe:
    """--recipe, or the `packaged` one of a workflow, with --set and --seed; raises RecipeError."""
    return changed(packaged if args.recipe is None else Recipe.load(args.recipe), args)


def load_inputs(args: argparse.Namespace) -> Case:
    """Read and check every input before anything is computed; raises InputError."""
    files = {role: path for role in ROLES if (path := getattr(args, role)) is not None}
    inputs = [(name, Path(fixed), Path(moving)) for name, fixed, moving in args.inputs]
    return load_case(args.fixed, args.moving, files, inputs)


def run(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 when interrupted with the best state saved."""
    recipe = load_recipe(args)
    check_output_folder(args.output)
    execution = load_execution(args)
    case = load_inputs(args)
    control = Control()
    with Progress(args.quiet) as progress, stop_on_interrupt(control, progress):
        progress.say(f"{case.moving.name} -> {case.fixed.name}, recipe {recipe.name}")
        result = register(
            case.fixed,
            case.moving,
            recipe,
            execution=execution,
            initial=case.initial,
            control=control,
            extras=case.extras,
            on_event=progress,
        )
    save_run(result, args.output)
    return finish(args, result)


def finish(args: argparse.Namespace, result: Result, *sentences: str) -> int:
    """Tell what a saved run has come to, after `sentences`; 0, or 130 where it was stopped."""
    if not args.quiet:
        for sentence in sentences:
            print(sentence)
        print(summary(read_report(args.output), args.output))
    return 130 if result.outcome is Outcome.STOPPED else 0


def load_execution(args: argparse.Namespace) -> Execution:
    """Where to run, checked; sets the number of threads. Raises InputError."""
    if args.threads is not None:
        import torch

        if args.threads < 1:
            raise InputError(f"--threads {args.threads}: at least one thread is needed.")
        torch.set_num_threads(args.threads)
    ExecutionContext.create(args.device, args.kernels)
    return Execution(args.device, args.kernels)


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
