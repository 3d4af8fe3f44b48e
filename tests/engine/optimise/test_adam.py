"""Adam: the textbook recursion, freedom from units, the step schedule, transfer to a level."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from fireants_engine.optimise import Adam
from fireants_engine.transforms.invert import resize_displacement


def gradients(n: int, *shape: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    spread = torch.logspace(-2, 0, shape[-1])  # weak and strong voxels
    return [torch.randn(shape, generator=generator) * spread for _ in range(n)]


def directions(adam: Adam, grads: list[Tensor]) -> list[Tensor]:
    state, out = adam.init(grads[0]), []
    for grad in grads:
        (direction, _), state = adam.direction(grad, state)
        out.append(direction.clone())
    return out


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e3, 1e6])
def test_the_direction_does_not_depend_on_the_unit_of_the_loss(unit: float) -> None:
    grads = gradients(12, 1, 3, 5, 6, 7)
    plain = directions(Adam(), grads)
    scaled = directions(Adam(), [unit * g for g in grads])
    for a, b in zip(plain, scaled, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_nor_with_the_gradients_of_a_mean_over_a_big_image(unit: float) -> None:
    """Such gradients are about 1e-8, where a fixed epsilon of 1e-8 would count (KERNELS trap 3)."""
    grads = [1e-8 * g for g in gradients(12, 1, 2, 16, 16)]
    plain, scaled = directions(Adam(), grads), directions(Adam(), [unit * g for g in grads])
    torch.testing.assert_close(plain[-1], scaled[-1], rtol=1e-4, atol=1e-6)


def test_it_is_kingma_and_bas_adam_when_the_damping_vanishes() -> None:
    grads = gradients(20, 1, 2, 8, 8)
    leaf = torch.zeros_like(grads[0], dtype=torch.float64).requires_grad_(True)
    torch_adam = torch.optim.Adam([leaf], lr=1.0, betas=(0.8, 0.95), eps=1e-15)
    ours = directions(Adam(beta1=0.8, beta2=0.95, eps_rel=1e-12), [g.double() for g in grads])
    for grad, direction in zip(grads, ours, strict=True):
        before = leaf.detach().clone()
        leaf.grad = grad.double()
        torch_adam.step()
        torch.testing.assert_close(direction, leaf.detach() - before, rtol=1e-6, atol=1e-9)


def test_the_first_direction_is_against_the_gradient_with_size_one() -> None:
    grad = torch.tensor([[3.0, -2.0, 0.0]])
    (first,) = directions(Adam(), [grad])
    torch.testing.assert_close(first, torch.tensor([[-1.0, 1.0, 0.0]]), rtol=0, atol=2e-3)


def test_without_any_gradient_nothing_moves() -> None:
    for direction in directions(Adam(), [torch.zeros(1, 2, 4, 4)] * 3):
        assert float(direction.abs().max()) == 0


def test_voxels_without_signal_stay_where_they_are() -> None:
    grad = torch.ones(1, 1, 10, 10)
    grad[..., 5:, :] = 1e-6  # far below the damping of 1e-3
    last = directions(Adam(), [grad] * 10)[-1]
    assert float(last[..., 5:, :].abs().max()) < 2e-3
    assert float(last[..., :5, :].abs().min()) > 0.99


def test_the_gradient_given_is_left_alone() -> None:
    (grad,) = gradients(1, 1, 2, 4, 4)
    before = grad.clone()
    directions(Adam(), [grad, grad])
    torch.testing.assert_close(grad, before, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [1, 2, 10, 101])
def test_the_step_falls_linearly_to_its_share(steps: int) -> None:
    adam = Adam(step=0.6, decay=0.1)
    taken = [adam.step_at(i, steps) for i in range(steps)]
    assert taken[0] == pytest.approx(0.6)
    if steps > 1:
        assert taken[-1] == pytest.approx(0.06)
        differences = [b - a for a, b in itertools.pairwise(taken)]
        assert max(differences) == pytest.approx(min(differences))
    assert {Adam(step=0.6).step_at(i, steps) for i in range(steps)} == {0.6}


@pytest.mark.parametrize("new", [(16, 24), (12, 12), (8, 30)])
def test_the_memory_moves_to_another_level_in_its_own_units(new: tuple[int, int]) -> None:
    """One functional seen at two resolutions: gradients by voxel displacements scale with the
    voxel's size, first moments likewise, second moments with its square; the count stays."""
    old = (8, 12)

    def density(shape: tuple[int, int]) -> Tensor:
        """Gradient per unit area by a displacement in voxels, of a functional with a constant
        gradient (3, -5) by displacements in fields of view."""
        grad = torch.tensor([3.0 / shape[0], -5.0 / shape[1]])
        return grad.view(1, 2, 1, 1).expand(1, 2, *shape).clone()

    adam = Adam()
    state = adam.init(density(old))
    fresh = adam.init(density(new))
    for _ in range(7):
        (_, _), state = adam.direction(density(old), state)
        (_, _), fresh = adam.direction(density(new), fresh)
    moved = adam.transfer(state, lambda buffer, power: resize_displacement(buffer, new, power))
    assert moved.counts == (7,)
    torch.testing.assert_close(moved.first, fresh.first)
    torch.testing.assert_close(moved.second, fresh.second)
    (a, _), _ = adam.direction(density(new), moved)
    (b, _), _ = adam.direction(density(new), fresh)
    torch.testing.assert_close(a, b)


def test_without_momentum_it_is_rmsprop_and_keeps_one_buffer() -> None:
    generator = torch.Generator().manual_seed(0)
    grads = [torch.randn(1, 2, 5, 6, generator=generator, dtype=torch.float64) for _ in range(5)]
    adam, square = Adam(beta1=0.0, beta2=0.9, eps_rel=1e-12), torch.zeros_like(grads[0])
    state = adam.init(grads[0])
    assert state.first is None
    for k, grad in enumerate(grads):
        (direction, _), state = adam.direction(grad, state)
        square = 0.9 * square + 0.1 * grad**2
        truth = -grad / (square / (1 - 0.9 ** (k + 1))).sqrt()
        torch.testing.assert_close(direction, truth, rtol=1e-6, atol=1e-8)
    moved = adam.transfer(state, lambda buffer, power: buffer * power)
    assert moved.first is None
    torch.testing.assert_close(moved.second, 2 * state.second)
