"""Intensities by signal: one factor per image that makes sums equal, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fireants_engine.context import ExecutionContext
from fireants_engine.geometry import Image
from fireants_engine.pipeline.prepare import Prepared, by_signal

CTX = ExecutionContext()


def scene(seed: int = 0, channels: int = 1, gain: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:20, :24]
    inside = np.hypot(y - 10, x - 12) < 7
    return gain * np.stack([inside * (1 + rng.random(inside.shape)) for _ in range(channels)])


def image(array: np.ndarray, mask: np.ndarray | None = None) -> Image:
    own = None if mask is None else torch.as_tensor(mask)
    whole = Image.from_numpy(array[0])
    return Image(torch.as_tensor(array), whole.grid, own)


@pytest.mark.parametrize(
    ("gain", "dtype"),
    [(1e-6, np.float32), (3.7, np.float32), (1e4, np.float64), (1.0, np.int16), (7.0, np.int32)],
)
def test_sums_are_equal(gain: float, dtype: type) -> None:
    one = image((scene(0) * 100).astype(dtype))
    other = image((scene(1, gain=gain) * 100).astype(dtype))
    both = by_signal(one, other, CTX)
    assert [b.dtype for b in both] == [torch.float32] * 2
    assert [tuple(b.shape) for b in both] == [(1, 1, 20, 24)] * 2
    sums = [float(b.double().sum()) for b in both]
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)
    assert 0.9 < float(both[0].max()) < 1.1  # in units of its range


def test_only_a_factor() -> None:
    """Nothing is cut off at either end, and no background is taken away."""
    bright = scene(0) + 0.4
    bright[0, 3, 4], bright[0, 9, 9] = 80.0, -0.5
    other = scene(1, gain=2.0)
    for found, given in zip(
        by_signal(image(bright), image(other), CTX), (bright, other), strict=True
    ):
        found, factor = found[0, 0].double().numpy(), given.max() / float(found.max())
        np.testing.assert_allclose(found * factor, given[0], rtol=1e-5, atol=1e-6)


def test_equal_images_stay_equal_and_a_gain_vanishes() -> None:
    one, louder = image(scene()), image(scene(gain=12.5))
    a, b = by_signal(one, one, CTX)
    assert torch.equal(a, b)
    a, b = by_signal(one, louder, CTX)
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(by_signal(louder, one, CTX)[0], a)


def test_every_channel_has_the_sum_of_the_first() -> None:
    data = scene(0, 3) * np.array([1.0, 5.0, 0.2])[:, None, None]
    both = by_signal(image(data), image(np.roll(data, -1, 0)), CTX)
    sums = torch.cat([b.double().sum((0, 2, 3)) for b in both])
    torch.testing.assert_close(sums, sums[:1].expand(6), rtol=1e-5, atol=0)
    torch.testing.assert_close(both[0].roll(-1, 1), both[1])


@pytest.mark.parametrize("which", [1, 2])
def test_a_channel_without_signal_is_zero(which: int) -> None:
    data = scene(0, 3)
    data[which] = 0
    first, second = by_signal(image(data), image(scene(1, 3)), CTX)
    assert float(first[:, which].abs().max()) == 0
    assert bool(torch.isfinite(first).all())
    others = [k for k in range(3) if k != which]
    assert float(first[:, others].sum((0, 2, 3)).min()) > 1
    assert float(second.sum((0, 2, 3)).min()) > 1


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_first_channel_without_signal_does_not_take_the_others_along(value: float) -> None:
    data = scene(0, 2)
    data[0] = value
    first, second = by_signal(image(data), image(scene(1, 2)), CTX)
    assert float(first[:, 0].abs().max()) == 0
    sums = torch.cat([first[:, 1:].double().sum((0, 2, 3)), second.double().sum((0, 2, 3))])
    assert float(sums.min()) > 1
    torch.testing.assert_close(sums, sums[:1].expand(3), rtol=1e-5, atol=0)


def test_images_without_any_signal() -> None:
    for value in (0.0, -2.0):
        blank = image(np.full((1, 6, 7), value))
        for found in by_signal(blank, blank, CTX):
            assert float(found.abs().max()) == 0
    one, two = by_signal(image(scene()), image(np.zeros((1, 20, 24))), CTX)
    assert float(one.max()) > 0.5
    assert float(two.abs().max()) == 0


def test_the_recipe_asks_for_it() -> None:
    one, other = image(scene()), image(scene(1, gain=3.0))
    made = Prepared.create(one, other, CTX, intensities="signal")
    for found, own in zip((made.fixed, made.moving), by_signal(one, other, CTX), strict=True):
        assert torch.equal(found, own)
    ranged = Prepared.create(one, other, CTX)
    assert not torch.equal(ranged.moving, made.moving)


def test_a_mask_cuts_nothing_off() -> None:
    data = scene()
    mask = data[0] > 1.5
    plain, masked = (by_signal(image(data, m), image(data), CTX)[0] for m in (None, mask))
    ratio = masked[plain > 0] / plain[plain > 0]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    made = Prepared.create(image(data, mask), image(data), CTX, intensities="signal")
    assert made.fixed_mask is not None
    assert float((made.fixed[0, 0] * (made.fixed_mask[0, 0] == 0)).max()) > 0.5
