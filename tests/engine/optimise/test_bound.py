"""The step bound: how far a step goes, that it folds nothing, that it never waits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fireants_engine.kernels import REFERENCE, Direction
from fireants_engine.kernels.reference import scaled
from fireants_engine.ops import count_folds
from fireants_engine.optimise import step_factors


def bounded_step(values: Tensor, step: float) -> Tensor:
    """The move along a direction."""
    return scaled(values, step_factors(Direction.of(values).peaks, step))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("step", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("size", [1e-6, 0.3, 1.0, 7.0, 1e6])
def test_no_component_exceeds_half_a_voxel_times_the_step(size: float, step: float) -> None:
    direction = size * noise(1, 3, 5, 6, 7)
    moved = bounded_step(direction, step)
    assert float(moved.abs().max()) <= 0.5 * step * (1 + 1e-6)
    ratio = moved / direction  # only scaled
    torch.testing.assert_close(ratio, torch.full_like(ratio, float(ratio.flatten()[0])))


def test_small_directions_are_not_blown_up() -> None:
    direction = 0.01 * noise(1, 2, 8, 9)
    torch.testing.assert_close(bounded_step(direction, 0.8), 0.4 * direction)


def test_nothing_stays_nothing() -> None:
    assert float(bounded_step(torch.zeros(1, 2, 4, 4), 1.0).abs().max()) == 0


def test_the_maximum_is_never_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """No synchronisation with the device: nothing becomes a Python number."""

    def forbidden(*_: object) -> None:
        raise AssertionError("a device synchronisation")

    direction = noise(1, 2, 6, 6)
    for name in ("item", "tolist", "__float__", "__int__", "__bool__", "cpu", "numpy"):
        monkeypatch.setattr(Tensor, name, forbidden)
    moved = bounded_step(direction, 0.5)
    monkeypatch.undo()
    assert moved.shape == direction.shape


def test_works_on_a_device_whose_values_cannot_be_read() -> None:
    """The meta device has shapes but no values: any read raises."""
    assert bounded_step(torch.empty(1, 3, 4, 5, 6, device="meta"), 0.5).shape == (1, 3, 4, 5, 6)


@pytest.mark.parametrize("shape", [(16, 18), (9, 10, 11)])
def test_a_step_below_one_over_the_dimension_never_folds(shape: tuple[int, ...]) -> None:
    """The docstring's promise at its edge: the roughest direction there is, whose components all
    change sign from voxel to voxel, folds beyond 1/d and not before."""
    dim = len(shape)
    place = torch.meshgrid(*[torch.arange(n) for n in shape], indexing="ij")
    sign = 1.0 - 2.0 * (sum(place) % 2)
    direction = torch.stack([sign] * dim)[None]
    assert count_folds(bounded_step(direction, 0.99 / dim)) == (0, 0.0)
    assert count_folds(bounded_step(direction, 1.01 / dim))[0] > 0


@pytest.mark.parametrize("shape", [(40, 40), (20, 20, 20)])
@pytest.mark.parametrize("step", [0.5, 0.99])
def test_a_step_below_one_of_a_smooth_direction_never_folds(shape, step) -> None:
    """Smoothed with one voxel, as updates are by default."""
    for seed in range(5):
        rough = noise(1, len(shape), *shape, seed=seed)
        direction = REFERENCE.smooth(rough, [1.0] * len(shape))
        direction = direction / direction.abs().max()
        assert count_folds(bounded_step(direction, step)) == (0, 0.0)


@pytest.mark.parametrize("shape", [(40, 40), (20, 20, 20)])
def test_a_step_of_random_signs_below_one_over_the_dimension_never_folds(shape) -> None:
    """The L1 bound: |d v| <= step per entry, so d * step < 1 keeps I + Dv dominant."""
    dim = len(shape)
    for seed in range(5):
        direction = noise(1, dim, *shape, seed=seed).sign()
        assert count_folds(bounded_step(direction, 0.99 / dim)) == (0, 0.0)
