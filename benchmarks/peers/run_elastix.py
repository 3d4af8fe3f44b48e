"""Registers one pair with elastix (`itk-elastix`): its default rigid, affine and B-spline maps.

`ParameterObject.GetDefaultParameterMap` for "rigid", "affine" and "bspline": four resolutions,
Mattes MI with 2048 random samples a step, 256 steps a resolution, grid of 10 mm, bending energy.
The first map starts at matched image centres. The transform is converted to one displacement field
by transformix; elastix makes no inverse. Of two masks the fixed one is used: with both, samples
that leave the moving mask count as lost and the run ends with "too many samples map outside".
Labels by nearest neighbour, as transformix does with order 0. Run with the interpreter of
`.venv-peers-elastix`; what it writes: see `_peer.py`.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version

import itk
import numpy as np
import SimpleITK as sitk
from _fields import fit_affine, points_of, resample, save_split
from _peer import Clock, arguments, write_report

STAGES = ("rigid", "affine", "bspline")


def parameters(start: str):
    maps = itk.ParameterObject.New()
    for name in STAGES:
        one = maps.GetDefaultParameterMap(name)
        if name == "rigid" and start == "centres":
            one["AutomaticTransformInitialization"] = ["true"]
        one["WriteResultImage"] = ["false"]
        maps.AddParameterMap(one)
    return maps


def field_of(moving, transforms, folder: str) -> np.ndarray:
    """Displacement (mm, array order) of elastix' transforms on the fixed grid."""
    field = itk.transformix_deformation_field(moving, transforms, output_directory=folder)
    return np.asarray(itk.array_view_from_image(field), dtype=np.float64)


def affine_part(transforms):
    """The transforms without the last, the B-spline."""
    part = itk.ParameterObject.New()
    for k in range(transforms.GetNumberOfParameterMaps() - 1):
        part.AddParameterMap(transforms.GetParameterMap(k))
    return part


def main() -> None:
    args = arguments("Register one pair with elastix.").parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    # its own option number_of_threads crashes the B-spline stage of 0.25.4
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(args.threads)
    maps = parameters(args.start)  # loads elastix: not counted
    clock = Clock()
    with clock.step("read"):
        fixed, moving = (itk.imread(str(p), itk.F) for p in (args.fixed, args.moving))
        masks = {"fixed_mask": itk.imread(str(args.fixed_mask), itk.UC)} if args.fixed_mask else {}
    with tempfile.TemporaryDirectory() as folder:
        with clock.step("register"):
            _, transforms = itk.elastix_registration_method(
                fixed,
                moving,
                parameter_object=maps,
                log_to_console=False,
                log_to_file=True,
                output_directory=str(args.out),
                **masks,
            )
        with clock.step("field"):
            total = field_of(moving, transforms, folder)
            linear = field_of(moving, affine_part(transforms), folder)
    with clock.step("write"):
        reference = sitk.ReadImage(str(args.fixed), sitk.sitkFloat32)
        points = points_of(reference)
        chain = save_split(total, reference, fit_affine(points, points + linear), args.out)
        resample(args.moving, reference, chain, sitk.sitkLinear, args.out / "warped.nii.gz")
    if args.moving_labels:
        with clock.step("labels"):
            target = args.out / "warped_labels.nii.gz"
            resample(args.moving_labels, reference, chain, sitk.sitkNearestNeighbor, target)

    write_report(
        args,
        clock,
        method="elastix",
        version=f"itk-elastix {version('itk-elastix')}",
        parameters={
            "maps": f"default {', '.join(STAGES)}",
            "start": args.start,
            "masks": sorted(masks),
            "labels": "nearest neighbour",
        },
        precision="single image, double transform",
    )


if __name__ == "__main__":
    main()
