"""The native kernels against plain torch: values, gradients, batches, odd sizes, bad input."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fireants_engine.kernels import descent, reference
from fireants_engine.kernels.native import library

if why := library.problem():
    pytest.skip(why, allow_module_level=True)

from fireants_engine.kernels.native import descent as fast_descent
from fireants_engine.kernels.native import smooth as fast_smooth
from fireants_engine.kernels.native import warp as fast
from tests.engine.kernels.cases import SIZES, WIDE, by_tiles, close, gradients, maps, noise


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds NaN: whatever is not written shows."""

    def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.full(tuple(shape), float("nan"), dtype=dtype, device=device)

    for module in (fast, fast_smooth, fast_descent):
        monkeypatch.setattr(module, "empty", empty)


@pytest.mark.parametrize("border", [True, False])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", [(1, 1, 1), (2, 2, 2), (1, 1, 3), (3, 1, 1), (2, 2, 1)])
def test_warp_and_all_its_gradients(rows: tuple[int, ...], size: tuple[int, ...], border: bool):
    images, matrices, fields = rows
    dim = len(size)
    leaves = (
        noise(images, 2, *(n + 2 for n in size), seed=1),
        maps(matrices, dim),
        2 * noise(fields, dim, *size, seed=2),
    )
    found, truth = (gradients(w, *leaves, border=border) for w in (fast.warp, reference.warp))
    for a, b in zip(found, truth, strict=True):
        close(a, b, 1e-10)


@pytest.mark.parametrize("size", [(33, 40), (9, 20, 31)])
def test_warp_in_single_precision(size: tuple[int, ...]) -> None:
    """Against double precision; off the knots of the grid, where the slope jumps."""
    dim = len(size)
    u = 0.3 * torch.rand(1, dim, *size, generator=torch.Generator().manual_seed(3)) + 0.3
    leaves = (noise(1, 1, *size, seed=1).float(), torch.eye(dim, dim + 1), u)
    found = gradients(fast.warp, *leaves, border=True)
    truth = gradients(reference.warp, *(leaf.double() for leaf in leaves), border=True)
    for a, b in zip(found, truth, strict=True):
        assert a.dtype == torch.float32
        close(a, b.float(), 1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("border", [True, False])
def test_nearest(size: tuple[int, ...], border: bool) -> None:
    dim = len(size)
    image, u = noise(2, 1, *size, seed=1), noise(2, dim, *size, seed=2)
    how = {"nearest": True, "border": border}
    found, truth = (w(image, maps(2, dim), size, u, **how) for w in (fast.warp, reference.warp))
    assert torch.equal(found, truth)


def test_without_a_displacement_onto_another_grid() -> None:
    image, out = noise(1, 1, 6, 7, 8), (9, 5, 40)
    found, truth = (w(image, maps(1, 3), out, border=True) for w in (fast.warp, reference.warp))
    close(found, truth, 1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_compose_by_a_factor_per_row(size: tuple[int, ...]) -> None:
    v, u = (noise(2, len(size), *size, seed=s) for s in (1, 2))
    for scale in (None, torch.tensor([0.3, -1.5], dtype=WIDE)):
        close(fast.compose(v, u, scale), reference.compose(v, u, scale), 1e-11)


@pytest.mark.parametrize("kernels", [fast, reference])
def test_a_row_of_factor_zero_does_not_move_even_by_nan(kernels) -> None:
    v, u = torch.full((2, 2, 5, 6), float("nan"), dtype=WIDE), noise(2, 2, 5, 6)
    v[1] = 0.25
    found = kernels.compose(v, u, torch.tensor([0.0, 1.0], dtype=WIDE))
    torch.testing.assert_close(found[0], u[0])
    assert bool(torch.isfinite(found).all())


def test_compose_has_gradients() -> None:
    v, u = (noise(1, 3, 4, 5, 6, seed=s).requires_grad_() for s in (1, 2))
    found, truth = (
        torch.autograd.grad((k.compose(v, u) ** 2).sum(), (v, u)) for k in (fast, reference)
    )
    for a, b in zip(found, truth, strict=True):
        close(a, b, 1e-11)


def test_a_coordinate_that_is_no_number_takes_no_sample() -> None:
    """Its value is NaN, so that the loss tells of it; it gives nothing to any gradient."""
    u = torch.zeros(1, 2, 6, 40, dtype=WIDE)
    u[0, 0, 2, 3] = float("nan")
    u[0, 1, 4, 35] = float("inf")
    image = noise(1, 1, 6, 40).requires_grad_()
    field = u.requires_grad_()
    out = fast.warp(image, torch.eye(2, 3, dtype=WIDE), (6, 40), field, border=True)
    assert int(torch.isnan(out).sum()) == 1
    grads = torch.autograd.grad(out.nansum(), (image, field))
    assert all(bool(torch.isfinite(g).all()) for g in grads)
    assert float(grads[1][0, :, 2, 3].abs().max()) == 0


@pytest.mark.parametrize("window", reference.SMOOTHING_WINDOWS)
@pytest.mark.parametrize("size", SIZES)
def test_smooth_and_its_gradient(size: tuple[int, ...], window: str) -> None:
    for sigma in (1.0, 2.7, 0.3):
        each = [sigma, 0.0, 4 * sigma][: len(size)]
        for sigmas in ([sigma] * len(size), each):
            found, truth = (smoothed(k, size, sigmas, window) for k in (fast_smooth, reference))
            for a, b in zip(found, truth, strict=True):
                close(a, b, 1e-12)


def smoothed(kernels, size: tuple[int, ...], sigmas: Sequence[float], window: str) -> list[Tensor]:
    """Value, gradient for a random weighting, and the gradient of that by the weighting."""
    field = noise(2, 3, *size).requires_grad_()
    weights = noise(2, 3, *size, seed=1).requires_grad_()
    out = kernels.smooth(field, sigmas, 2.5, window)
    (grad,) = torch.autograd.grad((out * weights).sum(), field, create_graph=True)
    again = torch.autograd.grad((grad * noise(*grad.shape, seed=2)).sum(), weights)
    return [out.detach(), grad.detach(), *again]


@pytest.mark.parametrize("window", reference.SMOOTHING_WINDOWS)
def test_the_gradient_of_smooth_does_not_call_the_reference(window: str, monkeypatch) -> None:
    monkeypatch.setattr(reference, "smooth", None)
    field = noise(1, 3, 9, 12, 40).float().requires_grad_()
    weights = noise(1, 3, 9, 12, 40, seed=1)
    out = fast_smooth.smooth(field, [1.0, 2.0, 0.7], -0.5, window)
    (found,) = torch.autograd.grad((out * weights.float()).sum(), field)
    monkeypatch.undo()
    wide = field.detach().double().requires_grad_()
    out = reference.smooth(wide, [1.0, 2.0, 0.7], -0.5, window)
    (truth,) = torch.autograd.grad((out * weights).sum(), wide)
    close(found, truth.float(), 1e-5)


@pytest.mark.parametrize("kernels", [fast_smooth, reference])
def test_smooth_refuses_what_is_no_width_and_no_window(kernels) -> None:
    field = noise(1, 2, 4, 5)
    with pytest.raises(ValueError, match="3 widths do not fit a field of shape"):
        kernels.smooth(field, [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="finite numbers"):
        kernels.smooth(field, [1.0, float("nan")])
    with pytest.raises(ValueError, match="'hann' is not one of gaussian, box"):
        kernels.smooth(field, [1.0, 1.0], 1.0, "hann")


def test_smooth_that_has_nothing_to_do() -> None:
    field = noise(1, 2, 1, 5)
    assert torch.equal(fast_smooth.smooth(field, [1.0, 0.01]), field)
    assert torch.equal(fast_smooth.smooth(field, [0.0, 0.0], 2.0), 2 * field)


@pytest.mark.parametrize("counts", [(1, 1), (3, 7)])
@pytest.mark.parametrize("beta1", [0.9, 0.0])
@pytest.mark.parametrize("size", [(7, 9), (40, 40, 30)])
def test_adam(size: tuple[int, ...], beta1: float, counts: tuple[int, ...]) -> None:
    shape = (4, len(size), *size)  # two pairs of two rows
    grad, first, second = noise(*shape), noise(*shape, seed=1), noise(*shape, seed=2) ** 2
    ways, moments = [], []
    for kernels in (fast_descent, descent):
        m, v = (first.clone() if beta1 else None), second.clone()
        ways.append(kernels.adam(grad.clone(), m, v, counts, beta1, 0.99, 1e-3))
        moments.append([v] if m is None else [m, v])
    for a, b in zip((*ways[0], *moments[0]), (*ways[1], *moments[1]), strict=True):
        close(a, b, 1e-11)


def test_adam_of_few_parameters() -> None:
    grad, second = noise(3, 6), noise(3, 6, seed=1) ** 2
    a, b = (
        k.adam(grad.clone(), grad * 2, second.clone(), (2, 3, 4), 0.9, 0.99, 1e-3)
        for k in (fast_descent, descent)
    )
    close(a.values, b.values, 1e-12)
    close(a.peaks, b.peaks, 1e-12)


@pytest.mark.parametrize("tile", [1, 3])
def test_levenberg_marquardt(tile: int) -> None:
    grad, damping = 1e-9 * noise(2, 3, 9, 40, 100), torch.tensor([0.5, 2.0], dtype=WIDE)
    a, b = (k.levenberg_marquardt(grad.clone(), damping, tile) for k in (fast_descent, descent))
    close(a.values, b.values, 1e-11)
    close(a.peaks, b.peaks, 1e-11)


@pytest.mark.parametrize("size", [*SIZES, (40, 70), (40, 20, 35)])
@pytest.mark.parametrize("tile", [3, 5, 9])
def test_levenberg_marquardt_by_tiles(size: tuple[int, ...], tile: int) -> None:
    grad = 1e-9 * noise(4, len(size), *size)
    for dtype, rel in ((WIDE, 1e-10), (torch.float32, 1e-5)):
        ways = (by_tiles(k, grad.to(dtype), tile) for k in (fast_descent, descent))
        for a, b in zip(*ways, strict=True):
            close(a, b, rel)


def test_levenberg_marquardt_by_tiles_leaves_the_gradient_alone_and_shows_what_is_no_number():
    grad = noise(2, 2, 30, 40)
    grad[1, 1, 25, 17] = float("nan")
    before = grad.clone()
    way = fast_descent.levenberg_marquardt(grad, torch.ones(2, dtype=WIDE), 3)
    torch.testing.assert_close(grad, before, rtol=0, atol=0, equal_nan=True)
    assert torch.isfinite(way.peaks).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("kernels", [fast_descent, descent])
def test_levenberg_marquardt_refuses_what_does_not_fit(kernels) -> None:
    grad, one = noise(2, 2, 5, 6), torch.ones(1, dtype=WIDE)
    for tile in (-1, 0, 2, 4):
        with pytest.raises(ValueError, match=f"a tile of {tile} voxels has no middle"):
            kernels.levenberg_marquardt(grad, one, tile)
    with pytest.raises(ValueError, match="tiles need 2 or 3 channels"):
        kernels.levenberg_marquardt(noise(2, 4, 5, 6), one, 3)
    with pytest.raises(ValueError, match="holds no vectors"):
        kernels.levenberg_marquardt(grad[..., :0], one, 1)
    with pytest.raises(ValueError, match="do not fit 2 rows"):
        kernels.levenberg_marquardt(grad, torch.ones(3, dtype=WIDE), 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_shows_in_the_peak_of_its_channel(bad: float) -> None:
    grad = noise(1, 2, 300, 300)
    grad[0, 1, 250, 17] = bad
    way = fast_descent.adam(grad, None, torch.ones_like(grad), (1,), 0.0, 0.99, 1e-3)
    assert not bool(torch.isfinite(way.peaks).all())


def test_any_number_of_threads_gives_the_same_bits() -> None:
    image, u = noise(1, 2, 9, 20, 70), noise(1, 3, 9, 20, 70, seed=1)
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            way = fast_descent.adam(u.clone(), None, u * u, (1,), 0.0, 0.9, 1e-3)
            found.append([*gradients(fast.warp, image, maps(1, 3), u, border=True), *way])
            for tile in (1, 3):
                level = torch.ones(1, dtype=WIDE)
                found[-1] += fast_descent.levenberg_marquardt(u.clone(), level, tile)
            for window in reference.SMOOTHING_WINDOWS:
                found[-1] += smoothed(fast_smooth, (9, 40, 70), [1.0, 2.0, 0.5], window)
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_what_is_not_dense_gives_the_same() -> None:
    image, u = noise(1, 1, 8, 7, 6).transpose(2, 4), noise(1, 6, 6, 7, 8)[:, ::2]
    found, truth = (w(image, maps(1, 3), (6, 7, 8), u) for w in (fast.warp, reference.warp))
    close(found, truth, 1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32])
def test_other_precisions_are_refused(dtype: torch.dtype) -> None:
    image = torch.ones(1, 1, 4, 4).to(dtype)
    with pytest.raises(TypeError, match="float32 and float64"):
        fast.warp(image, torch.eye(2, 3), (4, 4))
    with pytest.raises(TypeError, match="float32 and float64"):
        fast_smooth.smooth(image, [1.0, 1.0])


def test_shapes_that_do_not_fit_are_refused() -> None:
    image, eye = noise(1, 1, 4, 5), torch.eye(2, 3, dtype=WIDE)
    with pytest.raises(ValueError, match="does not fit the grid"):
        fast.warp(image, eye, (4, 4), noise(1, 2, 4, 5))
    with pytest.raises(ValueError, match="do not fit a batch"):
        fast.warp(noise(2, 1, 4, 5), eye, (4, 5), noise(3, 2, 4, 5))
    with pytest.raises(ValueError, match="no samples"):
        fast.warp(noise(1, 1, 0, 5), eye, (4, 5))
    with pytest.raises(TypeError, match="use one of both"):
        fast.warp(image, eye, (4, 5), noise(1, 2, 4, 5).float())


@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_gradient_prepared_with_the_values_is_the_one_computed_again(size, border: bool) -> None:
    """Of one channel the forward pass keeps the slopes; a second backward pass looks them up."""
    dim, rows = len(size), 2
    image, u = noise(1, 1, *size, seed=1), 2 * noise(rows, dim, *size, seed=2)
    u.view(-1)[5] = torch.nan
    matrix = maps(rows, dim).requires_grad_()
    leaf = u.clone().requires_grad_()
    out = fast.warp(image, matrix, size, leaf, border=border)
    weights = noise(*out.shape, seed=3)
    kept = out.grad_fn.slopes
    assert kept is not None
    ask = {"outputs": out, "inputs": (leaf, matrix), "grad_outputs": weights}
    prepared = torch.autograd.grad(**ask, retain_graph=True)
    assert out.grad_fn.slopes is None
    assert prepared[0].data_ptr() == kept.data_ptr()  # in the place of the slopes
    again = torch.autograd.grad(**ask)
    for found, truth in zip(prepared, again, strict=True):
        close(found, truth, 1e-12)
    with torch.no_grad():
        assert fast.warp(image, matrix, size, leaf).grad_fn is None
    two = fast.warp(image.expand(1, 2, *size), matrix, size, leaf)
    assert two.grad_fn.slopes is None


def test_nearest_neighbours_have_no_gradient() -> None:
    image = noise(1, 1, 4, 5).requires_grad_()
    out = fast.warp(image, torch.eye(2, 3, dtype=WIDE), (4, 5), nearest=True)
    with pytest.raises(RuntimeError, match="no gradient"):
        out.sum().backward()


@settings(max_examples=60, deadline=None)
@given(
    size=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    source=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    reach=st.sampled_from([0.0, 1e-30, 0.5, 30.0, 1e9, 1e30]),
    border=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_any_size_and_any_reach(size, source, reach, border, seed) -> None:
    """Finite wherever torch is, equal where the numbers are of a size that can be compared."""
    dim = len(size)
    image = noise(1, 1, *source[:dim], seed=seed)
    u = reach * noise(1, dim, *size, seed=seed + 1)
    eye = torch.eye(dim, dim + 1, dtype=WIDE)
    found, truth = (w(image, eye, size, u, border=border) for w in (fast.warp, reference.warp))
    assert bool(torch.isfinite(found).all())
    if reach <= 30:
        close(found, truth, 1e-9)
    found = fast.compose(u, u)
    assert found.shape == u.shape
