"""Slopes along one axis against torch, and the limit that keeps lines from folding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fireants_engine.kernels.slopes import bounded_slopes, slope, steepest

SHAPES = [(7, 5), (2, 9), (5, 7, 3), (3, 2, 11)]


def noise(shape: tuple[int, ...], size: float = 1.0, rows: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn((rows, 1, *shape), generator=generator, dtype=torch.float64)


def every_axis(shapes: list[tuple[int, ...]]) -> list:
    return [pytest.param(s, a, id=f"{s}-{a}") for s in shapes for a in range(len(s))]


@pytest.mark.parametrize(("shape", "axis"), every_axis(SHAPES))
def test_the_slope_is_numpys_gradient(shape: tuple[int, ...], axis: int) -> None:
    field = noise(shape)
    truth = torch.gradient(field, dim=axis + 2, edge_order=1)[0]
    torch.testing.assert_close(slope(field, axis), truth)


@pytest.mark.parametrize(("shape", "axis"), every_axis([(3, 4), (2, 3, 4)]))
def test_the_gradient_of_the_slope(shape: tuple[int, ...], axis: int) -> None:
    field = noise(shape, rows=1).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda f: slope(f, axis).square(), (field,))


def test_an_axis_of_one_sample_is_flat() -> None:
    field = noise((1, 4, 3)).requires_grad_(True)
    assert float(slope(field, 0).detach().abs().max()) == 0
    assert float(steepest(field, 0)) == 0
    kept = field.detach().clone()
    assert torch.equal(bounded_slopes(kept, 0, 0.1), field.detach())


@pytest.mark.parametrize(("shape", "axis"), every_axis(SHAPES))
def test_steep_lines_are_brought_under_the_limit(shape: tuple[int, ...], axis: int) -> None:
    field = noise(shape, 3.0)
    kept = field.clone()
    found = bounded_slopes(field, axis, 0.95)
    assert torch.equal(field, kept)
    assert float(steepest(field, axis)) > 0.95
    assert float(steepest(found, axis)) <= 0.95 * 1.0001
    direct = found.diff(dim=axis + 2).abs().amax()
    assert float(steepest(found, axis)) == float(direct)


def test_a_fold_in_a_long_line_opens() -> None:
    """A jump of 15 voxels, in float32 as a run has it."""
    field = torch.zeros(1, 1, 128, 3)
    field[:, :, 64:] = 15.0
    found = bounded_slopes(field, 0, 0.95)
    assert float(steepest(found, 0)) <= 0.95 * 1.0001
    assert float((found - field)[:, :, :40].abs().max()) < 2e-5  # far from it nothing moves
    assert float((found - field)[:, :, -40:].abs().max()) < 2e-5
    torch.testing.assert_close(
        found + found.flip(2), torch.full_like(found, 15.0), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(bounded_slopes(-field, 0, 0.95), -found)


def test_bounds_along_one_axis_keep_those_along_another() -> None:
    field = 3 * noise((9, 8, 7))
    for axis in range(3):
        field = bounded_slopes(field, axis, 0.5 + 0.1 * axis)
    for axis in range(3):
        assert float(steepest(field, axis)) <= (0.5 + 0.1 * axis) * (1 + 1e-9)
    torch.testing.assert_close(bounded_slopes(field, 0, 0.6), field, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("shape", "axis"), every_axis([*SHAPES, (1, 6)]))
def test_the_bound_is_the_middle_of_the_nearest_fields_below_and_above(
    shape: tuple[int, ...], axis: int
) -> None:
    """`min_y f(y) + limit |x - y|` and `max_y f(y) - limit |x - y|`, by all pairs of a line."""
    field, limit = noise(shape, 3.0), 0.7
    kept = field.clone()
    found = bounded_slopes(field, axis, limit)
    assert torch.equal(field, kept)  # not in place
    assert float(steepest(found, axis)) <= limit * (1 + 1e-9)
    line = field.movedim(axis + 2, -1)
    place = torch.arange(shape[axis], dtype=torch.float64)
    cone = limit * (place[:, None] - place).abs()
    low, high = (line[..., None] + cone).amin(-2), (line[..., None] - cone).amax(-2)
    torch.testing.assert_close(found.movedim(axis + 2, -1), (low + high) / 2)
    gentle = field * (0.999 * limit / max(float(steepest(field, axis)), 1.0))
    torch.testing.assert_close(bounded_slopes(gentle, axis, limit), gentle)
    torch.testing.assert_close(bounded_slopes(-field, axis, limit), -found)


def test_what_is_gentle_is_left_alone_to_the_bit() -> None:
    field = noise((9, 8, 7)).float()
    for axis in range(3):
        gentle = field * (0.9 / steepest(field, axis))
        assert torch.equal(bounded_slopes(gentle.clone(), axis, 0.9001), gentle)
    ramp = torch.arange(9.0).view(1, 1, 9, 1).expand(1, 1, 9, 4).clone()
    assert torch.equal(bounded_slopes(ramp.clone(), 0, 1.0), ramp)  # exactly at the limit


def test_only_the_steep_line_changes() -> None:
    field = 0.1 * noise((8, 6), rows=1)
    field[:, :, 3, 2] += 5
    found = bounded_slopes(field, 0, 0.95)
    others = [k for k in range(6) if k != 2]
    torch.testing.assert_close(found[..., others], field[..., others], rtol=0, atol=1e-12)
    assert float((found - field)[..., 2].abs().max()) > 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_fields_of_any_layout(axis: int) -> None:
    whole = noise((6, 7, 5), 3.0)
    packed = bounded_slopes(whole, axis, 0.5)
    strange = whole.permute(0, 1, 4, 2, 3).contiguous().permute(0, 1, 3, 4, 2)
    assert not strange.is_contiguous()
    torch.testing.assert_close(bounded_slopes(strange, axis, 0.5), packed, rtol=0, atol=0)
