"""Series: SimpleITK and we see the same 4D file; volumes are read one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.io import load_grid, load_image, load_series, save_series, series
from fireants_engine.io.itk import read_volume

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
GRID = Grid((7, 6, 5), (1.0, 1.5, 2.0), (-3.0, 4.0, 20.0), TURN)
FORMATS = [".nii", ".nii.gz", ".mha", ".nrrd"]


def values(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(-99, 999, (count, *GRID.shape)).astype(np.int16)


def write(path: Path, array: np.ndarray, step: float = 2.5, start: float = 0.5) -> Path:
    item = sitk.GetImageFromArray(array, isVector=False)
    direction = np.eye(4)
    direction[:3, :3] = TURN
    item.SetSpacing((*GRID.spacing_mm, step))
    item.SetOrigin((*GRID.origin_mm, start))
    item.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(item, str(path))
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_volumes_are_those_that_itk_wrote(tmp_path: Path, suffix: str) -> None:
    truth = values()
    found = load_series(write(tmp_path / f"s{suffix}", truth))
    assert (len(found), found.step, found.start) == (4, 2.5, 0.5)
    assert found.grid.same_space(GRID)
    for k, volume in enumerate(found):
        assert volume.grid.same_space(GRID)
        np.testing.assert_array_equal(volume.numpy(), truth[k])
    np.testing.assert_array_equal(found[2].numpy(), truth[2])
    with pytest.raises(IndexError):
        found[4]


@pytest.mark.parametrize("suffix", FORMATS)
def test_itk_reads_what_we_write(tmp_path: Path, suffix: str) -> None:
    truth = values(3)
    volumes = (Image.from_numpy(part, GRID) for part in truth)
    path = save_series(volumes, tmp_path / f"s{suffix}", 3, step=0.8, start=2.0)
    item = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(item), truth)
    np.testing.assert_allclose(item.GetSpacing(), (*GRID.spacing_mm, 0.8), atol=1e-6)
    np.testing.assert_allclose(item.GetOrigin(), (*GRID.origin_mm, 2.0), atol=1e-5)
    np.testing.assert_allclose(np.reshape(item.GetDirection(), (4, 4))[:3, :3], TURN, atol=1e-6)
    assert list(tmp_path.iterdir()) == [path]


def test_only_one_volume_is_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def watched(reader: sitk.ImageFileReader, index: int) -> sitk.Image:
        out = read_volume(reader, index)
        sizes.append(out.GetSize())
        return out

    monkeypatch.setattr(series, "read_volume", watched)
    volumes = iter(load_series(write(tmp_path / "s.nii", values())))
    assert sizes == []
    next(volumes)
    assert sizes == [GRID.size]


def test_a_series_of_one_is_an_image_too(tmp_path: Path) -> None:
    path = write(tmp_path / "s.mha", values(1))
    assert not series.is_series(path)
    assert len(load_series(path)) == 1
    assert load_image(path).grid.same_space(GRID)


def test_the_grid_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "s.nii.gz", values())
    assert series.is_series(path)
    assert load_grid(path).same_space(GRID)
    flat = sitk.Image([4, 3], sitk.sitkUInt8)
    sitk.WriteImage(flat, str(tmp_path / "flat.png"))
    assert load_grid(tmp_path / "flat.png").size == (4, 3)


def test_registration_still_refuses_a_series(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is 4D"):
        load_image(write(tmp_path / "s.nii.gz", values()))


def test_what_is_no_series(tmp_path: Path) -> None:
    flat = tmp_path / "v.nii.gz"
    sitk.WriteImage(sitk.Image([4, 3, 2], sitk.sitkUInt8), str(flat))
    with pytest.raises(InputError, match=r"v\.nii\.gz: is 3D .* a series is 4D"):
        load_series(flat)
    colour = sitk.Image([4, 3, 2, 5], sitk.sitkVectorFloat32, 3)
    sitk.WriteImage(colour, str(tmp_path / "colour.nii"))
    with pytest.raises(InputError, match=r"colour\.nii: has 3 values per voxel"):
        load_series(tmp_path / "colour.nii")
    holes = values().astype(np.float32)
    holes[3, 2, 2, 2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        load_series(write(tmp_path / "holes.nii", holes))
    whole = write(tmp_path / "s.nii", values())
    (tmp_path / "cut.nii").write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated"):
        load_series(tmp_path / "cut.nii")


def test_a_format_without_a_fourth_axis(tmp_path: Path) -> None:
    volumes = (Image.from_numpy(part.astype(np.uint8), GRID) for part in values(2))
    with pytest.raises(InputError, match=r"s\.png: a 4D series"):
        save_series(volumes, tmp_path / "s.png", 2)
    assert list(tmp_path.iterdir()) == []
