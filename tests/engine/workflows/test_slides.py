"""Slides warped tile by tile: equal to the warp of the whole image, whatever its parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.io.slides import Slide, open_slide
from fireants_engine.ops import warp_image
from fireants_engine.transforms import Affine, Chain, Displacement
from fireants_engine.workflows.slides import ERROR_PX, nearly, warp_slide

PIXEL = 0.002


def picture(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """RGB: smooth tissue on white."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    out = np.full((*shape, 3), 243.0)
    for _ in range(30):
        centre, width = rng.uniform(0.3, 0.7, 2) * shape, rng.uniform(3, 0.06 * min(shape))
        blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2))
        out -= blob[..., None] * rng.uniform(0, 120, 3)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def slide(path: Path, shape: tuple[int, int], levels: int = 1, seed: int = 0) -> Slide:
    array = picture(shape, seed)
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            part = array[:: 2**level, :: 2**level]
            file.write(part, tile=(64, 64), photometric="rgb", metadata=None)
    return open_slide(path, PIXEL)


def turn(degrees: float, centre: tuple[float, float], scale: float = 1.0) -> Affine:
    a = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return Affine.about(linear, np.zeros(2), np.asarray(centre))


def wave(grid: Grid, pixels: float, size: int = 40) -> Displacement:
    """A smooth warp on a coarse grid over the field of view, up to `pixels` of `grid`."""
    coarse = grid.resized([size, size])
    points = coarse.points_mm().reshape(size, size, 2) / grid.extent_mm * 2 * np.pi
    field = np.stack([np.sin(points[..., 1]), np.cos(points[..., 0])], -1)
    return Displacement.from_mm(field * pixels * grid.spacing_mm[0], coarse)


def whole(moving: Slide, transform: object, grid: Grid, fill: np.ndarray) -> np.ndarray:
    """The same in memory, (Y, X, C)."""
    warped = warp_image(moving.level(0), transform, grid, fill=np.nan).data.numpy()  # type: ignore[arg-type]
    warped = np.where(np.isnan(warped), fill.reshape(-1, 1, 1), warped)
    return np.moveaxis(np.rint(warped), 0, -1)


@pytest.mark.parametrize("compression", ["deflate", "none"])
def test_an_affine_map_equals_the_whole_warp(tmp_path: Path, compression: str) -> None:
    moving = slide(tmp_path / "m.tif", (330, 290))
    grid = Grid.identity((301, 405), PIXEL)
    transform = turn(20, (0.3, 0.3))
    out = tmp_path / "out.ome.tif"
    told = warp_slide(transform, moving, grid, out, compression=compression, tile=64)
    np.testing.assert_array_equal(told.background, (243, 243, 243))
    done = open_slide(out)
    assert (done.dtype, done.channels, done.shape) == (np.uint8, 3, (405, 301))
    assert done.pixel_size_mm == pytest.approx((PIXEL, PIXEL))
    found = np.moveaxis(done.level(0).data.numpy(), 0, -1).astype(float)
    wanted = whole(moving, transform, grid, told.background)
    assert np.abs(found - wanted).max() <= 1  # rounding of float32 coordinates at halves
    assert np.mean(found != wanted) < 1e-3
    assert told.error_px == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.tif", "out.ome.tif"]


def test_a_warp_equals_the_whole_warp(tmp_path: Path) -> None:
    moving = slide(tmp_path / "m.tif", (420, 380))
    grid = Grid.identity((390, 410), PIXEL)
    transform = Chain([wave(grid, 3), turn(-160, (0.38, 0.42), 1.1)])
    told = warp_slide(transform, moving, grid, tmp_path / "out.tif", tile=128)
    assert 0 < told.error_px <= ERROR_PX
    assert told.exact <= 12  # of 16: the field has a kink half its voxel inside the border
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages[0].tile == (128, 128)
        found = file.asarray().astype(float)
    wanted = whole(moving, transform, grid, told.background)
    inside = (np.abs(found - wanted) <= 1).all(-1)
    assert np.mean(inside) > 0.999  # the rest lies at the slide's edge


def test_tiles_where_linear_is_too_coarse_are_evaluated_whole(tmp_path: Path) -> None:
    moving = slide(tmp_path / "m.tif", (256, 256))
    u = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (1, 2, 256, 256))).float()
    transform = Displacement(u, moving.grid)
    told = warp_slide(transform, moving, moving, tmp_path / "out.tif", tile=128)
    assert told.exact == 4
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        found = file.asarray().astype(float)
    wanted = whole(moving, transform, moving.grid, told.background)
    assert np.abs(found - wanted).max() <= 1


def test_the_linear_map_between_is_within_its_error() -> None:
    grid = Grid((512, 300), (0.002, 0.002), (1.0, 2.0), np.eye(2))
    world = Grid.identity((2000, 2000), 0.002)
    transform = Chain([wave(world, 20, 60), turn(30, (2, 2))])
    quick, error = nearly(transform, grid, world)
    assert error is not None
    gap = np.abs(quick(grid.points_mm()) - transform(grid.points_mm())).max() / 0.002
    assert gap <= ERROR_PX
    assert gap <= 3 * max(error, 1e-3)


def test_the_levels_are_means_of_four(tmp_path: Path) -> None:
    moving = slide(tmp_path / "m.tif", (1031, 1301))
    told = warp_slide(Affine.identity(2), moving, moving, tmp_path / "out.ome.tif", tile=256)
    assert told.shapes == ((1031, 1301), (516, 651))
    done = open_slide(tmp_path / "out.ome.tif")
    assert [item.shape for item in done.levels] == list(told.shapes)
    assert done.downsample(1) == (2, 2)
    fine, coarse = (done.level(k).data.numpy().astype(int) for k in (0, 1))
    np.testing.assert_array_equal(fine, moving.level(0).data.numpy())
    fine = np.pad(fine, [(0, 0), (0, 1), (0, 1)], mode="edge")
    sums = fine.reshape(3, 516, 2, 651, 2).sum((2, 4))
    np.testing.assert_array_equal(coarse, (sums + 2) // 4)


def test_labels_and_other_types(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 60_000, (200, 180)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "l.tif", labels, tile=(64, 64))
    moving = open_slide(tmp_path / "l.tif", PIXEL)
    shift = Affine(np.array([[1, 0, 3 * PIXEL], [0, 1, 0], [0, 0, 1.0]]))
    warp_slide(shift, moving, moving, tmp_path / "a.tif", interpolation="nearest", tile=64)
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[:, :-3], labels[:, 3:])
    assert not found[:, -3:].any()
    deep = rng.normal(size=(90, 80, 5)).astype(np.float32)
    tifffile.imwrite(tmp_path / "f.tif", deep, planarconfig="contig", photometric="minisblack")
    moving = open_slide(tmp_path / "f.tif", PIXEL)
    warp_slide(Affine.identity(2), moving, moving, tmp_path / "b.ome.tif", background=-1.0)
    np.testing.assert_allclose(open_slide(tmp_path / "b.ome.tif").level(0).data,
                               np.moveaxis(deep, -1, 0), atol=1e-6)  # fmt: skip


def test_a_coarse_grid_reads_a_coarse_level(tmp_path: Path) -> None:
    moving = slide(tmp_path / "m.tif", (800, 800), levels=3)
    grid = moving.grid.resized((200, 200))
    told = warp_slide(Affine.identity(2), moving, grid, tmp_path / "out.tif")
    assert told.level == 2
    assert warp_slide(turn(45, (0.8, 0.8)), moving, moving, tmp_path / "b.tif").level == 0


def test_bad_input_leaves_nothing(tmp_path: Path) -> None:
    moving = slide(tmp_path / "m.tif", (64, 64))
    out = tmp_path / "out.tif"
    with pytest.raises(InputError, match="2D"):
        warp_slide(Affine.identity(3), moving, moving, out)
    with pytest.raises(InputError, match="deflate or none"):
        warp_slide(Affine.identity(2), moving, moving, out, compression="zip")
    with pytest.raises(InputError, match="2 background values for 3 channels"):
        warp_slide(Affine.identity(2), moving, moving, out, background=(1, 2))
    with pytest.raises(InputError, match="does not fit its uint8"):
        warp_slide(Affine.identity(2), moving, moving, out, background=300)
    with pytest.raises(InputError, match="no folder"):
        warp_slide(Affine.identity(2), moving, moving, tmp_path / "no" / "out.tif")
    fresh = open_slide(moving.path, PIXEL)
    with moving.path.open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(InputError, match="level 0 is damaged"):
        warp_slide(Affine.identity(2), fresh, moving, out, background=255)
    assert [p.name for p in tmp_path.iterdir()] == ["m.tif"]


def test_without_a_pixel_size_the_file_has_none(tmp_path: Path) -> None:
    path = slide(tmp_path / "m.tif", (64, 64)).path
    moving = open_slide(path, unknown="pixel")
    told = warp_slide(Affine.identity(2), moving, moving, tmp_path / "out.ome.tif")
    assert "not known" in told.notes[0]
    with pytest.raises(InputError, match="--pixel-size"):
        open_slide(tmp_path / "out.ome.tif")


MEMORY = """
import sys, resource
import numpy as np
from fireants_engine.geometry import Grid
from fireants_engine.io.slides import open_slide
from fireants_engine.transforms import Affine
from fireants_engine.workflows.slides import warp_slide
moving = open_slide(sys.argv[1], 0.001)
warp_slide(Affine.identity(2), open_slide(sys.argv[2], 0.001), Grid.identity((64, 64), 0.001),
           sys.argv[3], background=0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
warp_slide(Affine.identity(2), moving, moving, sys.argv[3], background=0, compression="none")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_memory_does_not_grow_with_the_slide(tmp_path: Path) -> None:
    """3000 x 3000 RGB is 27 MB, as floats 108 MB; its bands and boxes are a few MB."""
    array = np.zeros((3000, 3000, 3), np.uint8)
    tifffile.imwrite(tmp_path / "m.tif", array, tile=(256, 256), photometric="rgb",
                     compression="zlib")  # fmt: skip
    tifffile.imwrite(tmp_path / "s.tif", array[:64, :64], photometric="rgb")
    names = [str(tmp_path / name) for name in ("m.tif", "s.tif", "out.tif")]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *names], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 100
