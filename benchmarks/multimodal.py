"""Recovery of known warps between contrasts: what the deformable stage of `multimodal` matches.

    python benchmarks/multimodal.py [--seeds 3] [--contrasts t2,ct,inverted]

Fixed: a brain template, T1, at half resolution (2 mm; ICBM152 and Colin27 in turn). Moving: the
same brain in another contrast; the fixed one is seen through a known smooth warp, rotation and
shift. Both have noise and, but for CT, an uneven gain. The linear stages see all of it and are
shared; the deformable ones run on a box of the fixed image (a part of one hemisphere with its
surface). The error is |T_found(x) - T_true(x)| at every voxel of the brain in that box, in voxels.
Results go to benchmarks/results/multimodal.json.

t2: a curve that rises and falls again (fluid bright, white matter dark, grey between). ct: bright
skull, all soft tissue within a few percent. inverted: 1 - intensity.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from _common import RESULTS, data_folder, machine
from recovery import random_warp
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter
from scipy.spatial.transform import Rotation

from fireants_engine import Grid, Image, Recipe, load_image, register
from fireants_engine.geometry import apply_matrix
from fireants_engine.ops import count_folds, warp_image
from fireants_engine.transforms import Affine, Chain


def smoothed(grad_mm: float, warp_mm: float, warp_floor: float) -> dict[str, object]:
    """The preset's deformation with other smoothing: sigmas in mm, of the warp also in voxels."""
    out = {"kind": "greedy", "sigma_grad_mm": grad_mm, "sigma_warp_mm": warp_mm}
    return out | {"grad_floor_vox": 4.0, "warp_floor_vox": warp_floor}


def levels(*steps: tuple[float, int]) -> dict[str, object]:
    return {"levels": [{"shrink": shrink, "max_steps": number} for shrink, number in steps]}


METHODS: dict[str, dict[str, object]] = {
    "normalised MI (preset)": {},
    "the same, to 2x": {"pyramid": levels((4, 150), (2, 80))},
    "the same, little smoothing": {"deformation": smoothed(3.0, 0.7, 1.0)},
    "MI": {"terms": [{"kind": "mi", "bins": 64}]},
    "MIND, from 2x": {
        "terms": [{"kind": "ssd", "features": {"kind": "mind"}}],
        "deformation": smoothed(3.0, 0.7, 2.0),
        "pyramid": levels((2, 80), (1, 40)),
    },
}
"""What is changed in the preset's last stage; the preset and MIND were chosen on seed 0."""
TEMPLATES = {
    "ICBM152": "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    "Colin27": "ch2bet.nii.gz",
}
NOISE = 0.02
GAIN = 0.1
PEAK_VOX = 4.0


def halved(image: Image) -> Image:
    """At twice the spacing, smoothed before."""
    data = gaussian_filter(image.numpy().astype(np.float32), 0.7)[::2, ::2, ::2]
    old = image.grid
    grid = Grid(
        data.shape[::-1], tuple(2 * s for s in old.spacing_mm), old.origin_mm, old.direction
    )
    return Image(torch.from_numpy(np.ascontiguousarray(data))[None], grid, name=image.name)


def template(name: str) -> tuple[Image, np.ndarray]:
    """Half-resolution T1 in [0, 1] and its brain."""
    image = halved(load_image(data_folder() / "templates_mni" / TEMPLATES[name]))
    values = image.numpy()
    values = np.clip(values / np.percentile(values[values > 0], 99.5), 0, 1)
    brain = binary_erosion(binary_dilation(values > 0.1, iterations=2), iterations=3)
    return Image(torch.from_numpy(values)[None], image.grid, name=name), brain


def painted(contrast: str, values: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """T1 intensities in [0, 1] as another contrast, about in [0, 1]; 0 outside the head."""
    head = np.clip(values / 0.12, 0, 1)  # a soft edge
    if contrast == "inverted":
        return head * (1.0 - 0.9 * values)
    if contrast == "t2":
        knots = [0.0, 0.15, 0.3, 0.5, 0.65, 0.85, 1.0]
        return head * np.interp(values, knots, [0.7, 1.0, 0.9, 0.55, 0.6, 0.25, 0.35])
    skull = gaussian_filter((binary_dilation(brain, iterations=4) & ~brain).astype(float), 0.7)
    soft = np.interp(values, [0.0, 0.12, 0.3, 0.6, 0.75, 1.0], [0, 0.20, 0.21, 0.30, 0.29, 0.25])
    return np.maximum(soft, skull)


def uneven(grid: Grid, rng: np.random.Generator) -> torch.Tensor:
    """A smooth gain of 1 +- GAIN, as of a receive coil."""
    field = gaussian_filter(rng.standard_normal(grid.shape), 50 / np.asarray(grid.spacing_zyx))
    return torch.from_numpy((1 + GAIN * field / np.abs(field).max()).astype(np.float32))


def case(name: str, contrast: str, seed: int) -> tuple[Image, Image, Chain, np.ndarray]:
    """Fixed, moving, the true map fixed mm -> moving mm, and the brain on the fixed grid."""
    rng = np.random.default_rng(7000 + seed)
    source, brain = template(name)
    grid = source.grid
    axis = rng.standard_normal(3)
    rotation = Rotation.from_rotvec(np.radians(6) * axis / np.linalg.norm(axis)).as_matrix()
    linear = Affine.about(rotation, 4 * rng.uniform(-1, 1, 3), grid.centre_mm)
    known = Chain([random_warp(grid, PEAK_VOX, rng), linear])
    other = Image(
        torch.from_numpy(painted(contrast, source.numpy(), brain).astype(np.float32))[None], grid
    )
    fixed = warp_image(source, known, grid)
    mask = Image(torch.from_numpy(brain.astype(np.float32))[None], grid)
    inside = warp_image(mask, known, grid).numpy() > 0.5
    noise = rng.normal(0, NOISE, (2, *grid.shape)).astype(np.float32)
    gains = [uneven(grid, rng), uneven(grid, rng) if contrast != "ct" else 1.0]
    pair = [fixed.data * gains[0], other.data * gains[1]]
    pair = [image + torch.from_numpy(n[None]) for image, n in zip(pair, noise, strict=True)]
    names = ("T1", contrast)
    images = [Image(data, grid, name=own) for data, own in zip(pair, names, strict=True)]
    return images[0], images[1], known, inside


BOX = (slice(24, 76), slice(34, 94), slice(6, 54))


def boxed(fixed: Image, brain: np.ndarray) -> tuple[Image, np.ndarray]:
    """The part of the fixed image, and of its brain, that the deformable stage works on."""
    old = fixed.grid
    corner = np.array([[part.start for part in BOX]], dtype=float)
    origin = apply_matrix(old.matrix("voxel", "mm"), corner)[0]
    size = tuple(part.stop - part.start for part in BOX)[::-1]
    grid = Grid(size, old.spacing_mm, tuple(origin), old.direction)
    return Image(fixed.data[(slice(None), *BOX)].contiguous(), grid, name=fixed.name), brain[BOX]


def recipes(changes: dict[str, object]) -> tuple[Recipe, Recipe]:
    """The linear stages of multimodal, and its last stage with `changes`."""
    data = Recipe.preset("multimodal").to_dict()
    last = data["stages"][-1] | changes
    return (
        Recipe.from_dict(data | {"stages": data["stages"][:-1]}),
        Recipe.from_dict(data | {"stages": [last]}),
    )


def one(name: str, contrast: str, seed: int, methods: dict[str, dict[str, object]]) -> list[dict]:
    whole, moving, known, brain = case(name, contrast, seed)
    linear = register(whole, moving, recipes({})[0])
    fixed, brain = boxed(whole, brain)
    points = fixed.grid.points_mm()[brain.ravel()]
    target = known(points)
    to_voxel = fixed.grid.matrix("mm", "voxel")[:-1, :-1]
    rows = []
    for method, changes in {"affine": None, **methods}.items():
        result = linear
        if changes is not None:
            result = register(fixed, moving, recipes(changes)[1], initial=linear.forward)
        error = np.linalg.norm((result.transform(points) - target) @ to_voxel.T, axis=1)
        warp = None if changes is None else result.warp_field
        inside = torch.from_numpy(brain)[None, None]
        rows.append(
            {
                "template": name,
                "contrast": contrast,
                "seed": seed,
                "method": method,
                "mean_vox": float(error.mean()),
                "p95_vox": float(np.percentile(error, 95)),
                "folds_inside": 0 if warp is None else int(count_folds(warp.u, inside)[0]),
            }
        )
        print(" | ".join(map(str, rows[-1].values())), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--contrasts", default="t2,ct,inverted")
    args = parser.parse_args()
    names = list(TEMPLATES)
    rows = []
    for contrast in args.contrasts.split(","):
        for seed in range(args.seeds):
            rows += one(names[seed % len(names)], contrast, seed, METHODS)
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": machine(torch.get_num_threads()), "rows": rows}
    (RESULTS / "multimodal.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
