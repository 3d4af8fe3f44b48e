"""Applies a saved run with ANTs: the moving image through `1Warp.nii.gz` and `0GenericAffine.mat`.

.venv-peers/bin/python benchmarks/peers/apply_ants.py RUN FIXED MOVING -o FILE
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ants


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("run", "fixed", "moving"):
        parser.add_argument(name, type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    transforms = [str(args.run / name) for name in ("1Warp.nii.gz", "0GenericAffine.mat")]
    fixed, moving = (ants.image_read(str(path)) for path in (args.fixed, args.moving))
    moved = ants.apply_transforms(fixed, moving, transforms, interpolator="linear")
    ants.image_write(moved, str(args.output))


if __name__ == "__main__":
    main()
