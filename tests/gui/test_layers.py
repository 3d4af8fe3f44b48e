"""napari layers to engine images and back: every layer ends where the engine thinks it is."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from scipy.spatial.transform import Rotation

from fireants_engine.errors import InputError
from napari_fireants._layers import Scene, check_colours, like, snapshot, to_image
from napari_fireants._preview import Look, Pictures, View

NOISE = np.random.default_rng(0)
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


def scene_with_run(shape: tuple[int, ...] = (4, 5, 6)) -> tuple[ViewerModel, Scene]:
    viewer = ViewerModel()
    units = ("mm",) * len(shape)
    fixed = viewer.add_image(NOISE.random(shape), scale=(2.0,) * len(shape), units=units)
    moving = viewer.add_image(NOISE.random((7, *shape[1:])), name="brain", units=units)
    scene = Scene(viewer)
    scene.begin(fixed, moving, snapshot(fixed))
    scene.open()
    return viewer, scene


def test_the_live_layer_is_written_in_place_and_reused() -> None:
    viewer, scene = scene_with_run()
    assert (scene.fixed.colormap.name, scene.live.colormap.name) == ("green", "magenta")
    assert scene.live.contrast_limits == list(map(float, scene.moving.contrast_limits))
    data = scene.live.data
    viewer.dims.set_point(0, 4.0)
    assert scene.wanted().planes == ((0, 2),)
    scene.show({(0, 2): np.full((5, 6), 7.0), (2, 1): np.full((4, 5), 8.0)})
    assert scene.live.data is data
    assert data[2, 0, 0] == 7.0
    assert data[3, 4, 1] == 8.0
    live = scene.live
    scene.abandon()
    assert not live.visible
    assert scene.fixed.colormap.name == "gray"
    assert scene.moving.visible
    scene.begin(scene.fixed, scene.moving, snapshot(scene.fixed))
    scene.open()
    assert scene.live is live


def test_wanted_follows_the_axis_and_the_display() -> None:
    viewer, scene = scene_with_run()
    viewer.dims.order = (2, 0, 1)
    viewer.dims.set_point(2, 6.0)
    assert scene.wanted().planes == ((2, 3),)
    viewer.dims.ndisplay = 3
    assert scene.wanted().shrink == 1.0
    assert scene_with_run((8, 9))[1].wanted().shrink == 1.0


def test_mixed_units_ask_for_the_slice_that_is_shown() -> None:
    viewer, scene = scene_with_run()
    viewer.add_image(np.zeros((4, 5, 6)), units=("um",) * 3)
    viewer.dims.set_point(0, 4000.0)  # the viewer now counts in micrometres
    assert scene.wanted().planes == ((0, 2),)


def test_views_of_a_finished_run() -> None:
    viewer, scene = scene_with_run()
    bytes_ = np.zeros((4, 5, 6), np.uint8)
    pictures = Pictures(np.ones((4, 5, 6), np.float32), bytes_, bytes_ + 200, bytes_ + 9)
    scene.finish(pictures, {"outcome": "CONVERGED"}, None)
    result = viewer.layers["brain (registered)"]
    assert result is scene.live
    assert result.metadata["fireants"] == {"outcome": "CONVERGED"}
    np.testing.assert_allclose(result.scale, scene.fixed.scale)
    scene.apply(Look(View.CHECKERBOARD, squares=3))
    assert set(np.unique(scene.extra.data)) == {0, 200}
    assert [x.visible for x in (scene.fixed, result, scene.extra)] == [False, False, True]
    scene.apply(Look(View.BEFORE_AFTER, before=True))
    assert [x.visible for x in (scene.fixed, result, scene.extra)] == [True, False, True]
    assert scene.extra.data.max() == 9
    scene.apply(Look(View.BLEND, share=0.25))
    assert result.opacity == 0.25
    scene.begin(scene.fixed, scene.moving, snapshot(scene.fixed))
    assert scene.live is not result  # the old result is kept
    assert result in viewer.layers


def test_layers_that_the_user_removed_do_not_matter() -> None:
    viewer, scene = scene_with_run()
    viewer.layers.remove(scene.live)
    scene.show({(0, 1): np.zeros((5, 6))})
    bytes_ = np.zeros((4, 5, 6), np.uint8)
    scene.finish(Pictures(np.ones((4, 5, 6), np.float32), bytes_, bytes_, bytes_), {}, None)
    assert "brain (registered)" in viewer.layers
