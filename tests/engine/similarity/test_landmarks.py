"""Landmarks: the distance in mm, its gradient through every kind of map, and a registration."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import (
    AffineMap,
    Compositive,
    Deformation,
    Pair,
    Pulled,
    Symmetric,
    Views,
)
from fireants_engine.deformations.motion import Halfway
from fireants_engine.deformations.pair import LANDMARKS
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image, Landmarks
from fireants_engine.optimise import Adam
from fireants_engine.pipeline import Extras, Level, Plan, Pyramid, RunFinished, Stage, run_plan
from fireants_engine.similarity import SSD, LandmarkDistance, Term
from fireants_engine.transforms import Affine

CTX = ExecutionContext()
EXACT = ExecutionContext(dtype=torch.float64)
Map = Callable[[np.ndarray], np.ndarray]


def oblique(size: tuple[int, ...], spacing: tuple[float, ...], origin: float) -> Grid:
    turn = np.eye(len(size))
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    return Grid(size, spacing, (origin,) * len(size), turn)


def case(
    dim: int, origin: float = 0.0, weights: np.ndarray | None = None
) -> tuple[Pair, Landmarks]:
    """Two different oblique anisotropic grids and five landmarks inside, some mm apart."""
    fixed = oblique((12, 10, 9)[:dim], (1.0, 2.0, 1.5)[:dim], origin)
    moving = oblique((14, 11, 8)[:dim], (0.8, 1.9, 2.0)[:dim], origin + 1.0)
    rng = np.random.default_rng(0)
    points = fixed.points_mm()[rng.permutation(fixed.voxels)[:5]] * 0.5 + fixed.centre_mm * 0.5
    marks = Landmarks(points, points + rng.normal(size=points.shape), weights)
    blank = [torch.zeros((1, 1, *grid.shape)) for grid in (fixed, moving)]
    return Pair(*blank, fixed, moving, landmarks=marks), marks


def matrix(pair: Pair, like: ExecutionContext = EXACT) -> Tensor:
    affine = Affine.identity(pair.fixed_grid.dim)
    return torch.as_tensor(pair.voxel_matrix(affine), dtype=like.dtype)


def field(pair: Pair, seed: int, size: float = 0.4) -> Tensor:
    """A smooth displacement, voxels."""
    shape, dim = pair.fixed_grid.shape, pair.fixed_grid.dim
    axes = torch.meshgrid(*[torch.linspace(0, 1, n) for n in shape], indexing="ij")
    waves = [torch.sin(2 * axes[(k + 1) % dim] + seed + k) for k in range(dim)]
    return size * torch.stack(waves)[None].double()


def loss_of(term: Term, pair: Pair, motion: Pulled | Halfway, ctx: ExecutionContext) -> Tensor:
    return term.bind(pair, ctx)(Views(pair.fixed, pair.fixed, motion=motion))


# ------------------------------------------------------------------------------- value
@pytest.mark.parametrize("origin", [0.0, -3e4])
@pytest.mark.parametrize("dim", [2, 3])
def test_it_is_the_weighted_mean_square_in_mm(dim: int, origin: float) -> None:
    """On oblique anisotropic grids, also in float32 with the origin 30 m away."""
    weights = np.array([1.0, 0.0, 2.0, 1.0, 0.5])
    pair, marks = case(dim, origin, weights)
    squares = ((marks.fixed_mm - marks.moving_mm) ** 2).sum(1)
    truth = (weights * squares).sum() / weights.sum()
    for ctx, rel in ((EXACT, 1e-9 if origin == 0 else 1e-6), (CTX, 1e-4)):
        got = loss_of(LandmarkDistance(), pair, Pulled(matrix(pair, ctx)), ctx)
        assert got.dtype == ctx.dtype
        assert float(got) == pytest.approx(truth, rel=rel)


def test_a_displacement_moves_the_points_in_mm() -> None:
    pair, marks = case(2)
    u = torch.zeros((1, 2, *pair.fixed_grid.shape), dtype=torch.float64)
    u[:, 0] = 0.5  # along y, 2 mm voxels
    moved = marks.fixed_mm + pair.fixed_grid.direction @ [0.0, 1.0]
    truth = ((moved - marks.moving_mm) ** 2).sum(1).mean()
    got = loss_of(LandmarkDistance(), pair, Pulled(matrix(pair), u), EXACT)
    assert float(got) == pytest.approx(truth, rel=1e-9)


def test_robust_is_the_square_up_to_its_distance_and_straight_beyond() -> None:
    term = LandmarkDistance(robust_mm=2.0)
    for distance, truth in ((0.0, 0.0), (1.0, 1.0), (2.0, 4.0), (5.0, 2 * 2 * 5 - 4.0)):
        grid = Grid.identity((20, 20))
        marks = Landmarks(np.array([[5.0, 5.0]]), np.array([[5.0 + distance, 5.0]]))
        blank = torch.zeros((1, 1, 20, 20))
        pair = Pair(blank, blank, grid, grid, landmarks=marks)
        leaf = matrix(pair).requires_grad_(True)
        got = loss_of(term, pair, Pulled(leaf), EXACT)
        assert float(got.detach()) == pytest.approx(truth, abs=1e-12)
        (grad,) = torch.autograd.grad(got, leaf)
        assert float(grad[:, -1].norm()) == pytest.approx(2 * min(distance, 2.0), abs=1e-9)


def test_one_wrong_landmark_decides_less_when_robust() -> None:
    pair, marks = case(2)
    far = marks.moving_mm.copy()
    far[0] += 500
    spoilt = Pair(
        pair.fixed, pair.moving, pair.fixed_grid, pair.moving_grid,
        landmarks=Landmarks(marks.fixed_mm, far),
    )  # fmt: skip
    motion = Pulled(matrix(pair))
    plain = loss_of(LandmarkDistance(), spoilt, motion, EXACT)
    robust = loss_of(LandmarkDistance(robust_mm=3.0), spoilt, motion, EXACT)
    assert float(plain) > 1e4
    assert float(robust) < 2000


# ---------------------------------------------------------------------------- gradient
@pytest.mark.parametrize("robust", [None, 0.8])
@pytest.mark.parametrize("dim", [2, 3])
def test_gradient_of_a_pulled_map(dim: int, robust: float | None) -> None:
    pair, _ = case(dim)
    term = LandmarkDistance(robust_mm=robust)
    linear = matrix(pair).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda m: loss_of(term, pair, Pulled(m), EXACT), (linear,))
    both = (linear, field(pair, 0).requires_grad_(True))
    assert torch.autograd.gradcheck(lambda m, u: loss_of(term, pair, Pulled(m, u), EXACT), both)


@pytest.mark.parametrize("dim", [2, 3])
def test_gradient_of_a_halfway_map_is_right_to_first_order(dim: int) -> None:
    """Against differences of the exact map, along smooth directions of both halves."""
    pair, _ = case(dim)
    linear, start = matrix(pair), [field(pair, 0, 0.4), field(pair, 3, 0.4)]

    def loss(u_fixed: Tensor, u_moving: Tensor) -> Tensor:
        return loss_of(LandmarkDistance(), pair, Halfway(linear, u_fixed, u_moving), EXACT)

    leaves = [u.clone().requires_grad_(True) for u in start]
    grads = torch.autograd.grad(loss(*leaves), leaves)
    for half, h in ((0, 0.05), (1, 1e-4)):  # the midpoint is solved for to 1e-3 voxels
        for seed in (1, 5):
            move = field(pair, seed, 1.0)
            ends = []
            for sign in (1, -1):
                u = list(start)
                u[half] = u[half] + sign * h * move
                ends.append(float(loss(*u)))
            truth = (ends[0] - ends[1]) / (2 * h)
            found = float((grads[half] * move).sum())
            assert abs(truth) > 0.05
            assert found == pytest.approx(truth, rel=0.05 if half == 0 else 1e-6)


# -------------------------------------------------------------------------------- door
def test_it_needs_landmarks() -> None:
    assert LandmarkDistance().needs == LANDMARKS
    pair, _ = case(2)
    bare = Pair(pair.fixed, pair.moving, pair.fixed_grid, pair.moving_grid)
    with pytest.raises(InputError, match="--landmarks"):
        LandmarkDistance().bind(bare, CTX)


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_a_robust_distance_is_positive(bad: float) -> None:
    with pytest.raises(ValueError, match="robust_mm"):
        LandmarkDistance(robust_mm=bad)


# ------------------------------------------------------------------------ registration
def bent(points: np.ndarray) -> np.ndarray:
    """Fixed mm -> moving mm of the phantom: up to 4 mm."""
    return points + 3.0 * np.sin(points[:, ::-1] / 9.0)


@pytest.mark.parametrize(
    "deformation", [AffineMap(), Compositive(sigma_grad_mm=3.0), Symmetric(sigma_grad_mm=3.0)]
)
def test_landmarks_come_together(deformation: Deformation) -> None:
    """With SSD of images that show nothing; the mean distance falls."""
    grid = Grid.identity((40, 36))
    rng = np.random.default_rng(0)
    fixed_mm = rng.uniform(6, 30, (12, 2))
    marks = Landmarks(fixed_mm, bent(fixed_mm))
    images = [
        Image.from_numpy(rng.normal(size=(36, 40)).astype(np.float32) * 1e-2, grid)
        for _ in range(2)
    ]
    terms = (SSD(weight=1e-3), LandmarkDistance())
    pyramid = Pyramid((Level(2, 60), Level(1, 60)), 12)
    plan = Plan((Stage("s", deformation, terms, Adam(0.5), pyramid),))
    *_, last = run_plan(plan, *images, CTX, extras=Extras(landmarks=marks))
    assert isinstance(last, RunFinished)
    gaps = last.result.transform(marks.fixed_mm) - marks.moving_mm
    before = np.linalg.norm(marks.fixed_mm - marks.moving_mm, axis=1).mean()
    after = np.linalg.norm(gaps, axis=1).mean()
    assert before > 2.0
    assert after < (0.6 if isinstance(deformation, AffineMap) else 0.25) * before
