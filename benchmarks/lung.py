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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from _common import RESULTS, data_folder, machine
from _sets import lung
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, map_coordinates

from fireants_engine import Grid, Image, Recipe, Result, load_image, register
from fireants_engine.evaluation import target_registration_error
from fireants_engine.geometry import apply_matrix
from fireants_engine.ops import count_folds
from fireants_engine.transforms import Displacement, Transform

MIND = {"kind": "ssd", "features": {"kind": "mind"}}
METHODS: dict[str, dict[str, object]] = {
    "LNCC (preset)": {},
    "MIND": {"terms": [MIND]},
    "LNCC + MIND": {"terms": [{"kind": "lncc"}, MIND | {"weight": 10.0}]},
}
"""What is put in place of the preset's last stage."""
NO_MASKS = "LNCC, no masks"
"""The preset's LNCC on the intensities of the whole volume, not clipped to those of the lung."""
BREATH_METHODS = {name: METHODS[name] for name in ("LNCC (preset)", "MIND")} | {NO_MASKS: {}}
RISE_MM = 30.0
NOISE_HU = 20.0
POINTS = 300
TISSUE_HU = 40.0
FACTORS = (2, 2, 1)
"""Voxels of the synthetic breath, in voxels of the CT: 2.7 x 2.7 x 2.5 mm."""


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
        pair = (fixed, moving)
        if name == NO_MASKS:
            pair = tuple(replace(image, mask=None) for image in pair)
        yield name, register(*pair, recipes(changes)[1], initial=linear.forward)


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
    The way grows as (depth / height)^2 up to `rise` at the base.
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
        out[:, 2] -= self.rise * depth**2
        out[:, :2] += 0.06 * depth[:, None] * (out[:, :2] - np.array(self.axis))
        voxels = apply_matrix(self.grid.matrix("mm", "voxel"), points_mm).T
        for k in range(3):
            out[:, k] += map_coordinates(self.ripple[k], voxels, order=1, mode="nearest")
        return out

    def inverse(self) -> Transform:
        return Displacement.from_mm(self.displacement(self.grid), self.grid).inverse()


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
    near = binary_dilation(lung_mask, iterations=2) & (lung_mask | (values < -100))
    free = near.ravel() & ~inside
    out = np.where(inside, lung_values, np.where(free, TISSUE_HU, values.ravel()))
    out = out.reshape(grid.shape) + rng.normal(0, noise, grid.shape)
    mask = torch.from_numpy(inside.reshape(grid.shape))
    return Image(torch.from_numpy(out.astype(np.float32))[None], grid, mask, "exhaled")


def coarser(image: Image, factors: tuple[int, ...]) -> Image:
    """Means over blocks of `factors` voxels (x, y, z); a block is lung where most of it is."""
    shape = [n // f for n, f in zip(image.grid.size, factors, strict=True)]
    cut = tuple(slice(0, n * f) for n, f in zip(shape[::-1], factors[::-1], strict=True))
    blocks = [k for n, f in zip(shape[::-1], factors[::-1], strict=True) for k in (n, f)]

    def mean(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values[cut].reshape(blocks).astype(np.float32).mean((1, 3, 5)))

    old = image.grid
    middle = np.array([[(f - 1) / 2 for f in factors[::-1]]])
    spacing = tuple(s * f for s, f in zip(old.spacing_mm, factors, strict=True))
    origin = tuple(apply_matrix(old.matrix("voxel", "mm"), middle)[0])
    grid = Grid(tuple(shape), spacing, origin, old.direction)
    mask = mean(image.mask.numpy()) > 0.5
    return Image(mean(image.numpy())[None], grid, mask, image.name)


def breathing_pair(seed: int, factors: tuple[int, ...] = (1, 1, 1)) -> tuple[Image, Image, Breath]:
    """Fixed (exhaled), moving (inhaled) and the true map; voxels larger by `factors`."""
    folder = data_folder() / "lung_elastix"
    moving = load_image(folder / "3DCT_lung_baseline.mha").with_mask(
        load_image(folder / "3DCT_lung_baseline_mask.mha")
    )
    moving = coarser(moving, factors)
    rng = np.random.default_rng(4000 + seed)
    known = breath_of(moving, RISE_MM, rng)
    fixed = exhaled(moving, known, NOISE_HU, rng)
    noise = rng.normal(0, NOISE_HU, moving.data.shape).astype(np.float32)
    return fixed, replace(moving, data=moving.data + torch.from_numpy(noise)), known


def points_inside(fixed: Image, rng: np.random.Generator) -> np.ndarray:
    """Points of the lung, a voxel and more from its border, mm."""
    inside = binary_erosion(fixed.mask.numpy())
    candidates = fixed.grid.points_mm()[inside.ravel()]
    return candidates[rng.choice(len(candidates), POINTS, replace=False)]


def breath(
    seed: int, methods: dict[str, dict[str, object]], factors: tuple[int, ...] = FACTORS
) -> list[dict]:
    fixed, moving, known = breathing_pair(seed, factors)
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


# ------------------------------------------------------------------ the TRE code
L2R_SPACING = np.array([1.75, 1.25, 1.75])
L2R_KNOWN = {"0001": (20.18, 4.94), "0002": (15.60, 8.27), "0003": (8.14, 5.24)}
"""Mean distance in mm of the Learn2Reg lung landmarks: as stored, after their best affine."""


def best_affine(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """`points` through the affine map of least squares to `targets`."""
    design = np.column_stack([points, np.ones(len(points))])
    return design @ np.linalg.lstsq(design, targets, rcond=None)[0]


def learn2reg(folder: Path, number: str) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of both images of a case, from voxel indices to mm."""
    files = [folder / f"LungCT_CT_{number}_{k}.csv" for k in ("0000", "0001")]
    first, second = (np.loadtxt(file, delimiter=",") * L2R_SPACING for file in files)
    return first, second


def code() -> list[dict]:
    """Distances without registration: our pair, and Learn2Reg's where its files are at hand."""
    sets = {"elastix lung": lung(data_folder(), Path())["report"][0].landmarks}
    if folder := os.environ.get("FIREANTS_L2R"):
        for number in L2R_KNOWN:
            sets[f"Learn2Reg {number}"] = learn2reg(Path(folder), number)
    rows = []
    for name, (points, targets) in sets.items():
        moved = points + (targets - points).mean(axis=0)
        rows.append(
            {
                "set": name,
                "points": len(points),
                "start_mm": target_registration_error(points, targets).mean_mm,
                "shifted_mm": target_registration_error(moved, targets).mean_mm,
                "affine_mm": target_registration_error(
                    best_affine(points, targets), targets
                ).mean_mm,
            }
        )
        print(shown(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="code,real,breath")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    path = RESULTS / "lung.json"
    document = json.loads(path.read_text()) if path.is_file() else {}
    document["machine"] = machine(torch.get_num_threads())
    for part in args.only.split(","):
        if part == "code":
            document[part] = code()
        elif part == "real":
            document[part] = real(METHODS)
        elif part == "breath":
            seeds = range(args.seeds)
            document[part] = [line for seed in seeds for line in breath(seed, BREATH_METHODS)]
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
