"""Transforms from and to the files of ITK and ANTs: maps of points, fixed mm -> moving mm, LPS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.io.images import save_array
from fireants_engine.io.itk import file_suffix, grid_of, must_exist, read, write_whole
from fireants_engine.transforms import Affine, Chain, Transform

if TYPE_CHECKING:
    from fireants_engine.transforms import Displacement

AFFINE_FILE = "0GenericAffine.mat"
WARP_FILE = "1Warp.nii.gz"
INVERSE_FILE = "1InverseWarp.nii.gz"
_TRANSFORM_FILES = (".mat", ".txt", ".tfm", ".xfm", ".h5", ".hdf5", ".hdf")


def save_affine(affine: Affine, path: str | Path) -> Path:
    """Write an ITK AffineTransform: .mat as ANTs does, or .txt/.tfm.

    ITK's parameters are A row by row, then the translation t of `A (x - c) + c + t`, with the
    centre c as fixed parameters: t = b + A c - c for `A x + b`. 2D and 3D.
    """
    path = Path(path)
    if file_suffix(path) not in _TRANSFORM_FILES:
        raise InputError(f"{path}: an affine is written as .mat, .txt or .tfm.")
    linear, offset = affine.matrix[:-1, :-1], affine.matrix[:-1, -1]
    centre = affine.centre_mm
    item = sitk.AffineTransform(affine.dim)
    item.SetMatrix(linear.ravel().tolist())
    item.SetCenter(centre.tolist())
    item.SetTranslation((offset + linear @ centre - centre).tolist())
    write_whole(path, lambda temporary: sitk.WriteTransform(item, str(temporary)))
    return path


def save_displacement(warp: Displacement, path: str | Path) -> Path:
    """Write displacements in mm (LPS) on the warp's grid: float32 vectors, NIfTI intent 1007.

    A volume of one slice is written as two equal slices: readers of NIfTI vectors drop a third
    axis of one sample, and the second slice changes nothing on the first.
    """
    path = Path(path)
    field, grid = warp.field_mm(), warp.grid
    if grid.dim == 3 and grid.size[2] == 1:
        field = np.repeat(field, 2, axis=0)
        grid = Grid((*grid.size[:2], 2), grid.spacing_mm, grid.origin_mm, grid.direction)
    save_array(field.astype(np.float32, copy=False), grid, path, vector=True)
    return path


def load_transform(path: str | Path) -> Transform:
    """A transform from a file or a run directory.

    .mat, .txt, .tfm: every linear class of ITK (affine, Euler, versor, similarity, translation,
    ...) becomes an Affine; .h5 may be a composite of affines and displacement fields; images
    (.nii.gz, .mha, .nrrd) are displacements in mm LPS; a folder is a run directory, whose warp
    is applied first and whose affine second. Raises InputError for everything else.
    """
    path = Path(path)
    if path.is_dir():
        return load_folder(path)
    if file_suffix(path) not in _TRANSFORM_FILES:
        return load_displacement(path)
    must_exist(path, "transform")
    try:
        item = sitk.ReadTransform(str(path))
    except RuntimeError:
        raise InputError(
            f"{path}: this is not a transform of ITK or ANTs, or it is damaged; expected .mat, "
            ".txt, .tfm, .h5 or a displacement field as .nii.gz."
        ) from None
    if item.GetDimension() not in (2, 3):
        raise InputError(f"{path}: a {item.GetDimension()}D transform; only 2D and 3D are known.")
    parts = _flatten(item, path)
    return parts[0] if len(parts) == 1 else Chain(parts)


def load_displacement(path: Path) -> Displacement:
    """A displacement field in mm LPS from a vector image; raises InputError."""
    image = read(path)
    return _displacement(image, path)


def load_folder(folder: Path) -> Transform:
    """Warp then affine of a run directory; an all-zero warp (a linear run) is left out."""
    affine_file, warp_file = folder / AFFINE_FILE, folder / WARP_FILE
    if not affine_file.is_file():
        raise InputError(
            f"{folder}: this is not a run directory ({AFFINE_FILE} is missing); give a folder that "
            "'fireants-engine run' wrote."
        )
    affine = load_transform(affine_file)
    if not warp_file.is_file():
        return affine
    warp = load_displacement(warp_file)
    return Chain([warp, affine]) if bool(warp.u.any()) else affine


def _displacement(image: sitk.Image, path: Path) -> Displacement:
    dim, components = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if dim not in (2, 3) or components != dim:
        raise InputError(
            f"{path}: a displacement field has as many components as dimensions, this image has "
            f"{components} in {dim}D; give a warp as ITK and ANTs write it."
        )
    from fireants_engine.transforms import Displacement

    grid = grid_of(image, path)
    return Displacement.from_mm(sitk.GetArrayFromImage(image), grid)


def _flatten(item: sitk.Transform, path: Path) -> list[Transform]:
    """Parts in the order in which they act on points (ITK composites act last added first)."""
    concrete = item.Downcast()
    if isinstance(concrete, sitk.CompositeTransform):
        parts: list[Transform] = []
        for k in reversed(range(concrete.GetNumberOfTransforms())):
            parts += _flatten(concrete.GetNthTransform(k), path)
        if not parts:
            raise InputError(f"{path}: the composite transform is empty.")
        return parts
    if isinstance(concrete, sitk.DisplacementFieldTransform):
        return [_displacement(concrete.GetDisplacementField(), path)]
    if concrete.IsLinear():
        return [_affine(concrete)]
    raise InputError(
        f"{path}: holds a {item.GetName()}, which is not supported; convert it to a displacement "
        "field (for example with SimpleITK's TransformToDisplacementField)."
    )


def _affine(item: sitk.Transform) -> Affine:
    """`A x + b` from the images of the origin and the unit vectors: the same for every class."""
    dim = item.GetDimension()
    origin = np.array(item.TransformPoint((0.0,) * dim))
    matrix = np.eye(dim + 1)
    matrix[:dim, dim] = origin
    for k, unit in enumerate(np.eye(dim)):
        matrix[:dim, k] = np.array(item.TransformPoint(unit.tolist())) - origin
    centre = getattr(item, "GetCenter", None)
    return Affine(matrix, None if centre is None else np.array(centre()))
