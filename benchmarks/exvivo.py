"""In-vivo to ex-vivo on real brains with a simulated fixation: is the pose no loss?

    python benchmarks/exvivo.py [--subjects 1000,1006,1008] [--spacing 2] [--threads 1]

Each hemisphere of subjects of oasis_malf is cut out, shrunk by 5 to 10 %, bent by 1.5 mm, given a
reduced or inverted contrast, noise and a random pose (`_fixation.py`), then found again by
`workflows.exvivo.align` with labels and without. Beside it: the same registration from the true
rigid pose onto the true half, cut in the same way. Dice of grey and white matter of both, and the
worst that the search for the pose has lost. Results go to benchmarks/results/exvivo.json.
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

from _common import RESULTS, data_folder, machine
from _fixation import GREY, WHITE, Subject, fixed_brain, kept_half, load_subject

from fireants_engine.geometry import Image
from fireants_engine.ops import warp_labels
from fireants_engine.pipeline.rotations import degrees_between
from fireants_engine.transforms import Affine, Transform
from fireants_engine.workflows.exvivo import exvivo_recipe, orient, register_oriented
from fireants_engine.workflows.hemispheres import part_of
from fireants_engine.workflows.registration import register


def dice(subject: Subject, half: np.ndarray, tissue: Image, through: Transform) -> list[float]:
    """Of grey and white matter of the ex-vivo brain, brought to the in-vivo half."""
    moved = warp_labels(tissue, through, subject.image.grid).data[0].numpy()
    own = subject.tissue.data[0].numpy() * half
    both = [((moved == k).sum() + (own == k).sum(), ((moved == k) & (own == k)).sum())
            for k in (GREY, WHITE)]  # fmt: skip
    return [round(2 * float(common) / float(total), 4) for total, common in both]


def one_case(subject: Subject, side: str, contrast: str, seed: int, labels: bool) -> dict[str, Any]:
    exvivo, tissue, truth, pose = fixed_brain(subject, side, contrast, seed)
    half = kept_half(subject, side)
    known = subject.sides if labels else None
    began = time.perf_counter()
    found = orient(exvivo, subject.image, labels=known)
    oriented = time.perf_counter() - began
    result = register_oriented(found).result
    seconds = time.perf_counter() - began
    given = part_of(subject.image, "left" if side == "left" else "right", found.plane, known)
    beside = register(given, exvivo, exvivo_recipe(), initial=pose)
    return {
        "side": side,
        "contrast": contrast,
        "labels": labels,
        "found": found.chosen.side,
        "margin": round(found.margin or 0.0, 3),
        "start_deg": round(_apart(found.chosen.start.affine, pose), 2),
        "dice": dice(subject, half, tissue, result.forward),
        "dice_pose_known": dice(subject, half, tissue, beside.forward),
        "dice_start": dice(subject, half, tissue, found.chosen.start.affine),
        "dice_truth": dice(subject, half, tissue, truth),
        "orient_seconds": round(oriented, 2),
        "seconds": round(seconds, 2),
    }


def _apart(a: Affine, b: Affine) -> float:
    return degrees_between(a.matrix[:3, :3], b.matrix[:3, :3])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subjects", default="1000,1006,1008")
    parser.add_argument("--spacing", type=float, default=2.0, help="mm")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cases = []
    for number, name in enumerate(args.subjects.split(",")):
        subject = load_subject(data_folder() / "oasis_malf", name, args.spacing)
        for k, side in enumerate(("left", "right")):
            contrast = ("reduced", "inverted")[(number + k) % 2]
            case = {"subject": name, **one_case(subject, side, contrast, 10 * number + k, k == 0)}
            print(json.dumps(case), flush=True)
            cases.append(case)
    pairs = [(case["dice"][k], case["dice_pose_known"][k]) for case in cases for k in (0, 1)]
    result = {
        "machine": machine(args.threads),
        "spacing_mm": args.spacing,
        "sides_right": sum(case["found"] == case["side"] for case in cases),
        "worst_loss_of_dice": round(max(known - own for own, known in pairs), 4),
        "cases": cases,
    }
    (RESULTS / "exvivo.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
