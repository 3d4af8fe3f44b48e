"""Transport along lines: shifts that are known in closed form, on every axis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fireants_engine.ops.transport import transported

SCALES = [(1.0, -1.0), (1.0, -0.5), (-1.0, 1.0), (-0.4, 1.0), (1.0, 0.0), (1.0, 0.5)]
SHAPES = [(40, 3), (3, 41), (40, 3, 2), (3, 41, 2), (2, 3, 40)]


def profile(x: np.ndarray, n: int) -> np.ndarray:
    """Signal along a true line: all of it far from the ends."""
    return np.exp(-(((x - (n - 1) / 2) / (n / 8)) ** 2)) * (1 + 0.3 * np.cos(0.9 * x))


def bent(n: int, field, scale: float) -> np.ndarray:
    """What a readout shows: the signal at x goes to x + scale field(x); integrals over voxels."""
    fine = np.linspace(-0.5, n - 0.5, 200 * n + 1)
    signal = profile(0.5 * (fine[1:] + fine[:-1]), n) / 200
    total = np.concatenate([[0.0], np.cumsum(signal)])
    place = fine + scale * field(fine)
    assert np.all(np.diff(place) > 0)
    return np.diff(np.interp(np.arange(n + 1) - 0.5, place, total))


def laid_out(line: np.ndarray, shape: tuple[int, ...], axis: int) -> Tensor:
    view = torch.from_numpy(line.copy()).view(-1, *(1,) * (len(shape) - axis - 1))
    return view.expand(1, 1, *shape).clone()


def bump(n: int, size: float):
    return lambda x: size * np.exp(-(((x - 0.45 * n) / (n / 5)) ** 2))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_a_smooth_field_is_recovered(shape: tuple[int, ...], scales: tuple[float, float]) -> None:
    n, axis = max(shape), int(np.argmax(shape))
    field = bump(n, 2.0)
    images = [laid_out(bent(n, field, s), shape, axis) for s in scales]
    found = transported(images[0], images[1], axis, scales)
    assert found.shape == images[0].shape
    assert found.is_contiguous()
    x = np.arange(n)
    seen = profile(x, n) > 0.2
    truth = laid_out(field(x), shape, axis)
    off = (found - truth).abs().movedim(axis + 2, -1)[..., torch.from_numpy(seen)]
    assert float(off.max()) < 0.2
    assert float(off.mean()) < 0.1


@pytest.mark.parametrize("scales", SCALES[:4], ids=str)
def test_a_constant_shift(scales: tuple[float, float]) -> None:
    n = 40
    a, b = (laid_out(bent(n, lambda x: 0 * x + 1.5, s), (n, 3), 0) for s in scales)
    seen = profile(np.arange(n), n) > 0.2
    found = transported(a, b, 0, scales)[0, 0, torch.from_numpy(seen)]
    torch.testing.assert_close(found, torch.full_like(found, 1.5), rtol=0, atol=0.15)


def test_swapped_images_and_scales_give_the_same_field() -> None:
    n = 40
    a, b = (laid_out(bent(n, bump(n, 2.0), s), (n, 2), 0) for s in (1.0, -0.5))
    torch.testing.assert_close(
        transported(a, b, 0, (1.0, -0.5)), transported(b, a, 0, (-0.5, 1.0)), rtol=0, atol=1e-9
    )
    torch.testing.assert_close(
        transported(a, b, 0, (1.0, -1.0)), -transported(b, a, 0, (1.0, -1.0)), rtol=0, atol=1e-9
    )


def test_nothing_moves_without_signal() -> None:
    n = 40
    a, b = (laid_out(bent(n, bump(n, 2.0), s), (n, 4), 0) for s in (1.0, -1.0))
    for image in (a, b):
        image[..., 1] = 0
        image[..., 2] = -0.3  # below the background
    found = transported(a, b, 0, (1.0, -1.0))
    assert float(found[..., 1:3].abs().max()) < 1e-6
    assert float(found[..., 0].abs().max()) > 1
    ends = torch.cat([found[:, :, :3, 0], found[:, :, -3:, 0]])
    assert float(ends.abs().max()) < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_images_have_no_field(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((2, 1, 9, 11, 7), generator=generator, dtype=dtype)
    for axis in range(3):
        found = transported(image, image.clone(), axis, (1.0, -1.0))
        assert found.dtype == dtype
        assert float(found.abs().max()) < 1e-6


def test_lines_and_pairs_know_nothing_of_each_other() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand((2, 1, 5, 12), generator=generator) for _ in range(2))
    whole = transported(a, b, 1, (1.0, -1.0))
    alone = transported(a[1:, :, 3:4], b[1:, :, 3:4], 1, (1.0, -1.0))
    torch.testing.assert_close(whole[1:, :, 3:4], alone)


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_noise_stays_on_the_line(scales: tuple[float, float]) -> None:
    """Whatever the images, the field is finite and no longer than a line allows."""
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.rand((1, 1, 30, 20), generator=generator) ** 4 for _ in range(2))
    found = transported(a, b, 0, scales)
    assert bool(torch.isfinite(found).all())
    assert float(found.abs().max()) <= 30 / abs(scales[0] - scales[1])


def test_an_axis_of_one_sample() -> None:
    found = transported(torch.ones(1, 1, 1, 5), 2 * torch.ones(1, 1, 1, 5), 0, (1.0, -1.0))
    assert float(found.abs().max()) < 1e-6
