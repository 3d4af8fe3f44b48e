"""napari layers to engine images and back: every layer ends where the engine thinks it is."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image, Labels
from scipy.spatial.transform import Rotation

from fireants_engine.errors import InputError
from napari_fireants._layers import check_colours, like, snapshot, to_image

DATA = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
ROTATION = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
FLIP = np.diag([1.0, -1.0, 1.0, 1.0])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = ROTATION
OBLIQUE[:3, 3] = (5, -7, 11)

TRANSFORMS = {
    "plain": {},
    "scaled": {"scale": (3.0, 0.5, 2.0), "translate": (10, -20, 30)},
    "rotated": {"scale": (3.0, 0.5, 2.0), "rotate": ROTATION, "translate": (1, 2, 3)},
    "oblique": {"scale": (3.0, 0.5, 2.0), "affine": OBLIQUE},
    "both": {"scale": (2.0, 2.0, 5.0), "rotate": ROTATION, "affine": OBLIQUE @ FLIP},
    "flipped": {"scale": (2.0, 1.0, 1.0), "affine": FLIP},
}


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("options", TRANSFORMS.values(), ids=TRANSFORMS.keys())
@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("um", 1e-3), ("cm", 10.0)])
def test_every_voxel_lies_where_napari_shows_it(options: dict, unit: str, factor: float) -> None:
    layer = Image(DATA, units=(unit,) * 3, **options)
    image = to_image(snapshot(layer))
    index = np.array([1.0, 3.0, 4.0])
    world = np.asarray(layer.data_to_world(index)) * factor
    mm = image.grid.matrix("voxel", "mm") @ [*index, 1]
    np.testing.assert_allclose(mm[:3], world[::-1], atol=1e-9)
    np.testing.assert_array_equal(image.numpy(), DATA)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("options", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_outputs_lie_exactly_on_the_fixed_layer(options: dict) -> None:
    layer = Image(DATA, units=("um",) * 3, axis_labels=("z", "y", "x"), **options)
    copy = Image(DATA, **like(layer))
    for index in ([0, 0, 0], [3, 4, 5]):
        np.testing.assert_allclose(copy.data_to_world(index), layer.data_to_world(index))
    assert copy.units == layer.units
    assert copy.axis_labels == layer.axis_labels


def test_units_may_differ_per_axis_and_pixels_count_as_mm() -> None:
    mixed = snapshot(Image(DATA, units=("mm", "um", "um"), scale=(1, 500, 500)))
    assert mixed.spacing_mm == pytest.approx((0.5, 0.5, 1.0))
    plain = snapshot(Image(DATA, name="scan"))
    assert plain.spacing_mm == (1.0, 1.0, 1.0)
    assert plain.notes == ("scan has no physical unit: its numbers are taken as mm.",)


def test_2d_labels_dask_rgb_and_multiscale() -> None:
    flat = snapshot(Image(DATA[0], scale=(2, 3), units=("mm", "mm")))
    assert flat.size == (6, 5)
    assert flat.spacing_mm == (3.0, 2.0)
    assert snapshot(Labels(DATA.astype(int))).labels
    lazy = snapshot(Image(da.from_array(DATA)))
    np.testing.assert_array_equal(to_image(lazy).numpy(), DATA)
    levels = snapshot(Image([DATA[0].repeat(4, 0), DATA[0].repeat(2, 0)], multiscale=True))
    assert levels.size == (6, 20)
    colour = snapshot(Image(np.zeros((7, 8, 4), np.uint8), rgb=True))
    image = to_image(colour)
    assert (image.channels, image.grid.shape) == (3, (7, 8))


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((2, 3, 4, 5), {}, ("scan", "4 axes", "Split Stack")),
        ((3, 4, 5), {"units": ("s", "mm", "mm")}, ("scan", "time")),
        ((3, 4, 5), {"axis_labels": ("t", "y", "x")}, ("scan", "time")),
        ((3, 4, 5), {"shear": [0.5, 0, 0]}, ("scan", "sheared", "rectangular")),
    ],
    ids=["4d", "seconds", "t", "shear"],
)
def test_what_cannot_be_registered_is_refused_in_one_sentence(
    shape: tuple[int, ...], options: dict, words: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as caught:
        snapshot(Image(np.zeros(shape), name="scan", **options))
    assert all(word in str(caught.value) for word in words)


def test_colour_against_grey_is_refused() -> None:
    colour = snapshot(Image(np.zeros((7, 8, 3), np.uint8), rgb=True, name="stain"))
    with pytest.raises(InputError, match="stain is an RGB image and scan is grey"):
        check_colours(snapshot(Image(np.zeros((7, 8)), name="scan")), colour)
