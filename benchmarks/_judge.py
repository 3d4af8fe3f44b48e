"""Judges a finished run from its files: overlap, landmarks, folds, inverse. One code for all.

A run is the map T(x) = A(x + u(x)): `1Warp.nii.gz` (u) first, then `0GenericAffine.mat` (A). Its
inverse is `1InverseWarp.nii.gz` (v), T^-1(y) = z + v(z) with z = A^-1(y), or, from a program that
saves whole maps, `InverseTotal.nii.gz`, T^-1(y) = y + v(y). The same affine and its exact inverse
stand in both, so |T(T^-1(x)) - x| is judged where it is made: at z, in voxels of the fixed grid.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from _common import fold_fraction
from _sets import DataSet, Pair, Points
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from fireants_engine.evaluation import label_overlap, target_registration_error


def judge(out: Path, data: DataSet, pair: Pair) -> dict[str, object]:
    """Every figure but time and memory, from the files in `out`."""
    affine = sitk.ReadTransform(str(out / "0GenericAffine.mat"))
    field = sitk.ReadImage(str(out / "1Warp.nii.gz"), sitk.sitkVectorFloat64)
    inside = foreground(pair, data)
    folded, fraction = fold_fraction(field, inside)
    row: dict[str, object] = {"folds": fraction, "folded_voxels": folded}
    row |= inverse_residual(out, field, affine, inside)
    warp = sitk.DisplacementFieldTransform(field)  # empties `field`
    chain = sitk.CompositeTransform([affine, warp])  # the last goes first
    if pair.fixed_labels and pair.moving_labels:
        row |= overlap(out, data, pair, affine, chain)
    if pair.landmarks:
        row |= landmarks(data, pair, affine, chain)
    return row


def foreground(pair: Pair, data: DataSet) -> NDArray[np.bool_]:
    if pair.fixed_mask:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(pair.fixed_mask))) > 0
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(pair.fixed)))
    return values > data.foreground * values.max()


def overlap(
    out: Path, data: DataSet, pair: Pair, affine: sitk.Transform, chain: sitk.Transform
) -> dict[str, object]:
    """`dice`: labels as the method warped them; `dice_nn`: nearest neighbour, for all alike."""
    fixed, moving = (sitk.ReadImage(str(p)) for p in (pair.fixed_labels, pair.moving_labels))
    truth = integers(fixed)

    def resampled(transform: sitk.Transform) -> NDArray[np.int32]:
        return integers(sitk.Resample(moving, fixed, transform, sitk.sitkNearestNeighbor))

    identity = sitk.Transform(fixed.GetDimension(), sitk.sitkIdentity)
    own = integers(sitk.ReadImage(str(out / "warped_labels.nii.gz")))
    return {
        "dice": mean_dice(truth, own, data.bits),
        "dice_nn": mean_dice(truth, resampled(chain), data.bits),
        "dice_affine": mean_dice(truth, resampled(affine), data.bits),
        "dice_start": mean_dice(truth, resampled(identity), data.bits),
        "labels": structures(truth, data.bits),
    }


def integers(labels: sitk.Image) -> NDArray[np.int32]:
    return np.rint(sitk.GetArrayFromImage(labels)).astype(np.int32)


def structures(truth: NDArray[np.int32], bits: bool) -> int:
    if bits:
        return int(np.bitwise_or.reduce(truth, axis=None)).bit_count()
    return len(np.setdiff1d(np.unique(truth), [0]))


def mean_dice(truth: NDArray[np.int32], moved: NDArray[np.int32], bits: bool) -> float:
    """Mean over the structures of the fixed map; with `bits`, each bit is one of its own."""
    if not bits:
        return label_overlap(truth, moved).mean_dice()
    used = int(np.bitwise_or.reduce(truth, axis=None))
    each = [
        label_overlap((truth >> k) & 1, (moved >> k) & 1).mean_dice()
        for k in range(used.bit_length())
        if used >> k & 1
    ]
    return float(np.mean(each))


def landmarks(
    data: DataSet, pair: Pair, affine: sitk.Transform, chain: sitk.Transform
) -> dict[str, object]:
    """|T(fixed) - moving| in mm (2D: pixels), and as a share of the moving image's diagonal."""
    assert pair.landmarks is not None
    fixed, moving = pair.landmarks

    def through(transform: sitk.Transform) -> Points:
        return np.array([transform.TransformPoint(point) for point in fixed.tolist()])

    error = target_registration_error(through(chain), moving)
    row = {
        "tre": error.mean_mm,
        "tre_median": error.median_mm,
        "tre_p95": error.p95_mm,
        "tre_affine": target_registration_error(through(affine), moving).mean_mm,
        "tre_start": target_registration_error(fixed, moving).mean_mm,
        "tre_unit": data.unit,
        "landmarks": len(fixed),
    }
    if fixed.shape[1] == 2:
        image = sitk.ReadImage(str(pair.moving))
        diagonal = float(np.linalg.norm(np.array(image.GetSize()) * image.GetSpacing()))
        row["rtre_median_percent"] = 100 * error.median_mm / diagonal
    return row


def inverse_residual(
    out: Path, field: sitk.Image, affine: sitk.Transform, inside: NDArray[np.bool_]
) -> dict[str, object]:
    """Mean and largest |T(T^-1(x)) - x| in voxels; None where the method saved no inverse.

    Points that the inverse carries out of a field's grid are left out: there is no map there.
    """
    names = ("1InverseWarp.nii.gz", "InverseTotal.nii.gz")
    path = next((out / name for name in names if (out / name).exists()), None)
    if path is None:
        return {"inverse_mean_vox": None, "inverse_max_vox": None}
    inverse = sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
    start = world(field, np.argwhere(inside)[:, ::-1].astype(float))
    at = start
    if path.name == "InverseTotal.nii.gz":
        linear, offset = matrix_of(affine, field.GetDimension())
        at = start @ linear.T + offset
    back, known = displaced(inverse, at)
    again, known_too = displaced(field, back)
    known &= known_too
    gap = index(field, again[known]) - index(field, start[known])
    size = np.linalg.norm(gap, axis=1)
    share = float(known.mean())
    if not known.any():
        return {"inverse_mean_vox": None, "inverse_max_vox": None, "inverse_share": share}
    return {
        "inverse_mean_vox": float(size.mean()),
        "inverse_max_vox": float(size.max()),
        "inverse_share": share,
    }


def matrix_of(affine: sitk.Transform, dim: int) -> tuple[Points, Points]:
    """Linear part and offset of an affine transform, from its values at the unit points."""
    offset = np.array(affine.TransformPoint([0.0] * dim))
    columns = [np.array(affine.TransformPoint(unit)) - offset for unit in np.eye(dim).tolist()]
    return np.stack(columns, axis=1), offset


def _steps(image: sitk.Image) -> Points:
    dim = image.GetDimension()
    return np.array(image.GetDirection()).reshape(dim, dim) * np.array(image.GetSpacing())


def world(image: sitk.Image, indices: Points) -> Points:
    return indices @ _steps(image).T + np.array(image.GetOrigin())


def index(image: sitk.Image, points: Points) -> Points:
    """Continuous index, x first."""
    return (points - np.array(image.GetOrigin())) @ np.linalg.inv(_steps(image)).T


def displaced(field: sitk.Image, points: Points) -> tuple[Points, NDArray[np.bool_]]:
    """`x + d(x)`, d linear between voxels, and which points lie on the field's grid."""
    at = index(field, points)
    last = np.array(field.GetSize()) - 1
    known = ((at >= -0.5) & (at <= last + 0.5)).all(axis=1)
    array = sitk.GetArrayViewFromImage(field)
    where = at[:, ::-1].T
    move = [
        map_coordinates(array[..., k], where, order=1, mode="nearest")
        for k in range(points.shape[1])
    ]
    return points + np.stack(move, axis=1), known
