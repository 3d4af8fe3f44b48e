"""Jacobian determinants and strict folds of the CPU library: those of plain torch."""

from __future__ import annotations

import pytest
import torch

from fireants_engine.kernels import jacobian as reference
from fireants_engine.kernels.native import library

if why := library.problem():
    pytest.skip(why, allow_module_level=True)

from fireants_engine.kernels.native import jacobian as native
from fireants_engine.kernels.native import memory
from tests.engine.kernels.cases import field

CPU = torch.device("cpu")
SIZES = [
    (5, 7),
    (1, 9),
    (9, 1),
    (1, 1),
    (4, 5, 6),
    (3, 1, 70),
    (1, 4, 5),
    (2, 2, 2),
    (1, 1, 1),
    (9, 33, 65),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["calm", "rough", "zero determinants", "wild", "invalid"])
@pytest.mark.parametrize("size", SIZES)
def test_strict_folds_are_the_same_voxels(size, kind: str, dtype: torch.dtype) -> None:
    u = field(size, kind, dtype)
    assert torch.equal(native.strict_fold_mask(u), reference.strict_fold_mask(u))


@pytest.mark.parametrize("size", SIZES)
def test_determinants(size: tuple[int, ...]) -> None:
    u = field(size, "rough", torch.float64)
    torch.testing.assert_close(native.jacobian_determinant(u), reference.jacobian_determinant(u))
    rows = torch.cat([u, 2 * u])
    assert torch.equal(native.jacobian_determinant(rows)[:1], native.jacobian_determinant(u))
    assert torch.equal(native.strict_fold_mask(rows)[:1], native.strict_fold_mask(u))


def test_the_same_bits_for_any_number_of_threads_in_memory_that_held_nan() -> None:
    u = field((62, 70, 65), "rough", torch.float32)
    memory.empty((1, 1, *u.shape[2:]), torch.float32, CPU).fill_(torch.nan)  # and given back
    memory.empty((1, 1, *u.shape[2:]), torch.uint8, CPU).fill_(7)
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            found.append((native.strict_fold_mask(u), native.jacobian_determinant(u)))
    finally:
        torch.set_num_threads(threads)
    assert bool(torch.isfinite(found[0][1]).all())
    assert set(found[0][0].view(torch.uint8).unique().tolist()) == {0, 1}
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_a_field_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="no field of 2 or 3 axes"):
        native.strict_fold_mask(torch.zeros(1, 3, 4, 5))
