"""Draws docs/images/apply.png: a slice of the sample brain, turned, by every interpolation.

Run from the repository: .venv/bin/python scripts/apply_picture.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import fireants_engine as fe
from fireants_engine.geometry import Grid, Image
from fireants_engine.ops import warp_image
from fireants_engine.transforms import Affine

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("nearest", "linear", "bspline", "sinc", "label")
SIZE, STEP_MM, COARSE_MM = 150, 0.4, 2.0


def panel(middle_mm: np.ndarray) -> Grid:
    """A fine axial slice of 60 mm around `middle_mm`."""
    origin = middle_mm - 0.5 * STEP_MM * np.array([SIZE - 1, SIZE - 1, 0])
    return Grid((SIZE, SIZE, 1), (STEP_MM, STEP_MM, 1.0), tuple(origin), np.eye(3))


def main() -> None:
    """One panel per interpolation, of the brain resampled to 2 mm beforehand."""
    brain = fe.load_image(ROOT / "sample_data" / "colin27_t1.nii.gz")
    size = np.round(brain.grid.extent_mm / COARSE_MM).astype(int)
    still = Affine.identity(3)
    coarse = warp_image(brain, still, brain.grid.resized(size))  # as a scan of 2 mm
    values = coarse.numpy()
    tissues = np.digitize(values, np.quantile(values[values > 0], (0.01, 0.35, 0.75)))
    labels = Image.from_numpy(tissues.astype(np.uint8), coarse.grid)
    middle = brain.grid.centre_mm + np.array([28.0, -42.0, 20.0])
    turn = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
    transform, grid = Affine.about(turn, np.array([0.7, 0.3, 0.4]), middle), panel(middle)
    figure = Figure(figsize=(12.5, 2.85), layout="constrained")
    axes = figure.subplots(1, len(NAMES))
    for axis, name in zip(axes, NAMES, strict=True):
        shown = labels if name == "label" else coarse
        got = warp_image(shown, transform, grid, interpolation=name).numpy()[0]
        top = 3 if name == "label" else float(np.quantile(values[values > 0], 0.995))
        axis.imshow(got, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
        axis.set_title(name)
        axis.set_axis_off()
    figure.savefig(ROOT / "docs" / "images" / "apply.png", dpi=110)


if __name__ == "__main__":
    main()
