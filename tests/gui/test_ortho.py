"""Three planes with one cursor, and what is read out there."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from napari.components import ViewerModel

from fireants_engine.geometry import Grid
from fireants_engine.transforms import Displacement
from napari_fireants._looking import Looking
from napari_fireants._ortho import Here, Ortho, composite
from napari_fireants._preview import Frames, Pictures, Wanted
from napari_fireants._scene import Scene

SHAPE = (6, 8, 10)
GRID = Grid(SHAPE[::-1], (1.0, 2.0, 3.0), (10.0, 20.0, 30.0), np.eye(3))


class Session:
    """What an Ortho asks of a session."""

    product: Any = None


@pytest.fixture
def ortho(qtbot: Any) -> Callable[..., Ortho]:
    """An Ortho of a finished run, whose fixed values are their own flat index."""

    def make(shape: tuple[int, ...] = SHAPE, grid: Grid = GRID) -> Ortho:
        viewer = ViewerModel()
        values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        scene = Scene(viewer)
        spacing, origin = grid.spacing_mm[::-1], grid.origin_mm[::-1]
        units = ("mm",) * len(shape)
        scene.fixed = viewer.add_image(values, scale=spacing, translate=origin, units=units)
        u = torch.zeros(1, len(shape), *shape)
        u[0, -1] = 0.1 * torch.arange(shape[-1])
        bytes_ = (values % 251).astype(np.uint8)
        pictures = Pictures(values + 0.5, bytes_, 250 - bytes_, bytes_)
        result = SimpleNamespace(warp_field=Displacement(u, grid), grid=grid)
        session: Any = Session()
        session.product = SimpleNamespace(pictures=pictures, result=result)
        made = Ortho(Looking(scene, session, lambda: None))  # type: ignore[arg-type,return-value]
        made.begin()
        return made

    return make


def test_values_at_the_cursor(ortho: Callable[..., Ortho]) -> None:
    views = ortho()
    views.move((2, 3, 4))
    here = views.here()
    assert here is not None
    assert here.point_mm == pytest.approx((14.0, 26.0, 36.0))
    assert here.fixed == 2 * 80 + 3 * 10 + 4
    assert here.moving == here.fixed + 0.5
    assert here.displacement_mm == pytest.approx(0.4)
    assert here.jacobian == pytest.approx(1.1)
    assert here.sentence.splitlines() == [
        "fixed 194", "moving 194.5", "at (14.0, 26.0, 36.0) mm LPS", "displacement 0.4 mm",
        "Jacobian 1.10",
    ]  # fmt: skip
    assert Here((1.0, 2.0)).sentence == "at (1.0, 2.0) mm LPS"
    for corner in ((0, 0, 0), tuple(n - 1 for n in SHAPE)):
        views.move(corner)
        assert views.here().jacobian == pytest.approx(1.1)  # type: ignore[union-attr]
    views.move((99, -3, 4.4))
    assert views.cursor == (5, 0, 4)


def test_cursor_and_slices_follow_each_other(ortho: Callable[..., Ortho]) -> None:
    views = ortho()
    viewer, drawn = views.scene.viewer, []
    views.changed.connect(lambda: drawn.append(views.cursor))
    views.move((1, 2, 3))
    assert viewer.dims.point == pytest.approx((33.0, 24.0, 13.0))
    assert drawn == [(1, 2, 3)]
    viewer.dims.set_point(0, 42.0)
    assert views.cursor == (4, 2, 3)
    assert drawn[-1] == (4, 2, 3)
    viewer.dims.order = (2, 0, 1)
    viewer.dims.set_point(2, 15.0)
    assert views.cursor == (4, 2, 5)


def test_planes_are_cut_at_the_cursor(ortho: Callable[..., Ortho]) -> None:
    views = ortho()
    views.move((2, 3, 4))
    views.choose("Fixed")
    for axis in range(3):
        picture = views.picture(axis)
        assert picture is not None
        fixed = views.looking.session.product.pictures.fixed_bytes  # type: ignore[union-attr]
        wish = views.plane(axis).cut(fixed)
        assert np.array_equal(picture[..., 0], wish)
    assert [views.plane(a).title for a in range(3)] == ["axial 2", "coronal 3", "sagittal 4"]
    views.choose("Overlay")
    assert (views.picture(0)[..., 1] == views.plane(0).cut(fixed)).all()  # type: ignore[index]


def test_a_flat_image_has_one_view(ortho: Callable[..., Ortho]) -> None:
    grid = Grid((10, 8), (1.0, 2.0), (0.0, 0.0), np.eye(2))
    views = ortho((8, 10), grid)
    assert views.axes == [None]
    views.move((3, 4))
    assert views.picture(None).shape == (8, 10, 3)  # type: ignore[union-attr]
    here = views.here()
    assert here is not None
    assert (here.fixed, here.jacobian) == (34, pytest.approx(1.1))


def test_a_running_registration_is_asked_for_three_planes(ortho: Callable[..., Ortho]) -> None:
    views = ortho()
    views.move((2, 3, 4))
    wanted = views.wish(Wanted(planes=((0, 2),)))
    assert wanted.planes == ((0, 2), (1, 3), (2, 4))
    assert wanted.warp
    views.active = False
    assert views.wish(Wanted(planes=((0, 2),))).planes == ((0, 2),)
    views.active = True
    looking: Any = views.looking
    slab = Displacement(torch.full((1, 3, 3, 8, 10), 0.5), GRID.part([slice(1, 4), slice(0, 8),
                                                                     slice(0, 10)]))  # fmt: skip
    looking.running = True
    looking.standing = SimpleNamespace(
        ready=True, fixed=lambda: np.zeros(SHAPE, np.uint8), limits=(0.0, 255.0), grid=GRID
    )
    frames = {(0, 2): np.full((8, 10), 9.0, np.float32)}
    looking.frames = Frames(frames, {(0, 2): slab})
    here = views.here()
    assert here is not None
    assert (here.moving, here.jacobian) == (9.0, pytest.approx(1.0))
    assert here.displacement_mm == pytest.approx(0.5 * np.linalg.norm([3.0, 2.0, 1.0]))
    views.choose("Moving")
    assert views.picture(0).max() == 9  # type: ignore[union-attr]
    assert views.picture(1).max() == 0  # type: ignore[union-attr] # that plane has not come yet


def test_both_images_in_one_picture() -> None:
    a, b = np.full((2, 3), 200, np.uint8), np.full((2, 3), 100, np.uint8)
    overlay = composite("Overlay", a, b, ("green", "magenta"))
    assert overlay[0, 0].tolist() == [100, 200, 100]
    assert composite("Blend", a, b, ("green", "magenta"))[0, 0].tolist() == [150] * 3
