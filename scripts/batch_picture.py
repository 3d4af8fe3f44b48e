"""Draws docs/images/batches.png: eight slices of the sample brains, registered as one batch.

Run from the repository: .venv/bin/python scripts/batch_picture.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
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
    """Axial slices of ICBM152, and of Colin27 after an affine registration of the heads."""
    fixed, moving = (
        fe.load_image(ROOT / "sample_data" / f"{name}_t1.nii.gz") for name in ("icbm152", "colin27")
    )
    moved = fe.register(fixed, moving, "affine").moved
    first, second = (image.numpy() / np.quantile(image.numpy(), 0.995) for image in (fixed, moved))
    return [fe.Case(fe.Image.from_numpy(first[k]), fe.Image.from_numpy(second[k])) for k in SLICES]


def show(axis: Any, values: np.ndarray, colours: str = "gray", top: float = 1.15) -> None:
    axis.imshow(values, cmap=colours, vmin=0, vmax=top, origin="lower")
    axis.set(xticks=[], yticks=[], xlim=(22, 175), ylim=(22, 212))
    for spine in axis.spines.values():
        spine.set_visible(False)


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
        show(axes[0, k], fixed)
        show(axes[1, k], moved)
        show(axes[2, k], np.abs(fixed - moving), "magma", 0.6)
        show(axes[3, k], np.abs(fixed - moved), "magma", 0.6)
        steps = sum(level.steps for level in result.output.stages[0][1].levels)
        axes[0, k].set_title(f"pair {k}\n{steps} steps", fontsize=11)
    path = ROOT / "docs" / "images" / "batches.png"
    figure.savefig(path, dpi=110)
    print(path, {result.outcome.name for result in results})


if __name__ == "__main__":
    main()
