"""What every dense deformation keeps: its start, its gradient, held axes; and what is its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.spatial.transform import Rotation
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import (
    Compositive,
    FreeForm,
    Pair,
    StationaryVelocity,
    Symmetric,
)
from fireants_engine.deformations.dense import Dense
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.kernels import REFERENCE, Direction
from fireants_engine.transforms import Affine, Chain, Displacement

CTX, WIDE = ExecutionContext(), ExecutionContext(dtype=torch.float64)
KINDS = (Compositive, FreeForm, Symmetric, StationaryVelocity)
MODELS = pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
OBLIQUE = Rotation.from_euler("xyz", [20, -15, 40], degrees=True).as_matrix()
FIXED = Grid((9, 8, 7), (1.0, 1.5, 2.0), (10.0, -5.0, 3.0), OBLIQUE)
MOVING = Grid((10, 9, 8), (1.1, 1.3, 1.9), (9.0, -4.0, 2.0), np.eye(3))


def bare(kind: type[Dense], **more) -> Dense:
    return kind(sigma_grad_mm=0, sigma_warp_mm=0, grad_floor_vox=0, warp_floor_vox=0, **more)


def pair(dtype: torch.dtype = torch.float32) -> Pair:
    generator = torch.Generator().manual_seed(0)
    images = [
        REFERENCE.smooth(torch.rand((1, 1, *g.shape), generator=generator, dtype=dtype), [1.0] * 3)
        for g in (FIXED, MOVING)
    ]
    return Pair(*images, FIXED, MOVING)


def smooth_field(size: float, seed: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand((1, 3, *FIXED.shape), generator=generator, dtype=torch.float64) - 0.5
    u = REFERENCE.smooth(u, [1.5] * 3)
    return (u * (size / u.abs().max())).to(dtype)


def affine() -> Affine:
    shift = MOVING.centre_mm - FIXED.centre_mm
    return Affine.about(OBLIQUE.T * 1.03, shift, FIXED.centre_mm)


@MODELS
@pytest.mark.parametrize("order", ["warp first", "affine first", "two warps", "affine only"])
def test_any_transform_is_a_start(kind: type[Dense], order: str) -> None:
    both, model = pair(), bare(kind)
    warp = Displacement(smooth_field(0.6), FIXED)
    other = Displacement(smooth_field(0.4, 7), FIXED)
    before = {
        "warp first": Chain([warp, affine()]),
        "affine first": Chain([Affine.about(np.eye(3), np.full(3, 0.2), np.zeros(3)), warp]),
        "two warps": Chain([warp, other, affine()]),
        "affine only": affine(),
    }[order]
    state = model.init(both, before, CTX)
    points = FIXED.points_mm()
    np.testing.assert_allclose(model.transform(both, state)(points), before(points), atol=2e-3)


@MODELS
def test_the_gradient_is_that_of_what_is_shown(kind: type[Dense]) -> None:
    """Of every view that depends on the variable, in float64."""
    both, model = pair(torch.float64), bare(kind)
    state = model.init(both, affine(), WIDE)
    shape = model.variable(state).shape
    generator = torch.Generator().manual_seed(5)
    values = 0.3 * torch.rand(shape, generator=generator, dtype=torch.float64)
    if kind is StationaryVelocity:
        state = replace(state, squarings=(2,))

    def shown(t: Tensor) -> Tensor:
        views = model.views(both, model.with_variable(state, values + t * direction), WIDE)
        weight = torch.linspace(-1, 1, views.moving.numel(), dtype=torch.float64)
        return ((views.moving - 0.5 * views.fixed).flatten() * weight).sum()

    direction = torch.rand(shape, generator=generator, dtype=torch.float64)
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(shown(t), t)
    h = 1e-6
    with torch.no_grad():
        numeric = (shown(t + h) - shown(t - h)) / (2 * h)
    assert float(slope) == pytest.approx(float(numeric), rel=1e-4)


@MODELS
def test_held_voxel_axes_stay_exactly_still(kind: type[Dense]) -> None:
    """On an oblique grid, through smoothing, composition and the exponential (LESSONS 19)."""
    both = pair()
    model = kind(axis_weights=(0.0, 1.0, 0.25))  # i held, j free, k a quarter
    state = model.init(both, affine(), CTX)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        grad = torch.randn(model.variable(state).shape, generator=generator)
        grad = model.precondition(both, state, grad, CTX)
        assert float(grad[:, 2].abs().max()) == 0  # channels are k, j, i
        state = model.retract(both, state, Direction.of(-grad / grad.abs().max()), 0.5, CTX)
    transform = model.transform(both, state)
    assert isinstance(transform, Chain)
    warp = transform.parts[0]
    assert isinstance(warp, Displacement)
    assert float(warp.u[:, 2].abs().max()) == 0
    assert float(warp.u[:, 1].abs().max()) > 1.5 * float(warp.u[:, 0].abs().max()) > 0


@MODELS
def test_axis_weights_must_fit_the_image(kind: type[Dense]) -> None:
    with pytest.raises(InputError, match=r"axis_weights has 2 numbers but the images are 3D"):
        kind(axis_weights=(1.0, 0.0)).init(pair(), affine(), CTX)


@MODELS
def test_a_state_is_carried_to_the_next_level(kind: type[Dense]) -> None:
    """The same map in mm, also of what a deformable start holds beside the variable."""
    both, model = pair(), bare(kind)
    generator = torch.Generator().manual_seed(0)
    fine = FIXED.resized([2 * n for n in FIXED.size])
    finer = Pair(torch.rand((1, 1, *fine.shape), generator=generator), both.moving, fine, MOVING)
    state = model.init(both, Chain([Displacement(smooth_field(0.5), FIXED), affine()]), CTX)
    variable = model.variable(state)
    state = model.with_variable(state, variable + smooth_field(0.4, 9))
    state = model.settle(both, state)[0]
    carried = model.carry(state, both, finer)
    points = FIXED.points_mm()
    before = model.transform(both, state)(points)
    after = model.transform(finer, carried)(points)
    assert np.abs(after - before).max() < 0.35  # linear upsampling cuts the corners
    assert np.abs(after - before).mean() < 0.05


def test_addition_against_composition() -> None:
    both = pair()
    u, move = smooth_field(0.8), smooth_field(1.0, 4)
    for kind in (Compositive, FreeForm):
        model = bare(kind)
        state = model.with_variable(model.init(both, affine(), CTX), u)
        found = model.retract(both, state, Direction.of(move), 1.0, CTX).u
        step = 0.5 * move
        truth = u + step if kind is FreeForm else REFERENCE.compose(step, u)
        torch.testing.assert_close(found, truth)


# ------------------------------------------------------------------------------- symmetric
def test_exchanged_images_exchange_the_halves() -> None:
    model = bare(Symmetric)
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.rand((1, 1, *FIXED.shape), generator=generator) for _ in range(2))
    forth, back = Pair(a, b, FIXED, FIXED), Pair(b, a, FIXED, FIXED)
    halves = torch.cat([smooth_field(0.5), smooth_field(0.6, 8)])
    still = Affine.identity(3)
    one = model.with_variable(model.init(forth, still, CTX), halves)
    other = model.with_variable(model.init(back, still, CTX), halves.flip(0))
    seen, mirrored = model.views(forth, one, CTX), model.views(back, other, CTX)
    torch.testing.assert_close(seen.fixed, mirrored.moving)
    torch.testing.assert_close(seen.moving, mirrored.fixed)
    inner = FIXED.points_mm().reshape(*FIXED.shape, 3)[2:-2, 2:-2, 2:-2].reshape(-1, 3)
    there = model.transform(forth, one)(inner)
    returned = model.transform(back, other)(there)
    assert np.abs(returned - inner).max() < 0.15
    assert np.abs(there - inner).max() > 0.4


def test_both_halves_move_equally_far() -> None:
    """Whatever the gradient says: a common motion would magnify both images (see decisions)."""
    both, model = pair(), Symmetric()
    state = model.init(both, affine(), CTX)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        grad = torch.randn((2, 3, *FIXED.shape), generator=generator) + 3.0
        grad = model.precondition(both, state, grad, CTX)
        torch.testing.assert_close(grad[0], -grad[1])
        assert float(grad.abs().max()) > 0
        state = model.retract(both, state, Direction.of(-grad / grad.abs().max()), 0.5, CTX)
    u_fixed, u_moving = state.u
    assert float((u_fixed + u_moving).abs().max()) < 0.1 * float(u_fixed.abs().max())


def test_a_mask_of_the_fixed_image_moves_with_it() -> None:
    both = pair()
    mask = torch.zeros_like(both.fixed)
    mask[..., 4:] = 1
    masked = replace(both, fixed_mask=mask)
    model = bare(Symmetric)
    u = torch.zeros((2, 3, *FIXED.shape))
    u[0, 2] = 2.0  # the fixed image is seen two voxels further along x
    state = model.with_variable(model.init(masked, affine(), CTX), u)
    weight = model.views(masked, state, CTX).mask
    assert weight is not None
    torch.testing.assert_close(weight[..., 2:7], torch.ones_like(weight[..., 2:7]))
    assert float(weight[..., :2].abs().max()) == 0


# -------------------------------------------------------------------------------- velocity
def test_the_exponential_of_a_linear_field_is_that_of_its_matrix() -> None:
    """`w(x) = L (x - c)`: exp(w)(x) = expm(L) (x - c) + c, of second order in 2^-n."""
    from fireants_engine.ops.exponential import exponential

    matrix = np.array([[0.02, 0.15, 0.0], [-0.15, 0.02, 0.05], [0.0, -0.05, -0.03]])
    grid = Grid.identity((41, 41, 41))
    points = grid.points_mm()[:, ::-1] - 20.0  # array order
    w = torch.from_numpy((points @ matrix.T).T.reshape(1, 3, *grid.shape).copy())
    truth = (points @ (expm(matrix) - np.eye(3)).T).T.reshape(3, *grid.shape)
    inner = (slice(None), *[slice(12, -12)] * 3)
    errors = []
    for halvings in (2, 3, 4, 5):
        found = exponential(w, [halvings])[0].numpy()
        errors.append(np.abs(found - truth)[inner].max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert errors[-1] < 0.01
    np.testing.assert_allclose(orders, 1.0, atol=0.15)


def test_enough_squarings_for_the_lipschitz_bound() -> None:
    from fireants_engine.ops.exponential import lipschitz, squarings

    x = torch.arange(12, dtype=torch.float32)
    w = torch.zeros((1, 2, 8, 12))
    w[0, 1] = 0.6 * x + 0.0
    w[0, 0] = (0.3 * torch.arange(8, dtype=torch.float32))[:, None] - 0.5 * x
    assert float(lipschitz(w)) == pytest.approx(0.8)  # row of channel 0: 0.3 + 0.5
    assert squarings(torch.cat([w, w])) == (math.ceil(math.log2(0.8 / 0.25)),) * 2 == (2, 2)
    assert squarings(torch.zeros_like(w)) == (0,)
    assert squarings(1e9 * w) == (12,)
    assert float(lipschitz(torch.ones((1, 2, 1, 5)))) == 0


def test_there_and_back_by_the_opposite_velocity() -> None:
    from fireants_engine.ops.exponential import exponential, squarings

    w = smooth_field(1.2, dtype=torch.float64)
    n = squarings(w)
    both = REFERENCE.compose(exponential(w, n), exponential(-w, n))
    inner = both[(..., *[slice(2, -2)] * 3)]
    assert float(inner.abs().max()) < 0.06
    assert float(exponential(w, n)[(..., *[slice(2, -2)] * 3)].abs().max()) > 0.5


# ------------------------------------------------------------------------------------- J^T
def test_the_eulerian_differential_needs_the_transposed_jacobian() -> None:
    """`d/dt U(phi o (id + t v)) = <J^T dU/dphi, v>` (thesis 3.4)."""
    from fireants_engine.ops.jacobian import jacobian_transposed

    u = smooth_field(0.9, dtype=torch.float64)
    v = smooth_field(1.0, 11, torch.float64)
    v[..., :2], v[..., -2:] = 0, 0
    v[..., :2, :], v[..., -2:, :] = 0, 0
    v[..., :2, :, :], v[..., -2:, :, :] = 0, 0
    weight = smooth_field(1.0, 12, torch.float64)

    def potential(field: Tensor) -> Tensor:
        return (weight * field).sum() + 0.5 * (field**2).sum()

    leaf = u.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(potential(leaf), leaf)
    h = 1e-4
    slope = (potential(REFERENCE.compose(h * v, u)) - potential(REFERENCE.compose(-h * v, u))) / (
        2 * h
    )
    with_it = float((jacobian_transposed(u, grad) * v).sum())
    without = float((grad * v).sum())
    assert with_it == pytest.approx(float(slope), rel=0.02)
    assert abs(without - float(slope)) > 3 * abs(with_it - float(slope))


def test_the_option_reaches_the_gradient() -> None:
    both = pair()
    for kind in (Compositive, Symmetric):
        plain, steepest = bare(kind), bare(kind, jacobian_transpose=True)
        state = plain.init(both, affine(), CTX)
        shape = plain.variable(state).shape
        state = plain.with_variable(state, smooth_field(0.8).expand(shape).clone())
        grad = torch.ones(shape)
        grad[1:] = -1
        a, b = (m.precondition(both, state, grad, CTX) for m in (plain, steepest))
        assert float((a - b).abs().max()) > 0.05 * float(a.abs().max())
        still = plain.with_variable(state, torch.zeros(shape))
        a, b = (m.precondition(both, still, grad, CTX) for m in (plain, steepest))
        torch.testing.assert_close(a, b)


@MODELS
def test_both_smoothings_are_of_the_window_that_is_asked_for(kind: type[Dense]) -> None:
    seen: list[str] = []

    def smooth(
        field: Tensor, sigma: Sequence[float], scale: float = 1.0, window: str = ""
    ) -> Tensor:
        seen.append(window)
        return REFERENCE.smooth(field, sigma, scale, window)

    ctx = ExecutionContext(kernels=replace(REFERENCE, smooth=smooth))
    model, both = kind(window="box"), pair()
    state = model.begin(both, [affine()], ctx)
    grad = torch.ones_like(model.variable(state))
    way = Direction.of(model.precondition(both, state, grad, ctx))
    model.retract(both, state, way, 0.5, ctx)
    assert seen == ["box", "box"]
