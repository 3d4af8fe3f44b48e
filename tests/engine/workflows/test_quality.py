"""What the Inspect dock tells of a result: similarities, labels, the inverse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fireants_engine import Image, register
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.transforms import Affine, Chain, Displacement
from fireants_engine.workflows.quality import inverse_error_mm, label_table, similarities
from fireants_engine.workflows.result import Mapping

GRID = Grid((12, 10, 8), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), np.eye(3))


def shifted(mm: float) -> Mapping:
    return Mapping(Affine.about(np.eye(3), np.array([mm, 0, 0]), GRID.centre_mm), GRID)


@pytest.fixture
def result(make_pair: Callable[[str], tuple[Image, Image]], recipe: Any) -> Any:
    return register(*make_pair("oblique"), recipe)


def test_a_registration_makes_the_images_more_alike(result: Any) -> None:
    found = similarities(result)
    assert set(found) == {"NCC", "LNCC", "MI"}
    for before, after in found.values():
        assert after > before
    fixed, moved = (image.numpy().ravel() for image in (result.fixed, result.moved))
    assert found["NCC"][1] == pytest.approx(np.corrcoef(fixed, moved)[0, 1], abs=0.05)
    same = replace(result, moving=result.fixed, forward=Affine.identity(3))
    for before, after in similarities(same).values():
        assert after == pytest.approx(before)
    assert similarities(same)["NCC"][0] == pytest.approx(1.0, abs=1e-5)


def test_labels_have_volumes_overlaps_and_centres() -> None:
    values = np.zeros(GRID.shape, np.int16)
    values[2:4, 3:7, 2:6] = 5  # 32 voxels of 6 mm3
    moving = np.roll(values, 2, axis=2)
    moving[0, 0, 0] = 9  # only there
    table = label_table(
        shifted(2.0), Image.from_numpy(values, GRID), Image.from_numpy(moving, GRID)
    )
    assert table.labels.tolist() == [5, 9]
    assert table.dice_before[0] == pytest.approx(0.5)
    assert table.dice_after[0] == pytest.approx(1.0)
    assert table.dice_before[1] == 0
    assert table.fixed_ml == pytest.approx([32 * 6 / 1000, 0])
    assert table.difference_ml[0] == pytest.approx(0)
    assert table.centres_voxel[0] == pytest.approx([2.5, 4.5, 3.5])
    other = Image.from_numpy(values, Grid(GRID.size, (1.0, 1.0, 1.0), (0.0,) * 3, np.eye(3)))
    with pytest.raises(InputError, match="another grid"):
        label_table(shifted(0.0), other, other)


def test_the_inverse_takes_back_what_the_warp_did() -> None:
    assert inverse_error_mm(shifted(3.0)) is None
    z, y, x = (torch.arange(n, dtype=torch.float32) for n in GRID.shape)
    bump = torch.exp(-((z[:, None, None] - 4) ** 2 + (y[:, None] - 5) ** 2 + (x - 6) ** 2) / 8)
    u = torch.stack([0.3 * bump, -0.5 * bump, 0.8 * bump])[None]
    warp = Displacement(u, GRID)
    good = Mapping(Chain([warp, Affine.identity(3)]), GRID)
    error = inverse_error_mm(good)
    assert error is not None
    assert np.nanmax(error) < 0.3
    assert np.nanmean(error) < 0.05
    assert 0 < np.isnan(error).mean() < 0.5
    still = Displacement(torch.zeros_like(u), GRID)
    wrong: Any = SimpleNamespace(warp_field=warp, inverse_warp_field=still, grid=GRID)
    worst = inverse_error_mm(wrong)
    assert worst is not None
    length = np.sqrt((warp.field_mm() ** 2).sum(-1))
    inside = np.isfinite(worst)
    np.testing.assert_allclose(worst[inside], length[inside], atol=1e-5)
