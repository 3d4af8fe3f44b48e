"""Stained sections cut from real brains at unknown planes: are they found? (H5)

    python benchmarks/slices.py [--seeds 100-111] [--volumes colin,icbm] [--threads 2]

Each section is made by sample_data/sections.py: an oblique cut (two tilts of up to 15 degrees) in
one of the three planes, stained so that contrast is no function of the volume's, RGB on white with
uneven light, turned by any angle, seen from either side, stretched by up to 8 %, bent by up to 12
pixels, with three tears and 5 to 10 % missing. Only the pixel size is told. Errors are those of
up to 400 points of the tissue in mm of the volume (1 mm voxels). The preset and the search were
tuned on seeds 0 to 13 of Colin27; what is reported has other seeds, and another brain too: the
ICBM average, which is its own mirror image, so that either of two places is right (and should be
called unsure).
Results go to benchmarks/results/slices.json.
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

sys.path.insert(0, str(Path(__file__).parent))

from _common import RESULTS, ROOT, data_folder, machine

sys.path.insert(0, str(ROOT / "sample_data"))

from sections import Section, cut_section  # pyright: ignore

from fireants_engine.geometry import Grid, Image
from fireants_engine.io import load_image
from fireants_engine.transforms import Transform
from fireants_engine.workflows import slices


def volume_of(name: str) -> Image:
    """A brain without its head, 0 outside."""
    folder = data_folder() / "templates_mni"
    if name == "colin":
        return load_image(folder / "ch2bet.nii.gz")
    names = [f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz" for kind in ("t1", "gm", "wm")]
    t1, grey, white = (load_image(folder / name) for name in names)
    inside = (grey.data.float() + white.data.float()) > 0.3
    return Image(torch.where(inside, t1.data.float(), 0.0), t1.grid, name="icbm152")


MIRROR = np.array([-1.0, 1.0, 1.0])
"""The ICBM template is its own mirror image about x = 0, so both places are right."""


def errors(transform: Transform, section: Section, mirrored: bool = False) -> dict[str, float]:
    """Distances from the truth, or its mirror image, in mm at the points of the section."""
    turn = MIRROR if mirrored else 1.0
    points = np.column_stack([section.points_mm, np.zeros(len(section.points_mm))])
    apart = transform(points) - section.truth(section.points_mm) * turn
    length = np.linalg.norm(apart, axis=1)
    return {
        "median_mm": float(np.median(length)),
        "p95_mm": float(np.percentile(length, 95)),
        "plane_mm": float(np.abs(apart @ (section.plane[3] * turn)).mean()),
    }


def seen_rightly(found: slices.Plane, section: Section, mirrored: bool = False) -> bool:
    """True when x and y of the section run round the normal as in truth."""
    corners = section.truth(np.array([[50.0, 50.0], [60.0, 50.0], [50.0, 60.0]]))
    corners = corners * MIRROR if mirrored else corners
    true = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    return bool(found.normal @ true > 0)


def one(volume: Image, seed: int, symmetric: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    voxels = volume.numpy()
    section = cut_section(
        voxels, volume.grid.matrix("voxel", "mm"), seed=seed, axis=seed % 3,
        position=float(rng.uniform(0.25, 0.75)),
    )  # fmt: skip
    grid = Grid.identity(section.rgb.shape[1::-1], section.pixel_mm)
    image = Image.from_numpy(section.rgb, grid, channels=True, name="section")
    began = time.perf_counter()
    sheet = slices.sheet_for(image, volume)
    placement = slices.place(sheet, volume)
    seconds = time.perf_counter() - began
    plane, levels = (
        placement.plane,
        [x for _, s in placement.result.output.stages for x in s.levels],
    )
    both = [errors(placement.result.forward, section, m)["median_mm"] for m in (False, True)]
    mirrored = symmetric and both[1] < both[0]
    true = section.plane[3] * (MIRROR if mirrored else 1.0)
    cosine = min(1.0, abs(float(plane.normal @ true)))
    return {
        "seed": seed,
        "axis": "xyz"[seed % 3],
        "points": len(section.points_mm),
        "seconds": round(seconds, 1),
        "affine": errors(placement.result.affine, section, mirrored),
        "final": errors(placement.result.forward, section, mirrored),
        "tilt_error_deg": float(np.degrees(np.arccos(cosine))),
        "side_right": seen_rightly(plane, section, mirrored),
        "mirrored": mirrored,
        "margin": placement.margin,
        "called_unsure": any("unsure" in note for note in placement.notes),
        "folds": sum(x.folds or 0 for x in levels[-1:]),
        "notes": list(placement.notes),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    worst = {key: max(row["final"][key] for row in rows) for key in rows[0]["final"]}
    return {
        "sections": len(rows),
        "median_mm": {"median": float(np.median([r["final"]["median_mm"] for r in rows])),
                      "max": worst["median_mm"]},
        "p95_mm_max": worst["p95_mm"],
        "plane_mm_max": worst["plane_mm"],
        "tilt_error_deg_max": max(r["tilt_error_deg"] for r in rows),
        "side_right": sum(r["side_right"] for r in rows),
        "called_unsure": sum(r["called_unsure"] for r in rows),
        "folds": sum(r["folds"] for r in rows),
        "seconds_median": float(np.median([r["seconds"] for r in rows])),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="100-111", help="first-last")
    parser.add_argument("--volumes", default="colin,icbm")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    first, last = map(int, args.seeds.split("-"))
    out: dict[str, Any] = {"machine": machine(args.threads), "volumes": {}}
    for name in args.volumes.split(","):
        volume, rows = volume_of(name), []
        for seed in range(first, last + 1):
            rows.append(one(volume, seed, name == "icbm"))
            print(name, json.dumps(rows[-1]), flush=True)
        out["volumes"][name] = {"summary": summary(rows), "sections": rows}
        print(name, json.dumps(out["volumes"][name]["summary"]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "slices.json").write_text(json.dumps(out, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
