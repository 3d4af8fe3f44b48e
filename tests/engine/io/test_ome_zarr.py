"""OME-Zarr: metadata of the specification as truth, grids in mm, nothing half written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.io.ome_zarr import is_zarr, new_zarr, open_zarr

zarr = pytest.importorskip("zarr")

SPACE = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
CHANNEL = {"name": "c", "type": "channel"}
TIME = {"name": "t", "type": "time", "unit": "second"}
VALUES = np.random.default_rng(0).integers(0, 60_000, (4, 5, 6)).astype(np.uint16)
BOX = (slice(1, 3), slice(0, 4), slice(2, 6))


def image(
    path: Path,
    array: np.ndarray,
    axes: list[Any],
    steps: list[dict],
    version: str = "0.5",
    image_steps: list[dict] | None = None,
) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("s0", shape=array.shape, chunks=(2,) * array.ndim, dtype=array.dtype)
    group["s0"][...] = array
    found: dict[str, Any] = {"axes": axes, "datasets": [{"path": "s0"}], "version": version}
    if steps:
        found["datasets"][0]["coordinateTransformations"] = steps
    if image_steps:
        found["coordinateTransformations"] = image_steps
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [found]}
    else:
        group.attrs["multiscales"] = [found]
    return path


def scale(*values: float) -> dict:
    return {"type": "scale", "scale": list(values)}


def translation(*values: float) -> dict:
    return {"type": "translation", "translation": list(values)}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_micrometres_become_millimetres(tmp_path: Path, version: str) -> None:
    path = image(
        tmp_path / "a.ome.zarr", VALUES, SPACE,
        [scale(4.0, 2.0, 1.0), translation(40.0, 20.0, 10.0)], version,
    )  # fmt: skip
    found = open_zarr(path)
    assert found.grid.size == (6, 5, 4)
    np.testing.assert_allclose(found.grid.spacing_mm, (0.001, 0.002, 0.004))
    np.testing.assert_allclose(found.grid.origin_mm, (0.01, 0.02, 0.04))
    np.testing.assert_array_equal(found.grid.direction, np.eye(3))
    assert (found.channels, found.dtype) == (1, np.uint16)
    np.testing.assert_array_equal(found.read(BOX)[0], VALUES[BOX])


def test_the_image_scales_after_its_level(tmp_path: Path) -> None:
    found = open_zarr(
        image(
            tmp_path / "a.zarr", VALUES, SPACE, [scale(2, 2, 2), translation(1, 1, 1)],
            image_steps=[scale(10, 10, 10), translation(5, 5, 5)],
        )
    )  # fmt: skip
    np.testing.assert_allclose(found.grid.spacing_mm, (0.02,) * 3)
    np.testing.assert_allclose(found.grid.origin_mm, (0.015,) * 3)


@pytest.mark.parametrize(
    ("axes", "shape", "channels"),
    [
        ([TIME, CHANNEL, *SPACE], (1, 1, 4, 5, 6), 1),
        ([TIME, CHANNEL, *SPACE], (1, 3, 4, 5, 6), 3),
        ([CHANNEL, *SPACE], (2, 4, 5, 6), 2),
        ([*SPACE, CHANNEL], (4, 5, 6, 3), 3),
        ([TIME, *SPACE], (1, 4, 5, 6), 1),
        (["t", "c", "z", "y", "x"], (1, 2, 4, 5, 6), 2),
        ([CHANNEL, *SPACE[1:]], (2, 5, 6), 2),
    ],
)
def test_time_is_dropped_and_channels_stay(
    tmp_path: Path, axes: list, shape: tuple, channels: int
) -> None:
    values = np.random.default_rng(1).random(shape).astype(np.float32)
    found = open_zarr(image(tmp_path / "a.zarr", values, axes, [scale(*[1.0] * len(shape))]))
    box = BOX[-found.grid.dim :]
    got = found.read(box)
    assert found.channels == channels
    truth = values.reshape(-1, *found.grid.shape)
    if axes[-1] is CHANNEL:
        truth = np.moveaxis(values, -1, 0)
    np.testing.assert_array_equal(got, truth[(slice(None), *box)])


def test_a_plain_array_has_a_voxel_of_one_millimetre(tmp_path: Path) -> None:
    plain = zarr.create_array(tmp_path / "p.zarr", shape=(4, 5, 6), chunks=(2, 2, 2), dtype="u2")
    plain[...] = VALUES
    found = open_zarr(tmp_path / "p.zarr")
    assert found.grid.same_space(Grid.identity((6, 5, 4)))
    np.testing.assert_array_equal(found.read(BOX)[0], VALUES[BOX])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dim", [2, 3])
def test_what_is_written_reads_back(tmp_path: Path, dim: int, channels: int) -> None:
    grid = Grid((6, 5, 4)[:dim], (0.5, 0.7, 0.9)[:dim], (-1.0, 2.0, 3.0)[:dim], np.eye(dim))
    path = tmp_path / "o.ome.zarr"
    values = np.random.default_rng(2).random((channels, *grid.shape)).astype(np.float32)
    with new_zarr(path, grid, np.dtype(np.float32), channels, (2, 64, 64)[-dim:]) as array:
        assert not path.exists()
        array[...] = values if channels > 1 else values[0]
    assert list(tmp_path.iterdir()) == [path]
    found = open_zarr(path)
    assert found.grid.same_space(grid)
    everything = tuple(slice(0, n) for n in grid.shape)
    np.testing.assert_array_equal(found.read(everything), values)
    meta = zarr.open(path)
    axes = meta.attrs["ome"]["multiscales"][0]["axes"]
    assert meta.attrs["ome"]["version"] == "0.5"
    assert [axis["name"] for axis in axes] == [*"c"[: channels > 1], *"zyx"[-dim:]]
    assert axes[-1] == {"name": "x", "type": "space", "unit": "millimeter"}
    assert list(meta["0"].metadata.dimension_names) == [axis["name"] for axis in axes]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    grid = Grid.identity((4, 4))

    def fail() -> None:
        with new_zarr(tmp_path / "o.zarr", grid, np.dtype("u1"), 1, (2, 2)) as array:
            array[...] = 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "o.zarr").mkdir()
    with (
        pytest.raises(InputError, match=r"o\.zarr: is there already"),
        new_zarr(tmp_path / "o.zarr", grid, np.dtype("u1"), 1, (2, 2)),
    ):
        pass
    flipped = Grid((4, 4), (1, 1), (0, 0), np.diag([-1.0, 1]))
    with (
        pytest.raises(InputError, match="keeps no direction"),
        new_zarr(tmp_path / "p.zarr", flipped, np.dtype("u1"), 1, (2, 2)),
    ):
        pass


@pytest.mark.parametrize(
    ("axes", "shape", "words"),
    [
        ([TIME, *SPACE], (3, 4, 5, 6), "3 samples along 't'; extract one"),
        (SPACE[::-1], (6, 5, 4), "reorder them to z, y, x"),
        ([{**axis, "unit": "parsec"} for axis in SPACE], (4, 5, 6), "unit 'parsec' is not known"),
        (SPACE[:2], (4, 5, 6), "not an OME-Zarr image"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, axes: list, shape: tuple, words: str) -> None:
    path = image(tmp_path / "a.zarr", np.zeros(shape, np.uint8), axes, [])
    with pytest.raises(InputError, match=words):
        open_zarr(path)


def test_folders_that_are_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(InputError, match=r"empty\.zarr: this is not an OME-Zarr image"):
        open_zarr(tmp_path / "empty.zarr")
    zarr.open_group(tmp_path / "plate.zarr", mode="w")
    with pytest.raises(InputError, match=r"plate\.zarr: holds no image itself"):
        open_zarr(tmp_path / "plate.zarr")
    with pytest.raises(InputError, match="no such file"):
        open_zarr(tmp_path / "no.zarr")
    assert is_zarr("x.ome.zarr")
    assert not is_zarr("x.nii.gz")


def test_without_zarr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match=r"pip install 'napari-fireants\[zarr\]'"):
        open_zarr(tmp_path / "a.zarr")
