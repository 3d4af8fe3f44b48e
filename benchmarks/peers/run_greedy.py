"""Registers one pair with greedy (`picsl-greedy`) as its documentation recommends.

The quick start of greedy.readthedocs.io: an affine from matched image centres, then the deformable
stage, both with NCC of radius 2 (NMI when the contrasts differ) and `-n 100x50x10`; labels by
`LABEL 0.2vox`. Double precision, the program's default and its documentation's advice: with
`GreedyFloat3D` the line search of an NCC affine fails and the deformable stage loses .15 of Dice.
Run with the interpreter
of `.venv-peers`; what it writes: see `_peer.py`.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from _fields import affine_transform
from _peer import Clock, arguments, write_report
from picsl_greedy import Greedy2D, Greedy3D


def itk_affine(matrix_ras: np.ndarray) -> sitk.AffineTransform:
    """ITK transform (LPS mm) of greedy's homogeneous fixed-to-moving matrix (RAS mm)."""
    dim = len(matrix_ras) - 1
    flip = np.diag([*[-1.0, -1.0, 1.0][:dim], 1.0])
    matrix = flip @ np.asarray(matrix_ras, dtype=np.float64) @ flip
    return affine_transform(matrix[:dim, :dim], matrix[:dim, dim])


def options(args, dim: int) -> tuple[str, str]:
    """What greedy is given in its affine and in its deformable stage."""
    common = f"-threads {args.threads} -seed 1"
    start = "-ia-identity" if args.start == "header" else args.initial
    metric = args.metric or ("NMI" if args.multimodal else "NCC " + "x".join("2" * dim))
    masks = {"-gm": args.fixed_mask, "-mm": args.moving_mask}
    masked = "".join(f" {flag} {path}" for flag, path in masks.items() if path)
    affine_metric = args.affine_metric or metric
    affine = (
        f"-a -dof {args.dof} -m {affine_metric} {start} -n {args.affine_steps} {common}{masked}"
    )
    # -wp 0: the warp is otherwise stored rounded to 0.1 voxel, unfair to it when folds are counted
    extra = f" {args.extra}" if args.extra else ""
    return affine, f"-m {metric} -n {args.steps}{extra} -wp 0 {common}{masked}"


def parse_arguments():
    parser = arguments("Register one pair with greedy.")
    parser.add_argument("--initial", default="-ia-image-centers", help="how the affine starts")
    parser.add_argument("--dof", default="12", help="6: rigid")
    parser.add_argument("--affine-metric", help="without it the metric of the deformable stage")
    parser.add_argument("--affine-steps", default="100x50x10")
    parser.add_argument("--metric", help="NCC 2x2x2; NMI with --multimodal")
    parser.add_argument("--steps", default="100x50x10")
    parser.add_argument(
        "--extra", default="", help="more options of the deformable stage, such as -sv"
    )
    parser.add_argument("--label-interpolation", default="LABEL 0.2vox", help="or NN")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    with clock.step("read"):
        fixed, moving = (
            sitk.ReadImage(str(p), sitk.sitkFloat32) for p in (args.fixed, args.moving)
        )
    dim = fixed.GetDimension()
    greedy = Greedy2D() if dim == 2 else Greedy3D()
    affine_options, warp_options = options(args, dim)
    with clock.step("affine"):
        greedy.execute(
            f"-i fixed moving {affine_options} -o affine", fixed=fixed, moving=moving, affine=None
        )
    with clock.step("deformable"):
        greedy.execute(
            f"-i fixed moving -it affine {warp_options} -o warp -oinv inverse",
            warp=None,
            inverse=None,
        )
    with clock.step("warp_image"):
        greedy.execute(
            f"-threads {args.threads} -rf fixed -rm moving warped -r warp affine", warped=None
        )
    with clock.step("write"):
        sitk.WriteTransform(itk_affine(greedy["affine"]), str(args.out / "0GenericAffine.mat"))
        _write(greedy["warp"], args.out / "1Warp.nii.gz", sitk.sitkVectorFloat32)
        _write(greedy["inverse"], args.out / "1InverseWarp.nii.gz", sitk.sitkVectorFloat32)
        _write(greedy["warped"], args.out / "warped.nii.gz", sitk.sitkFloat32)
    if args.moving_labels:
        with clock.step("labels"):
            _warp_labels(
                greedy, args.moving_labels, args.label_interpolation, args.threads, args.out
            )

    write_report(
        args,
        clock,
        method="greedy",
        version=f"picsl-greedy {version('picsl-greedy')}",
        parameters={
            "affine": _without_folders(affine_options),
            "deformable": _without_folders(warp_options),
            "labels": args.label_interpolation,
        },
        precision="double",
    )


def _without_folders(text: str) -> str:
    return " ".join(word.rpartition("/")[2] for word in text.split())


def _warp_labels(greedy, path: Path, interpolation: str, threads: int, out: Path) -> None:
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
