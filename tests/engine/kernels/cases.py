"""What the tests of fused kernels share; needs torch alone.

Tensors are made on torch's default device, which the tests of CUDA kernels set.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SIZES = [(7, 9), (1, 40), (65, 3), (5, 6, 7), (1, 33, 20), (9, 1, 34), (4, 18, 65)]
WIDE = torch.float64


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = WIDE) -> Tensor:
    made = torch.randn(
        shape, dtype=dtype, generator=torch.Generator().manual_seed(seed), device="cpu"
    )
    return made.to(torch.get_default_device())


def maps(rows: int, dim: int, dtype: torch.dtype = WIDE) -> Tensor:
    """Near the identity, off the grid."""
    return torch.eye(dim, dim + 1, dtype=dtype) + 0.05 * noise(rows, dim, dim + 1, dtype=dtype)


def close(found: Tensor, truth: Tensor, rel: float) -> None:
    """Within `rel` of the largest value."""
    assert found.shape == truth.shape
    assert found.dtype == truth.dtype
    size = float(truth.abs().max().clamp(min=1e-30))
    assert float((found - truth).abs().max()) <= rel * size


def gradients(sampler: Callable, *leaves: Tensor, **how) -> list[Tensor]:
    """Value and gradients by image, matrix, u for a random weighting."""
    image, matrix, u = (leaf.clone().requires_grad_() for leaf in leaves)
    out = sampler(image, matrix, u.shape[2:], u, **how)
    loss = (out * noise(*out.shape, seed=9).to(out.dtype)).sum()
    return [out.detach(), *torch.autograd.grad(loss, (image, matrix, u))]


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = WIDE) -> Tensor:
    """Even in [0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.rand(shape, dtype=WIDE, generator=generator, device="cpu")
    return made.to(torch.get_default_device(), dtype)


def pair(size: tuple[int, ...], dtype: torch.dtype, rows: int = 1, channels: int = 1):
    """Moving, fixed and their ranges; some moving samples lie beyond theirs."""
    moving = rand(rows, channels, *size, dtype=dtype) * 50 - 10
    fixed = moving * 0.5 + rand(rows, channels, *size, seed=1, dtype=dtype) * 9
    ends = [torch.stack(image.flatten(1).aminmax(dim=1), 1) for image in (moving, fixed)]
    ends[0] += torch.tensor([3.0, -2.0], dtype=dtype)
    return moving, fixed, *ends


def both(kernels, moving: Tensor, *rest, **how) -> tuple[Tensor, Tensor]:
    """Mutual information and its gradient, every row of another weight."""
    leaf = moving.clone().requires_grad_()
    value = kernels.parzen_mi(leaf, *rest, **how)
    rows = torch.arange(1, len(value) + 1).to(value.dtype)
    (grad,) = torch.autograd.grad((value * rows).sum(), leaf)
    return value.detach(), grad


def field(size: tuple[int, ...], kind: str, dtype: torch.dtype) -> Tensor:
    """A displacement of one row: calm, rough, wild, with zero determinants, or invalid."""
    u = noise(1, len(size), *size, seed=1)
    if kind == "invalid":
        u.view(-1)[::7], u.view(-1)[3::11] = torch.nan, torch.inf
    made = {"calm": 0.1 * u, "zero determinants": (2 * u).round(), "wild": 1e6 * u}
    return made.get(kind, u).to(dtype)


def label_map(size: tuple[int, ...], dtype: torch.dtype = torch.int32, count: int = 4) -> Tensor:
    """Labels below `count`."""
    generator = torch.Generator().manual_seed(len(size))
    made = torch.randint(0, count, size, generator=generator, device="cpu")
    return made.to(torch.get_default_device(), dtype)


def places(size: tuple[int, ...], slab: tuple[int, ...], steps: int = 0) -> Tensor:
    """Up to two voxels beyond a map; on multiples of 1 / steps, where sums are equal."""
    room = torch.tensor(size).view(-1, *(1,) * len(slab))
    coords = rand(len(size), *slab, seed=7) * (room + 3) - 2
    return (coords * steps).round() / steps if steps else coords


def by_tiles(kernels, grad: Tensor, tile: int) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt's direction and peaks for two pairs; the rows of each are its halves."""
    damping = torch.tensor([0.5, 2.0], dtype=grad.dtype)
    return kernels.levenberg_marquardt(grad.clone(), damping, tile)
