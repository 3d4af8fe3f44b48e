"""Label features: soft maps, distances in mm to the faces between voxels."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.errors import InputError
from fireants_engine.features import Distance, OneHot, common_labels
from fireants_engine.features.labels import signed_distance
from fireants_engine.geometry import Grid
from fireants_engine.pipeline.pyramid import shrink_image
from fireants_engine.similarity import SSD

GRID = Grid.identity((7, 6), (0.5, 2.0))


def label_map(grid: Grid = GRID) -> Tensor:
    out = torch.zeros((1, 1, *grid.shape), dtype=torch.int32)
    out[..., 2:4, 2:5] = 3
    out[..., 4:, 5:] = 9000
    return out


def same(data: Tensor) -> Tensor:
    return data


# ----------------------------------------------------------------------- which labels
def test_common_labels_are_sorted_and_without_background() -> None:
    a = torch.tensor([0, 5, 5, 2, -1, 40000], dtype=torch.int64)
    b = torch.tensor([[0, 5], [-1, 7], [2, 0]], dtype=torch.int32)
    assert common_labels(a, b) == (-1, 2, 5)
    assert all(type(label) is int for label in common_labels(a, b))
    assert common_labels(a, torch.zeros(3, dtype=torch.int32)) == ()


@pytest.mark.parametrize("features", [OneHot(), Distance()])
def test_labels_are_found_in_both_images_or_named(features: OneHot | Distance) -> None:
    fixed, moving = label_map(), label_map().clamp(max=3)
    with pytest.raises(InputError, match="name the labels"):
        features(fixed, GRID, same)
    assert features.resolved(fixed, moving).labels == (3,)
    named = type(features)((9000, 3))
    assert named.resolved(fixed, moving) is named
    with pytest.raises(InputError, match="no label in common"):
        features.resolved(fixed, torch.zeros_like(fixed))


# ----------------------------------------------------------------------------- one-hot
def test_one_hot_is_one_channel_per_label_in_order() -> None:
    data = label_map()
    got = OneHot((9000, 3, 8))(data, GRID, same)
    assert got.shape == (1, 3, 6, 7)
    assert torch.equal(got[0, 0], (data == 9000)[0, 0].float())
    assert torch.equal(got[0, 1], (data == 3)[0, 0].float())
    assert not got[0, 2].any()


@pytest.mark.parametrize("size", [(40, 36), (18, 20, 16)])
def test_one_hot_of_a_coarse_level_keeps_the_volume(size: tuple[int, ...]) -> None:
    grid = Grid.identity(size)
    data = torch.zeros((1, 1, *grid.shape), dtype=torch.int32)
    data[0, 0][tuple(slice(n // 4, 3 * n // 4) for n in grid.shape)] = 1
    coarse = grid.resized([n // 2 for n in size])
    soft = OneHot((1,))(data, grid, partial(shrink_image, target=coarse))
    share = float((data == 1).float().mean())
    assert float(soft.mean()) == pytest.approx(share, rel=0.05)
    assert bool(((soft > 0.05) & (soft < 0.95)).any())  # soft at the edge
    assert 0 <= float(soft.min()) <= float(soft.max()) <= 1 + 1e-6


# ---------------------------------------------------------------------------- distance
def distance(inside: np.ndarray, spacing: tuple[float, ...], limit: float) -> np.ndarray:
    return signed_distance(torch.from_numpy(inside), spacing, limit).numpy()


def brute_force(inside: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Distance to the box of the nearest voxel of the other kind, over all of them."""
    places = np.argwhere(np.ones_like(inside))
    flat = inside.ravel()
    out = np.empty(flat.size)
    for k, place in enumerate(places):
        others = places[flat != flat[k]]
        offset = np.maximum(np.abs(others - place) - 0.5, 0) * np.asarray(spacing)
        out[k] = np.sqrt((offset**2).sum(1)).min() * (-1 if flat[k] else 1)
    return out.reshape(inside.shape)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5), (1.0, 1.0, 1.0), (3.0, 1.0, 0.7)])
def test_distance_is_measured_to_the_faces(spacing: tuple[float, ...]) -> None:
    """Against all pairs of voxels."""
    rng = np.random.default_rng(0)
    inside = rng.random((11, 12, 9)[: len(spacing)]) < 0.03
    inside[3:6, 4:8] = True
    np.testing.assert_allclose(
        distance(inside, spacing, 100.0), brute_force(inside, spacing), atol=1e-5
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_distance_of_a_plane_is_zero_between_voxels(axis: int) -> None:
    spacing = (3.0, 1.0, 0.5)
    inside = np.zeros((8, 9, 10), dtype=bool)
    np.moveaxis(inside, axis, 0)[:4] = True
    got = np.moveaxis(distance(inside, spacing, 100.0), axis, 0)[:, 2, 2]
    np.testing.assert_allclose(got, (np.arange(len(got)) - 3.5) * spacing[axis], atol=1e-6)


@pytest.mark.parametrize("limit", [0.4, 2.5, 7.0])
def test_the_limit_only_clips(limit: float) -> None:
    rng = np.random.default_rng(1)
    inside = np.zeros((30, 28), dtype=bool)
    inside[12:20, 3:14] = rng.random((8, 11)) < 0.7
    inside[15, 8] = True
    whole = distance(inside, (2.0, 0.8), 1e3)
    np.testing.assert_allclose(
        distance(inside, (2.0, 0.8), limit), whole.clip(-limit, limit), atol=1e-5
    )


def test_distance_has_the_grids_spacing_and_the_units_of_its_limit() -> None:
    got = Distance((3, 9000), limit_mm=4.0)(label_map(), GRID, same)
    assert got.dtype == torch.float32
    assert got.shape == (1, 2, 6, 7)
    assert float(got[0, 0, 1, 3]) == pytest.approx(1.0 / 4)  # y: 2 mm voxels
    assert float(got[0, 0, 2, 1]) == pytest.approx(0.25 / 4)  # x: 0.5 mm voxels
    assert float(got[0, 0, 2, 3]) == pytest.approx(-0.75 / 4)
    assert float(got[0, 0, 0, 3]) == pytest.approx(3.0 / 4)
    assert float(got[0, 1, 0, 0]) == 1


def test_absent_and_filling_labels_are_constant() -> None:
    absent = Distance((7,))(label_map(), GRID, same)
    assert bool((absent == 1).all())
    full = Distance((7,))(torch.full((1, 1, 6, 7), 7, dtype=torch.int32), GRID, same)
    assert bool((full == -1).all())


def test_one_slice_and_the_image_border_are_no_contours() -> None:
    grid = Grid.identity((8, 8, 1), (1.0, 1.0, 5.0))
    data = torch.zeros((1, 1, 1, 8, 8), dtype=torch.int32)
    data[..., :4] = 1
    got = Distance((1,), limit_mm=10)(data, grid, same)[0, 0, 0] * 10
    np.testing.assert_allclose(got, np.tile(np.arange(8) - 3.5, (8, 1)), atol=1e-5)


def test_distance_pulls_labels_that_do_not_touch() -> None:
    """What overlap cannot do: the loss falls with every voxel the labels come closer."""
    grid = Grid.identity((40, 20))
    maps = []
    for start in (4, 22, 18, 10):
        data = torch.zeros((1, 1, 20, 40), dtype=torch.int32)
        data[..., 8:12, start : start + 5] = 1
        maps.append(Distance((1,), 30.0)(data, grid, same))
    loss = SSD().bind(Pair(maps[0], maps[1], grid, grid), ExecutionContext())
    far, nearer, near = (float(loss(Views(maps[0], moving))) for moving in maps[1:])
    assert far > 1.2 * nearer > 1.2 * near > 0


def test_a_limit_must_be_positive() -> None:
    with pytest.raises(ValueError, match="limit_mm"):
        Distance((1,), 0.0)
