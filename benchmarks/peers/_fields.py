"""Displacement fields of the peers that hand over one map of points instead of warp and affine.

Both are split so that every peer leaves the same files: with the affine stage A and the whole map
T, the warp is `u(x) = A^-1(T(x)) - x` on the fixed grid. Runs in the peers' environments.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk


def points_of(image: sitk.Image) -> np.ndarray:
    """World coordinates (LPS mm) of all voxel centres, array order: (*reversed size, dim)."""
    dim = image.GetDimension()
    step = np.array(image.GetDirection()).reshape(dim, dim) * np.array(image.GetSpacing())
    axes = [np.arange(n, dtype=np.float64) for n in image.GetSize()]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)  # (*size, dim): x first
    index = index.transpose(*reversed(range(dim)), dim)
    return index @ step.T + np.array(image.GetOrigin())


def fit_affine(points: np.ndarray, mapped: np.ndarray, step: int = 4) -> sitk.AffineTransform:
    """The affine through exact samples of it."""
    dim = points.shape[-1]
    thin = (slice(None, None, step),) * dim
    x, y = points[thin].reshape(-1, dim), mapped[thin].reshape(-1, dim)
    centre = x.mean(axis=0)
    design = np.c_[x - centre, np.ones(len(x))]
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    worst = np.abs(design @ solution - y).max()
    if worst > 1e-2:
        raise ValueError(f"the affine stage is not affine: off by {worst:.3g}")
    linear = solution[:dim].T
    return affine_transform(linear, solution[dim] - linear @ centre)


def affine_transform(linear: np.ndarray, offset: np.ndarray) -> sitk.AffineTransform:
    affine = sitk.AffineTransform(len(offset))
    affine.SetMatrix(np.asarray(linear, dtype=np.float64).ravel().tolist())
    affine.SetTranslation(np.asarray(offset, dtype=np.float64).tolist())
    return affine


def save_split(
    total: np.ndarray, fixed: sitk.Image, affine: sitk.AffineTransform, out: Path
) -> sitk.Transform:
    """Writes affine and warp of the map `x + total(x)` (mm, array order); returns their chain."""
    dim = fixed.GetDimension()
    linear = np.array(affine.GetMatrix()).reshape(dim, dim)
    offset = np.array(affine.TransformPoint([0.0] * dim))
    points = points_of(fixed)
    back = (points + total - offset) @ np.linalg.inv(linear).T - points
    field = sitk.GetImageFromArray(back.astype(np.float32), isVector=True)
    field.CopyInformation(fixed)
    sitk.WriteTransform(affine, str(out / "0GenericAffine.mat"))
    sitk.WriteImage(field, str(out / "1Warp.nii.gz"), useCompression=True)
    warp = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    return sitk.CompositeTransform([affine, warp])


def resample(path: Path, fixed: sitk.Image, chain: sitk.Transform, how: int, out: Path) -> None:
    """The image at `path` on the fixed grid, its pixel type kept."""
    image = sitk.ReadImage(str(path))
    moved = sitk.Resample(image, fixed, chain, how, 0.0, image.GetPixelID())
    sitk.WriteImage(moved, str(out), useCompression=True)
