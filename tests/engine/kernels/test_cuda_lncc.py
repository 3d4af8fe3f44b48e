"""The CUDA text of LNCC, run on the CPU, against plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fireants_engine.kernels import lncc as reference
from fireants_engine.kernels.cuda import launch
from fireants_engine.kernels.cuda import lncc as entry
from fireants_engine.kernels.lncc import Scaling
from fireants_engine.kernels.native import lncc as fast
from tests.engine.kernels.cases import WIDE, close, noise
from tests.engine.kernels.shim import cuda_kernels

__all__ = ["cuda_kernels"]


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds NaN: whatever is not written shows."""

    def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.full(tuple(shape), float("nan"), dtype=dtype, device=device)

    def parts(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return empty(shape, dtype or self.like.dtype, self.like.device)

    monkeypatch.setattr(fast, "empty", empty)
    monkeypatch.setattr(launch.Kernels, "parts", parts)


def run(
    kernels, moving, fixed, weight, radius, mask=None, window="box", scalings=(None, None), **how
) -> list[Tensor]:
    """Value and the gradients by both images of one sum of the rows."""
    images = [t.clone().requires_grad_() for t in (moving, fixed)]
    stats = kernels.window_stats(images[1], radius, 1e-2, mask, window=window, scaling=scalings[1])
    value = kernels.lncc(*images, stats, weight, radius, 1e-2, scaling=scalings[0], **how)
    rows = torch.arange(1, len(value) + 1, dtype=value.dtype)
    return [value.detach(), *torch.autograd.grad((value * rows).sum(), images)]


def agree(given: tuple, rel: float = 1e-10, **how) -> None:
    for found, truth in zip(run(fast, *given, **how), run(reference, *given, **how), strict=True):
        close(found, truth, rel)


def related(*shape: int, dtype: torch.dtype = WIDE) -> tuple[Tensor, Tensor]:
    moving = noise(*shape)
    return moving.to(dtype), (noise(*shape, seed=1) + 0.5 * moving).to(dtype)


def a_mask(rows: int, *size: int) -> Tensor:
    """Shares of samples; in the first third none."""
    mask = noise(rows, 1, *size, seed=5).abs().clamp(max=1)
    mask[..., : max(1, size[-1] // 3)] = 0
    return mask


def scalings(rows: int) -> tuple[Scaling, Scaling]:
    first, second = (Scaling(noise(rows, seed=s), 0.5 + noise(rows, seed=s).abs()) for s in (7, 8))
    return first, second


@pytest.mark.parametrize("size", [(9, 40), (17, 1), (4, 9, 33), (5, 1, 35), (2, 3, 4)])
def test_values_and_gradients(size: tuple[int, ...]) -> None:
    """Of sizes beside a tile's, and of windows larger than the image."""
    agree((*related(2, 2, *size), torch.ones(1, dtype=WIDE), 2), scalings=scalings(2))


@pytest.mark.parametrize(
    ("radius", "window", "masked"),
    [(2, "box", True), (2, "gaussian", False), (6, "box", False), (6, "gaussian", True)],
)
def test_windows_in_registers_and_wider_ones(radius: int, window: str, masked: bool) -> None:
    size = (9, 11, 34)
    mask = a_mask(2, *size) if masked else None
    weight = noise(1, 1, *size, seed=6).abs()
    agree((*related(2, 1, *size), weight, radius), mask=mask, window=window, scalings=scalings(2))


@pytest.mark.parametrize("sizes", [(2, 1, 1, 1, 1), (2, 1, 1, 1), (3, 7, 34), (2, 2, 3, 7, 34)])
def test_weights_of_all_kinds_and_one_mask_for_all(sizes: tuple[int, ...]) -> None:
    weight = noise(*sizes, seed=6).abs()
    agree((*related(2, 2, 3, 7, 34), weight, 2), mask=a_mask(1, 3, 7, 34), scalings=scalings(2))


@pytest.mark.parametrize(("gradient", "radius"), [("exact", 2), ("approximate", 5)])
def test_correlation_with_its_sign(gradient: str, radius: int) -> None:
    weight = noise(1, 1, 5, 9, 11, seed=6).abs()
    agree((*related(2, 1, 5, 9, 11), weight, radius), gradient=gradient, squared=False)


def test_another_radius() -> None:
    agree((*related(1, 1, 11, 10, 12), torch.full((1,), 0.1, dtype=WIDE), 4))


def test_windows_of_one_sample_have_nothing_to_correlate() -> None:
    for found in run(fast, *related(1, 1, 5, 9, 11), torch.ones(1, dtype=WIDE), 0):
        assert float(found.abs().max()) < 1e-12


@pytest.mark.parametrize("radius", [1, 3])
def test_single_precision(radius: int) -> None:
    """Of two lines a thread in both passes, and in the first alone."""
    moving, fixed = related(1, 1, 7, 19, 40)
    weight = torch.full((1,), 1 / 5320, dtype=WIDE)
    found = run(fast, moving.float(), fixed.float(), weight.float(), radius)
    for one, truth in zip(found, run(reference, moving, fixed, weight, radius), strict=True):
        close(one, truth.float(), 1e-5)


def test_chunks_along_z_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, weight = (1, 1, 9, 10, 33), torch.ones(1, dtype=WIDE)
    for depth in (1, 4, 9):
        monkeypatch.setattr(entry, "_depth", lambda *_, depth=depth: depth)
        agree((*related(*shape), weight, 2))


@pytest.mark.parametrize(
    ("gradient", "radius", "only"), [("exact", 2, 0), ("approximate", 2, 1), ("exact", 5, 1)]
)
def test_one_gradient_alone(gradient: reference.Gradient, radius: int, only: int) -> None:
    moving, fixed = related(1, 2, 5, 9, 11)
    weight, mask = noise(1, 1, 5, 9, 11, seed=6).abs(), a_mask(1, 5, 9, 11)
    _, *both = run(reference, moving, fixed, weight, radius, mask, gradient=gradient)
    one = (moving, fixed)[only].requires_grad_()
    stats = fast.window_stats(fixed, radius, 1e-2, mask)
    value = fast.lncc(moving, fixed, stats, weight, radius, 1e-2, gradient=gradient)
    close(torch.autograd.grad(value.sum(), one)[0], both[only], 1e-10)


@pytest.mark.parametrize("radius", [2, 5])
def test_a_value_alone(radius: int) -> None:
    moving, fixed = related(2, 1, 5, 9, 11)
    weight = torch.ones(1, dtype=WIDE)
    truth, *_ = run(reference, moving, fixed, weight, radius)
    stats = fast.window_stats(fixed, radius, 1e-2)
    close(fast.lncc(moving, fixed, stats, weight, radius, 1e-2), truth, 1e-10)


def test_an_invalid_sample_invalidates_the_value_and_its_own_windows() -> None:
    moving, fixed = related(1, 1, 9, 10, 40)
    moving[0, 0, 4, 5, 20] = torch.nan
    value, *grads = run(fast, moving, fixed, torch.ones(1, dtype=WIDE), 2)
    _, *truths = run(reference, moving, fixed, torch.ones(1, dtype=WIDE), 2)
    assert bool(value.isnan().all())
    for found, truth in zip(grads, truths, strict=True):
        assert torch.equal(found.isnan(), truth.isnan())
        close(found.nan_to_num(), truth.nan_to_num(), 1e-10)


def test_blocks_are_as_deep_as_fills_the_device() -> None:
    assert entry._depth(1, 50, 0) == 1
    assert entry._depth(40, 9999, 6) == 40  # tiles enough: no plane is summed twice
    assert entry._depth(40, 8, 6) < 10
