"""SimpleITK resamples through our files to the image that we saved (LESSONS 11)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

KINDS = ["oblique", "flipped", "flat"]


def inner(array: np.ndarray, border: int = 2) -> np.ndarray:
    """Without the outermost voxels, where the programs treat the edge of the field differently."""
    return array[tuple(slice(border, -border) for _ in array.shape)]


@pytest.mark.parametrize("kind", KINDS)
def test_forward(saved_run: Callable[[str], Path], kind: str) -> None:
    folder = saved_run(kind)
    out = folder / "out"
    fixed, moving = (sitk.ReadImage(str(folder / f"{name}.nii.gz")) for name in ("fixed", "moving"))
    field = sitk.ReadImage(str(out / "1Warp.nii.gz"), sitk.sitkVectorFloat64)
    chain = sitk.CompositeTransform(fixed.GetDimension())  # acts last added first
    chain.AddTransform(sitk.ReadTransform(str(out / "0GenericAffine.mat")))
    chain.AddTransform(sitk.DisplacementFieldTransform(field))
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, chain, sitk.sitkLinear, 0.0))
    ours = sitk.ReadImage(str(out / "warped.nii.gz"))
    assert ours.GetSize() == fixed.GetSize()
    np.testing.assert_allclose(ours.GetDirection(), fixed.GetDirection(), atol=1e-6)
    scale = np.ptp(sitk.GetArrayFromImage(moving))
    gap = np.abs(inner(sitk.GetArrayFromImage(ours) - theirs)) / scale
    assert gap.max() <= 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_backward(saved_run: Callable[[str], Path], kind: str) -> None:
    """Points: inverse affine, then the inverse warp, and back again."""
    out = saved_run(kind) / "out"
    affine = sitk.ReadTransform(str(out / "0GenericAffine.mat"))
    warps = {}
    for name in ("1Warp", "1InverseWarp"):
        field = sitk.ReadImage(str(out / f"{name}.nii.gz"), sitk.sitkVectorFloat64)
        warps[name] = sitk.DisplacementFieldTransform(field)
    fixed = sitk.ReadImage(str(out / "warped.nii.gz"))
    size = np.array(fixed.GetSize())
    for share in np.random.default_rng(0).uniform(0.25, 0.75, (30, len(size))):
        start = fixed.TransformContinuousIndexToPhysicalPoint((share * (size - 1)).tolist())
        moved = affine.TransformPoint(warps["1Warp"].TransformPoint(start))
        back = warps["1InverseWarp"].TransformPoint(affine.GetInverse().TransformPoint(moved))
        np.testing.assert_allclose(back, start, atol=0.1 * min(fixed.GetSpacing()))
