"""Transforms: ours are ITK's, point by point, and ITK's are ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.io import load_transform, save_affine, save_displacement
from fireants_engine.transforms import Affine, Chain, Displacement, Transform

ROTATION = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def grid(dim: int, flip: bool = False) -> Grid:
    direction = ROTATION[:dim, :dim] @ np.diag([-1.0 if flip else 1.0, 1.0, 1.0][:dim])
    return Grid((9, 8, 7)[:dim], (1.0, 1.5, 2.0)[:dim], (-3.0, 4.0, 20.0)[:dim], direction)


def affine(dim: int) -> Affine:
    rng = np.random.default_rng(dim)
    linear = np.eye(dim) + 0.2 * rng.normal(size=(dim, dim))
    return Affine.about(linear, rng.normal(size=dim), 10 * rng.normal(size=dim))


def warp(dim: int, flip: bool = False) -> Displacement:
    g = grid(dim, flip)
    return Displacement(torch.randn(1, dim, *g.shape, generator=torch.manual_seed(0)), g)


def inside(dim: int, count: int = 50) -> np.ndarray:
    """Random points inside the grid, in mm."""
    g = grid(dim)
    index = np.random.default_rng(1).random((count, dim)) * (np.array(g.size) - 1)
    return index @ g.matrix("index", "mm")[:-1, :-1].T + g.origin_mm


def itk_points(item: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([item.TransformPoint(p.tolist()) for p in points])


@pytest.mark.parametrize("suffix", [".mat", ".txt", ".tfm"])
@pytest.mark.parametrize("dim", [2, 3])
def test_affine(tmp_path: Path, dim: int, suffix: str) -> None:
    ours = affine(dim)
    path = save_affine(ours, tmp_path / f"a{suffix}")
    points = inside(dim)
    itk = sitk.ReadTransform(str(path))
    np.testing.assert_allclose(itk_points(itk, points), ours(points), atol=1e-9)
    np.testing.assert_allclose(itk.GetFixedParameters(), ours.centre_mm)
    back = load_transform(path)
    assert isinstance(back, Affine)
    np.testing.assert_allclose(back.matrix, ours.matrix, atol=1e-9)
    np.testing.assert_allclose(back.centre_mm, ours.centre_mm)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
@pytest.mark.parametrize("dim", [2, 3])
def test_displacement(tmp_path: Path, dim: int, suffix: str, flip: bool) -> None:
    ours = warp(dim, flip)
    path = save_displacement(ours, tmp_path / f"w{suffix}")
    image = sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
    itk = sitk.DisplacementFieldTransform(image)
    index = np.random.default_rng(1).random((50, dim)) * (np.array(ours.grid.size) - 1)
    to_mm = ours.grid.matrix("index", "mm")
    points = index @ to_mm[:-1, :-1].T + to_mm[:-1, -1]
    np.testing.assert_allclose(itk_points(itk, points), ours(points), atol=1e-5)
    back = load_transform(path)
    np.testing.assert_allclose(back(points), ours(points), atol=1e-5)


def test_warp_header_says_vector(tmp_path: Path) -> None:
    raw = save_displacement(warp(3), tmp_path / "w.nii").read_bytes()
    assert np.frombuffer(raw[40:56], "<i2").tolist()[:6] == [5, 9, 8, 7, 1, 3]
    assert np.frombuffer(raw[68:70], "<i2")[0] == 1007


def test_one_slice_volume(tmp_path: Path) -> None:
    g = Grid((9, 8, 1), (1.0, 1.5, 2.0), (-3.0, 4.0, 20.0), ROTATION)
    ours = Displacement(torch.randn(1, 3, *g.shape, generator=torch.manual_seed(0)), g)
    back = load_transform(save_displacement(ours, tmp_path / "w.nii.gz"))
    assert back.dim == 3
    points = g.points_mm()
    np.testing.assert_allclose(back(points), ours(points), atol=1e-5)


def linear_classes(dim: int) -> dict[str, sitk.Transform]:
    if dim == 2:
        return {
            "euler": sitk.Euler2DTransform((1.0, 2.0), 0.3, (4.0, 5.0)),
            "similarity": sitk.Similarity2DTransform(1.1, 0.3, (4.0, 5.0), (1.0, 2.0)),
            "translation": sitk.TranslationTransform(2, (3.0, 4.0)),
        }
    return {
        "euler": sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, 0.2, 0.3, (4.0, 5.0, 6.0)),
        "versor": sitk.VersorRigid3DTransform((1.0, 0.0, 0.0), 0.4),
        "similarity": sitk.Similarity3DTransform(
            1.1, (0.0, 1.0, 0.0), 0.4, (4.0, 5.0, 6.0), (1.0, 2.0, 3.0)
        ),
        "translation": sitk.TranslationTransform(3, (3.0, 4.0, 5.0)),
        "scale": sitk.ScaleTransform(3, (1.1, 0.9, 1.2)),
    }


@pytest.mark.parametrize("suffix", [".mat", ".tfm", ".h5"])
@pytest.mark.parametrize("dim", [2, 3])
def test_every_linear_class(tmp_path: Path, dim: int, suffix: str) -> None:
    points = inside(dim)
    for name, item in linear_classes(dim).items():
        path = tmp_path / f"{name}{suffix}"
        sitk.WriteTransform(item, str(path))
        back = load_transform(path)
        assert isinstance(back, Affine)
        np.testing.assert_allclose(back(points), itk_points(item, points), atol=1e-9)


@pytest.mark.parametrize("dim", [2, 3])
def test_composite(tmp_path: Path, dim: int) -> None:
    """ITK's composites apply what was added last first."""
    save_displacement(warp(dim), tmp_path / "w.nii.gz")
    save_affine(affine(dim), tmp_path / "a.mat")
    image = sitk.ReadImage(str(tmp_path / "w.nii.gz"), sitk.sitkVectorFloat64)
    item = sitk.CompositeTransform(dim)
    item.AddTransform(sitk.ReadTransform(str(tmp_path / "a.mat")))
    item.AddTransform(sitk.DisplacementFieldTransform(image))
    points = inside(dim)
    expected = itk_points(item, points)
    sitk.WriteTransform(item, str(tmp_path / "c.h5"))
    back = load_transform(tmp_path / "c.h5")
    assert isinstance(back, Chain)
    assert isinstance(back.parts[0], Displacement)
    np.testing.assert_allclose(back(points), expected, atol=1e-5)
    np.testing.assert_allclose(Chain([warp(dim), affine(dim)])(points), expected, atol=1e-5)


def test_run_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0GenericAffine\.mat is missing"):
        load_transform(tmp_path)
    save_affine(affine(3), tmp_path / "0GenericAffine.mat")
    assert isinstance(load_transform(tmp_path), Affine)
    still = Displacement(torch.zeros(1, 3, *grid(3).shape), grid(3))
    save_displacement(still, tmp_path / "1Warp.nii.gz")
    assert isinstance(load_transform(tmp_path), Affine)
    save_displacement(warp(3), tmp_path / "1Warp.nii.gz")
    back = load_transform(tmp_path)
    expected: Transform = Chain([warp(3), affine(3)])
    np.testing.assert_allclose(back(inside(3)), expected(inside(3)), atol=1e-5)


def test_what_is_not_supported(tmp_path: Path) -> None:
    sitk.WriteTransform(sitk.BSplineTransform(3), str(tmp_path / "b.tfm"))
    with pytest.raises(InputError, match=r"b\.tfm: holds a BSplineTransform"):
        load_transform(tmp_path / "b.tfm")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(InputError, match=r"text\.txt: this is not a transform"):
        load_transform(tmp_path / "text.txt")
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkFloat32), str(tmp_path / "grey.nii.gz"))
    with pytest.raises(InputError, match="as many components as dimensions"):
        load_transform(tmp_path / "grey.nii.gz")
    with pytest.raises(InputError, match="no such file"):
        load_transform(tmp_path / "none.mat")


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_one_unsupported_part_of_a_composite_is_named(tmp_path: Path, suffix: str) -> None:
    spline = sitk.BSplineTransformInitializer(sitk.Image([9, 8, 7], sitk.sitkFloat32), [3, 3, 3])
    whole = sitk.CompositeTransform([sitk.Euler3DTransform(), spline])
    path = tmp_path / f"c{suffix}"
    sitk.WriteTransform(whole, str(path))
    with pytest.raises(InputError) as caught:
        load_transform(path)
    sentence = str(caught.value)
    assert f"c{suffix}: holds a BSplineTransform, which is not supported; convert it" in sentence
    assert "\n" not in sentence


def test_a_damaged_composite(tmp_path: Path) -> None:
    whole = sitk.CompositeTransform([sitk.Euler3DTransform(), sitk.ScaleTransform(3)])
    path = tmp_path / "c.h5"
    sitk.WriteTransform(whole, str(path))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(InputError, match=r"c\.h5: this is not a transform of ITK or ANTs"):
        load_transform(path)
