"""Grid: frames, derived grids and checks, held against laws and against SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import special_ortho_group

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, apply_matrix

FRAMES = ("mm", "index", "voxel")
laws = settings(derandomize=True, deadline=None, max_examples=60, database=None)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Oblique, anisotropic, sometimes flipped grids, far from the origin, 2D and 3D."""
    dim = draw(st.sampled_from([2, 3]))
    number = st.floats(-2000, 2000)
    size = draw(st.tuples(*[st.integers(1, 40)] * dim))
    spacing = draw(st.tuples(*[st.floats(0.05, 9)] * dim))
    origin = draw(st.tuples(*[number] * dim))
    direction = special_ortho_group.rvs(dim, random_state=draw(st.integers(0, 2**31 - 1)))
    flips = draw(st.tuples(*[st.sampled_from([1.0, -1.0])] * dim))
    return Grid(size, spacing, origin, direction * np.array(flips))


def as_itk(grid: Grid) -> sitk.Image:
    """An empty ITK image with the geometry of `grid`."""
    image = sitk.Image(list(grid.size), sitk.sitkUInt8)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def corners_mm(grid: Grid) -> np.ndarray:
    """The 2^d corners of the field of view: half a voxel beyond the outermost samples."""
    ends = [(-0.5, n - 0.5) for n in grid.size]
    index = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, grid.dim)
    return apply_matrix(grid.matrix("index", "mm"), index)


@laws
@given(grids(), st.sampled_from(FRAMES), st.sampled_from(FRAMES), st.sampled_from(FRAMES))
def test_matrices_invert_and_chain(grid: Grid, a: str, b: str, c: str) -> None:
    scale = 1e-12 * (1 + np.abs(grid.origin_mm).max()) / min(grid.spacing_mm)
    there_and_back = grid.matrix(a, b) @ grid.matrix(b, a)
    np.testing.assert_allclose(there_and_back, np.eye(grid.dim + 1), atol=1e-10 + 10 * scale)
    chained = grid.matrix(b, c) @ grid.matrix(a, b)
    np.testing.assert_allclose(chained, grid.matrix(a, c), atol=1e-9 + 100 * scale, rtol=1e-9)


@laws
@given(grids(), st.integers(0, 2**31 - 1))
def test_index_to_mm_is_that_of_itk(grid: Grid, seed: int) -> None:
    index = np.random.default_rng(seed).integers(-5, 60, (8, grid.dim))
    image = as_itk(grid)
    truth = [image.TransformIndexToPhysicalPoint([int(i) for i in row]) for row in index]
    ours = apply_matrix(grid.matrix("index", "mm"), index.astype(float))
    np.testing.assert_allclose(ours, truth, rtol=0, atol=1e-9)


@laws
@given(grids(), st.integers(0, 2**31 - 1))
def test_mm_to_continuous_index_is_that_of_itk(grid: Grid, seed: int) -> None:
    points = corners_mm(grid) + np.random.default_rng(seed).normal(size=(2**grid.dim, grid.dim))
    image = as_itk(grid)
    truth = [image.TransformPhysicalPointToContinuousIndex(p.tolist()) for p in points]
    ours = apply_matrix(grid.matrix("mm", "index"), points)
    np.testing.assert_allclose(ours, truth, rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        apply_matrix(grid.matrix("mm", "voxel"), points), np.array(truth)[:, ::-1], atol=1e-8
    )


@laws
@given(grids(), st.data())
def test_resized_keeps_the_corners_of_the_field_of_view(grid: Grid, data: st.DataObject) -> None:
    size = data.draw(st.tuples(*[st.integers(1, 60)] * grid.dim))
    new = grid.resized(size)
    assert new.size == size
    np.testing.assert_allclose(corners_mm(new), corners_mm(grid), atol=1e-8)
    np.testing.assert_allclose(new.centre_mm, grid.centre_mm, atol=1e-8)
    np.testing.assert_allclose(new.extent_mm, grid.extent_mm)
    assert new.resized(grid.size).same_space(grid)


@laws
@given(grids(), st.data())
def test_plane_picks_the_samples_of_the_grid(grid: Grid, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, grid.dim - 1))
    index = data.draw(st.integers(0, grid.shape[axis] - 1))
    plane = grid.plane(axis, index)
    assert plane.shape[axis] == 1
    every = grid.points_mm().reshape(*grid.shape, grid.dim)
    wanted = every.take([index], axis=axis)
    np.testing.assert_allclose(plane.points_mm().reshape(wanted.shape), wanted, atol=1e-8)


@laws
@given(grids(), st.data())
def test_slabs_of_points_are_the_points_of_the_whole(grid: Grid, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, grid.shape[0]))
    parts = [grid.points_mm(0, cut), grid.points_mm(cut, grid.shape[0] + 7)]
    np.testing.assert_array_equal(np.concatenate(parts), grid.points_mm())
    assert len(grid.points_mm()) == grid.voxels


@laws
@given(grids())
def test_same_space_means_the_same_samples(grid: Grid) -> None:
    copy = Grid(**grid.to_dict())
    assert grid.same_space(copy)
    moved = np.asarray(grid.origin_mm) + 0.01 * min(grid.spacing_mm)
    assert not grid.same_space(Grid(grid.size, grid.spacing_mm, tuple(moved), grid.direction))
    assert not grid.same_space(grid.resized([n + 1 for n in grid.size]))


def test_same_space_sees_a_flip_about_the_centre() -> None:
    grid = Grid.identity((4, 5, 6))
    flipped = Grid((4, 5, 6), (1, 1, 1), (3, 0, 0), np.diag([-1.0, 1.0, 1.0]))
    np.testing.assert_allclose(flipped.centre_mm, grid.centre_mm)
    assert not grid.same_space(flipped)


def test_array_order_is_the_reverse_of_itk_order() -> None:
    grid = Grid((4, 5, 6), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0), np.eye(3))
    assert grid.shape == (6, 5, 4)
    assert grid.spacing_zyx == (3.0, 2.0, 1.0)
    np.testing.assert_allclose(
        apply_matrix(grid.matrix("voxel", "mm"), np.array([[1.0, 2.0, 3.0]])), [[13.0, 24.0, 33.0]]
    )


def test_grids_cannot_be_changed() -> None:
    direction = np.eye(3)
    grid = Grid((4, 5, 6), (1, 1, 1), (0, 0, 0), direction)
    direction[0, 0] = 7.0
    assert grid.direction[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        grid.direction[0, 0] = 2.0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size": (4, 0, 6)}, "empty"),
        ({"size": (4, 5, 6, 7)}, "axes"),
        ({"spacing_mm": (1, -1, 1)}, "positive"),
        ({"spacing_mm": (1, 0, 1)}, "positive"),
        ({"spacing_mm": (1, float("nan"), 1)}, "positive"),
        ({"spacing_mm": (1, 1)}, "positive"),
        ({"origin_mm": (0, float("inf"), 0)}, "origin"),
        ({"direction": np.diag([1.0, 1.0, 1.1])}, "orthonormal"),
        ({"direction": np.array([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]])}, "orthonormal"),
        ({"direction": np.full((3, 3), np.nan)}, "orthonormal"),
        ({"direction": np.zeros((3, 3))}, "orthonormal"),
    ],
)
def test_unusable_geometry_is_refused_in_words(change: dict, word: str) -> None:
    good = {
        "size": (4, 5, 6),
        "spacing_mm": (1, 1, 1),
        "origin_mm": (0, 0, 0),
        "direction": np.eye(3),
    }
    with pytest.raises(InputError, match=word):
        Grid(**{**good, **change})


def test_an_unknown_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match="world"):
        Grid.identity((3, 3)).matrix("mm", "world")  # type: ignore[arg-type]


@laws
@given(grids(), st.data())
def test_a_part_has_the_samples_of_its_box(grid: Grid, data: st.DataObject) -> None:
    box = []
    for n in grid.shape:
        start = data.draw(st.integers(0, n - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, n))))
    part = grid.part(box)
    whole = grid.points_mm().reshape(*grid.shape, grid.dim)
    expected = whole[tuple(box)].reshape(-1, grid.dim)
    np.testing.assert_allclose(part.points_mm(), expected, atol=1e-9 * 4000)
    assert part.spacing_mm == grid.spacing_mm


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (1, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_axis_aligned_has_the_same_samples(order: tuple, signs: tuple) -> None:
    dim = len(order)
    direction = np.eye(dim)[:, order] * np.array(signs[:dim])
    grid = Grid((4, 5, 6)[:dim], (1.0, 1.5, 2.0)[:dim], (7.0, -8.0, 9.0)[:dim], direction)
    found = grid.axis_aligned()
    np.testing.assert_array_equal(found.direction, np.eye(dim))
    ours, theirs = (sorted(map(tuple, np.round(g.points_mm(), 9))) for g in (grid, found))
    assert ours == theirs


def test_an_oblique_grid_is_not_axis_aligned() -> None:
    c, s = np.cos(0.02), np.sin(0.02)
    grid = Grid((4, 5), (1, 1), (0, 0), np.array([[c, -s], [s, c]]))
    with pytest.raises(InputError, match="oblique"):
        grid.axis_aligned()
