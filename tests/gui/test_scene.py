"""What a run shows in the viewer, and what it leaves there."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel

from napari_fireants._layers import snapshot
from napari_fireants._preview import Pictures
from napari_fireants._scene import Scene
from napari_fireants._views import Look, Picture, View

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
    assert scene.folds.visible
    assert scene.folds.contour == 1
    scene.present(Picture(bytes_ + 3, "edges", "yellow", over_moved=True))
    shown = [x.visible for x in (scene.fixed, result, scene.extra, scene.folds)]
    assert shown == [False, True, True, False]
    assert result.colormap.name == "gray"
    assert scene.canvas_axes() == (1, 2)
    viewer.dims.order = (2, 0, 1)
    assert scene.canvas_axes() == (0, 1)
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
