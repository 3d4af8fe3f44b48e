"""What a run shows in the viewer, and what it leaves there."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel

from napari_fireants._layers import snapshot
from napari_fireants._preview import Pictures
from napari_fireants._scene import PAIRS, Scene
from napari_fireants._seen import Arrows, Picture
from napari_fireants._views import Look, View

NOISE = np.random.default_rng(0)


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
    scene.present(Picture(bytes_ + 3, "curtain"))
    assert [x.visible for x in (scene.fixed, result, scene.extra)] == [False, False, True]
    assert scene.extra.name == "curtain"
    scene.present(Picture(bytes_ - 0.5, "map", "PiYG", (-1.0, 1.0), folds=bytes_ == 0))
    assert scene.extra.contrast_limits == [-1.0, 1.0]
    folds = scene.extras.folds
    assert folds.visible
    assert folds.contour == 1
    scene.present(Picture(bytes_ + 3, "edges", "yellow", over="moved"))
    shown = [x.visible for x in (scene.fixed, result, scene.extra, folds)]
    assert shown == [False, True, True, False]
    assert result.colormap.name == "gray"
    assert scene.canvas_axes() == (1, 2)
    viewer.dims.order = (2, 0, 1)
    assert scene.canvas_axes() == (0, 1)
    scene.present(Picture(bytes_ + 9, "moving before", over="fixed"))
    assert [x.visible for x in (scene.fixed, result, scene.extra)] == [True, False, True]
    assert (scene.extra.data.max(), scene.extra.colormap.name) == (9, "magenta")
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


def finished(viewer: ViewerModel, scene: Scene) -> None:
    bytes_ = np.zeros((4, 5, 6), np.uint8)
    scene.finish(Pictures(np.ones((4, 5, 6), np.float32), bytes_, bytes_, bytes_), {}, None)


def test_a_plane_is_written_into_its_picture() -> None:
    _, scene = scene_with_run()
    plane = np.full((1, 5, 6), 7, np.uint8)
    scene.present(Picture(plane, "curtain", folds=plane > 0), (0, 2))
    data = scene.extra.data
    assert data.shape == (4, 5, 6)
    assert data.sum() == plane.sum()
    assert scene.extras.folds.data.sum() == 30
    scene.present(Picture(plane + 1, "curtain"), (0, 3))
    assert scene.extra.data is data  # in place
    assert (data[2].max(), data[3].max()) == (7, 8)
    assert not scene.extras.folds.visible
    scene.present(Picture(plane - 0.5, "log Jacobian"), (0, 3))
    assert scene.extra.data.dtype != np.uint8
    assert scene.extra.data[2].max() == 0  # nothing of another picture is left
    bytes_ = np.zeros((4, 5, 6), np.uint8)
    scene.present(Picture(bytes_, "curtain"))
    assert scene.extra.data is bytes_


def test_arrows_come_and_go() -> None:
    _, scene = scene_with_run()
    vectors = np.zeros((3, 2, 3))
    vectors[:, 1, 2] = [1, 2, 3]
    scene.present(Arrows(vectors, np.array([1.0, 2.0, 3.0]), 5.0))
    layer = scene.extras.arrows
    assert len(layer.data) == 3
    assert layer.edge_contrast_limits == (0.0, 5.0)
    first = layer.edge_color.copy()
    np.testing.assert_allclose(layer.scale, scene.fixed.scale)
    scene.present(Arrows(vectors[:1], np.array([4.0]), 5.0))
    assert scene.extras.arrows is layer
    assert layer.features["mm"].tolist() == [4.0]
    assert layer.edge_color.shape == (1, 4)
    assert not np.allclose(layer.edge_color[0], first[0])  # 4 of 5 mm is another colour than 1
    scene.present(Arrows(vectors[:0], np.zeros(0)))
    assert not layer.visible
    scene.present(Arrows(vectors, np.array([1.0, 2.0, 3.0]), 5.0))
    assert layer.visible
    np.testing.assert_allclose(layer.edge_color, first)
    scene.present(Picture(np.zeros((4, 5, 6)), "curtain"))
    assert not layer.visible
    assert layer in scene.own


def test_images_flicker_by_opacity_alone() -> None:
    viewer, scene = scene_with_run()
    finished(viewer, scene)
    scene.apply(Look(View.FLICKER))
    scene.flick(True)
    assert (scene.fixed.visible, scene.live.opacity) == (True, 0.0)
    scene.flick(False)
    assert (scene.live.visible, scene.live.opacity) == (True, 1.0)
    scene.present(Picture(np.zeros((4, 5, 6), np.uint8), "moving before", over="moved"))
    scene.flick(True, before=True)
    assert (scene.extra.opacity, scene.live.opacity) == (1.0, 1.0)
    scene.flick(False, before=True)
    assert scene.extra.opacity == 0.0


def test_the_pair_of_colours() -> None:
    viewer, scene = scene_with_run()
    finished(viewer, scene)
    for name, (below, above) in PAIRS.items():
        scene.pair = name
        scene.apply(Look())
        assert (scene.fixed.colormap.name, scene.live.colormap.name) == (below, above)


def test_the_slice_goes_where_a_voxel_is() -> None:
    viewer, scene = scene_with_run()
    scene.go((3, 1, 2))
    assert scene.wanted().planes == ((0, 3),)
    assert scene.index_at(viewer.dims.point) == (3.0, 1.0, 2.0)
    viewer.dims.order = (1, 0, 2)
    assert scene.wanted().planes == ((1, 1),)
    viewer.add_image(np.zeros((4, 5, 6)), units=("um",) * 3)
    scene.go((2, 1, 2))
    assert viewer.dims.point[0] == 4000.0
    assert scene.index_at(viewer.dims.point) == (2.0, 1.0, 2.0)
