"""Boxes of a file are those of the whole image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fireants_engine.errors import InputError
from fireants_engine.io import boxes, load_image
from fireants_engine.io.boxes import open_lazy

BOX = (slice(1, 3), slice(0, 4), slice(2, 6))


def write(path: Path, vector: bool = False) -> Path:
    shape = (4, 5, 6, 2) if vector else (4, 5, 6)
    values = np.random.default_rng(0).integers(0, 60_000, shape).astype(np.uint16)
    item = sitk.GetImageFromArray(values, isVector=vector)
    item.SetSpacing((0.5, 1.0, 2.0))
    item.SetOrigin((3.0, 2.0, 1.0))
    item.SetDirection((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, -1))
    sitk.WriteImage(item, str(path))
    return path


@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("name", ["a.nii", "a.mha", "a.nii.gz", "a.nrrd"])
def test_boxes_are_those_of_the_image(tmp_path: Path, name: str, vector: bool) -> None:
    path = write(tmp_path / name, vector)
    whole, found = load_image(path), open_lazy(path)
    assert found.grid.same_space(whole.grid)
    assert found.channels == whole.channels
    for _ in range(2):
        np.testing.assert_array_equal(
            found.read(BOX), whole.data.numpy()[(slice(None), *BOX)].astype(found.dtype)
        )


def test_a_nifti_with_slope_is_scaled(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii")
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([0.5, 7.0], "<f4").tobytes()
    path.write_bytes(bytes(raw))
    found = open_lazy(path)
    assert found.dtype.kind == "f"
    truth = load_image(path).data.numpy()
    np.testing.assert_allclose(found.read(BOX), truth[(slice(None), *BOX)])


def test_the_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "load_image", None)
    open_lazy(write(tmp_path / "a.nii"))
    with pytest.raises(TypeError):
        open_lazy(write(tmp_path / "a.nii.gz"))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_lazy(tmp_path / "no.nii")
    sitk.WriteImage(sitk.Image([4, 4, 4, 3], sitk.sitkFloat32), str(tmp_path / "s.nii"))
    with pytest.raises(InputError, match="is 4D"):
        open_lazy(tmp_path / "s.nii")
