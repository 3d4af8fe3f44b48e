"""How much the brain-mri greedy stage depends on its three main settings (thesis Fig. 3.7).

    python benchmarks/sensitivity.py [--moving 1001] [--full] [--keep-floors] [--keep]
        [--grad 0.8,1.2,1.8] [--warp 0.5,0.7,1.0] [--step 0.4,0.6,0.9]

Update smoothing x warp smoothing x step, from an affine that is found once; mean Dice over the
pairs (fixed 1000, tuning half) per cell, and the share of the cells within 0.01 of the best.
Levels 4x and 2x; --full goes on to 1x. The preset's floor, in voxels of a level, equals its width
in mm on 1 mm voxels and rules on coarse levels: both take the cell's value, or the sweep would
change nothing there. --keep-floors changes the three settings alone, as a person would.
--keep leaves out what the results file has already.
Results go to benchmarks/results/sensitivity.json and, as a table, to the terminal.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _common import RESULTS, machine
from _studies import AXES, NEAR, key, means, near_best
from conditioning import Brains, Row, brains, deformable, measured

PATH = RESULTS / "sensitivity.json"


def cell(pair: Brains, sweep: tuple[int, str], values: tuple[float, ...]) -> Row:
    """One registration with one set of values; sweep: finest level, "follow" or "kept" floors."""
    grad, warp, step = values
    finest, floors = sweep
    settings = {
        "deformation.sigma_grad_mm": grad,
        "deformation.sigma_warp_mm": warp,
        "descent.step": step,
    }
    if floors == "follow":
        settings |= {"deformation.grad_floor_vox": grad, "deformation.warp_floor_vox": warp}
    row = measured(pair, deformable("brain-mri" if finest == 1 else "brain-mri-fast", settings))[1]
    place = {"finest": finest, "floors": floors, **dict(zip(AXES, values, strict=True))}
    return place | row


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--moving", default="1001")
    parser.add_argument("--full", action="store_true", help="go on to full resolution")
    parser.add_argument("--keep-floors", action="store_true", help="leave the floors in voxels")
    parser.add_argument("--keep", action="store_true", help="keep rows, run what is missing")
    parser.add_argument("--grad", type=numbers, default=[0.8, 1.2, 1.8])
    parser.add_argument("--warp", type=numbers, default=[0.5, 0.7, 1.0])
    parser.add_argument("--step", type=numbers, default=[0.4, 0.6, 0.9])
    args = parser.parse_args()
    rows = json.loads(PATH.read_text())["rows"] if args.keep and PATH.is_file() else []
    have = {key(row) for row in rows}
    sweep = (1 if args.full else 2, "kept" if args.keep_floors else "follow")
    for name in args.moving.split(","):
        for values in product(args.grad, args.warp, args.step):
            if (*sweep, brains(name).name, *values) in have:
                continue
            rows.append(cell(brains(name), sweep, values))
            print({k: v for k, v in rows[-1].items() if k != "finest"}, flush=True)
            result = {"machine": machine(torch.get_num_threads()), "rows": rows}
            PATH.write_text(json.dumps(result, indent=1) + "\n")
    for one in sorted({(c["finest"], c["floors"]) for c in means(rows)}):
        cells = [c for c in means(rows) if (c["finest"], c["floors"]) == one]
        for c in cells:
            print(*one, *(f"{k} {c[k]:g}" for k in AXES), f"Dice {c['dice']:.4f}")
        best, share = near_best(cells)
        print(*one, f"best {best:.4f}; {share:.0%} of {len(cells)} cells within {NEAR}")


if __name__ == "__main__":
    main()
