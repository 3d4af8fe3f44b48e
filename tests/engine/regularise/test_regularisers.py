"""The regularisers: values in closed form, physical units, gradients, laws and their door."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import AffineMap, Compositive, Pair, Pulled, Symmetric, Views
from fireants_engine.deformations.motion import Halfway
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.ops import count_folds
from fireants_engine.ops.jacobian import jacobian_determinant
from fireants_engine.optimise import Adam
from fireants_engine.pipeline import Level, Plan, Pyramid, RunFinished, Stage, run_plan
from fireants_engine.regularise import (
    Bending,
    Diffusion,
    Elastic,
    InverseConsistency,
    JacobianPenalty,
    Laplacian,
    Regulariser,
)
from fireants_engine.regularise.jacobian import corner_determinants
from fireants_engine.similarity import SSD
from fireants_engine.transforms import Chain, Displacement

CTX = ExecutionContext()
SINGLE = [
    Diffusion(),
    Diffusion(power=1),
    Elastic(),
    Elastic(alpha=0.0),
    Laplacian(),
    Bending(),
    JacobianPenalty(),
    JacobianPenalty(logarithmic=True),
    JacobianPenalty(fold_weight=0.0),
]
SECOND_ORDER = [Elastic(alpha=0.0), Laplacian(), Bending()]
GRIDS = [Grid.identity((6, 5), (0.7, 1.6)), Grid.identity((4, 5, 3), (0.7, 1.6, 2.5))]
THIN = [
    Grid.identity((6, 5, 1)),
    Grid.identity((5, 1, 2)),
    Grid.identity((1, 4)),
    Grid.identity((2, 2)),
]
Field = Callable[[np.ndarray], np.ndarray]


def label(thing: object) -> str:
    return str(thing).replace("weight=1.0, level_weights=(), ", "")[:50]


def of_terms(terms: list[Regulariser]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("term", terms, ids=label)


def displacement(field: Field, grid: Grid) -> Tensor:
    """(1, d, *shape) voxels, float64, of a field mm (x, y, z order) -> mm, grid at the origin."""
    mm = field(grid.points_mm())[:, ::-1] / np.asarray(grid.spacing_zyx)
    return torch.from_numpy(np.ascontiguousarray(mm.T)).reshape(1, grid.dim, *grid.shape)


def value(term: Regulariser, u: Tensor, grid: Grid) -> float:
    return float(term.energy(u, grid.spacing_zyx))


def noise(grid: Grid, size: float = 0.3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn((1, grid.dim, *grid.shape), generator=generator, dtype=torch.float64)


# ------------------------------------------------------------------------------ values
@pytest.mark.parametrize("grid", GRIDS, ids=["2D", "3D"])
def test_values_of_an_affine_displacement(grid: Grid) -> None:
    """u = G x in mm: first order known from G alone, second order zero, whatever the voxels.

    (Differences that wrapped around the border would see a jump.)
    """
    rng = np.random.default_rng(0)
    slope = 0.2 * rng.normal(size=(grid.dim, grid.dim))
    u = displacement(lambda x: x @ slope.T + 3.0, grid)
    square = (slope**2).sum()
    assert value(Diffusion(), u, grid) == pytest.approx(square)
    assert value(Diffusion(power=1), u, grid) == pytest.approx(np.sqrt(square), abs=1.1e-3)
    assert value(Elastic(alpha=2.0), u, grid) == pytest.approx(2 * np.sqrt(square), abs=2.1e-3)
    j = np.linalg.det(np.eye(grid.dim) + slope)
    assert j > 0.1
    assert value(JacobianPenalty(), u, grid) == pytest.approx((j - 1) ** 2)
    assert value(JacobianPenalty(logarithmic=True), u, grid) == pytest.approx(np.log(j) ** 2)
    for term in SECOND_ORDER:
        assert value(term, u, grid) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("power", [1, 2])
def test_diffusion_between_neighbouring_slices_alone(power: int) -> None:
    """axis_weights (0, 0, 1): |u(k+1) - u(k)|^2 / spacing^2 and nothing within a slice."""
    grid = GRIDS[1]
    u = noise(grid)
    term = Diffusion(power=power, axis_weights=(0.0, 0.0, 1.0))
    mm = u * u.new_tensor(grid.spacing_zyx).view(1, 3, 1, 1, 1)
    steps = (mm[:, :, 1:] - mm[:, :, :-1]).square().sum(1) / 2.5**2
    if power == 1:
        steps = torch.cat([steps, steps[:, -1:]], 1).sqrt()
    assert value(term, u, grid) == pytest.approx(
        float(steps.mean()), abs=1e-9 + 2e-3 * (power == 1)
    )
    within = displacement(lambda p: np.stack([p[:, 1] ** 2, p[:, 0], p[:, 0]], axis=1), grid)
    assert value(term, within, grid) == pytest.approx(0, abs=1e-12)
    each = [value(Diffusion(axis_weights=w), u, grid) for w in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert value(Diffusion(), u, grid) == pytest.approx(sum(each))
    mixed = value(Diffusion(axis_weights=(0.5, 0.0, 3.0)), u, grid)
    assert mixed == pytest.approx(0.5 * each[0] + 3 * each[2])
    with pytest.raises(InputError, match="has 2 numbers but the images are 3D"):
        value(Diffusion(axis_weights=(0.0, 1.0)), u, grid)


@pytest.mark.parametrize("grid", GRIDS, ids=["2D", "3D"])
def test_values_of_a_quadratic_displacement(grid: Grid) -> None:
    """u_x = a x^2 + b x y, u_y = c y^2: d2/dx2 = 2a, d2/dxdy = b, d2/dy2 = 2c per mm."""
    a, b, c = 0.05, 0.03, -0.02

    def field(p: np.ndarray) -> np.ndarray:
        out = np.zeros_like(p)
        out[:, 0] = a * p[:, 0] ** 2 + b * p[:, 0] * p[:, 1]
        out[:, 1] = c * p[:, 1] ** 2
        return out

    u = displacement(field, grid)
    bending = (2 * a) ** 2 + 2 * b**2 + (2 * c) ** 2
    assert value(Bending(), u, grid) == pytest.approx(bending)
    assert value(Laplacian(), u, grid) == pytest.approx((2 * a) ** 2 + (2 * c) ** 2)
    assert value(Elastic(0.0, 3.0), u, grid) == pytest.approx(3 * np.sqrt(bending), abs=3.1e-3)


@of_terms(SINGLE)
@pytest.mark.parametrize("grid", [*GRIDS, *THIN], ids=lambda g: str(g.size))
def test_identity_and_translations_cost_nothing(term: Regulariser, grid: Grid) -> None:
    still = torch.zeros((1, grid.dim, *grid.shape), dtype=torch.float64)
    assert value(term, still, grid) == 0
    assert value(term, still + 2.5, grid) == pytest.approx(0, abs=1e-12)
    moved, rough = noise(grid) + 1.5, noise(grid)
    assert value(term, moved, grid) == pytest.approx(value(term, rough, grid), rel=1e-9, abs=1e-12)


# ------------------------------------------------------------------------------- units
def wave(points: np.ndarray) -> np.ndarray:
    """A smooth displacement in mm over a field of view of 40 mm."""
    phase = np.arange(points.shape[1])
    return 1.5 * np.sin(points[:, ::-1] / 7.0 + phase) * np.cos(points / 11.0)


@of_terms(SINGLE)
@pytest.mark.parametrize("dim", [2, 3])
def test_values_do_not_depend_on_the_sampling(term: Regulariser, dim: int) -> None:
    """One warp, fine and coarse anisotropic voxels: the energy is of the map in mm."""
    fine = Grid.identity((80, 80, 40)[:dim], (0.5, 0.5, 1.0)[:dim])
    coarse = fine.resized((40, 80, 20)[:dim])
    values = [value(term, displacement(wave, grid), grid) for grid in (fine, coarse)]
    assert values[0] > 1e-5
    assert values[1] == pytest.approx(values[0], rel=0.06)


@of_terms([t for t in SINGLE if not isinstance(t, JacobianPenalty)])
def test_values_change_with_the_unit_as_they_should(term: Regulariser) -> None:
    """The same voxel field on voxels twice as large: gradients stay, second order halves."""
    u = noise(GRIDS[0])
    small, large = (value(term, u, Grid.identity((6, 5), k)) for k in (1.0, 2.0))
    power = {Diffusion: 0, Laplacian: -2, Bending: -2, Elastic: -1}[type(term)]
    if isinstance(term, Elastic) and term.alpha:
        assert large < small < 2 * large
    else:
        assert large == pytest.approx(small * 2.0**power, rel=1e-3)


# -------------------------------------------------------------------------------- laws
@of_terms(SINGLE)
@pytest.mark.parametrize("grid", GRIDS, ids=["2D", "3D"])
def test_mirrored_images_have_the_same_energy(term: Regulariser, grid: Grid) -> None:
    u = noise(grid, 0.1)
    for axis in range(grid.dim):
        mirrored = u.flip(axis + 2).clone()
        mirrored[:, axis] *= -1
        exact = not isinstance(term, Diffusion | Elastic) or term == Diffusion()
        assert value(term, mirrored, grid) == pytest.approx(
            value(term, u, grid), rel=1e-9 if exact else 0.2
        )


@of_terms(SINGLE)
@pytest.mark.parametrize("grid", GRIDS, ids=["2D", "3D"])
def test_a_rougher_warp_costs_more(term: Regulariser, grid: Grid) -> None:
    assert value(term, 2 * noise(grid, 0.1), grid) > 1.5 * value(term, noise(grid, 0.1), grid) > 0


@of_terms(SINGLE)
@pytest.mark.parametrize("grid", [*GRIDS, *THIN], ids=lambda g: str(g.size))
def test_gradient(term: Regulariser, grid: Grid) -> None:
    leaf = noise(grid).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda u: term.energy(u, grid.spacing_zyx), (leaf,))


@of_terms(SINGLE)
def test_gradient_at_the_identity_is_zero(term: Regulariser) -> None:
    leaf = torch.zeros((1, 2, 5, 6), requires_grad=True)
    (grad,) = torch.autograd.grad(term.energy(leaf, (1.0, 2.0)), leaf)
    assert not grad.any()


# ---------------------------------------------------------------------------- Jacobian
@pytest.mark.parametrize("grid", [*GRIDS, *THIN], ids=lambda g: str(g.size))
def test_corner_determinants_are_all_one_sided_ones(grid: Grid) -> None:
    """Against determinants of matrices, cell by cell."""
    u = noise(grid, 0.6)
    phi = u[0].numpy() + np.indices(grid.shape)
    cells = [range(max(1, n - 1)) for n in grid.shape]
    sides = [range(min(2, n)) for n in grid.shape]
    truth = []
    for cell in product(*cells):
        for side in product(*sides):
            corner = np.add(cell, side)
            rows = np.eye(grid.dim)
            for axis in range(grid.dim):
                if grid.shape[axis] > 1:
                    low, high = corner.copy(), corner.copy()
                    low[axis], high[axis] = cell[axis], cell[axis] + 1
                    rows[axis] = phi[:, *high] - phi[:, *low]
            truth.append(np.linalg.det(rows))
    got = np.concatenate([j.numpy().ravel() for j in corner_determinants(u)])
    np.testing.assert_allclose(np.sort(got), np.sort(truth), atol=1e-12)
    assert (got.min() <= 0) == (count_folds(u)[0] > 0)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("term", [JacobianPenalty(), JacobianPenalty(logarithmic=True)], ids=label)
def test_folds_that_central_differences_miss_cost(term: JacobianPenalty, dim: int) -> None:
    """LESSONS 25: a checkerboard of 1.8 voxels."""
    shape = (8, 9, 10)[:dim]
    signs = sum(torch.meshgrid(*[torch.arange(n) for n in shape], indexing="ij")) % 2
    u = torch.zeros((1, dim, *shape))
    u[0, 0] = 1.8 * signs - 0.9
    assert float(jacobian_determinant(u)[0, 0][(slice(1, -1),) * dim].min()) == pytest.approx(1)
    assert count_folds(u)[0] > 0
    assert float(term.energy(u, (1.0,) * dim)) > 3


@pytest.mark.parametrize("logarithmic", [False, True])
def test_folded_voxels_cost_more_the_deeper_they_fold(logarithmic: bool) -> None:
    """A stretch by j along one axis: J = j, finite and smooth through zero."""
    term = JacobianPenalty(logarithmic=logarithmic)
    values, slopes = [], []
    for j in np.linspace(1.0, -1.5, 251):
        leaf = torch.tensor(j, dtype=torch.float64, requires_grad=True)
        u = torch.stack([(leaf - 1) * torch.arange(6.0)[:, None].expand(6, 4), torch.zeros(6, 4)])
        energy = term.energy(u[None], (1.0, 1.0))
        values.append(float(energy.detach()))
        slopes.append(float(torch.autograd.grad(energy, leaf)[0]))
    assert np.all(np.diff(values) > 0)
    assert np.all(np.isfinite(slopes))
    assert np.all(np.diff(slopes) < 1e-9)  # convex: the deeper, the harder it pulls back
    numeric = np.gradient(values, -0.01)
    np.testing.assert_allclose(slopes[5:-5], numeric[5:-5], rtol=0.02, atol=0.02 * abs(slopes[-1]))


def stretched(term: JacobianPenalty, j: float) -> float:
    """Energy of a stretch by j along one axis."""
    u = torch.zeros((1, 2, 5, 5), dtype=torch.float64)
    u[0, 0] = (j - 1) * torch.arange(5.0)[:, None]
    return value(term, u, Grid.identity((5, 5)))


def test_logarithm_weighs_halving_like_doubling() -> None:
    term = JacobianPenalty(logarithmic=True)
    assert stretched(term, 0.5) == pytest.approx(stretched(term, 2.0))
    assert stretched(term, 2.0) == pytest.approx(np.log(2) ** 2)


@pytest.mark.parametrize("weight", [0.0, 1.0, 4.0])
def test_the_barrier_starts_at_a_tenth(weight: float) -> None:
    for j in (0.2, 0.05, -0.5):
        truth = (j - 1) ** 2 + weight * max(0.0, 1 - j / 0.1) ** 2
        assert stretched(JacobianPenalty(fold_weight=weight), j) == pytest.approx(truth)


# ----------------------------------------------------------------- in views, at the door
def pair_on(grid: Grid) -> Pair:
    blank = torch.zeros((1, 1, *grid.shape))
    return Pair(blank, blank, grid, grid)


def views(pair: Pair, *warps: Tensor) -> Views:
    eye = torch.eye(2, 3, dtype=torch.float64)
    motion = Halfway(eye, *warps) if len(warps) == 2 else Pulled(eye, *warps)
    return Views(pair.fixed, pair.moving, motion=motion)


@of_terms(SINGLE)
def test_halves_are_averaged(term: Regulariser) -> None:
    grid = GRIDS[0]
    loss, pair = term.bind(pair_on(grid), CTX), pair_on(grid)
    a, b = noise(grid), noise(grid, seed=1)
    alone = [value(term, u, grid) for u in (a, b)]
    assert float(loss(views(pair, a))) == pytest.approx(alone[0])
    assert float(loss(views(pair, a, b))) == pytest.approx(sum(alone) / 2)


@of_terms([*SINGLE, InverseConsistency()])
def test_a_stage_without_a_warp_is_refused(term: Regulariser) -> None:
    pair = pair_on(GRIDS[0])
    loss = term.bind(pair, CTX)
    with pytest.raises(InputError, match="remove the term or use a"):
        loss(views(pair))
    image = Image.from_numpy(np.random.default_rng(0).normal(size=(20, 22)).astype(np.float32))
    plan = Plan((Stage("s", AffineMap(), (SSD(), term), pyramid=Pyramid((Level(1, 2),))),))
    with pytest.raises(InputError, match=type(term).__name__):
        list(run_plan(plan, image, image, CTX))


# ----------------------------------------------------------------- inverse consistency
def test_opposite_halves_are_consistent_and_the_rest_is_in_mm() -> None:
    grid = GRIDS[0]
    loss, pair = InverseConsistency().bind(pair_on(grid), CTX), pair_on(grid)
    u = noise(grid)
    assert float(loss(views(pair, u, -u))) == 0
    shift = torch.tensor([0.5, -1.0], dtype=torch.float64).view(1, 2, 1, 1)  # y, x voxels
    truth = (0.5 * 1.6) ** 2 + 0.7**2
    assert float(loss(views(pair, u + shift, -u))) == pytest.approx(truth)
    with pytest.raises(InputError, match="symmetric stage"):
        loss(views(pair, u))


def test_inverse_consistency_gradient() -> None:
    grid = GRIDS[0]
    loss, pair = InverseConsistency().bind(pair_on(grid), CTX), pair_on(grid)
    leaves = [noise(grid, seed=k).requires_grad_(True) for k in (0, 1)]
    assert torch.autograd.gradcheck(lambda a, b: loss(views(pair, a, b)), leaves)


# -------------------------------------------------------------------- what they are for
def blob_pair() -> tuple[Image, Image]:
    y, x = np.mgrid[:36, :40]
    both = []
    for radius in (6.0, 9.0):
        ring = np.hypot(y - 18, x - 20)
        both.append(Image.from_numpy((1 / (1 + np.exp(2 * (ring - radius)))).astype(np.float32)))
    return both[0], both[1]


def warp_of(terms: tuple, deformation: Compositive | Symmetric, grid: Grid) -> Tensor:
    pyramid = Pyramid((Level(2, 30), Level(1, 30)), 16)
    plan = Plan((Stage("s", deformation, terms, Adam(0.5), pyramid),))
    *_, last = run_plan(plan, *blob_pair(), CTX)
    assert isinstance(last, RunFinished)
    transform = last.result.transform
    assert isinstance(transform, Chain)
    first = transform.parts[0]
    assert isinstance(first, Displacement)
    return first.u.double()


@pytest.mark.parametrize(
    ("term", "weight"),
    [
        (Diffusion, 0.3),
        (Elastic, 0.1),
        (Laplacian, 1.0),
        (Bending, 1.0),
        (JacobianPenalty, 0.3),
    ],
)
def test_a_heavier_weight_gives_a_smoother_warp(term: type[Regulariser], weight: float) -> None:
    """In a registration: monotonic in the weight (as thesis 4.5.6), the measured energy falls."""
    grid = blob_pair()[0].grid
    model = Compositive(sigma_warp_mm=0.0, warp_floor_vox=0.0)
    found = [
        value(term(), warp_of((SSD(), term(weight=w)) if w else (SSD(),), model, grid), grid)
        for w in (0.0, 0.1 * weight, weight)
    ]
    assert found[0] > found[1] > found[2]
    assert found[2] < 0.8 * found[0]
