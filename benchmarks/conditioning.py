"""How ill-conditioned a brain registration is, and what the choices it asks for are worth.

    python benchmarks/conditioning.py [--moving 1001,1002] [--parts kappa,descents,transpose,models]

Thesis 3.2, 3.3, 3.4 and Fig. B.1 on labelled brains of the tuning half (fixed 1000), from an
affine that is found once. Parts that are not asked for keep their rows. Results go to
benchmarks/results/conditioning.json and, as tables, to the terminal.

kappa      condition number of the per-voxel Hessian of SSD, 1x, 2x and 4x
descents   Adam against steepest descent: steps to an equal loss on one level
transpose  greedy with and without J^T: Dice
models     direct against exponential, symmetric and free-form: Dice, folds, seconds
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _common import RESULTS, data_folder, machine

from fireants_engine import Image, Recipe, Result, load_image, register
from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Compositive
from fireants_engine.evaluation import label_overlap
from fireants_engine.kernels import REFERENCE, Direction
from fireants_engine.optimise import SGD, Adam, Descent, Stop
from fireants_engine.pipeline import Iteration, Level, LevelFinished, Plan, Pyramid, run_plan
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.recipe.build import build_stage
from fireants_engine.similarity import LNCC, SSD, Term
from fireants_engine.transforms import Affine, Transform

FIXED = "1000"
FAST = "brain-mri-fast"
Row = dict[str, Any]


# ------------------------------------------------------------- shared with the other scripts
@dataclass(frozen=True)
class Brains:
    """A labelled pair and the affine of the preset between its images."""

    name: str
    fixed: Image
    moving: Image
    fixed_labels: Image
    moving_labels: Image
    affine: Affine


@cache
def brains(moving: str) -> Brains:
    """The pair 1000 <- `moving`, with the preset's rigid and affine stages run once."""
    folder = data_folder() / "oasis_malf"
    images = [load_image(folder / f"{name}_SS.nii.gz") for name in (FIXED, moving)]
    labels = [load_image(folder / f"{name}_glm.nii.gz") for name in (FIXED, moving)]
    both = Recipe.preset(FAST).to_dict()
    linear = Recipe.from_dict({**both, "stages": both["stages"][:-1]})
    return Brains(f"{FIXED}_{moving}", *images, *labels, register(*images, linear).affine)


def deformable(preset: str, values: Row | None = None) -> Recipe:
    """The last stage of a preset alone, with `values` at paths below the stage."""
    whole = Recipe.preset(preset).to_dict()
    recipe = Recipe.from_dict({**whole, "stages": whole["stages"][-1:]})
    return recipe.with_values({f"stages.0.{path}": v for path, v in (values or {}).items()})


def measured(pair: Brains, recipe: Recipe) -> tuple[Result, Row]:
    """One deformable stage from the affine: Dice (one-hot, linear, argmax), folds, seconds.

    folds_before: voxels that folded on the last level before they were smoothed away.
    """
    cpu, wall = time.process_time(), time.perf_counter()
    result = register(pair.fixed, pair.moving, recipe, initial=pair.affine)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    levels = result.output.stages[-1][1].levels
    return result, {
        "pair": pair.name,
        "dice": dice(pair, result),
        "folds_before": levels[-1].unfolded + (levels[-1].folds or 0),
        "folds": levels[-1].folds,
        "steps": [level.steps for level in levels],
        "cpu_seconds": round(cpu, 2),
        "seconds": round(wall, 2),
    }


def dice(pair: Brains, result: Result) -> float:
    moved = result.warp_labels(pair.moving_labels)
    return label_overlap(
        *(k.numpy().astype(np.int32) for k in (pair.fixed_labels, moved))
    ).mean_dice()


def show(rows: list[Row]) -> None:
    """A table of rows that share their keys."""
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        cells = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(cells) + " |", flush=True)


# ------------------------------------------------------------------------------------ kappa
SHRINKS = (1, 2, 4)
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
EDGES = np.round(np.arange(0.0, 8.01, 0.25), 2)
"""log10 of the condition numbers at which the distribution is kept (`share_above`)."""


def condition_numbers(
    fixed: NDArray[np.float64], moved: NDArray[np.float64], inside: NDArray[np.bool_], spacing: Any
) -> NDArray[np.float64]:
    """kappa = |lambda|max / |lambda|min of H = grad M grad M^T + (M - F) grad^2 M, per voxel.

    The Hessian of (M(phi(x)) - F(x))^2 / 2 by phi(x) (thesis 3.2): central differences of the
    warped image M on the fixed grid, in mm. NaN where H vanishes.
    """
    first = np.gradient(moved, *spacing)
    hessian = np.empty((int(inside.sum()), 3, 3))
    residual = (moved - fixed)[inside]
    for i in range(3):
        for j in range(i, 3):
            second = _second(moved, i, spacing[i]) if i == j else _mixed(first[i], j, spacing[j])
            entry = first[i][inside] * first[j][inside] + residual * second[inside]
            hessian[:, i, j] = hessian[:, j, i] = entry
    size = np.sort(np.abs(np.linalg.eigvalsh(hessian)), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return size[:, 2] / size[:, 0]


def _second(values: NDArray[np.float64], axis: int, step: float) -> NDArray[np.float64]:
    out = np.zeros_like(values)
    inner = tuple(slice(1, -1) if k == axis else slice(None) for k in range(3))
    out[inner] = np.diff(values, 2, axis) / step**2
    return out


def _mixed(first: NDArray[np.float64], axis: int, step: float) -> NDArray[np.float64]:
    return np.gradient(first, step, axis=axis)


def kappa(pair: Brains) -> Iterator[Row]:
    """Per level, at the affine start and after the greedy stage: how kappa is distributed.

    Foreground: fixed image above a tenth of its maximum, as in accuracy.py.
    """
    ctx, model = ExecutionContext(), Compositive()
    prepared = Prepared.create(pair.fixed, pair.moving, ctx)
    end = register(pair.fixed, pair.moving, deformable(FAST), initial=pair.affine).output.transform
    places: dict[str, Transform] = {"affine": pair.affine, "greedy": end}
    for (place, transform), shrink in product(places.items(), SHRINKS):
        level = prepared.level(shrink, 16)
        views = model.motion(level, model.init(level, transform, ctx), ctx).views(level, ctx)
        fixed, moved = (k[0, 0].double().numpy() for k in (views.fixed, views.moving))
        inside = fixed > 0.1 * fixed.max()
        found = condition_numbers(fixed, moved, inside, level.fixed_grid.spacing_zyx)
        known = found[~np.isnan(found)]
        yield {
            "pair": pair.name,
            "after": place,
            "shrink": shrink,
            "voxels": int(found.size),
            "undefined": int(found.size - known.size),
            "above_10": float((known > 10).mean()),
            "above_1e3": float((known > 1e3).mean()),
            "quantiles": {str(q): float(np.quantile(known, q)) for q in QUANTILES},
            "share_above": {str(e): round(float((known > 10**e).mean()), 5) for e in EDGES},
        }


# --------------------------------------------------------------------------------- descents
@dataclass(frozen=True)
class FullStepSGD(SGD):
    """Steepest descent whose steepest voxel takes the whole step every time: the most that the
    step bound allows it (the engine's SGD does so only at the start of a level).
    """

    def direction(
        self, grad: Any, state: Any, loss: Any = None, kernels: Any = REFERENCE
    ) -> tuple[Any, Any]:
        way, state = super().direction(grad, state, loss, kernels)
        size = way.peaks.amax().clamp(min=torch.finfo(way.values.dtype).tiny)
        return Direction(way.values / size, way.peaks / size), state


DESCENTS: dict[str, list[Descent]] = {
    "adam": [Adam(step=s, eps_rel=e) for s in (0.5, 0.9) for e in (1e-3, 0.5)],
    "sgd": [SGD(step=s, momentum=b) for s in (0.5, 1.0) for b in (0.0, 0.9)],
    "sgd, full step": [FullStepSGD(step=s, momentum=b) for s in (0.5, 1.0) for b in (0.0, 0.9)],
}
TERMS: dict[str, Term] = {"ssd": SSD(), "lncc": LNCC(radius_vox=2)}
STEPS = {4: 100, 2: 40}


def descents(pair: Brains) -> Iterator[Row]:
    """Per loss, level and descent the loss after each step, from the affine.

    At 4x the whole grid; at 2x each descent with the settings that got furthest at 4x.
    """
    for loss, term in TERMS.items():
        best: dict[str, Descent] = {}
        for shrink, steps in STEPS.items():
            for name, grid in DESCENTS.items():
                lowest = float("inf")
                for descent in [best[name]] if name in best else grid:
                    losses = curve(pair, term, descent, shrink, steps)
                    if min(losses) < lowest:
                        found, lowest = descent, min(losses)
                    settings = {k: v for k, v in vars(descent).items() if k != "decay"}
                    print(
                        f"{loss} {shrink}x {name} {settings}: {losses[0]:.5g} -> {min(losses):.5g}"
                    )
                    yield {
                        "pair": pair.name,
                        "loss": loss,
                        "shrink": shrink,
                        "descent": name,
                        "settings": settings,
                        "losses": [float(f"{v:.6g}") for v in losses],
                    }
                best[name] = found


def curve(pair: Brains, term: Term, descent: Descent, shrink: int, steps: int) -> list[float]:
    """The loss before each step and after the last one, of one level from the affine."""
    stage = build_stage(deformable(FAST).stages[0])
    stage = replace(
        stage, terms=(term,), descent=descent, pyramid=Pyramid((Level(shrink, steps),)),
        stop=Stop(tolerance=0.0),
    )  # fmt: skip
    losses: list[float] = []
    plan = Plan((stage,), pair.affine)
    for event in run_plan(plan, pair.fixed, pair.moving, ExecutionContext()):
        if isinstance(event, Iteration):
            losses += event.losses
        if isinstance(event, LevelFinished):
            losses.append(event.loss)
    return losses


# ------------------------------------------------------------------------ transpose, models
def transpose(pair: Brains) -> Iterator[Row]:
    """Greedy without and with J^T, everything else as in the preset."""
    for on in (False, True):
        recipe = deformable(FAST, {"deformation.jacobian_transpose": on})
        yield {"transpose": on, **measured(pair, recipe)[1]}


MODELS = ("greedy", "symmetric", "stationary_velocity", "free_form")


def models(pair: Brains) -> Iterator[Row]:
    """Every dense deformation with the greedy stage's settings."""
    shared = deformable(FAST).to_dict()["stages"][0]["deformation"]
    shared.pop("jacobian_transpose")
    for kind in MODELS:
        recipe = deformable(FAST, {"deformation": {**shared, "kind": kind}})
        yield {"deformation": kind, **measured(pair, recipe)[1]}


PARTS = {"kappa": kappa, "descents": descents, "transpose": transpose, "models": models}
ONCE = ("descents",)
"""Parts that run on the first pair only."""
LISTS = ("quantiles", "share_above", "losses")
"""Columns that no table on the terminal shows."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--moving", default="1001,1002")
    parser.add_argument("--parts", default=",".join(PARTS))
    args = parser.parse_args()
    path = RESULTS / "conditioning.json"
    for part in args.parts.split(","):
        for name in args.moving.split(",")[: 1 if part in ONCE else None]:
            pair = brains(name)
            rows: list[Row] = []
            for row in PARTS[part](pair):
                rows.append(row)
                result = json.loads(path.read_text()) if path.is_file() else {}
                kept = [old for old in result.get(part, []) if old["pair"] != pair.name]
                result |= {"machine": machine(torch.get_num_threads()), part: kept + rows}
                path.write_text(json.dumps(result, indent=1) + "\n")
            show([{k: v for k, v in row.items() if k not in LISTS} for row in rows])


if __name__ == "__main__":
    main()
