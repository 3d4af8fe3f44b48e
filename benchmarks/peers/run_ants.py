"""Registers one pair with ANTs (`antspyx`): `ants.registration(type_of_transform="SyN")`.

All defaults: translation to matched centres of mass, affine and SyN with Mattes MI (32 bins), SyN
steps (40, 20, 0), that is none at full resolution. `--cc` runs `SyNCC` instead (about fifteen
minutes). ANTs samples the affine's metric at random, so the seed is fixed. Labels are warped with
`genericLabel`. Run with the interpreter of `.venv-peers`.

Writes in `--out`: `0GenericAffine.mat`, `1Warp.nii.gz` (ITK, LPS mm, fixed to moving; a fixed point
goes through the warp first, then through the affine), `warped.nii.gz`, `warped_labels.nii.gz`,
`peer.json`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from _peer import Clock, arguments, peak_mib, write_report


def main() -> None:
    parser = arguments("Register one pair with ANTs.")
    parser.add_argument(
        "--cc", action="store_true", help="SyNCC: cross-correlation at full resolution"
    )
    parser.add_argument("--label-interpolation", default="genericLabel", help="or nearestNeighbor")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(
        args.threads
    )  # read when ants is imported
    import ants

    kind, seed = ("SyNCC" if args.cc else "SyN"), 1
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        with clock.step("read"):
            fixed, moving = (ants.image_read(str(p)) for p in (args.fixed, args.moving))
        with clock.step("register"):  # affine, deformable and the warped image: one call
            result = ants.registration(
                fixed,
                moving,
                type_of_transform=kind,
                outprefix=f"{folder}/",
                random_seed=seed,
                verbose=False,
            )
        with clock.step("write"):
            warp, affine = result["fwdtransforms"]
            shutil.copyfile(warp, args.out / "1Warp.nii.gz")
            shutil.copyfile(affine, args.out / "0GenericAffine.mat")
            ants.image_write(result["warpedmovout"], str(args.out / "warped.nii.gz"))
        if args.moving_labels:
            with clock.step("labels"):
                _warp_labels(
                    ants,
                    fixed,
                    args.moving_labels,
                    [warp, affine],
                    args.label_interpolation,
                    args.out,
                )

    write_report(
        args.out,
        {
            "method": "ants-syncc" if args.cc else "ants-syn",
            "version": f"antspyx {version('antspyx')}",
            "parameters": {
                "type_of_transform": kind,
                "random_seed": seed,
                "labels": args.label_interpolation,
            },
            "precision": "single (antspyx default)",
            "threads": args.threads,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **clock.summary(),
            "peak_mib": round(peak_mib(), 1),
        },
    )


def _warp_labels(
    ants, fixed, path: Path, transforms: list[str], interpolation: str, out: Path
) -> None:
    labels = ants.image_read(str(path), pixeltype="unsigned int")
    warped = ants.apply_transforms(fixed, labels, transforms, interpolator=interpolation)
    ants.image_write(warped.clone("unsigned int"), str(out / "warped_labels.nii.gz"))


if __name__ == "__main__":
    main()
