"""Pictures that are composed to look at a result, and whose wish is shown."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fireants_engine.geometry import Grid, Image
from fireants_engine.transforms import Displacement
from napari_fireants._latest import Latest
from napari_fireants._preview import Pictures
from napari_fireants._views import (
    NO_WARP,
    Look,
    View,
    compose,
    curtain,
    edges,
    grid_lines,
    round_step,
)

SHAPE, SPACING = (20, 30, 40), (2.0, 1.0, 1.5)
GRID = Grid.identity(SHAPE[::-1], SPACING[::-1])


def disc(radius: float = 9.0) -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    inside = ((z - 10) * 2) ** 2 + (y - 15.0) ** 2 + ((x - 20) * 1.5) ** 2 < radius**2
    return np.where(inside, np.uint8(200), np.uint8(10))


def finished(u: torch.Tensor | None) -> Any:
    """What a view asks of the engine's Result."""
    warp = None if u is None else Displacement(u, GRID)
    determinant = torch.ones((1, *SHAPE))
    if warp is not None:
        from fireants_engine.ops import jacobian_determinant

        determinant = jacobian_determinant(warp.u)[0]
    image = Image(determinant, GRID, name="jacobian")
    return SimpleNamespace(warp_field=warp, grid=GRID, jacobian=lambda: image)


def picture(view: View, u: torch.Tensor | None = None, **sliders: Any) -> Any:
    fixed, moved = disc(), disc(8.0)
    pictures = Pictures(moved.astype(np.float32), fixed, moved, fixed)
    return compose(Look(view, **sliders), pictures, finished(u), SPACING, (1, 2))


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
    assert shown.over_moved
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


def test_every_composed_view_has_a_picture_on_the_grid() -> None:
    for view in View:
        if view.composed:
            assert picture(view, still()).data.shape == SHAPE
    with pytest.raises(ValueError, match="not composed"):
        picture(View.BLEND)


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
