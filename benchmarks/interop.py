"""Do other programs get our image from our files? One real run, re-made by SimpleITK and by ANTs.

    benchmarks/peers/setup.sh
    python benchmarks/interop.py [--preset brain-mri]

The packaged pair (Colin27 onto ICBM152) is registered and saved. Then SimpleITK and antspyx warp
the moving image with `1Warp.nii.gz` and `0GenericAffine.mat`, linearly, and each is compared with
`warped.nii.gz`: the largest difference, as a share of the moving image's range, three voxels or
more away from the border. The inverse is judged by |T(T^-1(x)) - x| inside the brain. Results go to
benchmarks/results/interop.json and, as a table, to the terminal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).parent))

from _common import RESULTS, ROOT, machine

from fireants_engine import Recipe, load_image, load_run, register

HERE = Path(__file__).resolve().parent
PEER_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
FIXED, MOVING = (ROOT / "sample_data" / f"{name}_t1.nii.gz" for name in ("icbm152", "colin27"))
BORDER = 3


def by_simpleitk(run: Path, out: Path) -> None:
    affine = sitk.ReadTransform(str(run / "0GenericAffine.mat"))
    field = sitk.ReadImage(str(run / "1Warp.nii.gz"), sitk.sitkVectorFloat64)
    chain = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(field)])
    fixed, moving = (sitk.ReadImage(str(p), sitk.sitkFloat32) for p in (FIXED, MOVING))
    sitk.WriteImage(sitk.Resample(moving, fixed, chain, sitk.sitkLinear, 0.0), str(out))


def by_ants(run: Path, out: Path) -> None:
    script = HERE / "peers" / "apply_ants.py"
    command = [PEER_PYTHON, script, run, FIXED, MOVING, "-o", out]
    subprocess.run([str(word) for word in command], check=True)


def inner(array: np.ndarray) -> np.ndarray:
    return array[(slice(BORDER, -BORDER),) * array.ndim]


def inverse_residual(run: Path) -> dict[str, float]:
    """|T(T^-1(x)) - x| in voxels of the moving image, x at its brain voxels."""
    saved, moving = load_run(run), load_image(MOVING)
    values = moving.data[0].numpy()
    points = moving.grid.points_mm()[(values > 0.1 * values.max()).ravel()]
    gap = saved.transform(saved.inverse(points)) - points
    size = np.linalg.norm(gap @ moving.grid.matrix("mm", "voxel")[:-1, :-1].T, axis=1)
    return {"mean_vox": float(size.mean()), "max_vox": float(size.max())}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="brain-mri")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        register(load_image(FIXED), load_image(MOVING), Recipe.preset(args.preset)).save(run)
        ours = sitk.GetArrayFromImage(sitk.ReadImage(str(run / "warped.nii.gz")))
        span = float(np.ptp(sitk.GetArrayFromImage(sitk.ReadImage(str(MOVING)))))
        for name, remake in (("SimpleITK", by_simpleitk), ("antspyx", by_ants)):
            remade = Path(folder) / f"{name}.nii.gz"
            remake(run, remade)
            gap = np.abs(inner(ours - sitk.GetArrayFromImage(sitk.ReadImage(str(remade))))) / span
            rows.append({"program": name, "largest": float(gap.max()), "mean": float(gap.mean())})
        inverse = inverse_residual(run)
    for row in rows:
        print(f"{row['program']}: largest {row['largest']:.1e}, mean {row['mean']:.1e}")
    print(f"inverse: mean {inverse['mean_vox']:.4f}, max {inverse['max_vox']:.3f} voxel")
    RESULTS.mkdir(exist_ok=True)
    document = {
        "machine": machine(), "preset": args.preset, "rows": rows, "inverse": inverse
    }  # fmt: skip
    (RESULTS / "interop.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
