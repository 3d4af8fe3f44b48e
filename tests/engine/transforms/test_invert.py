"""The numerical inverse of large and steep displacement fields."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from fireants_engine.kernels import reference as ref
from fireants_engine.ops import count_folds
from fireants_engine.transforms.invert import invert, resize_displacement

SHAPES = [(48, 61), (33, 40, 26), (20, 40, 40), (1, 44, 50)]


def diffeomorphism(shape: tuple[int, ...], largest: float, seed: int) -> Tensor:
    """Random smooth flow of at least `largest` voxels without folds; (1, d, *shape)."""
    dim = len(shape)
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn((1, dim, *shape), generator=generator, dtype=torch.float64)
    v = ref.smooth(v, [0.0 if n == 1 else 9.0 for n in shape])
    for axis, n in enumerate(shape):
        if n == 1:
            v[:, axis] = 0
            continue
        edge = torch.sin(torch.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n)
        v = v * edge.view([-1 if k == axis else 1 for k in range(dim)])
    v = v * (0.4 / v.abs().max())
    u = torch.zeros_like(v)
    while float(u.norm(dim=1).max()) < largest:
        u = ref.compose(v, u)
    return u


def residuals(u: Tensor, v: Tensor) -> np.ndarray:
    """|x + v + u(x + v) - x| in voxels where x + v(x) lies on the grid; u by scipy."""
    dim, *shape = u.shape[1:]
    x = np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in shape], indexing="ij"))
    at = x + v[0].numpy()
    moved = [map_coordinates(u[0, k].numpy(), at, order=1, mode="nearest") for k in range(dim)]
    error = np.linalg.norm(at + np.stack(moved) - x, axis=0)
    last = np.array(shape).reshape(-1, *[1] * dim) - 1
    return error[((at >= 0) & (at <= last)).all(axis=0)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("largest", [2.0, 8.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smooth_diffeomorphisms_up_to_eight_voxels(shape, largest, dtype) -> None:
    u = diffeomorphism(shape, largest, seed=len(shape))
    assert count_folds(u)[0] == 0
    v = invert(u.to(dtype)).double()
    error = residuals(u, v)
    assert error.size > 0.7 * np.prod(shape)
    assert error.mean() <= 0.05
    assert error.max() <= 0.5
    back = residuals(v, u)  # and from the other side
    assert back.mean() <= 0.05
    assert back.max() <= 0.5


@pytest.mark.parametrize("shape", [(40, 64), (24, 40, 28)])
def test_steep_fields_without_folds(shape: tuple[int, ...]) -> None:
    """|grad u| of 1.4: the fixed-point iteration alone diverges there, Newton has to finish."""
    dim = len(shape)
    n = shape[-1]
    x = torch.arange(n, dtype=torch.float64)
    u = torch.zeros(1, dim, *shape, dtype=torch.float64)
    u[0, -1] = 6 * torch.sigmoid(x - n / 2) - 3
    assert float(u.diff(dim=-1).abs().max()) > 1.3
    assert count_folds(u)[0] == 0
    error = residuals(u, invert(u))
    assert error.mean() <= 0.05
    assert error.max() <= 0.5


def test_of_a_shift_it_is_the_shift_back() -> None:
    u = torch.full((1, 3, 9, 12, 30), 2.25)
    torch.testing.assert_close(invert(u), -u, rtol=0, atol=1e-4)


def test_of_no_motion_it_is_none() -> None:
    u = torch.zeros(1, 2, 30, 40)
    torch.testing.assert_close(invert(u), u, rtol=0, atol=0)


def test_of_a_scaling_about_the_centre() -> None:
    """phi(x) = c + s (x - c) has the inverse c + (x - c) / s."""
    x = torch.arange(41, dtype=torch.float64) - 20
    u = torch.zeros(1, 2, 41, 41, dtype=torch.float64)
    u[0, 0], u[0, 1] = 0.25 * x[:, None], -0.2 * x[None]
    v = invert(u)
    inside = slice(10, 31)
    torch.testing.assert_close(
        v[0, 0, inside, inside], (x[:, None] * (1 / 1.25 - 1)).expand(41, 41)[inside, inside],
        rtol=0, atol=0.02,
    )  # fmt: skip
    torch.testing.assert_close(
        v[0, 1, inside, inside], (x[None] * (1 / 0.8 - 1)).expand(41, 41)[inside, inside],
        rtol=0, atol=0.02,
    )  # fmt: skip


def test_the_field_given_is_left_alone() -> None:
    u = diffeomorphism((30, 34), 3.0, seed=1)
    before = u.clone()
    invert(u)
    torch.testing.assert_close(u, before, rtol=0, atol=0)


# ------------------------------------------------------------------------------ resizing
@pytest.mark.parametrize("shape", [(12, 16), (8, 12, 10)])
@pytest.mark.parametrize("factor", [2.0, 1.5, 0.5])
def test_resized_displacements_move_by_the_same_share_of_the_field_of_view(shape, factor) -> None:
    new = tuple(round(n * factor) if k else n for k, n in enumerate(shape))  # anisotropic
    u = torch.zeros(1, len(shape), *shape, dtype=torch.float64)
    for axis, n in enumerate(shape):
        u[0, axis] = 0.25 * n
    got = resize_displacement(u, new)
    for axis, n in enumerate(new):
        torch.testing.assert_close(got[0, axis], torch.full(new, 0.25 * n).double())


def test_resizing_never_overshoots() -> None:
    """Linear, not cubic: no value beyond those there were (thesis 3.5)."""
    u = torch.zeros(1, 2, 10, 10)
    u[..., 5:, :] = 1.0
    up = resize_displacement(u, (20, 20)) / 2
    assert float(up.min()) >= 0
    assert float(up.max()) <= 1 + 1e-6
