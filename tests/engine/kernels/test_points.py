"""Images at given coordinates, and the points that a warp takes to given places."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fireants_engine.kernels import points, reference
from fireants_engine.kernels.native import library
from fireants_engine.kernels.native import points as fast
from tests.engine.kernels.cases import SIZES, close, noise, places

NATIVE = pytest.mark.skipif(library.problem() is not None, reason=str(library.problem()))
BOTH = [points.solve_points, pytest.param(fast.solve_points, marks=NATIVE)]


def calm(size: tuple[int, ...], slope: float = 0.5, dtype: torch.dtype = torch.float64) -> Tensor:
    """A smooth warp (1, d, *size) whose neighbours differ by at most `slope` voxels."""
    u = reference.smooth(noise(1, len(size), *size, seed=3), [2.0] * len(size))
    steps = [u.diff(dim=axis + 2).abs().amax() for axis, n in enumerate(size) if n > 1]
    return (u * slope / torch.stack(steps).amax()).to(dtype)


@NATIVE
@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("size", SIZES)
def test_samples_are_the_references(size, dtype: torch.dtype, rel: float, border: bool) -> None:
    for rows, coord_rows in ((1, 1), (3, 3), (1, 3), (3, 1)):
        image = noise(rows, 2, *size, seed=1)
        coords = torch.stack([places(size, (5, 41)[: len(size)]) for _ in range(coord_rows)])
        coords = coords + noise(*coords.shape, seed=2)
        if len(size) == 3:
            coords = coords[..., None].expand(*coords.shape, 3).contiguous()
        truth = reference.sample(image, coords, border=border)
        close(fast.sample(image.to(dtype), coords.to(dtype), border=border), truth.to(dtype), rel)


@NATIVE
def test_samples_where_a_coordinate_is_no_number() -> None:
    image, coords = noise(1, 2, 5, 6, 7), 2 * torch.ones(1, 3, 40, 1, 1, dtype=torch.float64)
    coords[0, 1, 3], coords[0, 2, 37] = torch.nan, torch.nan
    found = fast.sample(image, coords)
    assert found[..., [3, 37], :, :].isnan().all()
    assert int(found.isnan().sum()) == 4
    for far in (torch.inf, -torch.inf, 1e30, -1e30):
        coords[:] = far
        assert (fast.sample(image, coords) == 0).all()
        edge = image[..., -1, -1, -1] if far > 0 else image[..., 0, 0, 0]
        at_edge = fast.sample(image, coords, border=True)
        assert torch.equal(at_edge, edge[..., None, None, None].expand_as(at_edge))


@NATIVE
def test_where_a_gradient_is_asked_for_there_is_one() -> None:
    image, coords = noise(1, 2, 6, 7), places((6, 7), (11, 1))[None].requires_grad_()
    (found,) = torch.autograd.grad(fast.sample(image, coords).sum(), coords)
    (truth,) = torch.autograd.grad(reference.sample(image, coords).sum(), coords)
    close(found, truth, 1e-10)
    near = fast.sample(image, coords.detach(), nearest=True)
    assert torch.equal(near, reference.sample(image, coords.detach(), nearest=True))


@NATIVE
def test_samples_of_what_does_not_fit_are_refused() -> None:
    image, coords = noise(2, 1, 5, 6), noise(2, 2, 7, 1)
    with pytest.raises(ValueError, match="2 axes need 2"):
        fast.sample(image, noise(2, 3, 7, 1))
    with pytest.raises(ValueError, match="no 3 axes"):
        fast.sample(image, noise(2, 3, 7, 1, 1))
    with pytest.raises(ValueError, match="3 rows of coordinates for 2 images"):
        fast.sample(image, noise(3, 2, 7, 1))
    with pytest.raises(ValueError, match="no samples"):
        fast.sample(image[:, :, :0], coords)
    with pytest.raises(TypeError, match="float16"):
        fast.sample(image.half(), coords.half())
    with pytest.raises(TypeError, match="float32"):
        fast.sample(image, coords.float())
    assert fast.sample(image, coords[:, :, :0]).shape == (2, 1, 0, 1)


@pytest.mark.parametrize("solve", BOTH)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [(23, 31), (1, 40), (11, 12, 13), (9, 1, 34)])
def test_found_points_are_taken_to_their_targets(solve, size, dtype: torch.dtype) -> None:
    for slope in (0.5, 0.9):  # where u's slope sums over the axes, simple steps alone diverge
        u = calm(size, slope, dtype)
        start = (places(size, (300,)).clamp(min=0) / 2).to(dtype)
        target = start + points.sample_points(u, start)
        found = solve(u, target, target, 1e-3)
        gap = found + points.sample_points(u, found) - target
        reached = gap.square().sum(0).sqrt() <= 1e-3 + 1e-5
        assert float(reached.double().mean()) > (0.99 if slope < 0.6 else 0.9)


@pytest.mark.parametrize("solve", BOTH)
def test_an_axis_without_displacement_stays_exactly_still(solve) -> None:
    u = calm((11, 12, 13), 0.8, torch.float32)
    u[:, 1] = 0
    target = (places((11, 12, 13), (500,)) / 2).float()
    found = solve(u, target, target, 1e-3)
    assert torch.equal(found[1], target[1])
    assert not torch.equal(found[0], target[0])


@pytest.mark.parametrize("solve", BOTH)
def test_a_point_that_cannot_be_reached_keeps_the_nearest_that_was_met(solve) -> None:
    """A fold: u jumps over the target; and no number stays where it began."""
    u = torch.zeros(1, 2, 4, 20)
    u[:, 1, :, :10], u[:, 1, :, 10:] = -5, 5
    start = torch.tensor([[1.0, 1.0], [9.0, torch.nan]])
    target = torch.tensor([[1.0, 1.0], [9.5, 9.5]])
    found = solve(u, start, target, 1e-2)
    gap = found[:, 0] + points.sample_points(u, found[:, :1])[:, 0] - target[:, 0]
    assert float(gap.norm()) <= 5.5
    assert found[1, 1].isnan()


@NATIVE
def test_points_of_what_does_not_fit_are_refused() -> None:
    u, at = calm((8, 9)), noise(2, 5)
    with pytest.raises(ValueError, match=r"\(1, d, \*spatial\)"):
        fast.solve_points(torch.cat([u, u]), at, at)
    with pytest.raises(ValueError, match=r"\(d, n\)"):
        fast.solve_points(u, at, at[:, :4])
    with pytest.raises(ValueError, match=r"\(d, n\)"):
        fast.solve_points(u, at[:1], at[:1])
    with pytest.raises(ValueError, match=r"\(1, d, \*spatial\)"):
        fast.solve_points(u[:, [0, 1, 1]], noise(3, 5), noise(3, 5))
    with pytest.raises(TypeError, match="float32"):
        fast.solve_points(u, at.float(), at)
    assert fast.solve_points(u, at[:, :0], at[:, :0]).shape == (2, 0)


@NATIVE
def test_any_number_of_threads_finds_the_same_bits() -> None:
    u, before = calm((11, 12, 13), 0.8), torch.get_num_threads()
    target = places((11, 12, 13), (5000,))
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(
                (
                    fast.solve_points(u, target, target),
                    fast.sample(u, target[None, ..., None, None]),
                )
            )
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
