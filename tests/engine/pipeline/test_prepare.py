"""From images as loaded to tensors: ranges, background, masks, odd inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fireants_engine.context import ExecutionContext
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.kernels import REFERENCE
from fireants_engine.pipeline.prepare import Prepared, normalise, robust_range


def disc(shape: tuple[int, int] = (40, 44), radius: float = 12) -> np.ndarray:
    y, x = np.indices(shape)
    inside = (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 < radius**2
    noise = np.random.default_rng(0).random(shape)
    return np.where(inside, 0.5 + 0.5 * noise, 0.0)


def test_values_lie_in_a_unit_range_with_the_background_at_zero(ctx: ExecutionContext) -> None:
    got = normalise(Image.from_numpy(disc() * 900 - 1000), ctx)
    assert got.shape == (1, 1, 40, 44)
    assert got.dtype == torch.float32
    assert float(got[0, 0, 0, 0]) == 0
    assert float(got.min()) == 0
    assert float(got.max()) == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("offset", [0.0, -3.0, 10.0])
def test_unit_and_offset_of_the_intensities_vanish(scale, offset, ctx) -> None:
    plain = normalise(Image.from_numpy(disc()), ctx)
    other = normalise(Image.from_numpy(scale * (disc() + offset)), ctx)
    torch.testing.assert_close(other, plain, rtol=0, atol=2e-5)


@pytest.mark.parametrize("offset", [1e6, 1e9])
def test_a_large_offset_in_float64_does_not_swallow_the_image(offset, ctx) -> None:
    """Float32 holds 7 digits: the range has to be taken off before the conversion."""
    plain = normalise(Image.from_numpy(disc()), ctx)
    other = normalise(Image.from_numpy(disc() + offset), ctx)
    torch.testing.assert_close(other, plain, rtol=0, atol=1e-3)


def test_a_few_wild_voxels_do_not_set_the_range(ctx: ExecutionContext) -> None:
    wild = disc((100, 100), 30)
    wild[50, 50], wild[40, 41] = 1e6, -1e6
    got = normalise(Image.from_numpy(wild), ctx)
    torch.testing.assert_close(got.median(), torch.tensor(0.0))
    assert float(got.std()) > 0.2


def test_a_tiny_object_on_a_constant_background_is_not_clipped_away(ctx: ExecutionContext) -> None:
    array = np.zeros((100, 100))
    array[50, 50] = 1.0
    assert robust_range(torch.from_numpy(array)) == (0.0, 1.0)
    assert float(normalise(Image.from_numpy(array), ctx).max()) == 1


def test_a_mask_decides_the_range(ctx: ExecutionContext) -> None:
    array = disc()
    array[:5] = 1000.0
    mask = np.ones(array.shape, np.uint8)
    mask[:5] = 0
    image = Image.from_numpy(array).with_mask(Image.from_numpy(mask))
    inside = normalise(image, ctx)[0, 0, 5:]
    assert float(inside.max() - inside.min()) == pytest.approx(1)


def test_a_channel_without_contrast_is_left_out_not_nan(ctx: ExecutionContext) -> None:
    """An RGB image without blue is a fine image."""
    rgb = np.stack([disc(), disc() ** 2, np.zeros((40, 44))], axis=-1)
    got = normalise(Image.from_numpy(rgb, channels=True), ctx)
    assert bool(torch.isfinite(got).all())
    assert float(got[0, 2].abs().max()) == 0


def test_one_slice_is_treated_as_its_plane(ctx: ExecutionContext) -> None:
    """Its two z faces are the image itself, not a border (LESSONS 5)."""
    full = np.zeros((40, 44))
    full[4:-4, 4:-4] = 0.5 + np.random.default_rng(0).random((32, 36))  # most of the plane
    plane = normalise(Image.from_numpy(full), ctx)
    volume = normalise(Image.from_numpy(full[None]), ctx)
    torch.testing.assert_close(volume[:, :, 0], plane)


def test_the_image_given_is_never_modified(ctx: ExecutionContext) -> None:
    image = Image.from_numpy(disc().astype(np.float32))
    before = image.data.clone()
    Prepared.create(image, image, ctx).level(2, 4)
    assert torch.equal(image.data, before)


def test_unusable_pairs_are_refused_at_the_door(ctx: ExecutionContext) -> None:
    flat, good = Image.from_numpy(np.zeros((8, 8)), name="dark"), Image.from_numpy(disc())
    with pytest.raises(InputError, match=r"dark.*constant"):
        Prepared.create(flat, good, ctx)
    with pytest.raises(InputError, match=r"dark.*constant"):
        Prepared.create(good, flat, ctx)


def test_levels_of_a_pair_with_different_voxels(ctx: ExecutionContext) -> None:
    fixed = Image.from_numpy(disc(), Grid.identity((44, 40), 2.0))
    moving = Image.from_numpy(disc((80, 90), 30), Grid.identity((90, 80), (0.5, 4.0)))
    pair = Prepared.create(fixed, moving, ctx).level(1, 4)
    assert pair.fixed_grid.size == (44, 40)
    assert pair.moving_grid.size == (22, 80)  # x is brought to 2 mm, y stays at 4 mm
    assert pair.moving.shape == (1, 1, 80, 22)
    coarse = Prepared.create(fixed, moving, ctx).level(4, 4)
    np.testing.assert_allclose(coarse.fixed_grid.spacing_mm, (8, 8))
    np.testing.assert_allclose(coarse.moving_grid.spacing_mm, (8, 8), rtol=0.1)


def test_levels_are_shrunk_by_the_kernels_of_the_run() -> None:
    calls = []

    def smooth(field: torch.Tensor, sigma_vox: list[float]) -> torch.Tensor:
        calls.append(tuple(field.shape))
        return REFERENCE.smooth(field, sigma_vox)

    ctx = ExecutionContext(kernels=replace(REFERENCE, smooth=smooth))
    image = Image.from_numpy(disc(), Grid.identity((44, 40)))
    Prepared.create(image, image, ctx).level(2, 4)
    assert calls == [(1, 1, 40, 44)] * 2
