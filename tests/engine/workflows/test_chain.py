"""Chains: points through all of it, images interpolated once, ITK's composite as truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import fireants_engine as fe
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.io import save_affine, save_displacement
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Affine, Displacement, Inverse
from fireants_engine.workflows.chain import compose, compose_points

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
GRID = Grid((20, 18, 16), (1.0, 1.5, 2.0), (-3.0, 4.0, 20.0), TURN)
OTHER = Grid((17, 21, 15), (1.4, 1.1, 2.2), (-5.0, 6.0, 21.0), TURN.T)


def an_affine(seed: int = 0) -> Affine:
    rng = np.random.default_rng(seed)
    linear = np.eye(3) + 0.08 * rng.normal(size=(3, 3))
    return Affine.about(linear, rng.normal(size=3), GRID.centre_mm)


def a_warp(grid: Grid = GRID, size: float = 0.8) -> Displacement:
    coarse = torch.randn(1, 3, 4, 4, 4, generator=torch.manual_seed(0))
    u = torch.nn.functional.interpolate(coarse, grid.shape, mode="trilinear")
    return Displacement(size * u, grid)


def inside(grid: Grid = GRID, count: int = 60) -> np.ndarray:
    index = 3 + np.random.default_rng(1).random((count, 3)) * (np.array(grid.size) - 7)
    matrix = grid.matrix("index", "mm")
    return index @ matrix[:3, :3].T + matrix[:3, 3]


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    """A warp and an affine in files."""
    return (
        save_displacement(a_warp(), tmp_path / "1Warp.nii.gz"),
        save_affine(an_affine(), tmp_path / "0GenericAffine.mat"),
    )


def test_points_go_first_to_last_as_in_itk(paths: tuple[Path, Path]) -> None:
    warp, affine = paths
    truth = sitk.CompositeTransform(3)  # the last added acts first
    truth.AddTransform(sitk.ReadTransform(str(affine)))
    field = sitk.ReadImage(str(warp), sitk.sitkVectorFloat64)
    truth.AddTransform(sitk.DisplacementFieldTransform(field))
    points = inside()
    expected = [truth.TransformPoint(p.tolist()) for p in points]
    np.testing.assert_allclose(compose_points([warp, affine])(points), expected, atol=1e-4)
    np.testing.assert_allclose(compose(paths, GRID).transform(points), expected, atol=1e-4)
    turned = compose_points([affine, warp])(points)
    assert np.abs(turned - expected).max() > 0.1  # the order counts


@pytest.mark.parametrize("interpolation", ["linear", "bspline", "sinc", "nearest"])
def test_an_image_is_itks_composite(paths: tuple[Path, Path], interpolation: str) -> None:
    methods = {
        "linear": sitk.sitkLinear, "bspline": sitk.sitkBSpline,
        "sinc": sitk.sitkLanczosWindowedSinc, "nearest": sitk.sitkNearestNeighbor,
    }  # fmt: skip
    values = np.random.default_rng(0).normal(size=OTHER.shape).astype(np.float32)
    source = sitk.GetImageFromArray(values)
    like = sitk.Image(GRID.size, sitk.sitkUInt8)
    for item, grid in ((source, OTHER), (like, GRID)):
        item.SetSpacing(grid.spacing_mm)
        item.SetOrigin(grid.origin_mm)
        item.SetDirection(grid.direction.ravel().tolist())
    shift = Affine.about(np.eye(3), OTHER.centre_mm - GRID.centre_mm, np.zeros(3))
    to_other = sitk.TranslationTransform(3, (OTHER.centre_mm - GRID.centre_mm).tolist())
    field = sitk.ReadImage(str(paths[0]), sitk.sitkVectorFloat64)
    chain = sitk.CompositeTransform(3)
    chain.AddTransform(to_other)
    chain.AddTransform(sitk.ReadTransform(str(paths[1])))
    chain.AddTransform(sitk.DisplacementFieldTransform(field))
    truth = sitk.GetArrayFromImage(
        sitk.Resample(source, like, chain, methods[interpolation], 0.0, sitk.sitkFloat32)
    )
    mapping = compose([*paths, shift], GRID)
    got = mapping.warp(Image.from_numpy(values, OTHER), interpolation=interpolation).numpy()
    away = np.abs(got - truth) > 1e-3 * np.abs(values).max()
    assert (truth != 0).mean() > 0.2
    assert away.mean() < 2e-3  # points on the rim, and ties of nearest


def test_an_inverted_member_and_the_whole_chain(paths: tuple[Path, Path]) -> None:
    points = inside()
    warp, affine = paths
    there = compose_points([warp, affine])(points)
    for back in (
        compose_points([warp, affine], inverse=True),
        compose_points([f"{affine}:inverse", f"{warp}:inverse"]),
        compose([warp, affine], GRID).backward,
        compose([warp, affine], GRID, inverse=True).forward,
    ):
        np.testing.assert_allclose(back(there), points, atol=0.03)
    np.testing.assert_allclose(compose_points([warp, f"{warp}:inverse"])(points), points, atol=0.03)


def test_images_go_through_the_samples_of_an_inverse(paths: tuple[Path, Path]) -> None:
    mapping = compose([f"{paths[0]}:inverse"], GRID)
    assert isinstance(mapping.forward, Inverse)
    image = Image.from_numpy(np.random.default_rng(0).random(GRID.shape), GRID)
    sampled = fe.Mapping(mapping.forward.nearly, GRID)
    assert torch.equal(mapping.warp(image).data, sampled.warp(image).data)


@pytest.fixture
def runs(make_pair, recipe: Recipe, linear_recipe: Recipe, tmp_path: Path) -> list[Path]:
    """A deformable and a linear run, saved: oblique a -> b, and b -> c."""
    a, b = make_pair("oblique")
    fe.register(a, b, recipe).save(tmp_path / "ab")
    c = Image.from_numpy(
        b.numpy(), b.grid.resized([n - 2 for n in b.grid.size]).resized(b.grid.size)
    )
    fe.register(b, c, linear_recipe).save(tmp_path / "bc")
    return [tmp_path / "ab", tmp_path / "bc"]


def test_runs_bring_their_grids(runs: list[Path], make_pair) -> None:
    fixed, moving = (image.grid for image in make_pair("oblique"))
    ab, bc = (fe.load_run(run) for run in runs)
    points = fixed.centre_mm + np.random.default_rng(0).normal(size=(20, 3)) * 4
    chain = fe.compose(runs)
    assert chain.grid.same_space(fixed)
    np.testing.assert_allclose(chain.transform(points), bc.transform(ab.transform(points)))
    there = chain.transform(points)
    np.testing.assert_allclose(chain.inverse(there), ab.inverse(bc.inverse(there)), atol=1e-6)
    np.testing.assert_allclose(chain.inverse(there), points, atol=0.05)
    assert fe.compose([f"{runs[0]}:inverse"]).grid.same_space(moving)
    assert fe.compose(runs, inverse=True).grid.same_space(bc.grid_of("moving"))
    assert fe.compose([ab], moving).grid is moving

    # the same through objects as through paths, and as the run's own unwarp
    image = make_pair("oblique")[0]
    alone = ab.unwarp(image, moving)
    for turned in (fe.compose([ab], inverse=True), fe.compose([runs[0]], inverse=True)):
        assert torch.equal(turned.warp(image).data, alone.data)
    with_file = fe.compose([*runs, runs[1] / "0GenericAffine.mat"])
    assert with_file.grid.same_space(fixed)


def test_a_composed_map_has_a_warp_and_an_affine(paths: tuple[Path, Path]) -> None:
    """What a run's map offers works for a chain too: `affine o warp_field` is the chain."""
    mapping = compose([paths[1], paths[0]], GRID)
    warp = mapping.warp_field
    assert warp is not None
    points = GRID.points_mm()  # between them it is linear
    np.testing.assert_allclose(mapping.affine(warp(points)), mapping.transform(points), atol=1e-3)
    assert mapping.jacobian().grid is GRID


def test_what_cannot_be_composed(paths: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1Warp\.nii\.gz: has no grid .*--reference"):
        compose(paths)
    with pytest.raises(InputError, match=r"0GenericAffine\.mat: has no grid"):
        compose(paths, inverse=True)
    with pytest.raises(InputError, match="at least one"):
        compose([], GRID)
    flat = save_affine(Affine.identity(2), tmp_path / "flat.mat")
    with pytest.raises(InputError, match=r"flat\.mat is a 2D transform but .* is 3D"):
        compose_points([paths[1], flat])
    with pytest.raises(InputError, match="3D transform but the grid of the result is 2D"):
        compose(paths, Grid.identity((4, 4)))
    with pytest.raises(InputError, match="not a run directory"):
        compose([tmp_path], GRID)
    with pytest.raises(InputError, match="no such file"):
        compose([f"{tmp_path / 'no.mat'}:inverse"], GRID)
