"""Image: shapes, masks, and the checks at the door with their sentences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image, check_pair, check_registrable


def ramp(shape: tuple[int, ...] = (5, 6), name: str = "ramp", **kwargs) -> Image:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Image.from_numpy(array, name=name, **kwargs)


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6), (1, 5, 6)])
def test_grey_arrays_keep_their_values_and_order(shape: tuple[int, ...]) -> None:
    image = ramp(shape)
    assert image.data.shape == (1, *shape)
    assert image.grid.shape == shape
    np.testing.assert_array_equal(image.numpy(), np.arange(np.prod(shape)).reshape(shape))


def test_channels_go_first_and_come_back_last() -> None:
    array = np.random.default_rng(0).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    image = Image.from_numpy(array, channels=True)
    assert image.channels == 3
    assert image.grid.shape == (5, 6)
    np.testing.assert_array_equal(image.data[1].numpy(), array[..., 1])
    np.testing.assert_array_equal(image.numpy(), array)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_numeric_types_and_byte_orders_keep_their_values(dtype: str, order: str) -> None:
    top = 100.5 if dtype.startswith("f") else np.iinfo(dtype).max
    array = np.array([[0, top], [1, 2]], dtype=np.dtype(dtype).newbyteorder(order))
    np.testing.assert_array_equal(Image.from_numpy(array).numpy(), array)


def test_the_array_given_is_copied() -> None:
    array = np.zeros((3, 4), dtype=np.float32)
    image = Image.from_numpy(array)
    array[:] = 1
    assert float(image.data.max()) == 0


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 4)), "scan.*empty"),
        (np.zeros(7), "scan.*1 dimensions"),
        (np.zeros((2, 2, 2, 2)), "scan.*4 dimensions"),
        (np.zeros((3, 3), dtype=complex), "scan.*not numbers"),
        (np.array([["a", "b"], ["c", "d"]]), "scan.*not numbers"),
    ],
)
def test_arrays_that_are_no_image_are_refused(array: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Image.from_numpy(array, name="scan")


def test_data_that_do_not_fit_the_grid_are_refused() -> None:
    with pytest.raises(InputError, match=r"scan.*\(1, 5, 6\)"):
        Image(torch.zeros(1, 5, 6), Grid.identity((5, 6)), name="scan")


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"scan.*mask"):
        Image(torch.rand(1, 5, 6), Grid.identity((6, 5)), torch.ones(6, 5).bool(), name="scan")


# ------------------------------------------------------------------------------- masks
def test_a_mask_chooses_its_non_zero_voxels() -> None:
    values = np.zeros((5, 6), dtype=np.int16)
    values[1:3, 2:4] = -7
    masked = ramp().with_mask(Image.from_numpy(values))
    assert masked.mask is not None
    np.testing.assert_array_equal(masked.mask.numpy(), values != 0)


def test_no_mask_changes_nothing() -> None:
    image = ramp()
    assert image.with_mask(None) is image


@pytest.mark.parametrize(
    "grid",
    [
        Grid.identity((6, 5), 2.0),
        Grid((6, 5), (1, 1), (0.5, 0), np.eye(2)),
        Grid((6, 5), (1, 1), (5, 0), np.diag([-1.0, 1.0])),
    ],
    ids=["spacing", "origin", "flip"],
)
def test_a_mask_on_another_grid_is_refused(grid: Grid) -> None:
    mask = Image.from_numpy(np.ones((5, 6)), grid, name="lesion")
    with pytest.raises(InputError, match=r"lesion.*another grid than ramp.*resample"):
        ramp().with_mask(mask)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"lesion.*another grid than ramp"):
        ramp().with_mask(Image.from_numpy(np.ones((6, 5)), name="lesion"))


def test_an_all_zero_mask_is_refused() -> None:
    with pytest.raises(InputError, match=r"lesion.*zero everywhere"):
        ramp().with_mask(Image.from_numpy(np.zeros((5, 6)), name="lesion"))


def test_an_all_zero_mask_is_refused_however_it_came() -> None:
    empty = Image(ramp().data, ramp().grid, torch.zeros(5, 6, dtype=torch.bool), name="scan")
    with pytest.raises(InputError, match=r"scan.*mask.*zero"):
        check_pair(empty, ramp())


def test_a_colour_mask_is_refused() -> None:
    mask = Image.from_numpy(np.ones((5, 6, 3), dtype=np.uint8), channels=True, name="lesion")
    with pytest.raises(InputError, match=r"lesion.*one channel, not 3"):
        ramp().with_mask(mask)


# ------------------------------------------------------------------------------- pairs
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_values_are_refused(bad: float) -> None:
    array = np.random.default_rng(0).random((5, 6))
    array[2, 3] = bad
    with pytest.raises(InputError, match=r"scan.*NaN or infinite"):
        check_registrable(Image.from_numpy(array, name="scan"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_constant_images_are_refused(dtype: type) -> None:
    with pytest.raises(InputError, match=r"scan.*every value is 7.*constant"):
        check_registrable(Image.from_numpy(np.full((5, 6), 7, dtype), name="scan"))


def test_pairs_of_different_dimension_are_refused() -> None:
    with pytest.raises(InputError, match="flat is 2D and deep is 3D"):
        check_pair(ramp((5, 6), "flat"), ramp((4, 5, 6), "deep"))


def test_colour_against_grey_is_refused() -> None:
    colour = np.random.default_rng(0).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"photo has 3 channel.*grey 1.*convert"):
        check_pair(Image.from_numpy(colour, channels=True, name="photo"), ramp(name="grey"))


def test_a_good_pair_of_different_sizes_and_types_passes() -> None:
    check_pair(ramp((5, 6)), Image.from_numpy(np.arange(77, dtype=np.uint8).reshape(7, 11)))
