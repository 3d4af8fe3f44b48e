"""Fused LNCC against plain torch: values and both gradients."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from fireants_engine.kernels import lncc as reference
from fireants_engine.kernels.lncc import Scaling
from fireants_engine.kernels.native import library, memory

if why := library.problem():
    pytest.skip(why, allow_module_level=True)

from fireants_engine.kernels.native import lncc as native

WIDE = torch.float64
SHAPES = [
    (2, 2, 9, 7),
    (1, 1, 1, 40),
    (1, 2, 13, 1),
    (2, 2, 5, 9, 11),
    (1, 1, 6, 1, 70),
    (2, 1, 2, 3, 4),
]


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds NaN: whatever is not written shows."""

    def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.full(tuple(shape), float("nan"), dtype=dtype, device=device)

    monkeypatch.setattr(native, "empty", empty)


def rand(*shape: int, seed: int, dtype: torch.dtype = WIDE) -> Tensor:
    return torch.randn(shape, dtype=WIDE, generator=torch.Generator().manual_seed(seed)).to(dtype)


def masks(kind: str, shape: tuple[int, ...]) -> Tensor | None:
    """Shares of samples; in the first third none."""
    if kind == "none":
        return None
    mask = rand(shape[0] if kind == "per row" else 1, 1, *shape[2:], seed=5).abs().clamp(max=1)
    mask[..., : max(1, shape[-1] // 3)] = 0
    return mask


def weights(kind: str, shape: tuple[int, ...]) -> Tensor:
    rows, _, *spatial = shape
    ones = (1,) * (len(shape) - 1)
    made = {
        "number": rand(1, *ones, seed=6),
        "per row": rand(rows, *ones, seed=6),
        "field": rand(1, 1, *spatial, seed=6),
        "whole": rand(*shape, seed=6),
    }
    return made[kind].abs()


def run(
    kernels, moving, fixed, weight, radius, mask=None, window="box", scalings=(None, None), **how
):
    """Value and the gradients by both images of one sum of the rows."""
    images = [t.clone().requires_grad_() for t in (moving, fixed)]
    stats = kernels.window_stats(images[1], radius, 1e-2, mask, window=window, scaling=scalings[1])
    value = kernels.lncc(*images, stats, weight, radius, 1e-2, scaling=scalings[0], **how)
    rows = torch.arange(1, len(value) + 1, dtype=value.dtype)
    return [value.detach(), *torch.autograd.grad((value * rows).sum(), images)]


def agree(found: list[Tensor], truth: list[Tensor], rel: float) -> None:
    for a, b in zip(found, truth, strict=True):
        assert a.shape == b.shape
        assert float((a.double() - b.double()).abs().max()) <= rel * max(
            1e-30, float(b.abs().max())
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("window", ["box", "gaussian"])
@pytest.mark.parametrize("radius", [1, 2, 3, 5])
def test_value_and_gradients(shape: tuple[int, ...], window: str, radius: int) -> None:
    moving, fixed = rand(*shape, seed=0), rand(*shape, seed=1)
    fixed = fixed + 0.5 * moving
    rows = shape[0]
    scalings = tuple(Scaling(rand(rows, seed=s), 0.5 + rand(rows, seed=s).abs()) for s in (7, 8))
    kinds = itertools.product(
        ("none", "one", "per row"),
        ("number", "per row", "field", "whole"),
        (True, False),
        ("exact", "approximate"),
    )
    for number, (mask, weight, squared, gradient) in enumerate(kinds):
        if (number + radius) % 3:
            continue
        how = {"mask": masks(mask, shape), "window": window, "squared": squared}
        how |= {"gradient": gradient, "scalings": scalings if number % 2 else (None, None)}
        given = (moving, fixed, weights(weight, shape), radius)
        agree(run(native, *given, **how), run(reference, *given, **how), 1e-10)


@pytest.mark.parametrize("shape", [(1, 1, 40, 60), (1, 1, 20, 30, 40)])
@pytest.mark.parametrize("window", ["box", "gaussian"])
def test_single_precision(shape: tuple[int, ...], window: str) -> None:
    moving, fixed = rand(*shape, seed=0), rand(*shape, seed=1)
    weight = torch.full((1,) * len(shape), 1 / moving.numel(), dtype=WIDE)
    truth = run(reference, moving, fixed, weight, 2, window=window)
    found = run(native, *(t.float() for t in (moving, fixed, weight)), 2, window=window)
    assert all(t.dtype == torch.float32 for t in found)
    agree(found, truth, 1e-5)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    moving, fixed = rand(1, 1, 30, 50, 60, seed=0), rand(1, 1, 30, 50, 60, seed=1)
    weight, threads, found = torch.ones(1, 1, 1, 1, 1, dtype=WIDE), torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            found.append(run(native, moving, fixed, weight, 2))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_without_gradients_and_twice_backwards() -> None:
    moving, fixed = rand(1, 1, 6, 7, 8, seed=0).requires_grad_(), rand(1, 1, 6, 7, 8, seed=1)
    weight = torch.ones(1, 1, 1, 1, 1, dtype=WIDE)
    stats = native.window_stats(fixed, 2, 1e-2)
    with torch.no_grad():
        alone = native.lncc(moving, fixed, stats, weight, 2, 1e-2)
    value = native.lncc(moving, fixed, stats, weight, 2, 1e-2)
    assert not alone.requires_grad
    assert torch.equal(alone, value.detach())
    once = torch.autograd.grad(2 * value.sum(), moving, retain_graph=True)[0].clone()
    assert torch.equal(once, torch.autograd.grad(2 * value.sum(), moving)[0])


def test_an_invalid_sample_gives_an_invalid_value() -> None:
    moving, fixed = rand(1, 1, 9, 10, 40, seed=0), rand(1, 1, 9, 10, 40, seed=1)
    moving[0, 0, 4, 5, 20] = torch.nan
    value, *_ = run(native, moving, fixed, torch.ones(1, 1, 1, 1, 1, dtype=WIDE), 2)
    assert bool(torch.isnan(value).all())


def test_images_or_masks_that_do_not_fit_are_refused() -> None:
    a, b, weight = (
        rand(1, 1, 4, 5, seed=0),
        rand(1, 1, 4, 6, seed=1),
        torch.ones(1, 1, 1, 1).double(),
    )
    with pytest.raises(ValueError, match="have to be of one"):
        native.lncc(a, b, native.window_stats(b, 2, 1e-2), weight, 2, 1e-2)
    with pytest.raises(ValueError, match="does not fit an image"):
        native.window_stats(a, 2, 1e-2, torch.ones(1, 1, 4, 6).double())
    with pytest.raises(ValueError, match="a weight of shape"):
        native.lncc(a, a, native.window_stats(a, 2, 1e-2), weight.expand(3, 1, 1, 1), 2, 1e-2)


@pytest.mark.parametrize("radius", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("window", ["box", "gaussian"])
@pytest.mark.parametrize("mask", ["none", "one"])
def test_several_tiles_and_groups_of_planes(mask: str, window: str, radius: int) -> None:
    shape = (1, 1, 21, 67, 61)
    given = (rand(*shape, seed=0), rand(*shape, seed=1), weights("field", shape), radius)
    how = {"mask": masks(mask, shape), "window": window}
    agree(run(native, *given, **how), run(reference, *given, **how), 1e-10)


@pytest.mark.parametrize("sizes", [(1, 2, 1, 1, 1), (11,), (2, 1, 5, 1, 1), (1, 2, 5, 9, 11)])
def test_any_weight_that_can_be_broadcast(sizes: tuple[int, ...]) -> None:
    shape = (2, 2, 5, 9, 11)
    given = (rand(*shape, seed=0), rand(*shape, seed=1), rand(*sizes, seed=6).abs(), 2)
    agree(run(native, *given), run(reference, *given), 1e-10)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("gradient", ["exact", "approximate"])
@pytest.mark.parametrize("radius", [1, 2, 3, 5])
def test_single_precision_of_all_kinds(radius: int, gradient: str, squared: bool) -> None:
    """Scaled, with and without a mask; of related images, whose scores do not cancel."""
    shape = (2, 2, 11, 19, 26)
    single = [rand(*shape, seed=k, dtype=torch.float32) for k in (0, 1)]
    single[1] += 0.5 * single[0]
    weight = weights("field", shape).float()
    scalings = tuple(Scaling(rand(2, seed=s), 0.5 + rand(2, seed=s).abs()) for s in (7, 8))
    rounded = tuple(Scaling(*(t.float() for t in s)) for s in scalings)
    wide = tuple(Scaling(*(t.double() for t in s)) for s in rounded)
    for window, kind in itertools.product(("box", "gaussian"), ("none", "per row")):
        mask = masks(kind, shape)
        mask = None if mask is None else mask.float()
        how = {"window": window, "squared": squared, "gradient": gradient}
        found = run(native, *single, weight, radius, mask, scalings=rounded, **how)
        given = [t.double() for t in (*single, weight)]
        share = None if mask is None else mask.double()
        truth = run(reference, *given, radius, share, scalings=wide, **how)
        agree(found, truth, 1e-5)


@pytest.mark.parametrize("only", [0, 1])
def test_one_gradient_alone_is_that_of_both(only: int) -> None:
    shape = (1, 2, 6, 9, 11)
    images = [rand(*shape, seed=0), rand(*shape, seed=1)]
    weight, mask = weights("field", shape), masks("one", shape)
    both = run(native, *images, weight, 2, mask)
    images[only].requires_grad_()
    stats = native.window_stats(images[1], 2, 1e-2, mask)
    value = native.lncc(*images, stats, weight, 2, 1e-2)
    agree([*torch.autograd.grad(value.sum(), images[only])], [both[1 + only]], 1e-12)


def test_gradients_by_finite_differences() -> None:
    images = [rand(1, 1, 4, 5, seed=k).requires_grad_() for k in (0, 1)]
    weight = weights("field", (1, 1, 4, 5))
    assert gradcheck(
        lambda m, f: native.lncc(m, f, native.window_stats(f, 1, 1e-2), weight, 1, 1e-2), images
    )


@pytest.mark.parametrize("gradient", ["exact", "approximate"])
@pytest.mark.parametrize("shape", [(1, 1, 50, 61, 90), (1, 1, 523, 517)])
def test_lent_memory_is_overwritten(
    shape: tuple[int, ...], gradient: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory that a run really gets, full of NaN from its last use."""
    monkeypatch.setattr(native, "empty", memory.empty)
    moving, fixed = (rand(*shape, seed=k, dtype=torch.float32) for k in (0, 1))
    weight = weights("number", shape).float()
    cpu = torch.device("cpu")
    poison = [memory.empty(shape, torch.float32, cpu).fill_(torch.nan) for _ in range(3)]
    addresses = {p.data_ptr() for p in poison}
    del poison
    _, *grads = run(native, moving, fixed, weight, 2, gradient=gradient)
    assert {g.data_ptr() for g in grads} <= addresses
    assert all(bool(g.isfinite().all()) for g in grads)


def test_another_layout_is_read_and_left_alone() -> None:
    shape = (1, 2, 7, 6, 5)
    moving, fixed, weight = rand(*shape, seed=0), rand(*shape, seed=1), weights("field", shape)
    plain = run(native, moving, fixed, weight, 1)
    turned = moving.transpose(2, 4).contiguous().transpose(2, 4).requires_grad_()
    value = native.lncc(turned, fixed, native.window_stats(fixed, 1, 1e-2), weight, 1, 1e-2)
    (grad,) = torch.autograd.grad(-2 * value.sum(), turned)
    agree([value.detach(), grad], [plain[0], -2 * plain[1]], 1e-14)
    assert torch.equal(turned, moving)
