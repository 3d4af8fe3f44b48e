"""The CUDA text of smoothing and of the directions, run on the CPU, against plain torch."""

from __future__ import annotations

import pytest
import torch

from fireants_engine.kernels import descent, reference
from fireants_engine.kernels.native import descent as fast_descent
from fireants_engine.kernels.native import smooth as fast_smooth
from tests.engine.kernels.cases import by_tiles, close, noise
from tests.engine.kernels.shim import cuda_kernels

__all__ = ["cuda_kernels"]


@pytest.mark.parametrize(
    ("size", "sigma"),
    [
        ((9, 40), (1.0, 0.7)),
        ((33, 5), (0.0, 2.0)),
        ((37, 9, 34), (0.8, 1.0, 0.6)),  # more planes than a block marches through
        ((6, 1, 35), (2.5, 1.0, 0.3)),  # taps longer than the axis
        ((30, 4, 5), (4.0, 1.0, 1.0)),  # too wide for one pass
    ],
)
@pytest.mark.parametrize("window", reference.SMOOTHING_WINDOWS)
def test_smoothing_and_its_gradient(
    size: tuple[int, ...], sigma: tuple[float, ...], window: str
) -> None:
    for a, b in zip(*(smoothed(k, size, sigma, window) for k in KERNELS), strict=True):
        close(a, b, 1e-10)


KERNELS = fast_smooth, reference


def smoothed(kernels, size, sigma, window: str, dtype=torch.float64) -> list[torch.Tensor]:
    """Value, and gradient for a random weighting."""
    field = noise(2, len(size), *size).to(dtype).requires_grad_()
    out = kernels.smooth(field, sigma, -0.5, window)
    weights = noise(*field.shape, seed=1).to(dtype)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), field)]


@pytest.mark.parametrize("window", reference.SMOOTHING_WINDOWS)
def test_smoothing_in_single_precision(window: str) -> None:
    how = (9, 12, 34), (1.0, 1.0, 1.0), window, torch.float32
    for a, b in zip(*(smoothed(k, *how) for k in KERNELS), strict=True):
        close(a, b, 1e-5)


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("shape", [(4, 2, 9, 40), (2, 3, 7, 8, 9), (3, 12)])
def test_adam(shape: tuple[int, ...], with_mean: bool) -> None:
    grad, second = noise(*shape), noise(*shape, seed=1).square()
    first = noise(*shape, seed=2) if with_mean else None
    counts = [3, 7] if shape[0] % 2 == 0 else [1, 2, 3]
    sets = [[t if t is None else t.clone() for t in (grad, first, second)] for _ in range(2)]
    hyper = 0.9 if with_mean else 0.0, 0.99, 0.01
    found = fast_descent.adam(*sets[0], counts, *hyper)
    truth = descent.adam(*sets[1], counts, *hyper)
    close(found.values, truth.values, 1e-10)
    close(found.peaks, truth.peaks, 1e-10)
    for one, other in zip(sets[0][1:], sets[1][1:], strict=True):
        if other is not None:
            close(one, other, 1e-10)


@pytest.mark.parametrize("shape", [(4, 2, 9, 40), (2, 3, 7, 8, 9), (2, 5, 3, 4)])
def test_levenberg_marquardt(shape: tuple[int, ...]) -> None:
    grad, damping = 1e-6 * noise(*shape), torch.tensor([0.3, 2.0], dtype=torch.float64)
    found = fast_descent.levenberg_marquardt(grad.clone(), damping, 1)
    truth = descent.levenberg_marquardt(grad.clone(), damping, 1)
    close(found.values, truth.values, 1e-10)
    close(found.peaks, truth.peaks, 1e-10)


WAYS = fast_descent, descent
TILES = [
    ((7, 9), 2, 3),
    ((19, 70), 2, 9),  # several blocks along both axes
    ((1, 40), 2, 7),
    ((5, 6, 7), 3, 3),
    ((70, 5, 6), 3, 5),  # more planes than a block marches through
    ((2, 18, 35), 3, 7),  # windows of more planes than there are
    ((4, 9, 5), 2, 3),  # two channels on three axes
    ((6, 7), 3, 5),
    ((4, 3, 40), 3, 25),  # too wide for the kernel
]


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("size", "channels", "tile"), TILES)
def test_levenberg_marquardt_by_tiles(size, channels: int, tile: int, dtype, rel: float) -> None:
    grad = 1e-9 * noise(4, channels, *size, dtype=dtype)
    for found, truth in zip(*(by_tiles(k, grad, tile) for k in WAYS), strict=True):
        close(found, truth, rel)


def test_levenberg_marquardt_by_tiles_leaves_the_gradient_alone_and_shows_what_is_no_number():
    grad = noise(2, 2, 9, 40)
    grad[1, 1, 5, 17] = torch.nan
    before = grad.clone()
    level = torch.ones(2, dtype=grad.dtype)
    way = fast_descent.levenberg_marquardt(grad, level, 3)
    torch.testing.assert_close(grad, before, rtol=0, atol=0, equal_nan=True)
    assert torch.isfinite(way.peaks).tolist() == [[True, True], [False, False]]
    still = fast_descent.levenberg_marquardt(torch.zeros_like(grad), level, 3)
    assert not bool(still.values.any())
    assert not bool(still.peaks.any())


def test_levenberg_marquardt_by_tiles_refuses_what_does_not_fit() -> None:
    grad, one = noise(2, 2, 5, 6), torch.ones(1, dtype=torch.float64)
    for wrong, tile, why in (
        (grad, 4, "a tile of 4 voxels has no middle"),
        (noise(2, 4, 5, 6), 3, "tiles need 2 or 3 channels"),
        (grad[..., :0], 3, "holds no vectors"),
    ):
        with pytest.raises(ValueError, match=why):
            fast_descent.levenberg_marquardt(wrong, one, tile)
    with pytest.raises(TypeError, match="native kernels take float32 and float64"):
        fast_descent.levenberg_marquardt(grad.half(), one, 3)


def test_what_is_no_number_shows_in_the_peak_of_its_channel() -> None:
    grad = noise(1, 2, 9, 40)
    grad[0, 1, 3, 4] = torch.nan
    moments = torch.zeros_like(grad), torch.ones_like(grad)
    peaks = fast_descent.adam(grad, *moments, [1], 0.9, 0.99, 0.0).peaks
    assert peaks[0, 1].isnan()
    assert peaks[0].isnan().sum() >= 1
