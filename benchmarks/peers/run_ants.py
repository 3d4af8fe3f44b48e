"""Registers one pair with ANTs (`antspyx`): `ants.registration(type_of_transform="SyN")`.

All defaults: translation to matched centres of mass (identity with `--start header`), affine and
SyN with Mattes MI (32 bins), SyN steps (40, 20, 0), that is none at full resolution. `--cc` runs
`SyNCC` instead (about fifteen minutes). ANTs samples the affine's metric at random, so the seed is
fixed. Labels are warped with `genericLabel`. Run with the interpreter of `.venv-peers`; what it
writes: see `_peer.py`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from _peer import Clock, arguments, write_report


def main() -> None:
    parser = arguments("Register one pair with ANTs.")
    parser.add_argument(
        "--cc", action="store_true", help="SyNCC: cross-correlation at full resolution"
    )
    parser.add_argument("--label-interpolation", default="genericLabel", help="or nearestNeighbor")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    # read when ants is imported
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(args.threads)
    import ants

    kind, seed = ("SyNCC" if args.cc else "SyN"), 1
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        with clock.step("read"):
            fixed, moving = (ants.image_read(str(p)) for p in (args.fixed, args.moving))
            masks = {
                name: ants.image_read(str(path))
                for name, path in (("mask", args.fixed_mask), ("moving_mask", args.moving_mask))
                if path
            }
        with clock.step("register"):  # affine, deformable and the warped image: one call
            result = ants.registration(
                fixed,
                moving,
                type_of_transform=kind,
                initial_transform="Identity" if args.start == "header" else None,
                outprefix=f"{folder}/",
                random_seed=seed,
                verbose=False,
                **masks,
            )
        with clock.step("write"):
            warp, affine = result["fwdtransforms"]
            shutil.copyfile(warp, args.out / "1Warp.nii.gz")
            shutil.copyfile(affine, args.out / "0GenericAffine.mat")
            shutil.copyfile(result["invtransforms"][1], args.out / "1InverseWarp.nii.gz")
            ants.image_write(result["warpedmovout"], str(args.out / "warped.nii.gz"))
        if args.moving_labels:
            with clock.step("labels"):
                transforms = [warp, affine]
                _warp_labels(ants, fixed, args.moving_labels, transforms, args)

    parameters = {"type_of_transform": kind, "random_seed": seed, "masks": sorted(masks)}
    write_report(
        args,
        clock,
        method="ants-syncc" if args.cc else "ants-syn",
        version=f"antspyx {version('antspyx')}",
        parameters={**parameters, "labels": args.label_interpolation},
        precision="single (antspyx default)",
    )


def _warp_labels(ants, fixed, path: Path, transforms: list[str], args) -> None:
    labels = ants.image_read(str(path), pixeltype="unsigned int")
    warped = ants.apply_transforms(fixed, labels, transforms, interpolator=args.label_interpolation)
    ants.image_write(warped.clone("unsigned int"), str(args.out / "warped_labels.nii.gz"))


if __name__ == "__main__":
    main()
