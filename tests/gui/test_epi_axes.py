"""Voxel axes are those of the file, however a reader shows it; sidecars are read, never guessed."""

from __future__ import annotations

import json
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from napari.layers import Image

from fireants_engine.errors import InputError
from fireants_engine.geometry.grid import Grid
from fireants_engine.io.series import load_grid
from napari_fireants._epi_axes import Axes, way_of
from napari_fireants._epi_sides import TYPED, Side, read_side, stored_image
from napari_fireants._layers import grid_of, snapshot
from napari_fireants._read_images import open_image

SHAPE = (3, 4, 5)
WAYS = [Axes(order, turned) for order in permutations(range(3))
        for turned in product((False, True), repeat=3)]  # fmt: skip


@pytest.mark.parametrize("axes", WAYS)
def test_what_is_shown_is_what_is_stored(axes: Axes) -> None:
    shown = np.arange(60).reshape(SHAPE)
    grid = Grid(SHAPE[::-1], (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), np.eye(3))
    stored, filed = axes.stored(shown), axes.grid(grid)
    np.testing.assert_array_equal(axes.shown(stored), shown)
    assert filed.shape == stored.shape
    assert Axes.between(filed.direction, grid.direction) == axes
    places = {value: tuple(np.round(mm, 6)) for value, mm in
              zip(stored.ravel(), filed.points_mm(), strict=True)}  # fmt: skip
    for value, mm in zip(shown.ravel(), grid.points_mm(), strict=True):
        assert places[value] == pytest.approx(tuple(mm))
    for key in ((0, 1), (1, 3), (2, 0)):
        axis, index = axes.plane(key, SHAPE)
        plane = axes.shown_plane(stored.take(index, axis), key)
        np.testing.assert_array_equal(plane, shown.take(key[1], key[0]))


@pytest.mark.parametrize("axes", WAYS[::5])
def test_an_axis_of_the_file_runs_along_one_of_the_layer(axes: Axes) -> None:
    grid = Grid(SHAPE[::-1], (1.0,) * 3, (0.0,) * 3, np.eye(3))
    filed = axes.grid(grid)
    for axis in range(3):
        array_axis, sign = axes.along(axis)
        np.testing.assert_allclose(filed.direction[:, axis], sign * np.eye(3)[2 - array_axis])


def test_directions_in_words() -> None:
    assert way_of(np.array([0, 1.0, 0])) == "A → P"
    assert way_of(np.array([-2.0, 0.1, 0])) == "L → R"
    assert way_of(np.array([0.0, 0.3, 3.0])) == "I → S"
    assert way_of(np.array([1.0, 1.0, 0.0])) == ""


# ------------------------------------------------------------------ sidecars
def saved(path: Path, direction: Any = None, **sidecar: Any) -> Image:
    """A file whose axes are stored in another order than napari shows, opened as a layer."""
    image = sitk.GetImageFromArray(np.arange(60, dtype=np.float32).reshape(SHAPE))
    # i runs to the feet, j to the left, k to the back
    turned = np.array([[0, 1, 0], [0, 0, 1], [-1, 0, 0]], float)
    image.SetDirection((turned if direction is None else direction).ravel())
    sitk.WriteImage(image, str(path))
    if sidecar:
        path.with_name(path.name.replace(".nii", ".json")).write_text(json.dumps(sidecar))
    ((array, look, _),), _notes = open_image(path)
    return Image(array, **look)


def test_a_sidecar_speaks_of_the_file(tmp_path: Path) -> None:
    layer = saved(tmp_path / "a.nii", PhaseEncodingDirection="j-", TotalReadoutTime=0.04)
    assert layer.data.shape != SHAPE
    side = read_side(layer, snapshot(layer))
    assert (side.direction, side.readout_s, side.problem) == ("j-", 0.04, "")
    assert side.way == "L → R"
    assert side.words() == "L → R, from its sidecar"
    assert side.sources == ["a.json"]
    array_axis, sign = side.axes.along(1)
    assert (array_axis, sign) == (2, 1)  # j runs along x of the canvas
    image = stored_image(side.axes, snapshot(layer))
    assert image.grid.same_space(load_grid(tmp_path / "a.nii"))
    np.testing.assert_array_equal(image.data[0], np.arange(60).reshape(SHAPE))
    assert grid_of(snapshot(layer)).size != image.grid.size


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    layer = saved(tmp_path / "a.nii")
    side = read_side(layer, snapshot(layer))
    assert not side.known
    assert side.words() == "No sidecar says more; choose a direction and type the readout time"
    with pytest.raises(InputError, match="direction is not known; choose one of"):
        _ = side.encoding
    side = side.typed(direction="k")
    assert side.words().startswith("A → P")
    with pytest.raises(InputError, match="readout time is not known; type its seconds"):
        _ = side.encoding
    side = side.typed(readout_s=0.03)
    assert (side.encoding.axis, side.encoding.sign, side.encoding.readout_s) == (2, 1, 0.03)
    assert set(side.origin.values()) == {TYPED}
    with pytest.raises(InputError, match="Choose two EPI images"):
        _ = Side().encoding


def test_half_a_sidecar(tmp_path: Path) -> None:
    layer = saved(tmp_path / "a.nii", PhaseEncodingDirection="i")
    side = read_side(layer, snapshot(layer))
    assert (side.direction, side.readout_s) == ("i", None)
    layer = saved(tmp_path / "b.nii", EffectiveEchoSpacing=0.001)
    side = read_side(layer, snapshot(layer))
    assert (side.direction, side.readout_s) == ("", None)
    side = read_side(layer, snapshot(layer), "j")  # a person has chosen it: now it can be told
    assert side.readout_s == pytest.approx(0.003)


def test_a_sidecar_of_another_image_is_said(tmp_path: Path) -> None:
    sidecar = {"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05, "ReconMatrixPE": 9}
    layer = saved(tmp_path / "a.nii", **sidecar)
    side = read_side(layer, snapshot(layer))
    assert "is of an image with 9" in side.problem
    assert "--" not in side.problem
    assert side.words().endswith(side.problem)
    (tmp_path / "a.json").write_text("{")
    assert "damaged" in read_side(layer, snapshot(layer)).problem


def test_a_layer_without_a_file_counts_its_own_axes() -> None:
    layer = Image(np.zeros(SHAPE, np.float32), name="made")
    side = read_side(layer, snapshot(layer)).typed(direction="i-", readout_s=0.05)
    assert side.words() == "i, j, k are the layer's x, y, z"
    assert side.axes == Axes.same(3)
    assert side.axes.along(0) == (2, 1)


def test_a_sample_tells_itself() -> None:
    encoding = {"direction": "j-", "readout_s": 0.05}
    metadata = {"fireants": {"encoding": encoding}}
    layer = Image(np.zeros(SHAPE, np.float32), metadata=metadata)
    side = read_side(layer, snapshot(layer))
    assert (side.direction, side.readout_s, side.known) == ("j-", 0.05, True)
    assert side.words() == "P → A, as the sample says"
