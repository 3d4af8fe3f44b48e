"""Lungs: a real CT pair with landmarks, a synthetic breath with its true map, and the TRE code.

    python benchmarks/lung.py [--only real,breath,code] [--seeds 3]

real: the elastix lung (baseline fixed, follow-up moving), lung masks, preset ct-lung, 51 landmarks.
breath: that baseline CT as the inhaled lung; the exhaled one is made from it through a known map
that slides along the pleura. Both compare what the deformable stage matches: intensities (LNCC, as
the preset), MIND, or both; the linear stages are run once and shared. code: distances of the
Learn2Reg lung landmarks without any registration, where FIREANTS_L2R names a folder with
LungCT_CT_*.csv. Results go to benchmarks/results/lung.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from _common import RESULTS, data_folder, machine
from _sets import lung
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.ndimage import binary_erosion as eroded

from fireants_engine import Grid, Image, Recipe, Result, load_image, register
from fireants_engine.evaluation import target_registration_error
from fireants_engine.geometry import apply_matrix
from fireants_engine.ops import count_folds
from fireants_engine.transforms import Transform

MIND = {"kind": "ssd", "features": {"kind": "mind"}}
METHODS: dict[str, dict[str, object]] = {
    "LNCC (preset)": {},
    "MIND": {"terms": [MIND]},
    "LNCC + MIND": {"terms": [{"kind": "lncc"}, MIND | {"weight": 10.0}]},
}
"""What is put in place of the preset's last stage."""
RISE_MM = 30.0
NOISE_HU = 20.0
POINTS = 300
TISSUE_HU = 40.0


# ------------------------------------------------------------------ methods
def recipes(changes: dict[str, object]) -> tuple[Recipe, Recipe]:
    """The linear stages of ct-lung, and its last stage with `changes`."""
    data = Recipe.preset("ct-lung").to_dict()
    last = data["stages"][-1] | changes
    return (
        Recipe.from_dict(data | {"stages": data["stages"][:-1]}),
        Recipe.from_dict(data | {"stages": [last]}),
    )


def compared(fixed: Image, moving: Image, methods: dict[str, dict[str, object]]):
    """(name, result) of the linear stages, then of each method from there."""
    linear = register(fixed, moving, recipes({})[0])
    yield "affine", linear
    for name, changes in methods.items():
        yield name, register(fixed, moving, recipes(changes)[1], initial=linear.forward)


def row(name: str, seed: int | None, errors, start: float, result: Result, mask) -> dict:
    warp = result.warp_field
    inside = mask[None, None]
    folds = 0 if warp is None else count_folds(warp.u, inside)[0]
    return {
        "method": name,
        "seed": seed,
        "start_mean_mm": start,
        "mean_mm": errors.mean_mm,
        "median_mm": errors.median_mm,
        "p95_mm": errors.p95_mm,
        "points": len(errors.distances_mm),
        "folds_inside": int(folds),
    }


# ------------------------------------------------------------------ the real pair
def real(methods: dict[str, dict[str, object]]) -> list[dict]:
    pair = lung(data_folder(), Path())["report"][0]
    fixed = load_image(pair.fixed).with_mask(load_image(pair.fixed_mask))
    moving = load_image(pair.moving).with_mask(load_image(pair.moving_mask))
    points, targets = pair.landmarks
    start = target_registration_error(points, targets).mean_mm
    rows = []
    for name, result in compared(fixed, moving, methods):
        error = target_registration_error(result.transform(points), targets)
        rows.append(row(name, None, error, start, result, fixed.mask))
        print(shown(rows[-1]), flush=True)
    return rows


# ------------------------------------------------------------------ the synthetic breath
@dataclass(frozen=True)
class Breath(Transform):
    """Exhaled mm -> inhaled mm inside the lung: towards the base, wider, and a smooth ripple.

    top, height: mm along z of the apex and from it to the base; axis: x, y of the lung's middle.
    The way grows as (depth / height)^1.5 up to `rise` at the base.
    """

    top: float
    height: float
    axis: tuple[float, float]
    rise: float
    ripple: np.ndarray
    grid: Grid
    dim: int = 3

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        out = np.array(points_mm, dtype=np.float64)
        depth = np.clip((self.top - out[:, 2]) / (self.height - self.rise), 0, 1.2)
        out[:, 2] -= self.rise * depth**1.5
        out[:, :2] += 0.06 * depth[:, None] * (out[:, :2] - np.array(self.axis))
        voxels = apply_matrix(self.grid.matrix("mm", "voxel"), points_mm).T
        for k in range(3):
            out[:, k] += map_coordinates(self.ripple[k], voxels, order=1, mode="nearest")
        return out

    def inverse(self) -> Transform:
        raise NotImplementedError


def breath_of(inhaled: Image, rise: float, rng: np.random.Generator) -> Breath:
    """A breath that fits the mask of `inhaled`; ripples of at most 4 mm, 20 mm wide."""
    assert inhaled.mask is not None
    grid = inhaled.grid
    inside = grid.points_mm()[inhaled.mask.numpy().ravel()]
    top, base = inside[:, 2].max(), inside[:, 2].min()
    sigma = 20.0 / np.asarray(grid.spacing_zyx)
    ripple = np.stack([gaussian_filter(rng.standard_normal(grid.shape), sigma) for _ in range(3)])
    ripple *= 4.0 / np.abs(ripple).max()
    middle = inside[:, :2].mean(axis=0)
    return Breath(top, top - base, tuple(middle), rise, ripple, grid)


def exhaled(inhaled: Image, breath: Breath, noise: float, rng: np.random.Generator) -> Image:
    """The exhaled CT with its mask: inside the lung through `breath`, the body around it still.

    Mass is kept: (HU + 1000) of lung is multiplied with the volume ratio J of the map. The lung
    slides along the body; what it leaves free is filled with soft tissue.
    """
    grid, step = inhaled.grid, 0.5
    points = grid.points_mm()
    volume = np.empty(len(points))
    for part in np.array_split(np.arange(len(points)), 32):
        sides = [breath(points[part] + s * step * e) for e in np.eye(3) for s in (1, -1)]
        jacobian = np.stack([sides[2 * k] - sides[2 * k + 1] for k in range(3)], -1) / (2 * step)
        volume[part] = np.linalg.det(jacobian)
    where = apply_matrix(grid.matrix("mm", "voxel"), breath(points)).T
    values = inhaled.numpy().astype(np.float64)
    lung_mask = inhaled.mask.numpy()
    moved = map_coordinates(values, where, order=1, cval=-1000)
    inside = map_coordinates(lung_mask.astype(np.float64), where, order=1, cval=0) > 0.5
    lung_values = (np.clip(moved, -1000, None) + 1000) * volume - 1000
    lung_values[moved > -300] = moved[moved > -300]  # vessels and wall are not compressed
    free = lung_mask.ravel() & ~inside
    out = np.where(inside, lung_values, np.where(free, TISSUE_HU, values.ravel()))
    out = out.reshape(grid.shape) + rng.normal(0, noise, grid.shape)
    mask = torch.from_numpy(inside.reshape(grid.shape))
    return Image(torch.from_numpy(out.astype(np.float32))[None], grid, mask, "exhaled")


def breathing_pair(seed: int, rise: float = RISE_MM) -> tuple[Image, Image, Breath]:
    """Fixed (exhaled), moving (inhaled) and the true map."""
    folder = data_folder() / "lung_elastix"
    moving = load_image(folder / "3DCT_lung_baseline.mha").with_mask(
        load_image(folder / "3DCT_lung_baseline_mask.mha")
    )
    rng = np.random.default_rng(4000 + seed)
    known = breath_of(moving, rise, rng)
    fixed = exhaled(moving, known, NOISE_HU, rng)
    noisy = moving.data.float() + torch.from_numpy(
        rng.normal(0, NOISE_HU, moving.data.shape).astype(np.float32)
    )
    return fixed, Image(noisy, moving.grid, moving.mask, "inhaled"), known


def points_inside(fixed: Image, rng: np.random.Generator) -> np.ndarray:
    """Points of the lung, two voxels and more from its border, mm."""
    inside = eroded(fixed.mask.numpy(), iterations=2)
    candidates = fixed.grid.points_mm()[inside.ravel()]
    return candidates[rng.choice(len(candidates), POINTS, replace=False)]


def breath(seed: int, methods: dict[str, dict[str, object]]) -> list[dict]:
    fixed, moving, known = breathing_pair(seed)
    points = points_inside(fixed, np.random.default_rng(5000 + seed))
    start = target_registration_error(points, known(points)).mean_mm
    rows = []
    for name, result in compared(fixed, moving, methods):
        error = target_registration_error(result.transform(points), known(points))
        rows.append(row(name, seed, error, start, result, fixed.mask))
        print(shown(rows[-1]), flush=True)
    return rows


def shown(values: dict) -> str:
    return " | ".join(
        f"{value:.3f}" if isinstance(value, float) else str(value) for value in values.values()
    )
