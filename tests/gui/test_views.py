"""Pictures that are composed to look at a result, and whose wish is shown."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fireants_engine.geometry import Grid
from fireants_engine.transforms import Displacement
from napari_fireants._compare import curtain, edges
from napari_fireants._latest import Latest
from napari_fireants._preview import Frames, Pictures
from napari_fireants._seen import Arrows, Seen, round_step
from napari_fireants._sources import of_frames, of_result
from napari_fireants._views import Look, View, compose
from napari_fireants._warp_views import NO_WARP, grid_lines

SHAPE, SPACING = (20, 30, 40), (2.0, 1.0, 1.5)
GRID = Grid.identity(SHAPE[::-1], SPACING[::-1])


def disc(radius: float = 9.0) -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    inside = ((z - 10) * 2) ** 2 + (y - 15.0) ** 2 + ((x - 20) * 1.5) ** 2 < radius**2
    return np.where(inside, np.uint8(200), np.uint8(10))


def finished(u: torch.Tensor | None, key: Any = None) -> Seen:
    """A finished run, whole or at a plane."""
    warp = None if u is None else Displacement(u, GRID)
    fixed, moved = disc(), disc(8.0)
    pictures = Pictures(moved.astype(np.float32), fixed, moved, disc(5.0))
    inverse = None if u is None else Displacement(-u, GRID)
    result = SimpleNamespace(warp_field=warp, inverse_warp_field=inverse, grid=GRID)
    axes = [axis for axis in range(3) if axis != (key[0] if key else 0)]
    return of_result(pictures, result, key, SPACING, axes)


def picture(view: View, u: torch.Tensor | None = None, key: Any = None, **sliders: Any) -> Any:
    return compose(Look(view, **sliders), finished(u, key))


def bent() -> torch.Tensor:
    """A smooth warp of a few voxels."""
    z, y, x = np.indices(SHAPE, dtype=np.float32)
    away = ((z - 10) / 4) ** 2 + ((y - 15) / 6) ** 2 + ((x - 20) / 6) ** 2
    return torch.from_numpy(np.stack([1.0, -2.0, 2.5])[:, None, None, None] * np.exp(-away))[
        None
    ].float()


def still() -> torch.Tensor:
    return torch.zeros(1, 3, *SHAPE)


def test_the_curtain_hangs_where_it_is_put() -> None:
    a, b = np.zeros((3, 10)), np.ones((3, 10))
    assert curtain(a, b, 1, 0.3).sum(axis=1).tolist() == [7, 7, 7]
    assert curtain(a, b, 0, 0.0).all()
    assert not curtain(a, b, 0, 1.0).any()
    assert not a.any()
    shown = picture(View.CURTAIN, curtain=0.5).data
    assert np.array_equal(shown[..., :20], disc()[..., :20])
    assert np.array_equal(shown[..., 20:], disc(8.0)[..., 20:])


def test_the_difference_has_a_sign() -> None:
    shown = picture(View.DIFFERENCE)
    assert shown.data.min() == -190
    assert shown.data.max() == 0
    assert shown.limits == (-255, 255)


def test_edges_are_thin_closed_lines_around_what_is_there() -> None:
    lines = edges(disc(), (1, 2))
    middle = lines[10] > 0
    y, x = np.nonzero(middle)
    away = np.hypot(y - 15.0, (x - 20) * 1.5)
    assert 25 < len(away) < 90
    assert np.abs(away - 9).max() < 1.8
    assert edges(np.zeros(SHAPE, np.uint8), (1, 2)).max() == 0
    flat = edges(disc()[10], (0, 1))  # 2D, and an axis of one voxel
    assert (flat > 0).any()
    assert np.array_equal(edges(disc()[10:11], (1, 2))[0], flat)


def test_grid_lines_are_as_far_apart_as_they_say() -> None:
    places = np.indices(SHAPE, dtype=np.float32)
    lines = grid_lines(places, SPACING, 6.0, (1, 2))
    assert np.array_equal(np.nonzero(lines[3, 1] == 255)[0], np.arange(0, 40, 4))
    assert np.array_equal(np.nonzero(lines[3, :, 1] == 255)[0], np.arange(0, 30, 6))
    assert np.array_equal(lines[3], lines[4])  # no lines of the axis that is not shown
    lattice = grid_lines(places, SPACING, 6.0, (0, 1, 2)) == 255  # in 3D where sheets meet
    assert np.array_equal(np.nonzero(lattice[1, 6])[0], np.arange(0, 40, 4))
    assert not lattice[1, 1].any()
    places[2] += 1.0
    moved = grid_lines(places, SPACING, 6.0, (1, 2))
    assert np.array_equal(np.nonzero(moved[3, 1] == 255)[0], np.arange(3, 40, 4))


@pytest.mark.parametrize(
    ("value", "step"), [(1, 1), (1.1, 2), (4.9, 5), (5, 5), (60, 100), (0.03, 0.05)]
)
def test_steps_are_round_numbers(value: float, step: float) -> None:
    assert round_step(value) == pytest.approx(step)


def test_the_warped_grid_says_its_step() -> None:
    shown = picture(View.GRID, still(), lines=10)
    assert shown.over == "moved"
    assert shown.note == "Lines every 10 mm."  # 60 mm in the longest
    assert NO_WARP in picture(View.GRID).note


def test_the_jacobian_map_outlines_folds() -> None:
    u = still()
    u[:, 2] = 0.1 * torch.arange(40.0)
    shown = picture(View.JACOBIAN, u)
    assert np.median(shown.data) == pytest.approx(np.log(1.1), abs=1e-5)
    assert shown.folds is None
    assert "No folded voxel" in shown.note
    u[0, 2, 10, 15, 20] += 3
    shown = picture(View.JACOBIAN, u)
    assert shown.folds[10, 15, 20]
    assert f"{int(shown.folds.sum())} folded voxels" in shown.note
    assert np.isfinite(shown.data).all()
    low, high = shown.limits
    assert low == -high
    assert picture(View.JACOBIAN).note == NO_WARP


def test_displacement_is_in_mm() -> None:
    u = still()
    u[:, 0], u[:, 2] = 3.0, 4.0
    shown = picture(View.DISPLACEMENT, u)
    np.testing.assert_allclose(shown.data, np.hypot(3 * 2.0, 4 * 1.5), rtol=1e-6)
    assert "up to 8.5 mm" in shown.note
    assert picture(View.DISPLACEMENT).note == NO_WARP


COMPOSED = [view for view in View if view.composed]


@pytest.mark.parametrize("view", COMPOSED)
def test_every_composed_view_has_a_picture_on_the_grid(view: View) -> None:
    shown = picture(view, bent())
    if view is View.ARROWS:
        assert shown.vectors.shape[1:] == (2, 3)
    else:
        assert shown.data.shape == SHAPE


def test_what_is_not_composed_says_so() -> None:
    for look in (Look(View.BLEND), Look(View.FLICKER), Look(View.BEFORE_AFTER)):
        assert not look.composed
        with pytest.raises(ValueError, match="not composed"):
            compose(look, finished(None))


@pytest.mark.parametrize("key", [(0, 10), (0, 0), (1, 15), (2, 39)])
@pytest.mark.parametrize("view", [v for v in COMPOSED if v not in (View.ARROWS, View.INVERSE)])
def test_a_plane_shows_what_the_whole_shows_there(view: View, key: tuple[int, int]) -> None:
    u = bent()
    axes = [axis for axis in range(3) if axis != key[0]]
    seen = finished(u)
    whole = compose(Look(view), Seen(**{**seen.__dict__, "axes": axes})).data
    plane = picture(view, u, key).data
    if view is View.EDGES:  # of a slice they are smoothed in the slice only
        assert plane.shape == np.take(whole, [key[1]], key[0]).shape
        return
    np.testing.assert_allclose(plane, np.take(whole, [key[1]], key[0]), atol=1e-5)


def test_before_is_the_moving_image_as_it_was() -> None:
    beside = picture(View.BEFORE_AFTER, before=True)
    assert beside.over == "fixed"
    assert np.array_equal(beside.data, disc(5.0))
    assert picture(View.FLICKER, before=True, key=(0, 10)).over == "moved"


def test_arrows_lie_in_the_slice_and_tell_their_true_length() -> None:
    u = still()
    u[:, 0], u[:, 2] = 3.0, 4.0
    shown = picture(View.ARROWS, u, (0, 7), arrows=10, longer=2.0)
    assert isinstance(shown, Arrows)
    starts, ways = shown.vectors[:, 0], shown.vectors[:, 1]
    assert np.all(starts[:, 0] == 7)
    assert np.all(ways == [0.0, 0.0, 8.0])
    np.testing.assert_allclose(shown.mm, 4 * 1.5)
    assert np.unique(np.diff(np.unique(starts[:, 2])) * 1.5) == pytest.approx([10.5])  # of 10 mm
    assert shown.note == "Arrows every 10 mm, drawn 2 times as long; the longest in this slice " \
        "is 6.0 mm."  # fmt: skip
    assert len(picture(View.ARROWS, still(), (0, 7)).mm) == 0
    assert picture(View.ARROWS).note == NO_WARP
    everywhere = picture(View.ARROWS, u, arrows=10)
    np.testing.assert_allclose(everywhere.mm, np.hypot(6.0, 6.0))


def test_the_inverse_error_is_told_in_mm() -> None:
    shown = picture(View.INVERSE, still())
    assert shown.data.max() == 0
    assert "miss by 0.000 mm in the mean" in shown.note
    assert picture(View.INVERSE).note == NO_WARP
    assert picture(View.INVERSE, bent()).data.max() > 0.1  # minus the warp is no inverse


class Standing:
    """What does not change in a run."""

    shape, spacing, grid, limits = SHAPE, SPACING, GRID, (0.0, 255.0)

    def fixed(self) -> np.ndarray:
        return disc()

    def before(self, grid: Grid) -> np.ndarray:
        return np.full(grid.shape, 7, np.uint8)


def slab(u: torch.Tensor, index: int) -> Displacement:
    """The warp on three planes, as a preview brings it."""
    box = [slice(index - 1, index + 2), slice(0, 30), slice(0, 40)]
    return Displacement(u[:, :, box[0]], GRID.part(box))


@pytest.mark.parametrize("view", [v for v in COMPOSED if v not in (View.EDGES, View.INVERSE)])
def test_the_newest_preview_shows_what_the_result_shows(view: View) -> None:
    u, key = bent(), (0, 10)
    frames = Frames({key: disc(8.0)[10].astype(np.float32)}, {key: slab(u, 10)})
    seen = of_frames(frames, Standing(), key, 1.0, (1, 2))  # type: ignore[arg-type]
    running, after = compose(Look(view), seen), picture(view, u, key)
    if isinstance(running, Arrows):
        np.testing.assert_allclose(running.vectors, after.vectors, atol=1e-6)
    else:
        np.testing.assert_allclose(running.data, after.data, atol=1e-5)
    assert running.note == after.note
    assert seen.before().shape == (1, 30, 40)


@pytest.mark.parametrize("view", [View.CHECKERBOARD, View.GRID, View.JACOBIAN, View.ARROWS])
def test_a_coarse_preview_of_the_volume(view: View) -> None:
    coarse = GRID.resized((20, 15, 10))
    warp = Displacement(torch.full((1, 3, 10, 15, 20), 0.5), coarse)
    frames = Frames({None: disc(8.0).astype(np.float32)}, {None: warp})
    seen = of_frames(frames, Standing(), None, 2.0, (0, 1, 2))  # type: ignore[arg-type]
    assert seen.spacing == (4.0, 2.0, 3.0)
    shown = compose(Look(view), seen)
    if isinstance(shown, Arrows):
        np.testing.assert_allclose(shown.vectors[:, 1], 1.0)  # in voxels of the fixed grid
        assert (shown.vectors[:, 0].max(axis=0) > np.array(SHAPE) * 0.6).all()
    else:
        assert shown.data.shape == SHAPE
    assert of_frames(Frames({None: disc()}), Standing(), None, 2.0, (0, 1, 2)).fixed.shape == (  # type: ignore[arg-type]
        10, 15, 20,
    )  # fmt: skip


def test_only_the_newest_wish_is_shown(qtbot: Any) -> None:
    latest, gate = Latest(), threading.Event()
    shown: list[Any] = []
    begun: list[int] = []

    def work(number: int) -> Any:
        def run() -> int:
            begun.append(number)
            gate.wait(10)
            return number

        return run

    for number in range(4):
        latest.ask(work(number), shown.append, shown.append)
    gate.set()
    qtbot.waitUntil(lambda: not latest.busy, timeout=10_000)
    assert shown == [3]
    assert begun[-1] == 3
    assert len(begun) <= 2  # the first, and the newest

    def fail() -> None:
        raise MemoryError

    latest.ask(fail, shown.append, shown.append)
    qtbot.waitUntil(lambda: not latest.busy, timeout=10_000)
    assert "Out of memory" in shown[-1]
    latest.ask(work(9), shown.append, shown.append)
    latest.forget()
    qtbot.waitUntil(lambda: not latest.busy, timeout=10_000)
    assert len(shown) == 2
