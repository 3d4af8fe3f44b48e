"""Tissue is found on light and dark slides, and what cannot be decided is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.workflows.tissue import LONGEST, at_most, background_of, cover, find_tissue
from tests.engine.workflows.section_phantom import BROWN, GLASS, SIDE, density, section


def truth() -> np.ndarray:
    places = Grid.identity((SIDE, SIDE)).points_mm().reshape(SIDE, SIDE, 2)
    return density((places - (SIDE - 1) / 2) / (0.24 * SIDE)) > 0


def overlap(mask: torch.Tensor, true: np.ndarray) -> float:
    both = mask.numpy() & true
    return 2 * both.sum() / (mask.numpy().sum() + true.sum())


@pytest.mark.parametrize("pale", [1.0, 0.15])
def test_stained_tissue_on_glass(pale: float) -> None:
    found = find_tissue(section(colour=pale * BROWN))
    assert found.kind == "light"
    assert found.background == pytest.approx(tuple(GLASS), abs=1.5)
    assert overlap(found.mask, truth()) > 0.97
    assert [piece.kept for piece in found.pieces] == [True]


def test_a_dark_background() -> None:
    values = truth() * 300.0 + np.random.default_rng(0).normal(20, 3, (SIDE, SIDE))
    found = find_tissue(Image.from_numpy(values.astype(np.float32)))
    assert found.kind == "dark"
    assert overlap(found.mask, truth()) > 0.97


def test_sixteen_bits_give_the_same() -> None:
    image = section()
    wide = replace(image, data=image.data.to(torch.int32) * 257)
    assert torch.equal(find_tissue(image).mask, find_tissue(wide).mask)


def test_dust_is_left_out_and_a_mask_holds() -> None:
    image = section()
    data = image.data.clone()
    data[:, 4:9, 4:9] = 60
    assert len(find_tissue(replace(image, data=data)).pieces) == 1
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[:, : SIDE // 2] = True
    kept = find_tissue(replace(image, mask=mask)).mask
    assert kept.any()
    assert kept[:, SIDE // 2 + 4 :].sum() == 0


def two() -> Image:
    one = section().data
    return Image(torch.cat([one, one.flip(2)], 2), Grid.identity((2 * SIDE, SIDE)), name="slide")


def test_two_sections_on_one_slide() -> None:
    with pytest.raises(InputError, match=r"slide: shows two sections .* crop"):
        find_tissue(two())
    second = find_tissue(two(), component=2)
    assert [piece.kept for piece in second.pieces] == [False, True]
    assert second.mask[:, :SIDE].sum() == 0
    with pytest.raises(InputError, match="no piece 3"):
        find_tissue(two(), component=3)


def test_an_empty_slide() -> None:
    noise = np.random.default_rng(0).normal(240, 2, (90, 80, 3))
    with pytest.raises(InputError, match="glass: no tissue was found"):
        find_tissue(Image.from_numpy(noise.astype(np.uint8), channels=True, name="glass"))
    flat = np.full((90, 80, 3), 240, np.uint8)
    with pytest.raises(InputError, match="no tissue was found"):
        find_tissue(Image.from_numpy(flat, channels=True))


def test_a_volume_is_refused() -> None:
    with pytest.raises(InputError, match="is 3D"):
        find_tissue(Image.from_numpy(np.zeros((4, 5, 6), np.float32)))


def test_large_images_shrink_in_place() -> None:
    image = Image.from_numpy(
        np.mgrid[:1500, :3100][1].astype(np.float32), Grid.identity((3100, 1500), 0.5)
    )
    small = at_most(image, LONGEST)
    assert max(small.grid.size) == LONGEST
    places = small.grid.points_mm().reshape(*small.grid.shape, 2)
    inner = (slice(20, -20), slice(20, -20))
    assert np.abs(small.data[0].numpy() - places[..., 0] / 0.5)[inner].max() < 1.0
    assert torch.equal(at_most(small, LONGEST).data, small.data)


def test_cover_saturates() -> None:
    covered = cover(torch.tensor([0.0, 0.1, 2.0]))
    assert covered[0] == 0
    assert covered[1] == pytest.approx(1 - np.exp(-1), abs=1e-6)
    assert covered[2] > 0.999


def test_background_where_tissue_meets_the_border() -> None:
    image = section()
    cropped = Image(image.data[:, 45:], Grid.identity((SIDE, SIDE - 45)), name="cropped")
    assert background_of(cropped) == (pytest.approx(tuple(GLASS), abs=1.5), "light")


def test_a_slide_that_is_darker_to_one_side() -> None:
    image = section()
    light = torch.linspace(1.03, 0.90, SIDE)[None, :, None] * torch.linspace(1.02, 0.96, SIDE)
    found = find_tissue(replace(image, data=(image.data.float() * light).clamp(0, 255).round()))
    assert overlap(found.mask, truth()) > 0.97
