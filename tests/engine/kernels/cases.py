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
