"""Draws docs/images/terms.png: what every similarity says of a brain that is moved sideways.

Run from the repository: .venv/bin/python scripts/terms_picture.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

import fireants_engine as fe
from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pulled
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.recipe.build import build_stage

ROOT = Path(__file__).resolve().parents[1]
SLICE, FAR = 78, 20
TERMS = (
    ("ssd", {"kind": "ssd"}),
    ("ncc", {"kind": "ncc"}),
    ("lncc, radius 2", {"kind": "lncc"}),
    ("lncc, radius 5", {"kind": "lncc", "radius_vox": 5}),
    ("mi", {"kind": "mi"}),
    ("ssd of mind features", {"kind": "ssd", "features": {"kind": "mind"}}),
)


def contrasts(values: np.ndarray, noise: np.random.Generator) -> dict[str, np.ndarray]:
    """The slice as it is, with a bias field, inverted, and with a contrast that is not monotone."""
    grain = 0.02 * noise.standard_normal(values.shape)
    bias = 0.6 + 0.8 * np.linspace(0, 1, values.shape[1])
    head = values > 0.12
    return {
        "same contrast": values + grain,
        "bias field": values * bias + grain,
        "inverted inside": np.where(head, 1.1 - values, 0) + grain,
        "not monotone": np.where(head, np.sin(3 * np.pi * values) ** 2, 0) + grain,
    }


def curve(fixed: fe.Image, moving: fe.Image, spec: dict) -> np.ndarray:
    """The term at every shift, from 0 at its best to 1 at its worst."""
    from fireants_engine.recipe import Recipe

    stage = {"name": "s", "deformation": {"kind": "greedy"}, "terms": [spec]}
    (built,) = (build_stage(s) for s in Recipe.from_dict({"stages": [stage]}).stages)
    (term,), ctx = built.terms, ExecutionContext()
    pair = Prepared.create(fixed, moving, ctx).level(1, 8, {term.source}).of(term.source)
    loss, values = term.bind(pair, ctx), []
    for shift in range(-FAR, FAR + 1):
        matrix = torch.eye(2, 3)
        matrix[1, 2] = shift
        values.append(float(loss(Pulled(matrix).views(pair, ctx))))
    found = np.array(values)
    return (found - found.min()) / np.ptp(found)


def main() -> None:
    brain = fe.load_image(ROOT / "sample_data" / "icbm152_t1.nii.gz").numpy()[SLICE]
    brain = brain / np.quantile(brain, 0.995)
    fixed = fe.Image.from_numpy(brain)
    given = contrasts(brain, np.random.default_rng(0))
    figure = Figure(figsize=(11, 5.6), layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04))
    axes = figure.subplots(2, len(given), gridspec_kw={"height_ratios": [1, 1.25]})
    shifts = np.arange(-FAR, FAR + 1)
    for k, (name, values) in enumerate(given.items()):
        axes[0, k].imshow(values, cmap="gray", vmin=0, vmax=1.2, origin="lower")
        axes[0, k].set(xticks=[], yticks=[], xlim=(15, 182), ylim=(15, 218))
        axes[0, k].set_title(name, fontsize=12)
        for label, spec in TERMS:
            line = curve(fixed, fe.Image.from_numpy(values), spec)
            dashes = (4, 3) if label == "ncc" else ()  # ssd lies below it
            axes[1, k].plot(shifts, line, label=label, dashes=dashes)
        axes[1, k].axvline(0, color="0.7", linewidth=0.8, zorder=0)
        axes[1, k].set(xlabel="shift, voxels", yticks=[0, 1], xlim=(-FAR, FAR))
        axes[1, k].tick_params(labelleft=k == 0)
    axes[1, 0].set_ylabel("loss, 0 best and 1 worst")
    handles = axes[1, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(TERMS), frameon=False)
    path = ROOT / "docs" / "images" / "terms.png"
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    main()
