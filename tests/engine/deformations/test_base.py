"""The pair, the pulled moving image, and what every deformation has to offer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import AffineMap, Compositive, Deformation, Pair, Rigid
from fireants_engine.deformations.motion import Pulled
from fireants_engine.geometry import Grid
from fireants_engine.kernels import Direction
from fireants_engine.transforms import Affine

TURN = Rotation.from_euler("xyz", [20, -15, 40], degrees=True).as_matrix()
FIXED = Grid((6, 7, 5), (1.0, 1.5, 2.0), (10.0, -5.0, 3.0), TURN)
MOVING = Grid((8, 5, 9), (1.2, 2.0, 0.9), (8.0, -6.0, 1.0), np.diag([1.0, -1.0, 1.0]))
SHIFT = MOVING.centre_mm - FIXED.centre_mm + [0.4, -0.7, 0.2]
AFFINE = Affine.about(TURN @ np.diag([1.1, 0.9, 1.0]), SHIFT, FIXED.centre_mm)


@pytest.fixture
def wide() -> ExecutionContext:
    return ExecutionContext(dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((1, 1, *shape), generator=generator, dtype=torch.float64)


def pair(**masks: torch.Tensor) -> Pair:
    return Pair(random(*FIXED.shape), random(*MOVING.shape, seed=1), FIXED, MOVING, **masks)


def moving_voxels(places: np.ndarray) -> np.ndarray:
    """Moving voxels (z, y, x) of fixed voxels (z, y, x), by the definition of a grid."""
    points = FIXED.origin_mm + (places[:, ::-1] * FIXED.spacing_mm) @ FIXED.direction.T
    index = (AFFINE(points) - MOVING.origin_mm) @ MOVING.direction / MOVING.spacing_mm
    return index[:, ::-1]


def fixed_voxels() -> np.ndarray:
    return np.indices(FIXED.shape).reshape(3, -1).T.astype(float)


def test_the_voxel_matrix_goes_through_the_world() -> None:
    matrix = pair().voxel_matrix(AFFINE)
    assert matrix.shape == (3, 4)
    places = fixed_voxels()
    np.testing.assert_allclose(places @ matrix[:, :3].T + matrix[:, 3], moving_voxels(places))


@pytest.mark.parametrize("warped", [False, True])
def test_the_moving_image_is_pulled_through_warp_and_matrix_at_once(warped, wide) -> None:
    """One linear interpolation at A (x + u) + t; beyond the border the border value goes on."""
    both = pair()
    u = 3 * random(3, *FIXED.shape)[0] - 1.5
    matrix = torch.as_tensor(both.voxel_matrix(AFFINE))
    views = Pulled(matrix, u if warped else None).views(both, wide)
    moving, weight = views.moving, views.weight
    places = fixed_voxels() + (u[0].reshape(3, -1).T.numpy() if warped else 0)
    voxels = moving_voxels(places)
    limit = np.array(MOVING.shape) - 1
    outside = ((voxels < 0) | (voxels > limit)).any(axis=1)
    assert 0.1 < outside.mean() < 0.9
    truth = map_coordinates(both.moving[0, 0].numpy(), voxels.T, order=1, mode="nearest")
    np.testing.assert_allclose(moving[0, 0].numpy().ravel(), truth, atol=1e-12)
    assert weight is None


@pytest.mark.parametrize("which", ["fixed", "moving", "both"])
def test_the_weight_is_the_product_of_both_masks_on_the_fixed_grid(which, wide) -> None:
    fixed_mask = (random(*FIXED.shape, seed=2) > 0.4).double()
    moving_mask = (random(*MOVING.shape, seed=3) > 0.2).double()
    masks = {"fixed_mask": fixed_mask, "moving_mask": moving_mask}
    if which != "both":
        del masks["moving_mask" if which == "fixed" else "fixed_mask"]
    both = pair(**masks)
    matrix = torch.as_tensor(both.voxel_matrix(AFFINE)).requires_grad_(True)
    u = (random(3, *FIXED.shape)[0] - 0.5).requires_grad_(True)
    weight = Pulled(matrix, u).views(both, wide).weight
    assert weight.shape == (1, 1, *FIXED.shape)
    assert not weight.requires_grad  # a mask decides what counts, it does not pull
    voxels = moving_voxels(fixed_voxels() + u.detach()[0].reshape(3, -1).T.numpy())
    moved = map_coordinates(moving_mask[0, 0].numpy(), voxels.T, order=1, mode="grid-constant")
    truth = np.ones(FIXED.shape) if which == "moving" else fixed_mask[0, 0].numpy()
    truth = truth if which == "fixed" else truth * moved.reshape(FIXED.shape)
    np.testing.assert_allclose(weight[0, 0].numpy(), truth, atol=1e-12)
    assert 0 < float(weight.mean()) < 1


def test_beyond_its_field_of_view_a_masked_moving_image_weighs_nothing(wide) -> None:
    both = pair(moving_mask=torch.ones(1, 1, *MOVING.shape, dtype=torch.float64))
    away = Affine.about(np.eye(3), np.array([200.0, 0.0, 0.0]), FIXED.centre_mm)
    matrix = torch.as_tensor(both.voxel_matrix(away))
    weight = Pulled(matrix).views(both, wide).weight
    assert float(weight.abs().max()) == 0


def test_a_deformation_without_its_parts_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Deformation()  # type: ignore[abstract]


@pytest.mark.parametrize(
    "model", [Rigid(), AffineMap(), Compositive()], ids=lambda m: type(m).__name__
)
def test_a_state_is_never_changed_in_place(model: Deformation, wide) -> None:
    """The loop keeps an earlier state aside as the best so far."""
    both = pair()
    state = model.init(both, AFFINE, wide)
    start = model.variable(state).clone()
    direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(0)).to(start.dtype)
    later = model.retract(both, state, Direction.of(direction), 1.0, wide)
    kept = model.variable(later).clone()
    model.settle(both, model.retract(both, later, Direction.of(direction), 1.0, wide))
    assert torch.equal(model.variable(state), start)
    assert torch.equal(model.variable(later), kept)
    assert not torch.equal(kept, start)
    other = model.with_variable(state, kept)
    assert model.variable(other) is kept
    assert model.variable(state) is not kept


@pytest.mark.parametrize("model", [Rigid(), AffineMap()], ids=lambda m: type(m).__name__)
def test_what_cannot_fold_counts_no_folds_and_settles_as_it_is(model: Deformation, wide) -> None:
    state = model.init(pair(), AFFINE, wide)
    settled, folds = model.settle(pair(), state)
    assert settled is state
    assert folds is None
