"""Draws docs/images/deformations.png: a slice of the sample brains by every dense deformation.

Run from the repository: .venv/bin/python scripts/deformations_picture.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import fireants_engine as fe

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "greedy": "greedy",
    "symmetric": "symmetric",
    "stationary_velocity": "stationary velocity",
    "free_form": "free form",
}
SLICE, LINES_MM = 78, 8.0
INK, LINE = "#202020", "#ffb000"


def slices() -> tuple[fe.Image, fe.Image]:
    """One axial slice of ICBM152, and of Colin27 after an affine registration of the heads."""
    fixed, moving = (
        fe.load_image(ROOT / "sample_data" / f"{name}_t1.nii.gz") for name in ("icbm152", "colin27")
    )
    moved = fe.register(fixed, moving, "affine").moved
    pair = (image.numpy()[SLICE] for image in (fixed, moved))
    first, second = (values / np.quantile(values, 0.995) for values in pair)
    return fe.Image.from_numpy(first, name="fixed"), fe.Image.from_numpy(second, name="moving")


def registered(fixed: fe.Image, moving: fe.Image, kind: str) -> fe.Result:
    """The same stage for every kind: LNCC, Adam, three levels."""
    recipe = fe.Recipe.from_dict(
        {
            "name": kind,
            "start": {"kind": "identity"},
            "stages": [
                {
                    "name": "warp",
                    "deformation": {"kind": kind, "sigma_grad_mm": 1.2, "grad_floor_vox": 1.2},
                    "terms": [{"kind": "lncc"}],
                    "descent": {"kind": "adam", "step": 0.9, "eps_rel": 0.5},
                }
            ],
        }
    )
    return fe.register(fixed, moving, recipe, execution=fe.Execution("cpu"))


def lines(axis: Any, result: fe.Result) -> None:
    """A square mesh on the moving image, where it lies after the registration."""
    where = result.transform(result.grid.points_mm()).reshape(*result.grid.shape, 2)
    for k in range(2):
        levels = np.arange(-LINES_MM, where[..., k].max() + LINES_MM, LINES_MM)
        axis.contour(where[..., k], levels, colors=LINE, linewidths=0.55)


def image(axis: Any, values: np.ndarray, top: float, colours: str = "gray") -> Any:
    shown = axis.imshow(values, cmap=colours, vmin=0, vmax=top, origin="lower")
    axis.set(xticks=[], yticks=[], xlim=(22, 175), ylim=(22, 212))
    for spine in axis.spines.values():
        spine.set_visible(False)
    return shown


def main() -> None:
    """Top: the images, with the mesh. Bottom: how far they are from the fixed one."""
    fixed, moving = slices()
    figure = Figure(figsize=(12.6, 6.9), layout="constrained")
    axes = figure.subplots(2, len(KINDS) + 2)
    target, before = fixed.numpy(), moving.numpy()
    inside = target > 0.1
    columns = [("moving, before", before, None)]
    for kind, title in KINDS.items():
        result = registered(fixed, moving, kind)
        columns.append((title, result.moved.numpy(), result))
    image(axes[0, 0], target, 1.15)
    axes[0, 0].set_title("fixed", color=INK)
    axes[1, 0].set_axis_off()
    for column, (title, values, result) in enumerate(columns, start=1):
        top, bottom = axes[:, column]
        image(top, values, 1.15)
        top.set_title(title, color=INK)
        difference = np.abs(target - values)
        shown = image(bottom, difference, 0.6, "magma")
        text = f"mean {difference[inside].mean():.3f}"
        if result is not None:
            lines(top, result)
            jacobian = result.jacobian().numpy()[inside]
            text += f"\nJacobian {jacobian.min():.2f} to {jacobian.max():.1f}"
        bottom.set_xlabel(text, color=INK)
    axes[1, 0].set_axis_off()
    bar = figure.colorbar(shown, ax=axes[1, 0], location="left", shrink=0.8)
    bar.set_label("|fixed - warped|")
    figure.savefig(ROOT / "docs" / "images" / "deformations.png", dpi=110)


if __name__ == "__main__":
    main()
