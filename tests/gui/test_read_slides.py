"""Slides in napari: pyramids of which only what is seen is read, and the dock's share of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import npe2
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel

from napari_fireants import _readers
from napari_fireants._histo_given import LARGEST, pixel_of, section_at
from napari_fireants._histo_job import section_image
from napari_fireants._read_slides import Level


def write(path: Path, size: tuple[int, int] = (1200, 1500), levels: int = 3) -> np.ndarray:
    """An OME-TIFF with coarser copies; its first channel counts columns."""
    rows, columns = np.indices(size)
    whole = np.stack([columns // 8, rows // 8, 0 * rows + 7], -1).astype(np.uint8)
    with tifffile.TiffWriter(path, ome=True) as file:
        look: dict[str, Any] = {"photometric": "rgb", "tile": (256, 256)}
        about = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm",
                 "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}  # fmt: skip
        file.write(whole, subifds=levels - 1, metadata=about, **look)
        for k in range(1, levels):
            file.write(whole[:: 2**k, :: 2**k], subfiletype=1, **look)
    return whole


def layers_of(path: Path, reader: Any = _readers.get_slide_reader) -> Any:
    from napari.layers import Layer

    read = reader(path)
    assert read is not None
    return [Layer.create(*each) for each in read(path)]


def test_a_slide_is_a_pyramid_in_its_place(tmp_path: Path, monkeypatch: Any) -> None:
    whole = write(tmp_path / "s.ome.tif")
    boxes: list[int] = []
    plain = Level.__getitem__
    monkeypatch.setattr(
        Level, "__getitem__", lambda self, box: boxes.append(self._number) or plain(self, box)
    )
    (layer,) = layers_of(tmp_path / "s.ome.tif")
    assert layer.rgb
    assert [x.shape for x in layer.data] == [(1200, 1500, 3), (600, 750, 3), (300, 375, 3)]
    assert 0 not in boxes
    assert pixel_of(layer) == pytest.approx((0.5, 0.5))
    assert np.array_equal(np.asarray(layer.data[0][100:140, 1000:1100]), whole[100:140, 1000:1100])
    assert np.array_equal(np.asarray(layer.data[1]), whole[::2, ::2])


def test_napari_opens_slides_by_the_manifest(tmp_path: Path) -> None:
    write(tmp_path / "s.ome.tif")
    npe2.PluginManager.instance().discover()
    (layer,) = ViewerModel().open(tmp_path / "s.ome.tif", plugin="napari-fireants")
    assert layer.multiscale
    assert layer.source.reader_plugin == "napari-fireants"
    assert _readers.get_slide_reader(tmp_path) is None


def test_channels_and_what_is_no_slide(tmp_path: Path) -> None:
    from fireants_engine.errors import InputError

    grey = np.arange(2 * 40 * 50, dtype=np.uint16).reshape(2, 40, 50)
    tifffile.imwrite(
        tmp_path / "c.ome.tif", grey, metadata={"axes": "CYX"}, photometric="minisblack"
    )
    first, second = layers_of(tmp_path / "c.ome.tif")
    assert (first.name, second.name) == ("c.ome [0]", "c.ome [1]")
    assert np.array_equal(np.asarray(second.data), grey[1])
    assert pixel_of(first) is None
    (tmp_path / "bad.ome.tif").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"bad\.ome\.tif"):
        layers_of(tmp_path / "bad.ome.tif")


def test_a_search_reads_no_more_of_a_pyramid_than_it_needs() -> None:
    from napari.layers import Image

    class Untouched(np.ndarray):
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("the finest level was read")

    fine = np.zeros((4 * LARGEST, 2 * LARGEST), np.uint8)
    coarse = np.broadcast_to(np.arange(LARGEST, dtype=np.uint16), (2 * LARGEST, LARGEST))
    layer = Image([fine.view(Untouched), coarse], multiscale=True, contrast_limits=(0, 1))
    source = section_at(layer, None)
    assert source.size == (2 * LARGEST, 4 * LARGEST)
    image = section_image(source, (0.5, 0.5))
    assert image.grid.size == (LARGEST, 2 * LARGEST)
    assert image.grid.spacing_mm == (1.0, 1.0)
    assert image.grid.origin_mm == (0.25, 0.25)  # the middle of the first two pixels
