"""Registers one pair with greedy (`picsl-greedy`) as its documentation recommends for two brains.

The quick start of greedy.readthedocs.io: an affine from matched image centres, then the deformable
stage with NCC of radius 2, both with `-n 100x50x10`; labels by `LABEL 0.2vox`. The affine's metric
is NMI here: faster, and the same Dice afterwards. Double precision, the program's default and its
documentation's advice: with `GreedyFloat3D` the line search of an NCC affine fails and the
deformable stage loses .15 of Dice. Run with the interpreter of `.venv-peers`.

Writes in `--out`: `0GenericAffine.mat` (ITK), `1Warp.nii.gz` (ITK displacement, LPS mm, fixed to
moving; a fixed point goes through the warp first, then through the affine), `warped.nii.gz`,
`warped_labels.nii.gz`, `peer.json`.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from _peer import Clock, arguments, peak_mib, write_report
from picsl_greedy import Greedy3D

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def itk_affine(matrix_ras: np.ndarray) -> sitk.AffineTransform:
    """ITK transform (LPS mm) of greedy's 4x4 fixed-to-moving matrix (RAS mm)."""
    matrix = _RAS_TO_LPS @ np.asarray(matrix_ras, dtype=np.float64) @ _RAS_TO_LPS
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(matrix[:3, :3].ravel().tolist())
    affine.SetTranslation(matrix[:3, 3].tolist())
    return affine


def main() -> None:
    parser = arguments("Register one pair with greedy.")
    parser.add_argument("--initial", default="-ia-image-centers", help="how the affine starts")
    parser.add_argument("--affine-metric", default="NMI")
    parser.add_argument("--affine-steps", default="100x50x10")
    parser.add_argument("--metric", default="NCC 2x2x2")
    parser.add_argument("--steps", default="100x50x10")
    parser.add_argument(
        "--extra", default="", help="more options of the deformable stage, such as -sv"
    )
    parser.add_argument("--label-interpolation", default="LABEL 0.2vox", help="or NN")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    common = f"-threads {args.threads} -seed 1"
    affine_options = (
        f"-a -dof 12 -m {args.affine_metric} {args.initial} -n {args.affine_steps} {common}"
    )
    # -wp 0: the warp is otherwise stored rounded to 0.1 voxel, unfair to it when folds are counted
    extra = f" {args.extra}" if args.extra else ""
    warp_options = f"-m {args.metric} -n {args.steps}{extra} -wp 0 {common}"
    clock, greedy = Clock(), Greedy3D()
    with clock.step("read"):
        fixed, moving = (
            sitk.ReadImage(str(p), sitk.sitkFloat32) for p in (args.fixed, args.moving)
        )
    with clock.step("affine"):
        greedy.execute(
            f"-i fixed moving {affine_options} -o affine", fixed=fixed, moving=moving, affine=None
        )
    with clock.step("deformable"):
        greedy.execute(f"-i fixed moving -it affine {warp_options} -o warp", warp=None)
    with clock.step("warp_image"):
        greedy.execute(
            f"-threads {args.threads} -rf fixed -rm moving warped -r warp affine", warped=None
        )
    with clock.step("write"):
        sitk.WriteTransform(itk_affine(greedy["affine"]), str(args.out / "0GenericAffine.mat"))
        _write(greedy["warp"], args.out / "1Warp.nii.gz", sitk.sitkVectorFloat32)
        _write(greedy["warped"], args.out / "warped.nii.gz", sitk.sitkFloat32)
    if args.moving_labels:
        with clock.step("labels"):
            _warp_labels(
                greedy, args.moving_labels, args.label_interpolation, args.threads, args.out
            )

    write_report(
        args.out,
        {
            "method": "greedy",
            "version": f"picsl-greedy {version('picsl-greedy')}",
            "parameters": {
                "affine": affine_options,
                "deformable": warp_options,
                "labels": args.label_interpolation,
            },
            "precision": "double",
            "threads": args.threads,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **clock.summary(),
            "peak_mib": round(peak_mib(), 1),
        },
    )


def _warp_labels(greedy: Greedy3D, path: Path, interpolation: str, threads: int, out: Path) -> None:
    """Warps a label map through greedy, which can hand this kind of result over in a file only."""
    labels = sitk.ReadImage(str(path))
    target = out / "warped_labels.nii.gz"
    greedy.execute(
        f"-threads {threads} -rf fixed -ri {interpolation} -rm labels {target} -r warp affine",
        labels=labels,
    )
    _write(sitk.ReadImage(str(target)), target, labels.GetPixelID())


def _write(image: sitk.Image, path: Path, pixel: int) -> None:
    sitk.WriteImage(sitk.Cast(image, pixel), str(path), useCompression=True)


if __name__ == "__main__":
    main()
