"""Images: what is written is read back, and what is damaged is said to be."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.io import itk, load_image, save_image

ROTATION = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
DIRECTIONS = {
    "plain": np.eye(3),
    "oblique": ROTATION @ np.array([[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]]),
    "flipped": np.diag([-1.0, 1.0, 1.0]),
    "permuted": np.eye(3)[[2, 0, 1]],
}


def make(dim: int, direction: np.ndarray, dtype: str = "float32", channels: int = 1) -> Image:
    rng = np.random.default_rng(0)
    grid = Grid((7, 6, 5)[:dim], (0.5, 2.0, 1.25)[:dim], (3.0, -4.0, 10.0)[:dim], direction)
    shape = grid.shape if channels == 1 else (*grid.shape, channels)
    array = (rng.random(shape) * 200).astype(dtype)
    return Image.from_numpy(array, grid, channels=channels > 1)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_grid_and_values_return(tmp_path: Path, name: str, suffix: str) -> None:
    image = make(3, DIRECTIONS[name])
    back = load_image(save_image(image, tmp_path / f"image{suffix}"))
    assert back.grid.same_space(image.grid, tol=1e-5)
    np.testing.assert_array_equal(back.numpy(), image.numpy())
    assert back.name == f"image{suffix}"
    assert back.path == str(tmp_path / f"image{suffix}")


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("direction", [np.eye(2), ROTATION[:2, :2], np.diag([1.0, -1.0])])
def test_two_dimensions(tmp_path: Path, direction: np.ndarray, suffix: str) -> None:
    image = make(2, direction)
    back = load_image(save_image(image, tmp_path / f"image{suffix}"))
    assert back.grid.same_space(image.grid, tol=1e-5)
    np.testing.assert_array_equal(back.numpy(), image.numpy())


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float32", "float64"])
def test_types_are_kept(tmp_path: Path, dtype: str) -> None:
    image = make(3, np.eye(3), dtype)
    back = load_image(save_image(image, tmp_path / "image.nii.gz"))
    assert back.data.dtype == image.data.dtype


def test_unsigned_labels_become_signed_integers(tmp_path: Path) -> None:
    path = tmp_path / "labels.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((3, 4, 5), 40000, np.uint16)), str(path))
    data = load_image(path).data
    assert not data.is_floating_point()
    assert int(data.max()) == 40000


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_channels(tmp_path: Path, suffix: str) -> None:
    image = make(3, np.eye(3), channels=3)
    back = load_image(save_image(image, tmp_path / f"image{suffix}"))
    assert back.channels == 3
    np.testing.assert_array_equal(back.numpy(), image.numpy())


def test_colour_picture(tmp_path: Path) -> None:
    image = make(2, np.eye(2), "uint8", channels=3)
    back = load_image(save_image(image, tmp_path / "picture.png"))
    np.testing.assert_array_equal(back.numpy(), image.numpy())


def test_picture_formats_round_what_fits(tmp_path: Path) -> None:
    image = make(2, np.eye(2))
    back = load_image(save_image(image, tmp_path / "picture.png"))
    np.testing.assert_array_equal(back.numpy(), np.rint(image.numpy()))
    low = Image(image.data - 500, image.grid)
    with pytest.raises(InputError, match=r"do not fit into \.png"):
        save_image(low, tmp_path / "low.png")
    assert not (tmp_path / "low.png").exists()


def test_one_slice_stays_three_dimensional(tmp_path: Path) -> None:
    image = Image.from_numpy(np.random.default_rng(0).random((1, 6, 7)).astype("float32"))
    assert load_image(save_image(image, tmp_path / "slice.nii.gz")).grid.size == (7, 6, 1)


def test_one_volume_in_four_dimensions_is_a_volume(tmp_path: Path) -> None:
    path = tmp_path / "one.mha"
    sitk.WriteImage(sitk.Image([5, 4, 3, 1], sitk.sitkFloat32), str(path))
    assert load_image(path).grid.size == (5, 4, 3)


def test_four_dimensions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "series.nii.gz"
    sitk.WriteImage(sitk.Image([5, 4, 3, 2], sitk.sitkFloat32), str(path))
    with pytest.raises(InputError, match=r"series\.nii\.gz: is 4D .* extract one volume"):
        load_image(path)


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd", ".tif", ".png", ".jpg"])
def test_truncated(tmp_path: Path, suffix: str, share: float, capfd) -> None:
    path = tmp_path / f"cut{suffix}"
    values = (np.random.default_rng(0).random((30, 31, 32)) * 255).astype("uint8")
    flat = suffix in (".png", ".jpg")
    save_image(Image.from_numpy(values[0] if flat else values), path)
    load_image(path)  # whole
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=rf"cut\{suffix}: .*again\.$"):
        load_image(path)


def test_truncated_compressed_series_in_several_members(tmp_path: Path) -> None:
    """gzip files made of several members have no length at their end: they are inflated."""
    import gzip

    plain = save_image(make(3, np.eye(3)), tmp_path / "plain.nii").read_bytes()
    path = tmp_path / "members.nii.gz"
    parts = [gzip.compress(plain[:400]), gzip.compress(plain[400:])]
    path.write_bytes(b"".join(parts))
    load_image(path)
    path.write_bytes(parts[0])
    with pytest.raises(InputError, match="truncated"):
        load_image(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_nifti_readers_hide_nan(tmp_path: Path, value: float, dtype: str, suffix: str) -> None:
    image = make(3, np.eye(3), dtype)
    values = image.numpy().copy()
    values[1, 2, 3] = value
    path = save_image(Image.from_numpy(values, image.grid), tmp_path / f"holes{suffix}")
    assert np.isfinite(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))).all()
    with pytest.raises(InputError, match=r"holes\.nii.*contains NaN or infinite values"):
        load_image(path)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.nii: there is no such file"):
        load_image(tmp_path / "nothing.nii")
    with pytest.raises(InputError, match="this is a folder"):
        load_image(tmp_path)
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(InputError, match="not an image in a known format"):
        load_image(text)
    empty = tmp_path / "empty.nii.gz"
    empty.touch()
    with pytest.raises(InputError, match="truncated"):
        load_image(empty)


def test_sheared_axes(tmp_path: Path) -> None:
    path = save_image(make(3, np.eye(3)), tmp_path / "sheared.nii")
    raw = bytearray(path.read_bytes())
    raw[252:256] = struct.pack("<2h", 0, 1)  # no qform, only an sform
    raw[280:328] = struct.pack("<12f", 1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    path.write_bytes(bytes(raw))
    with pytest.raises(InputError, match=r"sheared\.nii: its direction matrix is not orthonormal"):
        load_image(path)
    item = sitk.GetImageFromArray(np.zeros((3, 4, 5), np.float32))
    item.SetDirection([1, 0.3, 0, 0, 1, 0, 0, 0, 1])
    sitk.WriteImage(item, str(tmp_path / "sheared.mha"))
    with pytest.raises(InputError, match=r"sheared\.mha: .*not orthonormal"):
        load_image(tmp_path / "sheared.mha")


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = make(3, np.eye(3))
    with pytest.raises(InputError, match="there is no folder"):
        save_image(image, tmp_path / "none" / "image.nii.gz")
    with pytest.raises(InputError, match="not a known format"):
        save_image(image, tmp_path / "image.xyz")
    target = save_image(image, tmp_path / "image.nii.gz")
    before = target.read_bytes()

    def fail(_: sitk.Image, name: str, *rest: object) -> None:
        Path(name).write_bytes(b"half")
        raise RuntimeError("ITK ERROR: disk full")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    whole = make(3, np.eye(3), "int16")
    for item, owner, name, problem in (
        (image, sitk, "WriteImage", fail),
        (whole, sitk, "WriteImage", fail),
        (image, itk, "_pack", full),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, problem)
            with pytest.raises(InputError, match="cannot be written"):
                save_image(item, target)
        assert target.read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["image.nii.gz"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fractions_are_packed_as_small_as_by_itk(tmp_path: Path, dtype: str, channels: int) -> None:
    """Noise in a background of zeros; any reader of gzip finds the same bytes."""
    rng, size = np.random.default_rng(0), (40, 50, 60)
    array = rng.normal(size=(*size, channels)).astype(dtype)
    array[:, :25] = 0
    image = Image.from_numpy(array, Grid.identity(size[::-1]), channels=True)
    ours = save_image(image, tmp_path / "image.nii.gz")
    item = sitk.ReadImage(str(ours))
    sitk.WriteImage(item, str(tmp_path / "itk.nii.gz"), True)
    packed = [
        gzip.decompress((tmp_path / name).read_bytes()) for name in ("image.nii.gz", "itk.nii.gz")
    ]
    assert packed[0] == packed[1]
    assert ours.stat().st_size <= 1.02 * (tmp_path / "itk.nii.gz").stat().st_size
