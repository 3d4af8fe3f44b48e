"""Global alignment by moments: rotations, reflections, scales and flips (H1, H2, H3).

    python benchmarks/orientation.py [--only rotations,scales,plane] [--brains icbm,1000-half]
                                     [--count 50] [--spacing 2]

rotations (H1): random SO(3) of Colin27's brain, the symmetric ICBM T1 and a hemisphere of each and
of three subjects of oasis_malf: error in degrees, also with a pedestal of 5 %; the hemispheres also
with random reflections, of which the sign of the determinant has to be found; on the symmetric head
a reflection has to be called ambiguous. scales (H2): principal scales from .85 to 1.2. plane (H3):
24 angles and both flips in a 2D slice. What --only and --brains leave out keeps its numbers of
before. Results go to benchmarks/results/orientation.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).parent))

from _common import RESULTS, data_folder, machine
from _fixation import coarser, kept_half, load_subject

from fireants_engine.context import ExecutionContext
from fireants_engine.geometry import Grid, Image
from fireants_engine.io import load_image
from fireants_engine.ops import warp_image
from fireants_engine.pipeline import InitialAlignment, Moments
from fireants_engine.pipeline.initialise import bodies_of, initialise
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.pipeline.rotations import degrees_between
from fireants_engine.transforms import Affine

MIRROR = np.diag([-1.0, 1.0, 1.0])
T1 = "mni_icbm152_t1_tal_nlin_sym_09a_converted"


def posed(image: Image, linear: np.ndarray, room: float = 1.0) -> Image:
    """The image carried by `linear` about its centre, a few mm off, in a cube it fits."""
    grid, dim = image.grid, image.dim
    spacing = min(grid.spacing_mm)
    size = int(room * float(np.linalg.norm(grid.extent_mm)) / spacing)
    away = np.array([3.0, -5.0, 4.0])[:dim]
    truth = Affine.about(linear, away - grid.centre_mm, grid.centre_mm)
    cube = Grid((size,) * dim, (spacing,) * dim, (-(size - 1) / 2 * spacing,) * dim, np.eye(dim))
    return warp_image(image, truth.inverse(), cube)


def found(fixed: Image, moving: Image, spec: Moments) -> tuple[InitialAlignment, float]:
    ctx = ExecutionContext.create("cpu")
    prepared = Prepared.create(fixed, moving, ctx)
    began = time.perf_counter()
    return initialise(spec, prepared, ctx), time.perf_counter() - began


def raised(image: Image) -> Image:
    """On a pedestal of 5 %."""
    return Image(image.data.float() + 0.05 * float(image.data.max()), image.grid, name=image.name)


def brains(spacing: float, wanted: list[str]) -> dict[str, Image]:
    """Whole heads and hemispheres; all of them where none is wanted."""
    folder = data_folder()
    out = {
        "colin": coarser(load_image(folder / "templates_mni" / "ch2bet.nii.gz"), spacing),
        "icbm": coarser(load_image(folder / "templates_mni" / f"{T1}.nii.gz"), spacing),
    }
    for name in ("colin", "icbm"):
        image = out[name]
        left = image.grid.points_mm()[:, 0].reshape(image.grid.shape) > 0
        out[f"{name}-half"] = Image(image.data * torch.from_numpy(left), image.grid)
    for name, side in (("1000", "left"), ("1006", "right"), ("1008", "left")):
        subject = load_subject(folder / "oasis_malf", name, spacing)
        half = torch.from_numpy(kept_half(subject, side))
        out[f"{name}-half"] = Image(subject.image.data * half, subject.image.grid)
    return {name: image for name, image in out.items() if not wanted or name in wanted}


def rotations(count: int, spacing: float, wanted: list[str]) -> dict[str, Any]:
    out = {}
    for name, image in brains(spacing, wanted).items():
        errors, pedestal, signs, doubts, seconds = [], [], [], [], []
        for seed in range(count):
            truth = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
            moving = posed(image, truth)
            start, took = found(image, moving, Moments())
            errors.append(degrees_between(start.affine.matrix[:3, :3], truth))
            seconds.append(took)
            start, _ = found(raised(image), raised(moving), Moments())
            pedestal.append(degrees_between(start.affine.matrix[:3, :3], truth))
            mirrored = bool(np.random.default_rng(seed).integers(2))
            other = posed(image, truth @ MIRROR) if mirrored else moving
            start, _ = found(image, other, Moments(improper=True))
            signs.append((start.candidates[0].det < 0) == mirrored)
            doubts.append(any("ambiguous" in note for note in start.notes))
        out[name] = {
            "count": count,
            "degrees": {"mean": _round(np.mean(errors)), "max": _round(max(errors))},
            "degrees_pedestal": {"mean": _round(np.mean(pedestal)), "max": _round(max(pedestal))},
            "reflection_right": int(sum(signs)),
            "called_ambiguous": int(sum(doubts)),
            "seconds": _round(np.median(seconds)),
        }
        print(name, json.dumps(out[name]), flush=True)
    return out


def scales(count: int, spacing: float, wanted: list[str]) -> dict[str, Any]:
    out = {}
    for name, image in brains(spacing, wanted).items():
        ctx = ExecutionContext.create("cpu")
        pair = Prepared.create(image, image, ctx).level(1, 1)
        axes = np.linalg.eigh(bodies_of(pair, "intensity")[0].covariance)[1]
        worst = []
        for seed in range(count):
            sizes = np.random.default_rng(seed).uniform(0.85, 1.2, 3)
            turn = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
            truth = turn @ axes @ np.diag(sizes) @ axes.T
            start, _ = found(image, posed(image, truth, 1.15), Moments(scale=True))
            got = np.linalg.norm(start.affine.matrix[:3, :3] @ axes, axis=0)
            worst.append(float(np.abs(got / sizes - 1).max()))
        out[name] = {"mean": _round(np.mean(worst)), "max": _round(max(worst)), "count": count}
        print(name, json.dumps(out[name]), flush=True)
    return out


def plane(count: int, spacing: float, wanted: list[str]) -> dict[str, Any]:
    head = load_image(data_folder() / "templates_mni" / "ch2bet.nii.gz")
    cut = head.data[0, :, :, 60].float()  # sagittal: it has no symmetry
    image = Image(cut[None], Grid.identity(tuple(cut.shape)[::-1]), name="slice")
    scores, signs, errors = [], [], []
    for degrees in range(0, 360, 15):
        a = np.radians(degrees)
        for flip in (1.0, -1.0):
            turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
            truth = turn @ np.diag([flip, 1.0])
            start, _ = found(image, posed(image, truth), Moments(improper=True))
            scores.append(start.candidates[0].score)
            signs.append(start.candidates[0].det == flip)
            errors.append(degrees_between(start.affine.matrix[:2, :2], truth))
    return {
        "cases": len(scores),
        "least_ncc": _round(min(scores)),
        "flips_right": int(sum(signs)),
        "degrees_max": _round(max(errors)),
    }


def _round(value: Any) -> float:
    return round(float(value), 4)


PARTS = {"rotations": rotations, "scales": scales, "plane": plane}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--brains", default="", help="which, with commas between; empty: all")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--spacing", type=float, default=2.0, help="mm")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = RESULTS / "orientation.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    parts = known.get("parts", {})
    for name in args.only.split(","):
        wanted = args.brains.split(",") if args.brains else []
        parts[name] = parts.get(name, {}) | PARTS[name](args.count, args.spacing, wanted)
    result = {"machine": machine(args.threads), "spacing_mm": args.spacing, "parts": parts}
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
