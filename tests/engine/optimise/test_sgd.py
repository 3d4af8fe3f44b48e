"""Momentum, its scale, and its way to the next level."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fireants_engine.optimise import SGD


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_it_is_the_moving_average_of_the_gradients() -> None:
    grads = [noise(1, 2, 4, 5, seed=k) for k in range(4)]
    sgd, average = SGD(momentum=0.8), torch.zeros(1, 2, 4, 5, dtype=torch.float64)
    state = sgd.init(grads[0])
    for grad in grads:
        (direction, _), state = sgd.direction(grad, state)
        average = 0.8 * average + 0.2 * grad
        torch.testing.assert_close(direction, -average / grads[0].abs().max())


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e5])
def test_the_unit_of_the_loss_does_not_matter(unit: float) -> None:
    sgd, first, second = SGD(), noise(1, 3, 4, 5, 6), noise(1, 3, 4, 5, 6, seed=1)
    plain, scaled = sgd.init(first), sgd.init(first)
    for grad in (first, second):
        (truth, _), plain = sgd.direction(grad, plain)
        (direction, _), scaled = sgd.direction(unit * grad, scaled)
        torch.testing.assert_close(direction, truth)


def test_steps_shrink_with_the_gradient() -> None:
    sgd, grad = SGD(momentum=0.0), noise(1, 2, 6, 7)
    (first, _), state = sgd.direction(grad, sgd.init(grad))
    assert float(first.abs().max()) == pytest.approx(1)
    (later, _), _ = sgd.direction(0.01 * grad, state)
    torch.testing.assert_close(later, 0.01 * first)


def test_no_gradient_is_no_step() -> None:
    sgd, nothing = SGD(), torch.zeros(1, 2, 4, 4)
    (direction, _), _ = sgd.direction(nothing, sgd.init(nothing))
    assert float(direction.abs().max()) == 0


def test_the_next_level_gets_the_velocity_and_finds_its_own_scale() -> None:
    sgd, grad = SGD(), noise(1, 2, 4, 5)
    (_, _), state = sgd.direction(grad, sgd.init(grad))
    moved = sgd.transfer(state, lambda buffer, power: buffer * 10 + power)
    torch.testing.assert_close(moved.velocity, state.velocity * 10 + 1)
    assert moved.scale is None
