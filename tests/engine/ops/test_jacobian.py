"""Jacobian determinants and the strict fold count, against loops over all stencils."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from fireants_engine.ops import count_folds, jacobian_determinant, strict_fold_mask

SHAPES = [(7, 9), (2, 5), (1, 6), (6, 1), (5, 4, 6), (2, 3, 2), (1, 5, 4), (4, 1, 5)]


def noise(shape: tuple[int, ...], size: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn((1, len(shape), *shape), generator=generator, dtype=torch.float64)


def identity(shape: tuple[int, ...]) -> Tensor:
    axes = [torch.arange(n, dtype=torch.float64) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def folds_by_loop(u: np.ndarray) -> np.ndarray:
    """True where a determinant of one of the 2^d one-sided stencils inside the grid is <= 0."""
    dim, *shape = u.shape
    phi = u + np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    out = np.zeros(shape, dtype=bool)
    for place in np.ndindex(*shape):
        per_axis = []
        for axis, n in enumerate(shape):
            steps = [s for s in (-1, 1) if 0 <= place[axis] + s < n]
            columns = []
            for s in steps:
                other = tuple(p + s * (k == axis) for k, p in enumerate(place))
                columns.append(s * (phi[(slice(None), *other)] - phi[(slice(None), *place)]))
            per_axis.append(columns or [np.eye(dim)[axis]])
        out[place] = any(
            np.linalg.det(np.stack(columns)) <= 0 for columns in itertools.product(*per_axis)
        )
    return out


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [0.15, 0.4])
def test_strict_folds_are_those_of_every_one_sided_stencil(shape, size) -> None:
    u = noise(shape, size)
    truth = folds_by_loop(u[0].numpy())
    np.testing.assert_array_equal(strict_fold_mask(u)[0, 0].numpy(), truth)


@pytest.mark.parametrize("shape", [(1500, 700), (5, 600, 600)])
def test_slabs_do_not_show(shape: tuple[int, ...]) -> None:
    """More than a million voxels are counted slab by slab: folds on the seams count once."""
    u = torch.zeros(1, len(shape), *shape)
    rows = 1_000_000 // int(np.prod(shape[1:]))
    assert 1 < rows < shape[0]  # otherwise nothing is cut
    middle = tuple(n // 2 for n in shape[1:])
    u[(0, 0, rows, *middle)] = 1.5  # past the next row: folds here and there, not before
    around = (slice(max(0, rows - 3), rows + 4), *[slice(m - 3, m + 4) for m in middle])
    truth = folds_by_loop(u[(0, slice(None), *around)].double().numpy())
    mask = strict_fold_mask(u)[0, 0]
    np.testing.assert_array_equal(mask[around].numpy(), truth)
    assert int(mask.sum()) == truth.sum() > 0


def test_a_checkerboard_folds_although_central_differences_see_none() -> None:
    """LESSONS 25: shifting every other voxel by 1.8 folds half of all cells."""
    y, x = np.indices((32, 32))
    u = torch.zeros(1, 2, 32, 32)
    u[0, 0] = torch.from_numpy(1.8 * ((y + x) % 2)).float()
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert float(jacobian_determinant(u)[inner].min()) > 0
    assert count_folds(u)[1] >= 0.5


@pytest.mark.parametrize("shape", [(7, 9), (5, 4, 6)])
def test_an_affine_displacement_has_its_determinant_everywhere(shape: tuple[int, ...]) -> None:
    dim = len(shape)
    linear = 0.3 * torch.randn(dim, dim, generator=torch.Generator().manual_seed(3)).double()
    u = torch.einsum("ij,j...->i...", linear, identity(shape))[None] + 0.7
    truth = float(torch.linalg.det(torch.eye(dim) + linear))
    got = jacobian_determinant(u)
    assert got.shape == (1, 1, *shape)
    torch.testing.assert_close(got, torch.full_like(got, truth), rtol=1e-12, atol=1e-12)
    assert count_folds(u) == ((0, 0.0) if truth > 0 else (int(np.prod(shape)), 1.0))


@pytest.mark.parametrize("shape", [(7, 9), (5, 4, 6)])
def test_a_reflection_folds_everywhere(shape: tuple[int, ...]) -> None:
    u = torch.zeros(1, len(shape), *shape, dtype=torch.float64)
    u[0, 0] = -2 * identity(shape)[0]
    assert count_folds(u) == (int(np.prod(shape)), 1.0)


def test_the_determinant_is_signed_and_second_order_inside() -> None:
    """Error of a smooth map falls fourfold with half the spacing."""
    errors = []
    for n in (32, 64):
        x = identity((n, n)) * (2 * np.pi / n)
        size = 0.3 * n / (2 * np.pi)
        u = torch.stack([size * torch.sin(x[0] + x[1]), size * torch.cos(x[0])])[None]
        a, b = 0.3 * torch.cos(x[0] + x[1]), -0.3 * torch.sin(x[0])
        truth = (1 + a) * 1 - a * b
        gap = (jacobian_determinant(u)[0, 0] - truth)[2:-2, 2:-2].abs().max()
        errors.append(float(gap))
    assert 3.6 < errors[0] / errors[1] < 4.4


def test_nan_counts_as_a_fold() -> None:
    u = torch.zeros(1, 2, 6, 6)
    u[0, 1, 3, 3] = float("nan")
    assert bool(strict_fold_mask(u)[0, 0, 3, 3])


def test_the_mask_limits_count_and_fraction() -> None:
    u = noise((8, 8), 0.6)
    folded = strict_fold_mask(u)
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[..., :3] = True
    count, fraction = count_folds(u, mask)
    assert count == int(folded[..., :3].sum()) > 0
    assert fraction == count / 24
    assert count_folds(u, torch.zeros_like(mask)) == (0, 0.0)
