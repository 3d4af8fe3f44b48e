"""Section matching: affine maps from outlines (H4) and a real pair of stains (H6).

    python benchmarks/sections.py [--only outlines,kidney,posed] [--cases 100] [--threads 2]

outlines: seeded irregular regions of 512 pixels, carried by affine maps with condition numbers up
to 1.6, as many mirrored as not; whole, and with a round bite of 10 % of the area torn out of the
border. Errors are those of the map over the whole region, in pixels and shares of its diameter.
kidney: H&E and pan-cytokeratin sections of histo_birl, 69 landmarks, both directions; rTRE is the
distance over the diagonal of the fixed image. posed: the moving section turned, stretched, mirrored
in every other case and torn in every third. Results go to benchmarks/results/sections.json.
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
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parent))

from _common import RESULTS, data_folder, machine

from fireants_engine.geometry import Grid, Image
from fireants_engine.transforms import Affine, Transform
from fireants_engine.workflows import contours, sections
from fireants_engine.workflows.sections_folder import load_section, painted
from fireants_engine.workflows.tissue import find_tissue

SIDE = 512
LANDMARKS = 69
NAMES = ("Rat-Kidney_HE", "Rat-Kidney_PanCytokeratin")


# ------------------------------------------------------------------ outlines
def region(seed: int, affine: Affine | None) -> np.ndarray:
    """(SIDE, SIDE) bool: a blob of its own for each seed, carried by `affine`."""
    rng = np.random.default_rng(seed)
    k = np.arange(2, 9)
    size, phase = rng.normal(size=7) / k**1.2 * 0.35, rng.uniform(0, 2 * np.pi, 7)
    grid = Grid.identity((SIDE, SIDE))
    points = grid.points_mm()
    base = (points if affine is None else affine.inverse()(points)) - grid.centre_mm
    angle = np.arctan2(base[:, 1], base[:, 0])
    radius = np.clip(1 + (size * np.cos(k * angle[:, None] + phase)).sum(1), 0.35, 1.9)
    return (np.hypot(*base.T) < 0.2 * SIDE * radius).reshape(SIDE, SIDE)


def mapping(seed: int, mirrored: bool, most: float = 1.6) -> Affine:
    rng = np.random.default_rng(1000 + seed)
    c = np.sqrt(rng.uniform(1.0, most))
    before, after = (contours.turn(t, False) for t in rng.uniform(0, 360, 2))
    linear = after @ np.diag([-c if mirrored else c, 1 / c]) @ before * rng.uniform(0.85, 1.15)
    return Affine.about(linear, rng.uniform(-20, 20, 2), np.full(2, (SIDE - 1) / 2))


def bitten(mask: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Without a round bite out of the border of `share` of the area."""
    edge = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    place = edge[np.random.default_rng(2000 + seed).integers(len(edge))]
    away = np.where(mask, np.hypot(*(np.indices(mask.shape) - place[:, None, None])), np.inf)
    return mask & (away > np.sort(away, axis=None)[int(share * mask.sum())])


def outlines(cases: int) -> dict[str, Any]:
    grid = Grid.identity((SIDE, SIDE))
    out = {}
    for name, share in (("whole", 0.0), ("torn", 0.1)):
        rows = []
        for seed in range(cases):
            mirrored = bool(seed % 2)
            true = mapping(seed, mirrored)
            fixed, moving = region(seed, None), region(seed, true)
            moving = bitten(moving, share, seed) if share else moving
            began = time.perf_counter()
            first = contours.outline_of(fixed, grid)
            best, *_ = contours.fits(first, contours.outline_of(moving, grid))
            seconds = time.perf_counter() - began
            points = grid.points_mm()[fixed.ravel()]
            error = np.linalg.norm(best.affine(points) - true(points), axis=1)
            right = best.mirrored == mirrored
            rows.append((error.mean(), error.max(), error.mean() / first.diameter, right, seconds))
        mean, most, part, right, seconds = map(np.array, zip(*rows, strict=True))
        out[name] = {
            "cases": cases,
            "mean_px": summary(mean),
            "max_px": summary(most),
            "mean_share_of_diameter": summary(part),
            "within": {
                "mean <= 0.5 px": int((mean <= 0.5).sum()),
                "max <= 1.5 px": int((most <= 1.5).sum()),
                "mean <= 2 % of the diameter": int((part <= 0.02).sum()),
            },
            "handedness_right": int(right.sum()),
            "seconds": float(np.median(seconds)),
        }
        print(name, json.dumps(out[name]))
    return out


def summary(values: np.ndarray) -> dict[str, float]:
    return {
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "max": float(values.max()),
    }


# ------------------------------------------------------------------ kidney
def kidneys() -> tuple[list[Image], list[np.ndarray]]:
    folder = data_folder() / "histo_birl" / "rat-kidney_"
    images = [load_section(folder / f"{name}.jpg").image for name in NAMES]
    tables = [np.loadtxt(folder / f"{name}.csv", delimiter=",", skiprows=1) for name in NAMES]
    return images, [table[:LANDMARKS, 1:] for table in tables]


def rtre(through: Transform, own: np.ndarray, other: np.ndarray, fixed: Image) -> dict[str, float]:
    """Percent of the fixed image's diagonal."""
    away = np.linalg.norm(through(own) - other, axis=1)
    return summary(100 * away / float(np.linalg.norm(fixed.grid.extent_mm)))


def measured(fixed: Image, moving: Image, own: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    began = time.perf_counter()
    found = sections.match(fixed, moving)
    seconds = time.perf_counter() - began
    return {
        "rtre_percent": {
            "start": rtre(found.candidates[0].affine, own, other, fixed),
            "affine": rtre(found.result.affine, own, other, fixed),
            "deformable": rtre(found.result.forward, own, other, fixed),
        },
        "mirrored": found.candidates[0].mirrored,
        "margin": found.margin,
        "score": found.candidates[0].score,
        "notes": len(found.notes),
        "seconds": round(seconds, 2),
    }


def kidney() -> dict[str, Any]:
    images, points = kidneys()
    out = {}
    for a, b in ((0, 1), (1, 0)):
        rows = np.c_[points[a], np.ones(LANDMARKS)]
        fit = np.linalg.lstsq(rows, points[b], rcond=None)[0]
        best = Affine(np.vstack([fit.T, [0, 0, 1]]))
        still = Affine.identity(2)
        one = measured(images[a], images[b], points[a], points[b])
        one["rtre_percent"]["before"] = rtre(still, points[a], points[b], images[a])
        one["rtre_percent"]["affine fitted to the landmarks"] = rtre(
            best, points[a], points[b], images[a]
        )
        out[f"{NAMES[b]} onto {NAMES[a]}"] = one
        print(json.dumps(one))
    return out


def posed(cases: int) -> list[dict[str, Any]]:
    """The moving section painted in another pose on a larger slide."""
    images, points = kidneys()
    rows = []
    for seed in range(cases):
        a, b = (0, 1) if seed % 4 < 2 else (1, 0)
        mirrored, torn = bool(seed % 2), seed % 3 == 2
        slide = Grid.identity((1600, 1600))
        pose = mapping(seed, mirrored, 1.3)
        to_image = Affine.about(
            pose.matrix[:2, :2], images[b].grid.centre_mm - slide.centre_mm, slide.centre_mm
        )
        moving = painted(images[b], to_image, slide)
        if torn:
            tissue = find_tissue(moving).mask.numpy()
            whole = ndimage.zoom(tissue.astype(np.uint8), 1600 / len(tissue), order=0) > 0
            lost = whole & ~bitten(whole, 0.1, seed)
            data = moving.data.clone()
            data[:, torch.from_numpy(lost)] = data[:, :1, :1].expand(-1, -1, int(lost.sum()))[:, 0]
            moving = Image(data, slide, name=moving.name)
        one = measured(images[a], moving, points[a], to_image.inverse()(points[b]))
        one |= {"truly_mirrored": mirrored, "torn": torn}
        rows.append(one)
        print(json.dumps(one))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="outlines,kidney,posed")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--posed", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = RESULTS / "sections.json"
    out = json.loads(path.read_text()) if path.exists() else {}
    out["machine"] = machine(args.threads)
    for name in args.only.split(","):
        match name:
            case "outlines":
                out[name] = outlines(args.cases)
            case "kidney":
                out[name] = kidney()
            case "posed":
                out[name] = posed(args.posed)
            case _:
                raise SystemExit(f"there is no part {name}; choose outlines, kidney, posed")
        path.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
