"""The CUDA text of Jacobian determinants and strict folds, run on the CPU, against plain torch."""

from __future__ import annotations

import pytest
import torch

from fireants_engine.kernels import jacobian as reference
from fireants_engine.kernels.native import jacobian as fast
from tests.engine.kernels.cases import field
from tests.engine.kernels.shim import cuda_kernels

__all__ = ["cuda_kernels"]

SIZES = [(5, 7), (1, 9), (9, 1), (1, 1), (33, 300), (4, 5, 6), (3, 1, 70), (1, 4, 5), (2, 2, 2)]
SIZES += [(1, 1, 1), (35, 9, 33)]  # several blocks along every axis


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["calm", "rough", "zero determinants", "wild", "invalid"])
@pytest.mark.parametrize("size", SIZES)
def test_strict_folds_are_the_same_voxels(size, kind: str, dtype: torch.dtype) -> None:
    u = field(size, kind, dtype)
    assert torch.equal(fast.strict_fold_mask(u), reference.strict_fold_mask(u))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["rough", "invalid"])
@pytest.mark.parametrize("size", SIZES)
def test_determinants(size: tuple[int, ...], kind: str, dtype: torch.dtype) -> None:
    u = field(size, kind, dtype)
    found, truth = fast.jacobian_determinant(u), reference.jacobian_determinant(u)
    rel = 1e-10 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found, truth, rtol=rel, atol=rel, equal_nan=True)


@pytest.mark.parametrize("size", [(6, 40), (5, 9, 8)])
def test_every_row_of_a_batch(size: tuple[int, ...]) -> None:
    one, other = (
        field(size, "rough", torch.float64),
        field(size, "zero determinants", torch.float64),
    )
    for measure in (fast.strict_fold_mask, fast.jacobian_determinant):
        rows = measure(torch.cat([one, other]))
        assert torch.equal(rows[:1], measure(one))
        assert torch.equal(rows[1:], measure(other))
