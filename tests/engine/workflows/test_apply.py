"""Files through a map: images, series, OME-Zarr and surfaces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.io import load_image, load_series, save_image
from fireants_engine.io.ome_zarr import new_zarr, open_zarr
from fireants_engine.io.surfaces import load_surface
from fireants_engine.transforms import Affine
from fireants_engine.workflows.apply import apply_file, apply_surface, reference_grid
from fireants_engine.workflows.result import Mapping

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
FIXED = Grid((9, 8, 7), (1.0, 1.5, 2.0), (-3.0, 4.0, 20.0), TURN)
MOVING = Grid((10, 7, 8), (1.1, 1.4, 1.6), (-2.0, 5.0, 18.0), TURN.T)
FLIPPED = Grid((9, 8, 7), (1.0, 1.5, 2.0), (3.0, 9.0, 10.0), np.diag([-1.0, -1, 1]))


def a_mapping(grid: Grid = FIXED) -> Mapping:
    linear = np.eye(3) + 0.05 * np.random.default_rng(0).normal(size=(3, 3))
    shift = MOVING.centre_mm - grid.centre_mm
    return Mapping(Affine.about(linear, shift, grid.centre_mm), grid)


def values(count: int = 1) -> np.ndarray:
    out = np.random.default_rng(3).integers(0, 1000, (count, *MOVING.shape)).astype(np.int16)
    return out if count > 1 else out[0]


def write_series(path: Path, array: np.ndarray) -> Path:
    item = sitk.GetImageFromArray(array, isVector=False)
    direction = np.eye(4)
    direction[:3, :3] = MOVING.direction
    item.SetSpacing((*MOVING.spacing_mm, 2.5))
    item.SetOrigin((*MOVING.origin_mm, 0.5))
    item.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(item, str(path))
    return path


@pytest.mark.parametrize("name", ["linear", "nearest", "bspline", "sinc", "label"])
def test_a_series_is_its_volumes(tmp_path: Path, name: str) -> None:
    array = values(4)
    path = write_series(tmp_path / "s.nii.gz", array)
    out = apply_file(a_mapping(), path, tmp_path / "o.nii.gz", interpolation=name)
    found = load_series(out)
    assert (len(found), found.step, found.start) == (4, 2.5, 0.5)
    assert found.grid.same_space(FIXED)
    item = sitk.ReadImage(str(out))
    assert ("float" in item.GetPixelIDTypeAsString()) == (name not in ("nearest", "label"))
    for volume, got in zip(array, found, strict=True):
        image = Image.from_numpy(volume, MOVING)
        truth = a_mapping().warp(image, interpolation=name).numpy()
        np.testing.assert_allclose(got.numpy(), truth, atol=1e-3)


def test_a_series_needs_a_format_with_time(tmp_path: Path) -> None:
    path = write_series(tmp_path / "s.nii.gz", values(3))
    with pytest.raises(InputError, match=r"o\.png: a 4D series"):
        apply_file(a_mapping(), path, tmp_path / "o.png")
    flat = Mapping(Affine.identity(2), Grid.identity((4, 4)))
    with pytest.raises(InputError, match="is 3D but the transform is 2D"):
        apply_file(flat, path, tmp_path / "o.nii.gz")
    assert not (tmp_path / "o.nii.gz").exists()


def test_an_image_as_ever(tmp_path: Path) -> None:
    image = Image.from_numpy(values(), MOVING)
    save_image(image, tmp_path / "i.nii.gz")
    out = apply_file(a_mapping(), tmp_path / "i.nii.gz", tmp_path / "o.nii.gz")
    np.testing.assert_allclose(load_image(out).numpy(), a_mapping().warp(image).numpy(), atol=1e-3)


# ------------------------------------------------------------------------------- OME-Zarr
def everything(grid: Grid) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in grid.shape)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", ["linear", "label"])
def test_into_zarr_flipped_axes_are_turned(tmp_path: Path, suffix: str, name: str) -> None:
    pytest.importorskip("zarr")
    image = Image.from_numpy(values() // 200, MOVING)
    save_image(image, tmp_path / f"i{suffix}")
    mapping = a_mapping(FLIPPED)
    out = apply_file(
        mapping, tmp_path / f"i{suffix}", tmp_path / "o.ome.zarr", interpolation=name,
        chunk=(3, 4, 5),
    )  # fmt: skip
    found = open_zarr(out)
    truth = mapping.warp(image, interpolation=name).numpy()
    np.testing.assert_allclose(found.grid.direction, np.eye(3))
    np.testing.assert_allclose(found.grid.origin_mm, (3.0 - 8 * 1.0, 9.0 - 7 * 1.5, 10.0))
    got = found.read(everything(found.grid))[0]
    np.testing.assert_allclose(got, truth[:, ::-1, ::-1], atol=1e-3)
    assert got.dtype == (np.int16 if name == "label" else np.float32)


def test_from_zarr_with_channels(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    grid = Grid((10, 7, 8), (1.1, 1.4, 1.6), (-2.0, 5.0, 18.0), np.eye(3))
    array = np.random.default_rng(0).random((3, *grid.shape)).astype(np.float32)
    path = tmp_path / "i.zarr"
    with new_zarr(path, grid, array.dtype, 3, (4, 4, 4)) as stored:
        stored[...] = array  # pyright: ignore[reportIndexIssue]
    assert reference_grid(path).same_space(grid)
    mapping = Mapping(Affine.about(np.eye(3), np.array([0.3, 0.2, 0.1]), np.zeros(3)), grid)
    image = Image.from_numpy(np.moveaxis(array, 0, -1), grid, channels=True)
    truth = mapping.warp(image)
    out = apply_file(mapping, path, tmp_path / "o.nii.gz")
    found = load_image(out)
    assert found.channels == 3
    np.testing.assert_allclose(found.data, truth.data, atol=1e-5)
    again = open_zarr(apply_file(mapping, path, tmp_path / "o.zarr"))
    np.testing.assert_allclose(again.read(everything(grid)), truth.data, atol=1e-5)


def test_zarr_refuses(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    save_image(Image.from_numpy(values(), MOVING), tmp_path / "i.nii")
    with pytest.raises(InputError, match=r"o\.zarr: The grid is oblique"):
        apply_file(a_mapping(), tmp_path / "i.nii", tmp_path / "o.zarr")
    (tmp_path / "o.zarr").mkdir()
    with pytest.raises(InputError, match="is there already"):
        apply_file(a_mapping(FLIPPED), tmp_path / "i.nii", tmp_path / "o.zarr")


def test_an_unknown_interpolation_comes_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose one of linear"):
        apply_file(a_mapping(), tmp_path / "no.nii", tmp_path / "o.nii", interpolation="cubic")


def test_the_grid_of_a_reference(tmp_path: Path) -> None:
    assert reference_grid(write_series(tmp_path / "s.nii.gz", values(3))).same_space(MOVING)


# ------------------------------------------------------------------------------- surfaces
VTK = (
    "# vtk DataFile Version 3.0\nt SPACE={space}\nASCII\nDATASET POLYDATA\nPOINTS 4 double\n"
    "0 1 2\n10 0 0\n10 9 0\n3 3 8\nPOLYGONS 4 16\n3 0 1 2\n3 0 1 3\n3 1 2 3\n3 2 0 3\n"
)


@pytest.mark.parametrize("space", ["LPS", "RAS"])
def test_vertices_go_through_the_transform(tmp_path: Path, space: str) -> None:
    path = tmp_path / "s.vtk"
    path.write_text(VTK.format(space=space))
    before = load_surface(path).points_mm
    assert before[1, 0] == (10 if space == "LPS" else -10)
    transform = a_mapping().forward
    assert not apply_surface(transform, path, tmp_path / "o.vtk")
    np.testing.assert_allclose(load_surface(tmp_path / "o.vtk").points_mm, transform(before))
    was, now = (p.read_text().split("POLYGONS") for p in (path, tmp_path / "o.vtk"))
    assert now[1] == was[1]


def test_a_mirror_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s.vtk"
    path.write_text(VTK.format(space="LPS"))
    mirror = Affine(np.diag([-1.0, 1, 1, 1]))
    assert apply_surface(mirror, path, tmp_path / "o.vtk")
    with pytest.raises(InputError, match=r"s\.vtk: a surface is 3D but the transform is 2D"):
        apply_surface(Affine.identity(2), path, tmp_path / "o.vtk")
