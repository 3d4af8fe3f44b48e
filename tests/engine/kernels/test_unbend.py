"""Images bent along one axis: plain torch against the general sampler, native against both."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from fireants_engine.kernels import REFERENCE, load, reference, unbend
from fireants_engine.kernels.native import library
from fireants_engine.kernels.native import slopes as fast_slopes
from fireants_engine.kernels.native import unbend as fast
from fireants_engine.kernels.slopes import bounded_slopes, slope
from tests.engine.kernels.cases import SIZES, WIDE, close, noise

native = pytest.mark.skipif(library.problem() is not None, reason=str(library.problem()))
BACKENDS = [REFERENCE] if library.problem() else [REFERENCE, load("native")]
LONG = [(3, 130, 70), (130, 2), (2, 150), (1, 1), (2, 2, 2), (3, 3, 3), (4, 4)]
"""Beside SIZES: lines and rows of several runs, and lines that are all ends."""


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds NaN: whatever is not written shows."""

    def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.full(tuple(shape), float("nan"), dtype=dtype, device=device)

    for module in (fast, fast_slopes):
        monkeypatch.setattr(module, "empty", empty)


def every_axis(sizes: Sequence[tuple[int, ...]]) -> list:
    return [pytest.param(s, a, id=f"{s}-{a}") for s in sizes for a in range(len(s))]


def by_the_general_sampler(
    image: Tensor, v: Tensor, axis: int, scale: float, *, modulate: bool = True
) -> Tensor:
    dim = v.ndim - 2
    u = torch.cat([v * scale if k == axis else torch.zeros_like(v) for k in range(dim)], 1)
    eye = torch.eye(dim, dim + 1, dtype=v.dtype)
    seen = reference.warp(image, eye, v.shape[2:], u, border=True)
    return seen * (1 + slope(v, axis) * scale) if modulate else seen


def with_gradient(run: Callable[..., Tensor], image: Tensor, v: Tensor, *how, **more):
    leaf = v.clone().requires_grad_()
    out = run(image, leaf, *how, **more)
    weights = noise(*out.shape, seed=9).to(out.dtype)
    (grad,) = torch.autograd.grad((out * weights).sum(), leaf)
    return out.detach(), grad


@pytest.mark.parametrize("table", BACKENDS, ids=lambda table: table.name)
@pytest.mark.parametrize("modulate", [True, False])
@pytest.mark.parametrize("rows", [(1, 1), (2, 2), (1, 3), (3, 1)])
@pytest.mark.parametrize(("size", "axis"), every_axis(SIZES + LONG))
def test_it_is_the_general_sampler_along_one_axis(size, axis: int, rows, modulate, table) -> None:
    """Values and gradient, far beyond the border too; SIZES are odd and thin."""
    image, v = noise(rows[0], 2, *size, seed=1), 2 * noise(rows[1], 1, *size, seed=2)
    given = image, v, axis, -0.8
    truth = with_gradient(by_the_general_sampler, *given, modulate=modulate)
    found = with_gradient(table.unbend, *given, modulate=modulate)
    for a, b in zip(found, truth, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@native
@pytest.mark.parametrize(("size", "axis"), every_axis([(33, 40), (9, 20, 31)]))
def test_single_precision(size, axis: int) -> None:
    """Against double precision; off the samples, where the slope of the image jumps."""
    v = 0.3 * torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(3)) + 0.3
    image = noise(2, 1, *size, seed=1).float()
    found = with_gradient(fast.unbend, image, v, axis, 0.9)
    truth = with_gradient(unbend.unbend, image.double(), v.double(), axis, 0.9)
    for a, b in zip(found, truth, strict=True):
        assert a.dtype == torch.float32
        close(a.double(), b, 1e-5)


@pytest.mark.parametrize("table", BACKENDS, ids=lambda table: table.name)
@pytest.mark.parametrize(("size", "axis"), every_axis([(4, 5), (3, 2, 4)]))
def test_its_gradients_are_those_of_finite_differences(size, axis: int, table) -> None:
    """By v and by the image; nothing lies on a sample or at the border."""
    place = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(4), dtype=WIDE)
    v = (0.1 + 0.3 * place).requires_grad_()
    image = noise(2, 2, *size, seed=5)
    assert torch.autograd.gradcheck(lambda x: table.unbend(image, x, axis, 1.3), (v,))
    both = image.requires_grad_(), v
    assert torch.autograd.gradcheck(lambda i, x: table.unbend(i, x, axis, 1.3), both)


@pytest.mark.parametrize("table", BACKENDS, ids=lambda table: table.name)
def test_signal_is_kept_between_folds(table) -> None:
    """The sum over a line of what is bent smoothly and ends in the dark."""
    x = torch.arange(200.0, dtype=WIDE).view(1, 1, 200, 1).expand(1, 1, 200, 3)
    image = torch.exp(-((x - 100) ** 2) / 800)
    v = 6 * torch.exp(-((x - 90) ** 2) / 600)
    straight = table.unbend(image, v, 0, 1.0)
    torch.testing.assert_close(straight.sum(2), image.sum(2), rtol=1e-3, atol=0)


@pytest.mark.parametrize("table", BACKENDS, ids=lambda table: table.name)
@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_no_number_shows(table, axis: int) -> None:
    image, v = noise(1, 1, 7, 6), noise(1, 1, 7, 6, seed=1)
    v[0, 0, 3, 2] = torch.nan
    plain = table.unbend(image, v, axis, 1.0, modulate=False)
    assert plain.isnan().sum() == 1
    assert plain[0, 0, 3, 2].isnan()
    assert table.unbend(image, v, axis, 1.0).isnan().sum() == 3  # and the slopes beside it


@native
def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_SHARE", 1)
    image, v = noise(2, 1, 9, 40, 70), noise(2, 1, 9, 40, 70, seed=1)
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            found.append([])
            for axis in range(3):
                found[-1] += with_gradient(fast.unbend, image, v, axis, 0.8)
                found[-1] += [fast_slopes.slope(v, axis), fast_slopes.bounded_slopes(v, axis, 0.3)]
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_small_work_wakes_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert [library.threads_for(n) for n in (0, 100, 40_000, 10**9)] == [1, 1, 2, 8]


@pytest.mark.parametrize("table", BACKENDS, ids=lambda table: table.name)
def test_what_does_not_fit_is_refused(table) -> None:
    image, v = noise(2, 1, 4, 5), noise(2, 1, 4, 5)
    for bad in (v[:, :, 1:], v.expand(2, 3, 4, 5), v[0]):
        with pytest.raises(ValueError, match="does not fit an image"):
            table.unbend(image, bad, 0, 1.0)
    with pytest.raises(ValueError, match="there is no axis 2"):
        table.unbend(image, v, 2, 1.0)
    with pytest.raises(ValueError, match="do not fit"):
        table.unbend(image, torch.cat([v, v[:1]]), 0, 1.0)
    with pytest.raises(ValueError, match="with samples"):
        table.unbend(image[..., :0], v[..., :0], 0, 1.0)


# ---------------------------------------------------------------------------- slopes
@native
@pytest.mark.parametrize(("size", "axis"), every_axis(SIZES + LONG))
def test_slopes_are_plain_torchs(size, axis: int) -> None:
    """Values, gradients and the bound; the gradient of a gradient, too."""
    field = 2 * noise(2, 1, *size, seed=3)
    for limit in (0.05, 0.7, 100.0):
        found, truth = (f(field, axis, limit) for f in (fast_slopes.bounded_slopes, bounded_slopes))
        torch.testing.assert_close(found, truth, rtol=1e-11, atol=1e-11)
    assert torch.equal(found, field)  # a gentle line keeps its bits
    results = []
    for run in (fast_slopes.slope, slope):
        leaf = field.clone().requires_grad_()
        out = run(leaf, axis, -1.5)
        (grad,) = torch.autograd.grad((out**3).sum(), leaf, create_graph=True)
        (again,) = torch.autograd.grad((grad**2).sum(), leaf)
        results.append([out.detach(), grad.detach(), again])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@native
def test_slopes_of_what_is_not_dense_and_in_single_precision() -> None:
    field = noise(2, 1, 6, 7, 8).float().transpose(2, 4)
    for axis in range(3):
        close(fast_slopes.slope(field, axis), slope(field, axis), 1e-6)
        found = fast_slopes.bounded_slopes(field, axis, 0.3)
        close(found, bounded_slopes(field, axis, 0.3), 1e-6)
    with pytest.raises(ValueError, match="no samples along axis 3"):
        fast_slopes.slope(field, 3)
    with pytest.raises(TypeError, match="float32 and float64"):
        fast_slopes.slope(field.half(), 0)
