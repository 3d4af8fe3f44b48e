"""Slides: levels and their grids, boxes read alone, pixel sizes, and what is wrong with files."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.io.slides import Slide, open_slide

rng = np.random.default_rng(0)
RGB = rng.integers(0, 256, (300, 420, 3)).astype(np.uint8)
UM = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm",
      "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}  # fmt: skip


def averaged(array: np.ndarray, factor: int = 2) -> np.ndarray:
    shape = (array.shape[0] // factor, factor, array.shape[1] // factor, factor, -1)
    return np.rint(array.reshape(shape).mean((1, 3))).astype(array.dtype)


def pyramid(path: Path, levels: int = 3, metadata: dict[str, Any] = UM, **options: Any) -> Path:
    """An OME-TIFF of RGB whose coarser levels are SubIFDs."""
    options = {"tile": (64, 64), "photometric": "rgb", "compression": "zlib", **options}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(RGB, subifds=levels - 1, metadata={"axes": "YXS", **metadata}, **options)
        array = RGB
        for _ in range(levels - 1):
            array = averaged(array)
            file.write(array, subfiletype=1, **options)
    return path


def same(slide: Slide, array: np.ndarray, level: int = 0) -> None:
    """Boxes within, across and at the end of tiles are those of `array` (Y, X, C)."""
    height, width = array.shape[:2]
    for rows, columns in (
        (slice(0, 1), slice(0, 1)),
        (slice(3, min(70, height)), slice(60, min(131, width))),
        (slice(height - 5, height), slice(width - 7, width)),
        (slice(0, height), slice(0, width)),
    ):
        found = slide.read((rows, columns), level)
        np.testing.assert_array_equal(np.moveaxis(found, 0, -1), array[rows, columns])
        assert found.dtype == array.dtype


# ------------------------------------------------------------------ levels
def test_levels_of_an_ome_tiff(tmp_path: Path) -> None:
    with open_slide(pyramid(tmp_path / "a.ome.tif")) as slide:
        assert [item.shape for item in slide.levels] == [(300, 420), (150, 210), (75, 105)]
        assert (slide.channels, slide.dtype, slide.sized) == (3, np.uint8, True)
        assert slide.levels[0].tile == (64, 64)
        assert slide.pixel_size_mm == pytest.approx((0.0005, 0.00025))
        same(slide, RGB)
        same(slide, averaged(RGB), 1)
        same(slide, averaged(averaged(RGB)), 2)
        image = slide.level(2)
        assert image.data.dtype.is_floating_point is False
        # the first pixel of level 2 is the middle of 4 x 4 pixels of level 0
        assert image.grid.spacing_mm == pytest.approx((0.002, 0.001))
        assert image.grid.origin_mm == pytest.approx((1.5 * 0.0005, 1.5 * 0.00025))


@pytest.mark.parametrize(
    "options",
    [
        {"tile": None, "rowsperstrip": 7, "compression": "lzw"},
        {"tile": None, "rowsperstrip": 300, "compression": None},
        {"tile": None, "compression": None},
        {"compression": "zlib", "predictor": True},
        {"compression": None, "tile": (32, 128)},
    ],
)
def test_strips_tiles_and_predictors(tmp_path: Path, options: dict[str, Any]) -> None:
    with open_slide(pyramid(tmp_path / "a.ome.tif", 2, **options)) as slide:
        same(slide, RGB)
        same(slide, averaged(RGB), 1)


def test_jpeg_tiles(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    smooth = np.repeat(np.linspace(0, 255, 128)[:, None], 128, 1).astype(np.uint8)
    smooth = np.stack([smooth, smooth.T, 255 - smooth], -1)
    tifffile.imwrite(path, smooth, tile=(64, 64), compression="jpeg", photometric="ycbcr")
    with open_slide(path, 0.001) as slide, tifffile.TiffFile(path) as file:
        same(slide, file.asarray())


def test_planes_apart_channels_as_pages_and_alpha(tmp_path: Path) -> None:
    path = tmp_path / "planar.tif"
    planar = np.ascontiguousarray(np.moveaxis(RGB, -1, 0))
    tifffile.imwrite(path, planar, photometric="rgb", planarconfig="separate", tile=(64, 64))
    same(open_slide(path, 0.001), RGB)
    path = tmp_path / "channels.ome.tif"
    deep = rng.integers(0, 60_000, (1, 4, 1, 130, 90)).astype(np.uint16)
    tifffile.imwrite(path, deep, metadata={"axes": "TCZYX", **UM}, tile=(64, 64))
    slide = open_slide(path)
    assert (slide.channels, slide.dtype) == (4, np.uint16)
    same(slide, np.moveaxis(deep[0, :, 0], 0, -1))
    path = tmp_path / "imagej.tif"
    tifffile.imwrite(path, deep[0, :, 0], imagej=True, metadata={"axes": "CYX"})
    same(open_slide(path, 0.001), np.moveaxis(deep[0, :, 0], 0, -1))
    path = tmp_path / "alpha.tif"
    alpha = np.concatenate([RGB, RGB[..., :1]], -1)
    tifffile.imwrite(path, alpha, photometric="rgb", extrasamples=["unassalpha"])
    slide = open_slide(path, 0.001)
    assert slide.channels == 3
    assert "alpha" in slide.notes[0]
    same(slide, RGB)


def test_levels_of_uneven_sizes(tmp_path: Path) -> None:
    """Rounded up or down, a half is a half; the middle of the field of view stays."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for size in ((301, 419), (151, 209), (60, 83)):
            file.write(np.zeros((*size, 3), np.uint8), tile=(64, 64), photometric="rgb")
    slide = open_slide(path, 1.0)
    assert slide.downsample(1) == (2, 2)
    assert slide.downsample(2) == pytest.approx((5, 5))  # 83 = 419 // 5, 60 = 301 // 5
    assert slide.grid_of(1).origin_mm == (0.5, 0.5)


# ------------------------------------------------------------------ reduced
def test_at_most_averages_areas_and_keeps_the_field_of_view(tmp_path: Path) -> None:
    slide = open_slide(pyramid(tmp_path / "a.ome.tif"))
    image = slide.at_most(210)
    np.testing.assert_array_equal(np.moveaxis(image.data.numpy(), 0, -1), averaged(RGB))
    image = slide.at_most(140)  # from level 1, a factor of 1.5
    assert image.grid.size == (140, 100)
    level = averaged(RGB).astype(float)
    first = level[0, 0] + level[0, 1] / 2 + level[1, 0] / 2 + level[1, 1] / 4
    np.testing.assert_array_equal(image.data[:, 0, 0].numpy(), np.rint(first / 2.25))
    np.testing.assert_allclose(image.grid.centre_mm, slide.grid.centre_mm, atol=1e-12)
    assert slide.at_most(5000).grid.size == (420, 300)
    assert slide.at_most(1).grid.size == (1, 1)


def test_at_most_reads_the_needed_level_only(tmp_path: Path) -> None:
    slide = open_slide(pyramid(tmp_path / "a.ome.tif"))
    asked: list[int] = []
    levels = []
    for number, item in enumerate(slide.levels):

        def read(box: Any, number: int = number, item: Any = item) -> np.ndarray:
            asked.append(number)
            return item.read(box)

        levels.append(type(item)(item.shape, item.tile, read))  # fmt: skip
    spied = Slide(slide.path, tuple(levels), slide.grid, slide.channels, slide.dtype)
    spied.at_most(105)
    assert set(asked) == {2}


def test_the_background_is_that_of_the_border(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    array = np.full((400, 600, 3), (243, 240, 245), np.uint8)
    array[60:340, 60:540] = 120
    tifffile.imwrite(path, array, photometric="rgb")
    np.testing.assert_array_equal(open_slide(path, 0.001).background(), (243, 240, 245))


# ------------------------------------------------------------------ pixel size
def test_units_of_ome_xml(tmp_path: Path) -> None:
    for number, (unit, mm) in enumerate({"nm": 1e-6, "µm": 1e-3, "mm": 1, "cm": 10}.items()):
        size = {"PhysicalSizeX": 2.0, "PhysicalSizeXUnit": unit}
        slide = open_slide(pyramid(tmp_path / f"{number}.ome.tif", 1, size))
        assert slide.pixel_size_mm == pytest.approx((2 * mm, 2 * mm))


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "does not say"),
        ({"PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "pixel"}, "'pixel'"),
        ({"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}, "PhysicalSizeX=0.5 without a unit"),
    ],
)
def test_an_unknown_pixel_is_asked_for(tmp_path: Path, metadata: dict, said: str) -> None:
    path = pyramid(tmp_path / "a.ome.tif", 1, metadata)
    with pytest.raises(InputError, match="--pixel-size") as caught:
        open_slide(path)
    assert said in str(caught.value)
    slide = open_slide(path, unknown="pixel")
    assert slide.sized is False
    assert slide.pixel_size_mm == (1, 1)
    slide = open_slide(path, (0.001, 0.002))
    assert slide.sized is True
    assert slide.pixel_size_mm == (0.001, 0.002)


def test_resolution_tags_only_where_a_microscope_may_have_them(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for dots in (72, 96, 300, 600):
        tifffile.imwrite(path, RGB, resolution=(dots, dots), resolutionunit="inch")
        with pytest.raises(InputError, match=f"{dots} dots an inch"):
            open_slide(path)
    tifffile.imwrite(path, RGB, resolution=(20_000, 40_000), resolutionunit="centimeter")
    assert open_slide(path).pixel_size_mm == pytest.approx((0.0005, 0.00025))
    tifffile.imwrite(path, RGB, resolution=(20_000, 20_000), resolutionunit="none")
    with pytest.raises(InputError, match="--pixel-size"):
        open_slide(path)


def test_imagej_and_aperio(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    grey = np.ascontiguousarray(RGB[..., 0])
    tifffile.imwrite(path, grey, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    assert open_slide(path).pixel_size_mm == pytest.approx((0.0005, 0.0005))
    path = tmp_path / "a.svs"
    text = "Aperio Image Library v10.0.51\r\n420x300 (64x64) |AppMag = 20|MPP = 0.4990|Left = 2"
    tifffile.imwrite(path, RGB, tile=(64, 64), description=text, metadata=None, photometric="rgb")
    slide = open_slide(path)
    assert slide.pixel_size_mm == pytest.approx((0.000499, 0.000499))
    same(slide, RGB)


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), (1.0, 2.0, 3.0)])
def test_impossible_pixels(tmp_path: Path, size: Any) -> None:
    with pytest.raises(InputError, match="positive number"):
        open_slide(pyramid(tmp_path / "a.ome.tif", 1), size)


# ------------------------------------------------------------------ damage
def damaged(path: Path, level: int) -> Path:
    """The middle of every tile of a level overwritten."""
    with tifffile.TiffFile(path) as file:
        page = file.series[0].levels[level].keyframe
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    with path.open("r+b") as file:
        for offset, count in places:
            file.seek(offset)
            file.write(b"\xa5" * count)
    return path


def test_a_damaged_level_is_named_and_another_used(tmp_path: Path) -> None:
    slide = open_slide(damaged(pyramid(tmp_path / "a.ome.tif"), 1))
    with pytest.raises(InputError, match=r"level 1 is damaged .* use level 0 or 2"):
        slide.level(1)
    image = slide.at_most(210)
    np.testing.assert_array_equal(np.moveaxis(image.data.numpy(), 0, -1), averaged(RGB))
    assert slide.notes == ["level 1 is damaged; level 0 is used instead"]
    slide = open_slide(damaged(pyramid(tmp_path / "b.ome.tif", 1), 0))
    with pytest.raises(InputError, match=r"level 0 is damaged .* export the slide again"):
        slide.at_most(100)


def test_a_truncated_file_loses_its_last_levels(tmp_path: Path) -> None:
    path = pyramid(tmp_path / "a.ome.tif")
    with tifffile.TiffFile(path) as file:
        page = file.series[0].levels[2].keyframe
        end = int(page.dataoffsets[-1]) + 10
    if end > path.stat().st_size:
        pytest.fail("the last level is not where this test expects it")
    with path.open("r+b") as file:
        file.truncate(end)
    slide = open_slide(path, 0.0005)  # tifffile's OME-XML stood behind the tiles
    assert slide.levels[2].fault
    assert "level 2 is damaged" in slide.notes[0]
    assert slide.coarsest() == 1
    same(slide, averaged(RGB), 1)


def test_what_is_no_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_slide(tmp_path / "none.tif")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(InputError, match=r"a\.txt: \.txt is no slide"):
        open_slide(tmp_path / "a.txt")
    (tmp_path / "a.tif").write_text("hello, this is no TIFF")
    with pytest.raises(InputError, match="not a TIFF"):
        open_slide(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "z.tif", np.zeros((5, 60, 60), np.uint8), metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match="5 images along 'Z'"):
        open_slide(tmp_path / "z.tif", 0.001)
    (tmp_path / "a.mrxs").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(InputError, match="pip install openslide-python"):
        open_slide(tmp_path / "a.mrxs")
    slide = open_slide(pyramid(tmp_path / "a.ome.tif"))
    with pytest.raises(InputError, match="no level 3; it has 0 to 2"):
        slide.level(3)
    with pytest.raises(InputError, match="outside level 2"):
        slide.read((slice(0, 10), slice(100, 200)), 2)


# ------------------------------------------------------------------ other formats
def test_pictures(tmp_path: Path) -> None:
    from fireants_engine.geometry import Image
    from fireants_engine.io import save_image

    path = tmp_path / "a.png"
    save_image(Image.from_numpy(RGB, Grid.identity((420, 300)), channels=True), path)
    with pytest.raises(InputError, match="--pixel-size"):
        open_slide(path)
    slide = open_slide(path, 0.01)
    same(slide, RGB)
    assert slide.at_most(42).grid.spacing_mm == pytest.approx((0.1, 0.1))


def test_through_openslide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = np.full((300, 420, 1), 255, np.uint8)
    alpha[:, :100] = 0

    class Fake:
        level_count, level_dimensions, level_downsamples = 2, [(420, 300), (105, 75)], [1.0, 4.0]
        properties = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}  # noqa: RUF012

        def __init__(self, path: str) -> None: ...

        def close(self) -> None: ...

        def read_region(self, place: Any, level: int, size: Any) -> np.ndarray:
            step = 4**level
            array = np.concatenate([RGB, alpha], -1)[place[1] :: step, place[0] :: step]
            return array[: size[1], : size[0]]

    module = ModuleType("openslide")
    module.OpenSlide = Fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openslide", module)
    path = tmp_path / "a.mrxs"
    path.write_bytes(b"x")
    slide = open_slide(path)
    seen = np.where(alpha > 0, RGB, 255).astype(np.uint8)
    same(slide, seen)
    same(slide, seen[::4, ::4], 1)
    assert slide.pixel_size_mm == pytest.approx((0.00025, 0.00025))


def zarr_image(path: Path, version: str, unit: str | None) -> Path:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space"} | ({"unit": unit} if unit else {}) for n in "zyx"]
    datasets, array = [], RGB
    for level in range(2):
        values = np.moveaxis(array, -1, 0)[:, None]
        item = group.create_array(str(level), shape=values.shape, chunks=(1, 1, 64, 64),
                                  dtype=values.dtype)  # fmt: skip
        item[...] = values
        steps: list[dict[str, Any]] = [
            {"type": "scale", "scale": [1, 1, 0.5 * 2**level, 2**level]},
            {"type": "translation", "translation": [0, 0, 10, 20]},
        ]
        if version == "0.6":
            steps = [{"type": "sequence", "transformations": steps,
                      "input": {"path": str(level)}, "output": {"name": "physical"}}]  # fmt: skip
        datasets.append({"path": str(level), "coordinateTransformations": steps})
        array = averaged(array)
    image: dict[str, Any] = {"datasets": datasets}
    if version == "0.6":
        image["coordinateSystems"] = [{"name": "physical", "axes": axes}]
    else:
        image["axes"] = axes
    if version == "0.4":
        group.attrs["multiscales"] = [image | {"version": version}]
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [image]}
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_ome_zarr(tmp_path: Path, version: str) -> None:
    slide = open_slide(zarr_image(tmp_path / "a.ome.zarr", version, "micrometer"))
    assert [item.shape for item in slide.levels] == [(300, 420), (150, 210)]
    assert slide.pixel_size_mm == pytest.approx((0.001, 0.0005))
    assert slide.grid.origin_mm == pytest.approx((0.02, 0.01))
    same(slide, RGB)
    same(slide, averaged(RGB), 1)


def test_ome_zarr_without_a_unit_and_with_a_damaged_level(tmp_path: Path) -> None:
    path = zarr_image(tmp_path / "a.zarr", "0.5", None)
    with pytest.raises(InputError, match="no unit"):
        open_slide(path)
    for chunk in (path / "1" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"\xa5" * 50)
    slide = open_slide(path, unknown="pixel")
    with pytest.raises(InputError, match=r"level 1 is damaged .* use level 0"):
        slide.level(1)
    assert slide.at_most(100).grid.size == (100, 71)
