"""Soft Dice: its value, its masks, empty channels, its gradient, and what it registers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Compositive, Pair, Source, Views
from fireants_engine.deformations.pair import LABELS
from fireants_engine.features import OneHot
from fireants_engine.geometry import Grid, Image
from fireants_engine.optimise import Adam
from fireants_engine.pipeline import Extras, Level, Plan, Pyramid, RunFinished, Stage, run_plan
from fireants_engine.similarity import Dice

CTX = ExecutionContext()


def boxes(shape: tuple[int, ...], *starts: int) -> Tensor:
    """(1, C, *shape): a box of 4 per axis at each of `starts`; a negative start: none."""
    out = torch.zeros((1, len(starts), *shape))
    for c, start in enumerate(starts):
        if start >= 0:
            out[(0, c, *[slice(start, start + 4)] * len(shape))] = 1
    return out


def value(fixed: Tensor, moving: Tensor, weight: Tensor | None = None) -> float:
    grid = Grid.identity(fixed.shape[:1:-1])
    return float(Dice().bind(Pair(fixed, moving, grid, grid), CTX)(Views(fixed, moving, weight)))


@pytest.mark.parametrize("dim", [2, 3])
def test_it_is_one_minus_the_mean_overlap(dim: int) -> None:
    shape = (10, 11, 12)[:dim]
    fixed, moving = boxes(shape, 1, 5), boxes(shape, 3, 5)
    overlap = 2 * 2**dim / (2 * 4**dim)
    assert value(fixed, moving) == pytest.approx(1 - (overlap + 1) / 2, abs=1e-6)
    assert value(fixed, fixed) == pytest.approx(0, abs=1e-6)
    assert value(boxes(shape, 0), boxes(shape, 6)) == pytest.approx(1)


def test_equal_soft_maps_are_a_perfect_match() -> None:
    soft = torch.rand((1, 3, 8, 9), generator=torch.Generator().manual_seed(0))
    assert value(soft, soft.clone()) == pytest.approx(0, abs=1e-6)
    assert value(soft, 0.5 * soft) > 0.1


def test_the_weight_says_what_counts() -> None:
    fixed, moving = boxes((10, 11), 1), boxes((10, 11), 3)
    weight = torch.zeros(1, 1, 10, 11)
    weight[..., 3:5, 3:5] = 0.5  # where both are 1
    assert value(fixed, moving, weight) == pytest.approx(0, abs=1e-6)
    weight[..., :3, :] = 0.5  # 8 pixels more of the fixed box, none of the moving one
    assert value(fixed, moving, weight) == pytest.approx(1 - 2 * 4 / (12 + 4), abs=1e-6)


def test_channels_empty_in_both_count_as_nothing() -> None:
    fixed, moving = boxes((10, 11), 1), boxes((10, 11), 3)
    alone = value(fixed, moving)
    assert 0.2 < alone < 0.9
    padded = value(boxes((10, 11), 1, -1, -1), boxes((10, 11), 3, -1, -1))
    assert padded == pytest.approx(alone, abs=1e-6)
    one_sided = value(boxes((10, 11), 1, 2), boxes((10, 11), 3, -1))
    assert one_sided == pytest.approx((alone + 1) / 2, abs=1e-6)


def test_nothing_at_all_is_zero_with_a_gradient_of_zero() -> None:
    empty = torch.zeros(1, 2, 6, 7)
    grid = Grid.identity((7, 6))
    leaf = empty.clone().requires_grad_(True)
    loss = Dice().bind(Pair(empty, empty, grid, grid), CTX)(Views(empty, leaf))
    (grad,) = torch.autograd.grad(loss, leaf)
    assert float(loss.detach()) == 0
    assert not grad.any()


def test_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    fixed, moving, weight = torch.rand((3, 1, 2, 5, 6), generator=generator, dtype=torch.float64)
    fixed[:, 1] = 0
    grid = Grid.identity((6, 5))
    loss = Dice().bind(Pair(fixed, moving, grid, grid), CTX)
    leaves = (fixed.requires_grad_(True), moving.requires_grad_(True))
    assert torch.autograd.gradcheck(lambda f, m: loss(Views(f, m, weight[:, :1])), leaves)


def test_it_looks_at_the_label_maps() -> None:
    assert Dice().needs == LABELS
    assert Dice().source == Source(LABELS, OneHot())
    assert Dice(source=Source("tissue")).needs == "tissue"


@pytest.mark.parametrize("labels", [(), (7,)])
def test_it_registers_labels_that_intensities_do_not_show(labels: tuple[int, ...]) -> None:
    """Flat noise, one label map apart by 3 voxels: the overlap alone brings them together."""
    rng = np.random.default_rng(0)
    images = [Image.from_numpy(rng.normal(size=(32, 36)).astype(np.float32)) for _ in range(2)]
    maps = []
    for shift in (0, 3):
        data = np.zeros((32, 36), dtype=np.int32)
        data[10 + shift : 20 + shift, 10:24] = 7
        maps.append(Image.from_numpy(data))
    term = Dice(source=Source(LABELS, OneHot(labels)))
    pyramid = Pyramid((Level(2, 40), Level(1, 40)), 16)
    plan = Plan((Stage("s", Compositive(), (term,), Adam(0.5), pyramid),))
    extras = Extras(moving_labels=maps[1], fixed_labels=maps[0])
    *_, last = run_plan(plan, *images, CTX, extras=extras)
    assert isinstance(last, RunFinished)
    before = value(*[(m.data[None] == 7).float() for m in maps])
    assert before == pytest.approx(0.3, abs=1e-6)
    assert last.result.stages[0][1].loss < 0.1
