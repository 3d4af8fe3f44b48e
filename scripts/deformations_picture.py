"""Draws docs/images/deformations.png: a slice of the sample brains by every dense deformation.

Run from the repository: .venv/bin/python scripts/deformations_picture.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

import fireants_engine as fe

ROOT = Path(__file__).resolve().parents[1]
PANELS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("greedy", {"kind": "greedy"}),
    ("symmetric", {"kind": "symmetric"}),
    ("stationary_velocity", {"kind": "stationary_velocity"}),
    ("free_form", {"kind": "free_form"}),
    ("greedy\nsigma_warp_mm: 2", {"kind": "greedy", "sigma_warp_mm": 2}),
    ("greedy\naxis_weights: [0, 1]", {"kind": "greedy", "axis_weights": [0, 1]}),
)
SLICE, LINES_MM, TOP, COLUMNS = 78, 10.0, 0.5, 4
LINE = "#ffb000"


def heads() -> tuple[np.ndarray, np.ndarray]:
    """ICBM152, and Colin27 after an affine registration of the heads."""
    fixed, moving = (
        fe.load_image(ROOT / "sample_data" / f"{name}_t1.nii.gz") for name in ("icbm152", "colin27")
    )
    return fixed.numpy(), fe.register(fixed, moving, "affine").moved.numpy()


def slices() -> tuple[fe.Image, fe.Image]:
    """One axial slice of both."""
    pair = (values[SLICE] for values in heads())
    first, second = (values / np.quantile(values, 0.995) for values in pair)
    return fe.Image.from_numpy(first, name="fixed"), fe.Image.from_numpy(second, name="moving")


def registered(fixed: fe.Image, moving: fe.Image, deformation: dict[str, Any]) -> fe.Result:
    """The same stage but for its deformation: LNCC, Adam, three levels."""
    stage = {
        "name": "warp",
        "deformation": {"sigma_grad_mm": 2, **deformation},
        "terms": [{"kind": "lncc"}],
        "descent": {"kind": "adam", "step": 0.9, "eps_rel": 0.5},
    }
    recipe = fe.Recipe.from_dict({"start": {"kind": "identity"}, "stages": [stage]})
    return fe.register(fixed, moving, recipe, execution=fe.Execution("cpu"))


def mesh(axis: Any, grid: fe.Grid, result: fe.Result | None) -> None:
    """Squares on the moving image, where they lie on the grid of the fixed one."""
    points = grid.points_mm()
    where = (points if result is None else result.transform(points)).reshape(*grid.shape, 2)
    for k in range(2):
        levels = np.arange(-LINES_MM, where[..., k].max() + LINES_MM, LINES_MM)
        axis.contour(where[..., k], levels, colors=LINE, linewidths=0.7)


def show(axis: Any, values: np.ndarray, top: float, colours: str = "gray") -> Any:
    """One slice, cropped to the brain."""
    shown = axis.imshow(values, cmap=colours, vmin=0, vmax=top, origin="lower")
    axis.set(xticks=[], yticks=[], xlim=(22, 175), ylim=(22, 212))
    for spine in axis.spines.values():
        spine.set_visible(False)
    return shown


def panel(axes: Any, fixed: fe.Image, moved: fe.Image, result: fe.Result | None) -> Any:
    """Above: the image with the mesh. Below: how far it is from the fixed one."""
    show(axes[0], moved.numpy(), 1.15)
    mesh(axes[0], fixed.grid, result)
    target = fixed.numpy()
    difference = np.abs(target - moved.numpy())
    inside = target > 0.1
    text = f"mean difference {difference[inside].mean():.3f}"
    if result is not None:
        jacobian = result.jacobian().numpy()[inside]
        text += f"\nJacobian {jacobian.min():.2f} to {jacobian.max():.1f}"
    axes[1].set_xlabel(text)
    return show(axes[1], difference, TOP, "magma")


def main() -> None:
    """The pair as it was, then every deformation."""
    fixed, moving = slices()
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.05, hspace=0.02, wspace=0.0)
    figure = Figure(figsize=(10, 14.1), layout=layout)
    axes = figure.subplots(4, COLUMNS)
    axes = np.concatenate([axes[:2], axes[2:]], axis=1)
    show(axes[0, 0], fixed.numpy(), 1.15)
    axes[0, 0].set_title("fixed", fontweight="bold")
    axes[1, 0].set_axis_off()
    shown = panel(axes[:, 1], fixed, moving, None)
    axes[0, 1].set_title("moving, before", fontweight="bold")
    for column, (title, deformation) in enumerate(PANELS, start=2):
        result = registered(fixed, moving, deformation)
        panel(axes[:, column], fixed, result.moved, result)
        axes[0, column].set_title(title, fontweight="bold")
    place = axes[1, 0].inset_axes((0.05, 0.45, 0.9, 0.05))
    bar = figure.colorbar(shown, cax=place, orientation="horizontal", extend="max")
    bar.set_label("|fixed - warped|,\nparts of the brightest tissue")
    figure.savefig(ROOT / "docs" / "images" / "deformations.png", dpi=100)


if __name__ == "__main__":
    main()
