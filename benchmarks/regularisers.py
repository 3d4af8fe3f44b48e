"""Whether every regulariser does what its weight says: its energy falls as the weight rises.

    python benchmarks/regularisers.py [--moving 1001] [--shrink 4] [--steps 100]

Thesis 4.5.6 and Fig. 4.8b. A greedy stage of SSD on one level (4x) of a labelled pair (fixed 1000,
tuning half), from an affine that is found once, without smoothing of the warp, so that nothing
but the term holds it. Weights are relative: r = 1 makes the term, on the warp found without it,
cost as much as that warp gained in SSD. Every run takes all its steps.
Results go to benchmarks/results/regularisers.json and, as a table, to the terminal.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _common import RESULTS, machine
from conditioning import Brains, Row, brains, deformable

from fireants_engine.context import ExecutionContext
from fireants_engine.optimise import Stop
from fireants_engine.pipeline import Iteration, Level, Plan, Pyramid, RunFinished, run_plan
from fireants_engine.recipe.build import build_stage
from fireants_engine.regularise import (
    Bending,
    Diffusion,
    Elastic,
    JacobianPenalty,
    Laplacian,
    Regulariser,
)
from fireants_engine.similarity import SSD
from fireants_engine.transforms import Displacement

FAMILIES: dict[str, Regulariser] = {
    "diffusion": Diffusion(),
    "total variation": Diffusion(power=1),
    "elastic": Elastic(),
    "laplacian": Laplacian(),
    "bending": Bending(),
    "jacobian": JacobianPenalty(),
}
RELATIVE = (0.0, 0.01, 0.0316, 0.1, 0.316, 1.0, 3.16, 10.0, 31.6)


def warp(
    pair: Brains, terms: tuple, shrink: float, steps: int
) -> tuple[Displacement, tuple[float, float]]:
    """The warp on its level's grid, and the loss before the first step and at the end."""
    stage = build_stage(deformable("brain-mri-fast").stages[0])
    stage = replace(
        stage,
        deformation=replace(stage.deformation, sigma_warp_mm=0.0, warp_floor_vox=0.0),
        terms=terms,
        pyramid=Pyramid((Level(shrink, steps),)),
        stop=Stop(tolerance=0.0),
    )
    first = None
    plan = Plan((stage,), pair.affine)
    for event in run_plan(plan, pair.fixed, pair.moving, ExecutionContext()):
        if isinstance(event, Iteration) and first is None:
            first = event.losses[0]
        if isinstance(event, RunFinished):
            output = event.result
    return output.transform.parts[0], (first, output.stages[-1][1].loss)


def sweep(pair: Brains, shrink: float, steps: int) -> Iterator[Row]:
    """One row per family and weight: the energy of the final warp, and the SSD it reached."""
    free, (start, end) = warp(pair, (SSD(),), shrink, steps)
    for name, term in FAMILIES.items():

        def energy(field: Displacement, term: Regulariser = term) -> float:
            return float(term.energy(field.u, field.grid.spacing_zyx))

        for relative in RELATIVE:
            weight = relative * (start - end) / energy(free)
            found, loss = free, end
            if weight:
                terms = (SSD(), replace(term, weight=weight))
                found, (_, loss) = warp(pair, terms, shrink, steps)
            value = energy(found)
            yield {
                "pair": pair.name,
                "family": name,
                "relative": relative,
                "weight": weight,
                "energy": value,
                "ssd_gain": (start - (loss - weight * value)) / (start - end),
            }


def monotone(energies: list[float]) -> bool:
    """Whether they fall all the way, or down to 0, where no state beats the identity."""
    return all(b < a or a == b == 0 for a, b in pairwise(energies))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--moving", default="1001")
    parser.add_argument("--shrink", type=float, default=4)
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    rows: list[Row] = []
    for row in sweep(brains(args.moving), args.shrink, args.steps):
        rows.append(row)
        print(*(f"{v:.4g}" if isinstance(v, float) else v for v in row.values()), flush=True)
    for name in FAMILIES:
        falls = monotone([row["energy"] for row in rows if row["family"] == name])
        print(f"{name}: {'falls at every weight' if falls else 'DOES NOT FALL everywhere'}")
    settings = {"shrink": args.shrink, "steps": args.steps}
    document = {"machine": machine(torch.get_num_threads()), "settings": settings, "rows": rows}
    (RESULTS / "regularisers.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
