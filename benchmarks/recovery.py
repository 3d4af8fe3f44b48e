"""Recovery of known transforms of a real brain: greedy, rigid and affine, and inverse consistency.

    python benchmarks/recovery.py [--seeds 3] [--only greedy,rigid,affine]

The moving image is the packaged ICBM152 T1. The fixed image is that brain through a known random
transform, sampled linearly on an oblique, anisotropic grid of another size (1.0 x 1.2 x 1.6 mm).
The error is |T_found(x) - T_true(x)| at every voxel of the brain. Results go to
benchmarks/results/recovery.json and, as a table, to the terminal.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from _common import RESULTS, ROOT, machine
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from fireants_engine import Grid, Image, Recipe, load_image, register
from fireants_engine.ops import count_folds, warp_image
from fireants_engine.transforms import Affine, Chain, Displacement, Transform


def oblique_grid(image: Image) -> Grid:
    """A rotated, anisotropic grid of another size that covers the image."""
    spacing = np.array([1.0, 1.2, 1.6])
    direction = Rotation.from_euler("xyz", [12, -8, 15], degrees=True).as_matrix()
    size = np.ceil(image.grid.extent_mm * [0.95, 0.97, 1.0] / spacing).astype(int)
    centre = image.grid.centre_mm
    origin = centre - direction @ (spacing * (size - 1) / 2)
    return Grid(tuple(size), tuple(spacing), tuple(origin), direction)


def random_warp(grid: Grid, peak_vox: float, rng: np.random.Generator) -> Displacement:
    """Smooth displacement of at most `peak_vox` voxels, without strict folds."""
    sigma = 14.0 / np.asarray(grid.spacing_zyx)
    u = np.stack([gaussian_filter(rng.standard_normal(grid.shape), sigma) for _ in range(3)])
    u *= peak_vox / np.abs(u).max()
    field = Displacement(torch.from_numpy(u[None].astype(np.float32)), grid)
    assert count_folds(field.u)[0] == 0, "the random truth folds; choose another seed"
    return field


def random_linear(kind: str, centre: np.ndarray, rng: np.random.Generator) -> Affine:
    """A rotation by 30 degrees and a shift by 30 mm in random directions (affine: also strain)."""
    axis, way = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 3)))
    linear = Rotation.from_rotvec(np.radians(30) * axis).as_matrix()
    if kind == "affine":
        linear = linear @ (np.eye(3) + rng.uniform(-0.12, 0.12, (3, 3)))
    return Affine.about(linear, 30 * way, centre)


def truth(kind: str, grid: Grid, rng: np.random.Generator) -> Transform:
    if kind == "greedy":
        return Chain([random_warp(grid, 8.0, rng), Affine.identity(3)])
    return random_linear(kind, grid.centre_mm, rng)


def one(kind: str, seed: int) -> dict:
    """Register one case and measure it."""
    rng = np.random.default_rng(1000 + seed)
    moving = load_image(ROOT / "sample_data" / "icbm152_t1.nii.gz")
    grid = oblique_grid(moving)
    known = truth(kind, grid, rng)
    fixed = warp_image(moving, known, grid)
    recipe = Recipe.preset({"greedy": "brain-mri"}.get(kind, kind))
    result = register(fixed, moving, recipe)
    inside = fixed.data[0].numpy() > 0.1 * float(fixed.data.max())
    points = grid.points_mm()[inside.ravel()]
    error_mm = np.linalg.norm(result.transform(points) - known(points), axis=1)
    start_mm = np.linalg.norm(points - known(points), axis=1)
    to_voxel = grid.matrix("mm", "voxel")[:-1, :-1]
    error_vox = np.linalg.norm((result.transform(points) - known(points)) @ to_voxel.T, axis=1)
    back = result.transform(result.inverse(known(points))) - known(points)
    residual = np.linalg.norm(back @ to_voxel.T, axis=1)
    warp = result.warp_field
    return {
        "kind": kind,
        "seed": seed,
        "start_mean_mm": float(start_mm.mean()),
        "error_mean_mm": float(error_mm.mean()),
        "error_mean_vox": float(error_vox.mean()),
        "error_p99_vox": float(np.percentile(error_vox, 99)),
        "inverse_mean_vox": float(residual.mean()),
        "inverse_max_vox": float(residual.max()),
        "strict_folds": 0 if warp is None else count_folds(warp.u)[0],
        "seconds": result.output.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="rigid,affine,greedy")
    args = parser.parse_args()
    rows = [one(kind, seed) for kind in args.only.split(",") for seed in range(args.seeds)]
    keys = list(rows[0])
    print("| " + " | ".join(keys) + " |\n|" + "---|" * len(keys))
    for row in rows:
        print("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v)
                                for v in row.values()) + " |")  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": machine(torch.get_num_threads()), "rows": rows}
    (RESULTS / "recovery.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
