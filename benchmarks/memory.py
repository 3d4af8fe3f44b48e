"""Peak memory of whole registrations beside its forecast: each run in a process of its own.

    python benchmarks/memory.py [--pairs icbm oasis] [--recipes affine ...] [--kernels auto]

The peak is the highest resident size (VmHWM, Linux) above the resident size just before the run,
images loaded. The constants of the forecast were chosen on the packaged pair (`icbm`); `oasis` was
looked at while the model was written, the packaged pair on other voxels (`coarse`, `fine`) only
afterwards. Rows are merged into the results by pair, recipe and kernels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _common import RESULTS, ROOT, data_folder, machine, scrub, status_mib

from fireants_engine.recipe import Recipe

OUT = RESULTS / "memory.json"
SAMPLES = ROOT / "sample_data"
TITLES = {
    "icbm": "197 x 233 x 189, constants chosen on it",
    "oasis": "162 x 214 x 167, seen while the model was written",
    "coarse": "152 x 179 x 145 as floats, measured afterwards; affine finds room that loading left",
    "fine": "246 x 291 x 236 as floats, measured afterwards",
}
SPACINGS_MM = {"coarse": 1.3, "fine": 0.8}
MIND = {"kind": "ssd", "features": {"kind": "mind"}}


def recipes() -> dict[str, Recipe]:
    """Name -> recipe: presets, and brain-mri with one thing changed."""
    base = Recipe.preset("brain-mri")
    changed = {
        "symmetric": {"stages.2.deformation.kind": "symmetric"},
        "velocity": {
            "stages.2.deformation": {
                "kind": "stationary_velocity",
                "sigma_grad_mm": 1.2,
                "sigma_warp_mm": 0.7,
            }
        },
        "mind": {"stages.2.terms": [MIND]},
    }
    presets = ("affine", "brain-mri-fast", "brain-mri", "multimodal", "microscopy")
    found = {name: Recipe.preset(name) for name in presets}
    return found | {name: base.with_values(values) for name, values in changed.items()}


def files(pair: str, made: Path | None) -> tuple[Path, Path]:
    """made: folder of the images that `make` has written."""
    if made is not None:
        return made / "fixed.nii", made / "moving.nii"
    if pair == "oasis":
        folder = data_folder() / "oasis_malf"
        return folder / "1000_SS.nii.gz", folder / "1006_SS.nii.gz"
    return SAMPLES / "icbm152_t1.nii.gz", SAMPLES / "colin27_t1.nii.gz"


def make(pair: str, folder: Path) -> None:
    """The packaged images on other voxels, as floats with some noise: no two values alike.

    In a process of its own: what it leaves free would be used by the run that is measured.
    """
    import numpy as np

    from fireants_engine.io import load_image, save_image
    from fireants_engine.ops import warp_image
    from fireants_engine.transforms import Affine

    for source, target in zip(files(pair, None), files(pair, folder), strict=True):
        image = load_image(source)
        axes = zip(image.grid.size, image.grid.spacing_mm, strict=True)
        size = [round(n * spacing / SPACINGS_MM[pair]) for n, spacing in axes]
        found = warp_image(image, Affine.identity(3), image.grid.resized(size))
        noise = np.random.default_rng(0).normal(0, 1, found.grid.shape).astype(np.float32)
        save_image(type(image).from_numpy(found.numpy() + noise, found.grid), target)


def measure(
    pair: str, recipe: Recipe, kernels: str, threads: int, made: Path | None
) -> dict[str, Any]:
    """One run in this process."""
    import gc

    import torch

    from fireants_engine.io import load_image
    from fireants_engine.workflows.forecast import ImageSize, forecast
    from fireants_engine.workflows.registration import Execution, register

    torch.set_num_threads(threads)
    fixed, moving = (load_image(path) for path in files(pair, made))
    gc.collect()
    sizes = ImageSize.of(fixed), ImageSize.of(moving)
    told = forecast(recipe, *sizes, device="cpu", kernels=kernels)
    before = status_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins here
    result = register(fixed, moving, recipe, execution=Execution("cpu", kernels))
    return {
        "measured_mib": round(status_mib("VmHWM") - before, 1),
        "forecast_mib": round(told.peak_bytes / 2**20, 1),
        "parts_mib": {name: round(size / 2**20, 1) for name, size in told.parts.items()},
        "kernels": result.execution["kernels"],
        "seconds": round(result.output.seconds, 1),
        "outcome": result.outcome.value,
        "images": [asdict(size) for size in sizes],
    }


def told_again(rows: list[dict[str, Any]]) -> None:
    """The forecasts of kept measurements, made anew by the present model."""
    from fireants_engine.workflows.forecast import ImageSize, forecast

    for row in rows:
        sizes = [ImageSize(**size) for size in row["images"]]
        found = forecast(recipes()[row["recipe"]], *sizes, device="cpu", kernels=row["kernels"])
        row["forecast_mib"] = round(found.peak_bytes / 2**20, 1)
        row["parts_mib"] = {k: round(v / 2**20, 1) for k, v in found.parts.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", nargs="+", default=list(TITLES))
    parser.add_argument("--recipes", nargs="+", default=list(recipes()))
    parser.add_argument("--kernels", nargs="+", default=["native"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="only make the forecasts anew")
    parser.add_argument("--one", nargs=3, metavar=("PAIR", "RECIPE", "KERNELS"))
    parser.add_argument("--make", metavar="PAIR")
    parser.add_argument("--made", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    if args.make:
        make(args.make, args.made)
        return 0
    if args.one:
        pair, name, kernels = args.one
        print(json.dumps(measure(pair, recipes()[name], kernels, args.threads, args.made)))
        return 0
    known = json.loads(OUT.read_text())["rows"] if OUT.is_file() else []
    rows = {(row["pair"], row["recipe"], row["kernels"]): row for row in known}
    if args.again:
        told_again(known)
    for pair in [] if args.again else args.pairs:
        for kernels in args.kernels:
            for name in args.recipes:
                row = in_a_process(pair, name, kernels, args.threads)
                rows[pair, name, kernels] = row
                off = row["forecast_mib"] / row["measured_mib"] - 1
                print(f"{pair:6} {kernels:10} {name:15} {row['measured_mib']:8.1f} {off:+.1%}")
                write(list(rows.values()))
    write(list(rows.values()))
    return 0


def in_a_process(pair: str, recipe: str, kernels: str, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        made = ["--made", folder] if pair in SPACINGS_MM else []
        if made:
            _said("--make", pair, *made)
        said = _said("--one", pair, recipe, kernels, "--threads", str(threads), *made)
    return {"pair": pair, "recipe": recipe, **json.loads(said.splitlines()[-1])}


def _said(*arguments: str) -> str:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(scrub(done.stderr[-2000:]))
    return done.stdout


def write(rows: list[dict[str, Any]]) -> None:
    order = list(TITLES), list(recipes())
    rows.sort(key=lambda r: (order[0].index(r["pair"]), r["kernels"], order[1].index(r["recipe"])))
    OUT.write_text(json.dumps({"machine": machine(), "titles": TITLES, "rows": rows}, indent=1))


if __name__ == "__main__":
    sys.exit(main())
