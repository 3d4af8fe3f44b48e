"""Levenberg-Marquardt: its closed form, relative damping, and steps that are taken back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fireants_engine.optimise import LevenbergMarquardt


def gradient(dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, dim, *(6, 5, 4)[:dim]), generator=generator, dtype=dtype)


def first(descent: LevenbergMarquardt, grad: Tensor, loss: float = 1.0) -> Tensor:
    return descent.direction(grad, descent.init(torch.zeros_like(grad)), torch.tensor(loss))[
        0
    ].values


@pytest.mark.parametrize("dim", [2, 3])
def test_one_voxel_tiles_are_the_damped_gradient(dim: int) -> None:
    grad = gradient(dim)
    power = (grad**2).sum(1, keepdim=True)
    level = 0.975 * 2.0 * power.mean()
    truth = -2 * level.sqrt() * grad / (power + level)
    torch.testing.assert_close(first(LevenbergMarquardt(damping=2.0), grad), truth)
    assert float(truth.norm(dim=1).max()) <= 1 + 1e-12


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("tile", [3, 5])
def test_larger_tiles_solve_a_system_per_voxel(dim: int, tile: int) -> None:
    grad = gradient(dim)
    found = first(LevenbergMarquardt(tile=tile), grad)
    level = 0.975 * (grad**2).sum(1).mean()
    reach = tile // 2
    for voxel in [(0,) * dim, (3, 2, 1)[:dim]]:
        window = [slice(max(0, v - reach), v + reach + 1) for v in voxel]
        block = grad[(0, slice(None), *window)].reshape(dim, -1)
        matrix = block @ block.T / tile**dim + level * torch.eye(dim, dtype=grad.dtype)
        truth = -2 * level.sqrt() * torch.linalg.solve(matrix, grad[(0, slice(None), *voxel)])
        torch.testing.assert_close(found[(0, slice(None), *voxel)], truth)


@pytest.mark.parametrize("unit", [1e-6, 1e5])
@pytest.mark.parametrize("tile", [1, 3])
def test_the_unit_of_the_loss_does_not_matter(unit: float, tile: int) -> None:
    descent = LevenbergMarquardt(tile=tile)
    torch.testing.assert_close(first(descent, unit * gradient(3)), first(descent, gradient(3)))


def test_no_gradient_is_no_step() -> None:
    for tile in (1, 3):
        found = first(LevenbergMarquardt(tile=tile), torch.zeros((1, 2, 5, 4)))
        assert torch.isfinite(found).all()
        assert float(found.abs().max()) == 0


def test_a_step_that_raised_the_loss_is_taken_back() -> None:
    descent, grad = LevenbergMarquardt(), gradient(2)
    places = [torch.full_like(grad, float(k)) for k in range(5)]
    state, variable, dampings = descent.init(places[0]), places[0], []
    # losses at: place 0, place 1 (better), place 2 (worse), back at place 1, place 4 (better)
    for loss, proposal in zip((5.0, 4.0, 6.0, 4.0, 3.0), (1, 2, 3, 4, 0), strict=True):
        (_, _), state = descent.direction(grad, state, torch.tensor(loss, dtype=torch.float64))
        variable, state = descent.accept(variable, places[proposal], state)
        dampings.append(float(state.damping))
        if loss == 6.0:
            assert torch.equal(variable, places[1])
        else:
            assert torch.equal(variable, places[proposal])
    factors = [b / a for a, b in zip([1.0, *dampings], dampings, strict=False)]
    assert factors == pytest.approx([0.975, 0.975, 1.5, 0.975, 0.975])


def test_the_next_level_keeps_the_damping_and_forgets_the_loss() -> None:
    descent, grad = LevenbergMarquardt(), gradient(2)
    state = descent.init(grad)
    for loss in (2.0, 3.0):
        (_, _), state = descent.direction(grad, state, torch.tensor(loss, dtype=torch.float64))
    new = descent.transfer(state, lambda buffer, power: buffer[..., ::2] * 2.0**-power)
    assert float(new.damping) == float(state.damping) > 1
    assert new.kept.shape == (1, 2, 6, 3)
    torch.testing.assert_close(new.kept, grad[..., ::2] * 2)
    (_, _), after = descent.direction(grad[..., ::2], new, torch.tensor(100.0, dtype=torch.float64))
    assert not bool(after.worse)


def test_it_needs_the_loss() -> None:
    descent, grad = LevenbergMarquardt(), gradient(2)
    with pytest.raises(TypeError, match="by the loss"):
        descent.direction(grad, descent.init(grad))
