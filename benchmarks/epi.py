"""EPI distortion correction: a real field on a real image, a real phantom, beside PyHySCO.

    python benchmarks/epi.py [--only simulated,moved,severe,phantom] [--runs 3] [--threads 2]

simulated: the EPI of epi_sdcflows, bent by its own topup field (slices 18 to 41, readouts .03 and
.06 s, 2 % Rician noise), so the true field is known. moved: the same with 2 degrees and 2 mm of
head motion between the volumes. severe: readouts of .12 and .2 s. phantom: the AP/PA and LR/RL
pairs of epi_dcmqa; no truth, so the corrected volumes are compared with each other, after one gain.
The preset was tuned on slices 2 to 17 and 42 to 57, which are not reported, and on LR/RL. PyHySCO
(GPL) runs as another program where benchmarks/peers/setup.sh epi has installed it; its seconds are
those it prints for its optimisation, ours those of the whole call from images in memory. Results go
to benchmarks/results/epi.json.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

sys.path.insert(0, str(Path(__file__).parent))

import _epi
from _common import RESULTS, ROOT, data_folder, machine

from fireants_engine.geometry import Image
from fireants_engine.io import load_image
from fireants_engine.io.bids import encoding_of
from fireants_engine.workflows.epi import Correction, Volume, correct, swapped
from fireants_engine.workflows.epi_images import corrected
from fireants_engine.workflows.epi_report import agreement, inside_object, motion_of

PYHYSCO = ROOT / ".venv-peers-epi" / "bin" / "pyhysco"
READOUTS = (0.03, 0.06)
SEVERE = (0.12, 0.2)
SLICES = slice(18, 42)
MOTIONS = {
    "2 mm across the readout, 2 degrees": ((0.7, 0.0, 0.7), (1.0, 1.2, 1.2)),
    "2 mm also along it, 2 degrees": ((0.6, -0.65, 0.5), (1.0, 1.2, 1.2)),
}
"""Shift in voxels of 2 mm and rotation in degrees, z, y, x."""
PHANTOM = {
    "AP/PA": ("noPF_noPAT_noPOS_PEres100_ES0p59_BW2222_", ("AP_8", "PA_9")),
    "LR/RL (tuned on)": ("noPF_noPAT_noPOS_PEres100_ES0p60_BW2222_", ("LR_31", "RL_30")),
}


# ------------------------------------------------------------------ programs
def ours(volumes: Sequence[Volume], runs: int, **how: Any) -> tuple[Correction, float]:
    """Our correction and the shortest of its seconds."""
    times, found = [], None
    for _ in range(runs):
        began = time.perf_counter()
        found = correct(volumes, **how)
        times.append(time.perf_counter() - began)
    assert found is not None
    return found, min(times)


def pyhysco(volumes: Sequence[Volume], runs: int) -> dict[str, Any] | None:
    """Its shift of the first volume in voxels, corrected images, seconds; None where absent."""
    if not PYHYSCO.is_file():
        return None
    axis = volumes[0].encoding.axis
    image = volumes[0].image
    with tempfile.TemporaryDirectory() as folder:
        for name, one in zip(("up", "down"), volumes, strict=True):
            item = sitk.GetImageFromArray(one.image.data[0].float().numpy())
            item.SetSpacing(one.image.grid.spacing_mm)
            sitk.WriteImage(item, f"{folder}/{name}.nii.gz")
        command = [str(PYHYSCO), f"{folder}/up.nii.gz", f"{folder}/down.nii.gz", str(axis + 1),
                   "--output_dir", f"{folder}/"]  # fmt: skip
        seconds = []
        for _ in range(runs):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            minutes, rest = re.findall(r"runtime:\s*(\d+) min ([\d.]+) sec", done.stdout)[-1]
            seconds.append(60 * int(minutes) + float(rest))
        field, *images = (
            sitk.GetArrayFromImage(sitk.ReadImage(f"{folder}/{name}.nii.gz")).astype(float)
            for name in ("-EstFieldMap", "-im1Corrected", "-im2Corrected")
        )
    along = image.dim - 1 - axis
    nodes = np.moveaxis(field, along, -1)
    mm = np.moveaxis((nodes[..., 1:] + nodes[..., :-1]) / 2, -1, along)
    return {
        "shift": mm / image.grid.spacing_mm[axis],
        "images": [Image.from_numpy(a.astype(np.float32), image.grid) for a in images],
        "seconds": min(seconds),
    }


# ------------------------------------------------------------------ parts
def simulated(runs: int) -> list[dict[str, Any]]:
    rows = []
    for readout in READOUTS:
        given = _epi.simulate(data_folder(), readout, SLICES)
        oracle = _epi.with_shift(given.shift, given)
        true = _epi.nrmse(_epi.mean_corrected(oracle), given)
        plain = _epi.nrmse(_epi.mean_corrected(oracle, modulate=False), given)
        raw = [_epi.nrmse(v.image.data[0].double().numpy(), given) for v in given.volumes]
        size = np.abs(given.shift)[given.inside]
        base = {
            "readout_s": readout,
            "voxels": int(given.inside.sum()),
            "shift": {"mean": float(size.mean()), "p95": float(np.percentile(size, 95))},
            "nrmse": {"up": raw[0], "down": raw[1], "true field": true, "unmodulated": plain},
        }
        found, seconds = ours(given.volumes, runs)
        shift = found.distortion.shift_voxels().astype(float)
        back = correct(swapped(given.volumes)).distortion.field_hz
        negated = (found.distortion.field_hz + back)[0, 0].abs().numpy()[given.inside] * readout
        rows.append(base | {
            "program": "ours",
            **_epi.errors(shift, given),
            "nrmse_over_true": _epi.nrmse(_epi.mean_corrected(found), given) / true,
            "smallest_stretch": _stretch(found),
            "off_axis": float(found.distortion.warp(found.volumes[0].encoding).u[:, [0, 2]]
                              .abs().max()),
            "swapped_p99": float(np.percentile(negated, 99)),
            "seconds": seconds,
        })  # fmt: skip
        half, seconds = ours(given.volumes, 1, method="pairwise")
        rows.append(base | {
            "program": "ours, pairwise (thesis)",
            **_epi.errors(half.distortion.shift_voxels().astype(float), given),
            "nrmse_over_true": _epi.nrmse(_epi.mean_corrected(half), given) / true,
            "smallest_stretch": _stretch(half),
            "seconds": seconds,
        })  # fmt: skip
        peer = pyhysco(given.volumes, runs)
        if peer is not None:
            shift = peer["shift"]
            rows.append(base | {
                "program": "PyHySCO",
                **_epi.errors(shift, given),
                "nrmse_over_true":
                    _epi.nrmse(_epi.mean_corrected(_epi.with_shift(shift, given)), given) / true,
                "smallest_stretch": _stretch(_epi.with_shift(shift, given)),
                "seconds": peer["seconds"],
            })  # fmt: skip
        _say(rows)
    return rows


def _stretch(found: Correction) -> float:
    return min(found.distortion.stretch(one.encoding).amin().item() for one in found.volumes)


def moved(runs: int) -> list[dict[str, Any]]:
    rows = []
    for readout in READOUTS:
        for name, motion in MOTIONS.items():
            given = _epi.simulate(data_folder(), readout, SLICES, moved=motion)
            for estimated in (False, True):
                found, seconds = ours(given.volumes, runs, motion=estimated)
                told = motion_of(found.distortion)[1]
                rows.append({
                    "readout_s": readout, "motion": name, "estimated": estimated,
                    **_epi.errors(found.distortion.shift_voxels().astype(float), given),
                    "degrees": told["degrees"], "shift_mm": told["shift_mm"], "seconds": seconds,
                })  # fmt: skip
            _say(rows)
    return rows


def phantom(runs: int) -> list[dict[str, Any]]:
    rows = []
    for name, (stem, ends) in PHANTOM.items():
        paths = [data_folder() / "epi_dcmqa" / f"{stem}{end}.nii" for end in ends]
        volumes = [Volume(load_image(path), encoding_of(path)) for path in paths]
        before = [one.image for one in volumes]
        inside = inside_object(before)
        rows.append({"pair": name, "program": "as recorded", **agreement(before, inside)})
        found, seconds = ours(volumes, runs)
        row = {"pair": name, "program": "ours", **agreement(corrected(found), inside)}
        rows.append(row | {"smallest_stretch": _stretch(found), "seconds": seconds})
        peer = pyhysco(volumes, runs)
        if peer is not None:
            row = {"pair": name, "program": "PyHySCO", **agreement(peer["images"], inside)}
            rows.append(row | {"seconds": peer["seconds"]})
        _say(rows)
    return rows


def severe(runs: int) -> list[dict[str, Any]]:
    """Readouts so long that the two images hardly resemble each other."""
    rows = []
    for readout in SEVERE:
        given = _epi.simulate(data_folder(), readout, SLICES)
        before = [one.image for one in given.volumes]
        inside = inside_object(before)
        base = {"readout_s": readout}
        rows.append(base | {"program": "as recorded", **agreement(before, inside)})
        found, seconds = ours(given.volumes, runs)
        done = {"ours": (found.distortion.shift_voxels().astype(float), corrected(found), seconds)}
        if (peer := pyhysco(given.volumes, runs)) is not None:
            done["PyHySCO"] = peer["shift"], peer["images"], peer["seconds"]
        for name, (shift, images, seconds) in done.items():
            seen = {**agreement(images, inside), **_epi.errors(shift, given)}
            rows.append(base | {"program": name, **seen, "seconds": seconds})
        _say(rows)
    return rows


def _say(rows: list[dict[str, Any]]) -> None:
    for row in rows[-6:]:
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)


PARTS = {"simulated": simulated, "moved": moved, "severe": severe, "phantom": phantom}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--runs", type=int, default=3, help="of which the shortest counts")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = RESULTS / "epi.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    parts = known.get("parts", {})
    for name in args.only.split(","):
        parts[name] = PARTS[name](args.runs)
    result = {"machine": machine(args.threads), "peer": "PyHySCO 0.0.4", "parts": parts}
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
