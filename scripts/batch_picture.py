"""Draws docs/images/batches.png: eight slices of the sample brains, registered as one batch.

Run from the repository: .venv/bin/python scripts/batch_picture.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from deformations_picture import heads, show
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

import fireants_engine as fe

ROOT = Path(__file__).resolve().parents[1]
SLICES = range(58, 114, 7)
STAGE = {
    "name": "warp",
    "deformation": {"kind": "greedy", "sigma_grad_mm": 2},
    "terms": [{"kind": "lncc"}],
    "descent": {"kind": "adam", "step": 0.9, "eps_rel": 0.5},
    "stop": {"tolerance": 0.005},
}


def cases() -> list[fe.Case]:
    """Axial slices of both heads."""
    first, second = (values / np.quantile(values, 0.995) for values in heads())
    return [fe.Case(fe.Image.from_numpy(first[k]), fe.Image.from_numpy(second[k])) for k in SLICES]


def main() -> None:
    given = cases()
    recipe = fe.Recipe.from_dict({"start": {"kind": "identity"}, "stages": [STAGE]})
    results = fe.register_batch(given, recipe, execution=fe.Execution("cpu"))
    figure = Figure(figsize=(11, 7.2), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
    axes = figure.subplots(4, len(given), gridspec_kw={"height_ratios": [1, 1, 1, 1]})
    names = ("fixed", "moved", "difference\nbefore", "difference\nafter")
    for name, axis in zip(names, axes[:, 0], strict=True):
        axis.set_ylabel(name, fontsize=11)
    for k, (case, result) in enumerate(zip(given, results, strict=True)):
        fixed, moving, moved = (i.numpy() for i in (case.fixed, case.moving, result.moved))
        show(axes[0, k], fixed, 1.15)
        show(axes[1, k], moved, 1.15)
        show(axes[2, k], np.abs(fixed - moving), 0.6, "magma")
        show(axes[3, k], np.abs(fixed - moved), 0.6, "magma")
        steps = sum(level.steps for level in result.output.stages[0][1].levels)
        axes[0, k].set_title(f"pair {k}\n{steps} steps", fontsize=11)
    path = ROOT / "docs" / "images" / "batches.png"
    figure.savefig(path, dpi=110)
    print(path, {result.outcome.name for result in results})


if __name__ == "__main__":
    main()
