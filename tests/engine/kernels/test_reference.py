"""The reference kernels: derivatives in float64, oracles, constants and borders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.autograd import gradcheck

from fireants_engine.kernels import reference as ref

SHAPES = [(5, 7), (9, 4), (3, 5, 4), (4, 3, 7), (1, 5, 6), (6, 1)]
"""Odd, anisotropic, thin; the first axis divisible by four and not (the sampler's slabs)."""


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def off_grid(coords: Tensor) -> Tensor:
    """Coordinates moved to between .15 and .85 of a voxel: no kink of the interpolation there."""
    low = coords.floor()
    return low + 0.15 + 0.7 * (coords - low)


def identity(shape: tuple[int, ...]) -> Tensor:
    axes = [torch.arange(n, dtype=torch.float64) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def oracle(image: np.ndarray, coords: np.ndarray, *, border: bool, order: int = 1) -> np.ndarray:
    """Linear (or nearest) interpolation by scipy; zeros far outside, as a padded image gives."""
    padded = np.pad(image, 3, mode="edge" if border else "constant")
    return ndimage.map_coordinates(padded, coords + 3, order=order, mode="nearest")


# ------------------------------------------------------------------------------- sample
@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_sample_is_linear_interpolation(shape: tuple[int, ...], border: bool) -> None:
    image = rand(2, 3, *shape)
    out = (4, *[3] * (len(shape) - 1))
    spread = torch.tensor(shape, dtype=torch.float64).view(1, -1, *[1] * len(shape))
    coords = rand(2, len(shape), *out, seed=1) * (spread + 3) - 2
    got = ref.sample(image, coords, border=border)
    for b in range(2):
        for c in range(3):
            truth = oracle(image[b, c].numpy(), coords[b].numpy(), border=border)
            np.testing.assert_allclose(got[b, c].numpy(), truth, atol=1e-12)


def test_nearest_picks_the_nearest_sample() -> None:
    image, coords = rand(1, 1, 5, 4, 7), rand(1, 3, 3, 4, 5, seed=1) * 3
    got = ref.sample(image, coords, nearest=True)[0, 0].numpy()
    truth = oracle(image[0, 0].numpy(), coords[0].numpy(), border=False, order=0)
    np.testing.assert_array_equal(got, truth)


def test_at_its_own_voxels_an_image_is_itself() -> None:
    image = rand(1, 2, 5, 4, 7)
    for border in (True, False):
        got = ref.sample(image, identity((5, 4, 7))[None], border=border)
        torch.testing.assert_close(got, image, rtol=0, atol=1e-12)


@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 3)])
def test_sample_gradients(shape: tuple[int, ...], border: bool) -> None:
    dim = len(shape)
    image = rand(1, 2, *shape).requires_grad_(True)
    spread = torch.tensor(shape, dtype=torch.float64).view(1, -1, *[1] * dim)
    coords = off_grid(rand(1, dim, *[3] * dim, seed=1) * (spread + 1) - 1)
    if border:  # beyond the outermost samples the value is constant, with a kink on them
        coords = coords.clamp(min=0.15).minimum(spread - 1.15)
    assert gradcheck(
        lambda i, c: ref.sample(i, c, border=border), (image, coords.requires_grad_(True))
    )


# --------------------------------------------------------------------------------- warp
def some_matrix(dim: int, seed: int = 5) -> Tensor:
    noise = rand(dim, dim + 1, seed=seed) - 0.5
    matrix = torch.eye(dim, dim + 1, dtype=torch.float64) + 0.15 * noise
    matrix[:, dim] += 0.31
    return matrix


def off_grid_u(matrix: Tensor, shape: tuple[int, ...], amplitude: float = 1.5) -> Tensor:
    """u of random size for which A (x + u) + t keeps away from the integers."""
    dim = len(shape)
    u = amplitude * (rand(dim, *shape, seed=9) - 0.5)
    linear, shift = matrix[:, :dim], matrix[:, dim].view(-1, *[1] * dim)
    target = off_grid(torch.einsum("ij,j...->i...", linear, identity(shape) + u) + shift)
    back = torch.einsum("ij,j...->i...", torch.linalg.inv(linear), target - shift)
    return (back - identity(shape))[None]


@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_warp_is_sampling_at_the_composed_coordinates(shape, border) -> None:
    dim = len(shape)
    image, matrix = rand(1, 2, *[n + 2 for n in shape]), some_matrix(dim)
    for u in (None, rand(1, dim, *shape, seed=3) * 4 - 2):
        x = identity(shape) if u is None else identity(shape) + u[0]
        coords = torch.einsum("ij,j...->i...", matrix[:, :dim], x)
        coords = coords + matrix[:, dim].view(-1, *[1] * dim)
        got = ref.warp(image, matrix, shape, u, border=border)
        torch.testing.assert_close(got, ref.sample(image, coords[None], border=border))


def test_warp_takes_batches() -> None:
    image, matrix = rand(2, 3, 5, 6), some_matrix(2)
    u = rand(1, 2, 4, 7) - 0.5
    both = ref.warp(image, matrix, (4, 7), u)
    assert both.shape == (2, 3, 4, 7)
    for b in range(2):
        torch.testing.assert_close(both[b : b + 1], ref.warp(image[b : b + 1], matrix, (4, 7), u))


@pytest.mark.parametrize("shape", [(5, 3), (4, 5), (3, 2, 4), (4, 1, 3)])
def test_warp_gradients(shape: tuple[int, ...]) -> None:
    dim = len(shape)
    channels = 2 if dim == 2 else 1
    image = rand(1, channels, *[n + 1 for n in shape]).requires_grad_(True)
    matrix = some_matrix(dim)
    u = off_grid_u(matrix, shape).requires_grad_(True)
    matrix = matrix.requires_grad_(True)
    assert gradcheck(lambda i, m, v: ref.warp(i, m, shape, v), (image, matrix, u))


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 2)])
def test_warp_gradients_without_displacement(shape: tuple[int, ...]) -> None:
    dim = len(shape)
    image = rand(1, 1, *[n + 2 for n in shape]).requires_grad_(True)
    matrix = torch.eye(dim, dim + 1, dtype=torch.float64)
    matrix[:, :dim] += 0.02 * (rand(dim, dim, seed=4) - 0.5)  # at most .07 at the far corner
    matrix[:, dim] = 0.4 + 0.2 * rand(dim, seed=6)
    assert gradcheck(lambda i, m: ref.warp(i, m, shape), (image, matrix.requires_grad_(True)))


def test_warp_leaves_its_inputs_alone() -> None:
    image, matrix, u = rand(1, 1, 5, 6), some_matrix(2), rand(1, 2, 5, 6)
    copies = [t.clone() for t in (image, matrix, u)]
    ref.warp(image, matrix, (5, 6), u)
    ref.compose(u, u)
    for now, before in zip((image, matrix, u), copies, strict=True):
        torch.testing.assert_close(now, before, rtol=0, atol=0)


# ------------------------------------------------------------------------------ compose
@pytest.mark.parametrize("shape", [(11, 13), (9, 12, 10)])
def test_compose_of_affine_displacements_is_exact_inside(shape: tuple[int, ...]) -> None:
    """(id + u) o (id + v) for u = Ux + a, v = Vx + b: linear interpolation is exact."""
    dim = len(shape)
    x = identity(shape) - 5.0

    def affine(seed: int) -> tuple[Tensor, Tensor]:
        linear, shift = 0.1 * (rand(dim, dim, seed=seed) - 0.5), rand(dim, seed=seed + 1) - 0.5
        return linear, shift.view(-1, *[1] * dim)

    (u_lin, u_shift), (v_lin, v_shift) = affine(1), affine(3)
    u = torch.einsum("ij,j...->i...", u_lin, x) + u_shift
    v = torch.einsum("ij,j...->i...", v_lin, x) + v_shift
    truth = v + torch.einsum("ij,j...->i...", u_lin, x + v) + u_shift
    got = ref.compose(v[None], u[None])[0]
    inside = (slice(None), *[slice(2, -2)] * dim)
    torch.testing.assert_close(got[inside], truth[inside], rtol=0, atol=1e-12)


def test_compose_with_the_identity() -> None:
    u, zero = rand(1, 3, 4, 5, 6) - 0.5, torch.zeros(1, 3, 4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(ref.compose(zero, u), u, rtol=0, atol=1e-12)
    torch.testing.assert_close(ref.compose(u, zero), u, rtol=0, atol=1e-12)


def test_beyond_the_border_compose_continues_the_edge_value() -> None:
    u = torch.zeros(1, 2, 4, 5, dtype=torch.float64)
    u[:, 0, -1] = 2.0
    v = torch.zeros_like(u)
    v[:, 0] = 3.0  # every voxel looks three rows down
    torch.testing.assert_close(ref.compose(v, u)[0, 0], torch.full((4, 5), 5.0).double())


# ------------------------------------------------------------------------------- smooth
@pytest.mark.parametrize(
    ("shape", "sigma"), [((40, 37), (1.3, 2.4)), ((25, 22, 31), (0.7, 2.1, 1.0))]
)
def test_smooth_is_scipys_gaussian_in_the_interior(shape, sigma) -> None:
    field = rand(1, 2, *shape)
    got = ref.smooth(field, sigma)
    radius = [max(1, int(np.ceil(3 * s))) for s in sigma]
    inside = tuple(slice(r, -r) for r in radius)
    for c in range(2):
        truth = field[0, c].numpy()
        for axis, (s, r) in enumerate(zip(sigma, radius, strict=True)):
            truth = ndimage.gaussian_filter1d(truth, s, axis=axis, radius=r)
        np.testing.assert_allclose(got[0, c].numpy()[inside], truth[inside], atol=1e-12)


@pytest.mark.parametrize("sigma", [0.06, 0.3, (2 / 3) ** 0.5, 1.0, 2**0.5, 2.71, 6.0])
def test_a_box_has_exactly_the_variance_that_is_asked_for(sigma: float) -> None:
    distance = torch.arange(-40, 41, dtype=torch.float64)
    weights = ref.taps(distance, sigma, "box")
    torch.testing.assert_close(
        float((weights * distance**2).sum() / weights.sum()), sigma**2, rtol=1e-12, atol=0
    )
    inner = weights[(weights > 0) & (weights < 1)]  # equal to 1 but for its two ends
    assert len(inner) in (0, 2)
    assert float(weights.max()) == 1


def test_a_box_of_whole_samples_is_the_mean_of_its_window() -> None:
    field = rand(1, 2, 9, 8)
    found = ref.smooth(field, [2**0.5, (2 / 3) ** 0.5], 1.0, "box")  # radii 2 and 1
    truth = field.clone()
    for axis, radius in ((2, 2), (3, 1)):
        lines = [
            truth.narrow(axis, low, min(truth.shape[axis], k + radius + 1) - low).mean(axis)
            for k in range(truth.shape[axis])
            for low in [max(0, k - radius)]
        ]
        truth = torch.stack(lines, axis)
    torch.testing.assert_close(found, truth)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("window", ref.SMOOTHING_WINDOWS)
@pytest.mark.parametrize("sigma", [0.03, 0.3, 1.0, 6.0, 1e6, 1e300])
def test_smooth_keeps_constants_up_to_the_border(shape, sigma: float, window: str) -> None:
    field = torch.full((1, 2, *shape), 3.7, dtype=torch.float64)
    torch.testing.assert_close(ref.smooth(field, [sigma] * len(shape), 1.0, window), field)


def test_smooth_at_the_border_is_the_weighted_mean_of_what_there_is() -> None:
    line = rand(1, 1, 6, 1)
    weights = np.exp(-0.5 * (np.arange(6)[:, None] - np.arange(6)) ** 2 / 1.2**2)
    weights[np.abs(np.arange(6)[:, None] - np.arange(6)) > 4] = 0
    weights /= weights.sum(1, keepdims=True)
    truth = weights @ line[0, 0, :, 0].numpy()
    np.testing.assert_allclose(ref.smooth(line, [1.2, 1.2])[0, 0, :, 0].numpy(), truth)


def test_smooth_has_no_part_in_axes_of_one_sample_or_tiny_sigma() -> None:
    field = rand(1, 3, 1, 8, 9)
    torch.testing.assert_close(ref.smooth(field, [5.0, 0.0, 0.01]), field, rtol=0, atol=0)


# ------------------------------------------------------------------------------ windows
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [0, 1, 2, 4])
def test_box_sum_and_count_by_brute_force(shape: tuple[int, ...], radius: int) -> None:
    field = rand(1, 2, *shape)
    total, count = ref.box_sum(field, radius), ref.box_count(shape, radius, field)
    assert count.shape == (1, 1, *shape)
    for place in np.ndindex(*shape):
        window = tuple(slice(max(0, i - radius), i + radius + 1) for i in place)
        block = field[0, :, *window].reshape(2, -1)
        assert count[0, 0, *place] == block.shape[1]
        torch.testing.assert_close(total[0, :, *place], block.sum(1))


def test_box_sum_leaves_its_input_alone() -> None:
    field = rand(1, 1, 5, 6)
    before = field.clone()
    ref.box_sum(field, 2)
    torch.testing.assert_close(field, before, rtol=0, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [0, 1, 2, 4])
def test_gaussian_sum_and_count_by_brute_force(shape: tuple[int, ...], radius: int) -> None:
    field = rand(1, 2, *shape)
    total, count = ref.gaussian_sum(field, radius), ref.gaussian_count(shape, radius, field)
    assert count.shape == (1, 1, *shape)
    grid = identity(shape)
    for place in np.ndindex(*shape):
        away = grid - torch.tensor(place, dtype=torch.float64).view(-1, *[1] * len(shape))
        weight = torch.exp(-0.5 * (away / max(radius / 2, 0.1)) ** 2).prod(0)
        weight = weight * (away.abs() <= radius).all(0)
        torch.testing.assert_close(count[0, 0, *place], weight.sum())
        torch.testing.assert_close(total[0, :, *place], (field[0] * weight).flatten(1).sum(1))
