"""The CUDA text of sampler and composition, run on the CPU, against plain torch."""

from __future__ import annotations

import pytest
import torch

from fireants_engine.kernels import reference
from fireants_engine.kernels.native import warp as fast
from tests.engine.kernels.cases import SIZES, close, gradients, maps, noise
from tests.engine.kernels.shim import cuda_kernels

__all__ = ["cuda_kernels"]


@pytest.mark.parametrize("border", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(size: tuple[int, ...], border: bool) -> None:
    dim = len(size)
    image = noise(2, 3, *(n + 2 for n in size), seed=1)
    leaves = image, maps(2, dim), 1.5 * noise(2, dim, *size, seed=3)
    for found, truth in zip(
        gradients(fast.warp, *leaves, border=border),
        gradients(reference.warp, *leaves, border=border),
        strict=True,
    ):
        close(found, truth, 1e-10)


@pytest.mark.parametrize("shared", ["image", "matrix", "u"])
def test_one_of_a_batch_that_serves_all_rows(shared: str) -> None:
    rows = {name: 1 if name == shared else 3 for name in ("image", "matrix", "u")}
    image = noise(rows["image"], 2, 6, 5, 7)
    leaves = image, maps(rows["matrix"], 3), noise(rows["u"], 3, 4, 5, 6, seed=2)
    for found, truth in zip(
        gradients(fast.warp, *leaves), gradients(reference.warp, *leaves), strict=True
    ):
        close(found, truth, 1e-10)


def test_single_precision() -> None:
    leaves = (
        noise(1, 1, 9, 8, 10).float(),
        maps(1, 3).float(),
        noise(1, 3, 6, 7, 8, seed=4).float(),
    )
    for found, truth in zip(
        gradients(fast.warp, *leaves), gradients(reference.warp, *leaves), strict=True
    ):
        close(found, truth, 1e-5)


def test_without_u_and_nearest() -> None:
    image = noise(2, 1, 6, 7, 8)
    matrix = maps(2, 3)
    close(fast.warp(image, matrix, (5, 6, 7)), reference.warp(image, matrix, (5, 6, 7)), 1e-10)
    u = noise(2, 3, 5, 6, 7, seed=5)
    for border in (True, False):
        found = fast.warp(image, matrix, (5, 6, 7), u, nearest=True, border=border)
        truth = reference.warp(image, matrix, (5, 6, 7), u, nearest=True, border=border)
        assert torch.equal(found, truth)


@pytest.mark.parametrize("size", SIZES)
def test_composition_by_a_factor_per_row(size: tuple[int, ...]) -> None:
    v, u = noise(3, len(size), *size), noise(3, len(size), *size, seed=1)
    v[2, :, ..., 0] = torch.nan  # a row that does not move is not touched by it
    scale = torch.tensor([1.0, -0.5, 0.0], dtype=v.dtype)
    close(fast.compose(v, u, scale), reference.compose(v, u, scale), 1e-10)
    close(fast.compose(v[:2], u[:2]), reference.compose(v[:2], u[:2]), 1e-10)


def test_a_coordinate_that_is_no_number_takes_no_sample() -> None:
    image = noise(1, 2, 5, 6)
    u = noise(1, 2, 5, 6, seed=1)
    u[0, 0, 2, 3] = torch.nan
    _, by_image, by_matrix, by_u = gradients(fast.warp, image, maps(1, 2), u)
    assert fast.warp(image, maps(1, 2), (5, 6), u)[:, :, 2, 3].isnan().all()
    assert all(bool(g.isfinite().all()) for g in (by_image, by_matrix, by_u))
    assert (by_u[:, :, 2, 3] == 0).all()


def test_gradients_of_an_image_have_the_same_bits_however_they_are_added() -> None:
    """Also where a thousand samples fall on one voxel."""
    image = noise(1, 1, 6, 6, 6).requires_grad_()
    u = -torch.ones(1, 3, 10, 10, 10, dtype=torch.float64) * torch.arange(10.0).view(1, 1, 10, 1, 1)
    weights = noise(1, 1, 10, 10, 10, seed=2)
    eye = torch.eye(3, 4, dtype=torch.float64)
    out = fast.warp(image, eye, (10, 10, 10), u, border=True)
    (found,) = torch.autograd.grad((out * weights).sum(), image)
    out = reference.warp(image, eye, (10, 10, 10), u, border=True)
    (truth,) = torch.autograd.grad((out * weights).sum(), image)
    close(found, truth, 1e-10)
