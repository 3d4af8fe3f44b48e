"""ANTs applies our files and gets our image and our points (LESSONS 11)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import fireants_engine as fe

APPLY = """
import sys, ants, pandas, json
folder, dim = sys.argv[1], int(sys.argv[2])
fixed, moving = (ants.image_read(f"{folder}/{name}.nii.gz") for name in ("fixed", "moving"))
forward = [f"{folder}/out/1Warp.nii.gz", f"{folder}/out/0GenericAffine.mat"]
backward = [f"{folder}/out/0GenericAffine.mat", f"{folder}/out/1InverseWarp.nii.gz"]
moved = ants.apply_transforms(fixed, moving, forward, interpolator="linear")
ants.image_write(moved, f"{folder}/ants.nii.gz")
back = ants.apply_transforms(
    moving, fixed, backward, interpolator="linear", whichtoinvert=[True, False]
)
ants.image_write(back, f"{folder}/ants_back.nii.gz")
points = pandas.DataFrame(json.loads(sys.argv[3]), columns=list("xyz")[:dim])
mapped = ants.apply_transforms_to_points(dim, points, forward)
print(json.dumps(mapped[list("xyz")[:dim]].values.tolist()))
"""


def inner(array: np.ndarray, border: int = 2) -> np.ndarray:
    return array[tuple(slice(border, -border) for _ in array.shape)]


@pytest.mark.parametrize("kind", ["oblique", "flipped", "flat"])
def test_apply_transforms(
    saved_run: Callable[[str], Path], run_ants: Callable[..., str], kind: str
) -> None:
    folder = saved_run(kind)
    run = fe.load_run(folder / "out")
    grid = run.grid
    share = np.random.default_rng(0).uniform(0.2, 0.8, (20, grid.dim))
    to_mm = grid.matrix("index", "mm")
    points = (share * (np.array(grid.size) - 1)) @ to_mm[:-1, :-1].T + to_mm[:-1, -1]
    printed = run_ants(APPLY, folder, str(grid.dim), json.dumps(points.tolist()))

    def read(path: Path) -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))

    moving = fe.load_image(folder / "moving.nii.gz")
    scale = float(moving.data.max() - moving.data.min())
    gap = np.abs(inner(read(folder / "out" / "warped.nii.gz") - read(folder / "ants.nii.gz")))
    assert gap.max() / scale <= 1e-3
    back = run.unwarp(fe.load_image(folder / "fixed.nii.gz"), moving.grid)
    ones = fe.Image.from_numpy(np.ones(grid.shape, np.float32), grid)
    inside = run.unwarp(ones, moving.grid).numpy() == 1
    gap = np.abs(back.numpy() - read(folder / "ants_back.nii.gz"))[inside]
    assert gap.max() / scale <= 1e-3

    mapped = np.array(json.loads(printed.splitlines()[-1]))
    np.testing.assert_allclose(mapped, run.transform(points), atol=1e-3)
