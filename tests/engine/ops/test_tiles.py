"""Tiles: what `warp_image` gives, from boxes that stay small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.geometry.lazy import Box, LazyImage
from fireants_engine.ops import apply_tiled, warp_image
from fireants_engine.ops.tiles import tiled_type
from fireants_engine.transforms import Affine, Chain, Displacement

C, S = np.cos(0.4), np.sin(0.4)
TURN = np.array([[C, -S, 0], [S, C, 0], [0, 0, 1.0]]) @ np.array([[1, 0, 0], [0, C, -S], [0, S, C]])
FIXED = Grid((40, 35, 30), (1.0, 1.2, 1.5), (-7.0, 3.0, 9.0), TURN)
MOVING = Grid((48, 36, 41), (0.9, 1.3, 1.1), (-12.0, 1.0, 7.0), np.diag([-1.0, 1, 1]) @ TURN.T)
NAMES = ["linear", "nearest", "bspline", "sinc", "label"]


def a_chain() -> Chain:
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.normal(size=(*FIXED.shape, 3)), (3, 3, 3, 0)) * 40
    linear = np.eye(3) + 0.1 * rng.normal(size=(3, 3))
    shift = MOVING.centre_mm - FIXED.centre_mm
    return Chain([Displacement.from_mm(field, FIXED), Affine.about(linear, shift, FIXED.centre_mm)])


def an_array(kind: type = np.float32) -> np.ndarray:
    values = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=MOVING.shape), 1.0)
    return np.round(1000 * values).astype(kind) if np.issubdtype(kind, np.integer) else values


class Watched:
    """An array that records the boxes read from it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.largest = 0
        self.reads = 0

    def __getitem__(self, key: Box) -> np.ndarray:
        out = self.array[key]
        self.largest, self.reads = max(self.largest, out.size), self.reads + 1
        return out


@pytest.mark.parametrize("chunk", [(7, 16, 11), (64, 64, 64)])
@pytest.mark.parametrize("name", NAMES)
def test_tiles_are_warp_image(name: str, chunk: tuple[int, ...]) -> None:
    kind = np.int16 if name in ("label", "nearest") else np.float32
    values = an_array(kind)
    if name == "label":
        values = np.abs(values) // 60
    whole = warp_image(Image.from_numpy(values, MOVING), a_chain(), FIXED, interpolation=name)
    source = LazyImage.from_array(values, MOVING)
    out = np.full(FIXED.shape, 77, tiled_type(source, name))
    apply_tiled(source, a_chain(), FIXED, out, chunk=chunk, interpolation=name)
    assert 0.1 < (whole.numpy() == 0).mean() < 0.9
    if name in ("label", "nearest"):
        assert out.dtype == np.int16
        assert (out != whole.numpy()).mean() < 1e-3  # a tie may fall either way
    else:
        np.testing.assert_allclose(out, whole.numpy(), atol=2e-5 * np.abs(values).max())


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_box_is_bounded(name: str) -> None:
    """Also where a coarse result needs much of the source for every chunk."""
    values = an_array(np.int16)
    watched = Watched(np.abs(values) // 60)
    coarse = FIXED.resized((9, 8, 7))
    out = np.zeros(coarse.shape, np.float32)
    limit = 20_000
    source = LazyImage.from_array(watched, MOVING)
    apply_tiled(source, a_chain(), coarse, out, interpolation=name, max_box=limit)
    assert watched.reads > 1
    # one voxel of a B-spline needs 30 x 30 x 30: that is the floor
    assert watched.largest <= max(limit, 30**3 if name == "bspline" else 0)
    whole = warp_image(
        Image.from_numpy(watched.array, MOVING), a_chain(), coarse, interpolation=name
    )
    np.testing.assert_allclose(out, whole.numpy(), atol=1e-3)


def test_only_what_a_chunk_needs_is_read() -> None:
    """Without a turn, 8 chunks read the source about once and never half of it."""
    grid = Grid.identity((64, 64, 64))
    watched = Watched(np.random.default_rng(0).random(grid.shape).astype(np.float32))
    shift = Affine.about(np.eye(3), np.array([0.5, 0.5, 0.5]), np.zeros(3))
    out = np.zeros(grid.shape, np.float32)
    apply_tiled(LazyImage.from_array(watched, grid), shift, grid, out, chunk=(32, 32, 32))
    assert watched.reads == 8
    assert watched.largest <= 34**3


def test_a_chunk_outside_reads_nothing() -> None:
    grid = Grid.identity((20, 20))
    watched = Watched(np.ones(grid.shape, np.float32))
    far = Affine.about(np.eye(2), np.array([100.0, 0.0]), np.zeros(2))
    out = np.zeros(grid.shape, np.float32)
    apply_tiled(LazyImage.from_array(watched, grid), far, grid, out, chunk=(8, 8), fill=-3)
    assert watched.reads == 0
    assert (out == -3).all()


@pytest.mark.parametrize("name", ["linear", "nearest"])
def test_channels_and_a_memory_map(tmp_path: Path, name: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 60_000, (3, 31, 26)).astype(np.uint16)
    np.save(tmp_path / "in.npy", rgb)
    stored = np.load(tmp_path / "in.npy", mmap_mode="r")
    grid = Grid((26, 31), (0.5, 0.7), (1.0, 2.0), np.array([[C, -S], [S, C]]))
    turn = Affine.about(np.array([[C, S], [-S, C]]), np.array([0.2, 0.1]), grid.centre_mm)
    source = LazyImage.from_array(stored, grid)
    kind = tiled_type(source, name)
    assert kind == (np.uint16 if name == "nearest" else np.float32)
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", kind, (3, *grid.shape))
    apply_tiled(source, turn, grid, out, chunk=(10, 10), interpolation=name)
    out.flush()
    image = Image.from_numpy(np.moveaxis(rgb, 0, -1), grid, channels=True)
    truth = warp_image(image, turn, grid, interpolation=name).data.numpy()
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), truth, rtol=1e-5, atol=0.5)


def test_float_labels_come_as_integers() -> None:
    grid = Grid.identity((6, 5))
    values = np.random.default_rng(0).integers(0, 9, grid.shape).astype(np.float64)
    source = LazyImage.from_array(values, grid)
    out = np.zeros(grid.shape, tiled_type(source, "label"))
    apply_tiled(source, Affine.identity(2), grid, out, interpolation="label")
    assert out.dtype == np.int32
    np.testing.assert_array_equal(out, values)


def test_what_does_not_fit() -> None:
    grid = Grid.identity((6, 5))
    source = LazyImage.from_array(np.full(grid.shape, 0.5), grid, name="scan")
    out = np.zeros(grid.shape)
    identity = Affine.identity(2)
    with pytest.raises(InputError, match="scan is 2D but the transform is 3D"):
        apply_tiled(source, Affine.identity(3), grid, out)
    with pytest.raises(InputError, match="choose one of linear"):
        apply_tiled(source, identity, grid, out, interpolation="cubic")
    with pytest.raises(InputError, match="scan: label values must be whole numbers"):
        apply_tiled(source, identity, grid, out, interpolation="label")
    with pytest.raises(ValueError, match="does not fit"):
        apply_tiled(source, identity, grid, np.zeros((3, 3)))
    with pytest.raises(InputError, match="scan: an array of shape"):
        LazyImage.from_array(np.zeros((4, 4)), grid, name="scan")
    with pytest.raises(InputError, match="scan: values of type complex"):
        LazyImage.from_array(np.zeros(grid.shape, complex), grid, name="scan")


def test_the_input_is_left_alone() -> None:
    values = an_array()
    before = values.copy()
    out = np.zeros(FIXED.shape, np.float32)
    for name in ("bspline", "linear"):
        apply_tiled(LazyImage.from_array(values, MOVING), a_chain(), FIXED, out, interpolation=name)
        warp_image(
            Image(torch.from_numpy(values)[None], MOVING), a_chain(), FIXED, interpolation=name
        )
    np.testing.assert_array_equal(values, before)
