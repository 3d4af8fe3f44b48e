"""Pyramid levels: fractions, isotropy, smallest sizes, and what shrinking does to images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fireants_engine.geometry import Grid
from fireants_engine.pipeline.pyramid import level_grid, shrink_image, shrink_mask

laws = settings(derandomize=True, deadline=None, max_examples=100, database=None)


@laws
@given(st.data(), st.sampled_from([2, 3]), st.floats(1, 20), st.integers(1, 40))
def test_no_axis_is_upsampled_or_falls_below_the_smallest_size(data, dim, shrink, least) -> None:
    size = data.draw(st.tuples(*[st.integers(1, 120)] * dim))
    spacing = data.draw(st.tuples(*[st.floats(0.1, 8)] * dim))
    grid = Grid.identity(size, spacing)
    level = level_grid(grid, shrink, least)
    for n, old in zip(level.size, grid.size, strict=True):
        assert min(old, least) <= n <= old
    np.testing.assert_allclose(level.extent_mm, grid.extent_mm)
    np.testing.assert_allclose(level.centre_mm, grid.centre_mm, atol=1e-9)


@pytest.mark.parametrize(
    ("shrink", "size"), [(1, (60, 60)), (1.5, (40, 40)), (2.5, (24, 24)), (4, (15, 15))]
)
def test_fractional_shrinks(shrink: float, size: tuple[int, int]) -> None:
    assert level_grid(Grid.identity((60, 60)), shrink, 2).size == size


def test_thick_slices_are_kept_until_the_other_axes_are_as_coarse() -> None:
    """1 x 1 x 5 mm: levels tend to isotropy (LESSONS 4)."""
    grid = Grid.identity((80, 80, 20), (1.0, 1.0, 5.0))
    assert level_grid(grid, 2, 4).size == (40, 40, 20)
    assert level_grid(grid, 5, 4).size == (16, 16, 20)
    assert level_grid(grid, 10, 4).size == (8, 8, 10)
    np.testing.assert_allclose(level_grid(grid, 10, 4).spacing_mm, (10, 10, 10))


def test_thin_axes_stay_and_single_slices_too() -> None:
    assert level_grid(Grid.identity((64, 64, 20)), 4, 16).size == (16, 16, 16)
    assert level_grid(Grid.identity((64, 64, 1)), 4, 16).size == (16, 16, 1)
    assert level_grid(Grid.identity((64, 64, 5)), 8, 8).size == (8, 8, 5)


def test_a_finer_moving_image_is_brought_to_the_fixed_images_voxels() -> None:
    fine = Grid.identity((100, 100), 0.5)
    assert level_grid(fine, 1, 2, finest_mm=1.0).size == (50, 50)
    assert level_grid(fine, 2, 2, finest_mm=1.0).size == (25, 25)
    assert level_grid(fine, 1, 2, finest_mm=0.1).size == (100, 100)


# ---------------------------------------------------------------------------- shrinking
@pytest.mark.parametrize("size", [(13, 30), (40, 7), (26, 15)])
def test_shrunk_images_show_the_same_place(size: tuple[int, int]) -> None:
    """A linear ramp is resampled exactly away from the border, at the level's own samples."""
    grid = Grid.identity((40, 30), (1.0, 1.5))
    points = grid.points_mm().reshape(*grid.shape, 2)
    ramp = torch.from_numpy(points @ [0.3, -0.2]).float()[None, None]
    level = grid.resized(size)
    truth = level.points_mm().reshape(*level.shape, 2) @ [0.3, -0.2]
    got = shrink_image(ramp, level)[0, 0].numpy()
    rim = (slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(got[rim], truth[rim], atol=1e-4)


def test_shrinking_does_not_alias() -> None:
    """Stripes finer than the new voxels vanish instead of turning into coarse ones."""
    grid = Grid.identity((96, 96))
    stripes = torch.sin(torch.arange(96) * (2 * np.pi / 2.6)).expand(1, 1, 96, 96)
    assert float(shrink_image(stripes, grid.resized((24, 24))).abs().max()) < 0.05


def test_constants_stay_constant() -> None:
    grid = Grid.identity((33, 20, 9))
    got = shrink_image(torch.full((1, 2, *grid.shape), 0.7), grid.resized((10, 9, 9)))
    torch.testing.assert_close(got, torch.full_like(got, 0.7))


def test_nothing_happens_at_full_size() -> None:
    grid = Grid.identity((9, 8))
    data = torch.rand(1, 1, 8, 9)
    assert shrink_image(data, grid) is data


def test_masks_become_soft_and_keep_their_area() -> None:
    grid = Grid.identity((32, 32))
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 5:14, 3:20] = 1
    level = shrink_mask(mask, grid.resized((8, 8)))
    assert level is not None
    assert level.shape == (1, 1, 8, 8)
    assert float(level.min()) >= 0
    assert float(level.max()) == 1
    assert float(level.mean()) == pytest.approx(float(mask.mean()))
    assert shrink_mask(None, grid) is None


def test_the_smallest_mask_survives() -> None:
    grid = Grid.identity((64, 64, 32))
    mask = torch.zeros(1, 1, *grid.shape)
    mask[0, 0, 20, 40, 13] = 1
    level = shrink_mask(mask, grid.resized((8, 8, 8)))
    assert level is not None
    assert 0 < int((level > 0).sum()) <= 8
    assert float(level[0, 0, 5, 5, 1]) > 0
