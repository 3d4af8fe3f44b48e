"""Every dense deformation and every descent on the one loop: they match, and do not fold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import (
    AffineMap,
    Compositive,
    FreeForm,
    Rigid,
    StationaryVelocity,
    Symmetric,
)
from fireants_engine.ops import warp_image
from fireants_engine.optimise import SGD, Adam, LevenbergMarquardt
from fireants_engine.pipeline import Level, Plan, Pyramid, Stage, Warning, run_plan
from fireants_engine.similarity import LNCC, SSD
from fireants_engine.transforms import Chain, Displacement

PYRAMID = Pyramid((Level(2, 60), Level(1, 60)), 8)


MATCH = (SSD(),)


def stage(deformation, descent=None, terms=MATCH) -> Stage:
    return Stage("bend", deformation, terms, descent or Adam(0.5), PYRAMID)


@pytest.mark.parametrize(
    "deformation",
    [Compositive(), Symmetric(), StationaryVelocity(), FreeForm(), Compositive(
        jacobian_transpose=True)],
    ids=["greedy", "symmetric", "velocity", "free-form", "J^T"],
)  # fmt: skip
@pytest.mark.parametrize("term", [SSD(), LNCC(radius_vox=3)], ids=["ssd", "lncc"])
def test_every_deformation_matches(small_pair, ran, deformation, term) -> None:
    fixed, moving = small_pair
    found = ran(Plan((stage(replace(deformation, sigma_grad_mm=2.0), terms=(term,)),)), *small_pair)
    last = found.output.stages[0][1].levels[-1]
    assert last.folds == 0
    before = float(((fixed.data - moving.data) ** 2).mean())
    # LNCC is not after equal intensities
    assert mismatch(found, fixed, moving) < (0.1 if term == SSD() else 0.25) * before


def mismatch(found, fixed, moving) -> float:
    """Mean squared difference on the fixed grid."""
    moved = warp_image(moving, found.output.transform, fixed.grid).data
    return float(((fixed.data - moved) ** 2).mean())


@pytest.mark.parametrize(
    "descent",
    [LevenbergMarquardt(), LevenbergMarquardt(tile=3), SGD(), Adam(0.5, beta1=0.0)],
    ids=["lm1", "lm3", "sgd", "rmsprop"],
)
def test_every_descent_gets_there(small_pair, ran, descent) -> None:
    found = ran(Plan((stage(Compositive(2.0), descent),)), *small_pair)
    assert found.losses[-1] < 0.25 * found.losses[0]


def test_levenberg_marquardt_does_not_go_up(small_pair, ran) -> None:
    """Whatever was taken back, the losses it went on from never rise within a level."""
    found = ran(Plan((stage(Compositive(2.0), LevenbergMarquardt()),)), *small_pair)
    for level in (0, 1):
        losses = [x for e in found.events for x in getattr(e, "losses", ()) if e.level == level]
        best = np.minimum.accumulate(losses)
        taken_back = np.array(losses[1:]) > best[:-1]
        after = np.array(losses[2:])[taken_back[:-1]]
        np.testing.assert_allclose(after, best[:-2][taken_back[:-1]], rtol=1e-6)


def test_a_deformable_restart_goes_on(small_pair, ran) -> None:
    """From a finished warp a second run starts where the first one ended, and gets better."""
    first = ran(Plan((stage(Compositive(2.0)),)), *small_pair)
    for deformation in (Compositive(2.0), Symmetric(2.0), StationaryVelocity(2.0)):
        only_fine = replace(stage(deformation), pyramid=Pyramid((Level(1, 30),), 8))
        again = ran(Plan((only_fine,), first.output.transform), *small_pair)
        assert again.losses[0] < 1.05 * first.losses[-1]
        assert again.output.stages[0][1].loss <= again.losses[0]


def test_an_affine_after_a_warp_and_a_warp_after_that(small_pair, ran) -> None:
    """Stages in any order: every one goes on from the map of the one before it."""
    linear = Stage("affine", AffineMap(), (SSD(),), Adam(0.3), Pyramid((Level(1, 40),), 8))
    last = replace(stage(Compositive(2.0)), pyramid=linear.pyramid)
    alone = ran(Plan((stage(Compositive(2.0)),)), *small_pair)
    found = ran(Plan((stage(Compositive(2.0)), linear, last)), *small_pair)
    assert mismatch(found, *small_pair) <= mismatch(alone, *small_pair)
    firsts = [e.losses[0] for e in found.events if getattr(e, "losses", ()) and e.step == 5]
    ends = [result.loss for _, result in found.output.stages]
    assert ends[1] <= firsts[2]
    assert ends[2] <= firsts[3]
    assert isinstance(found.output.transform, Chain)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (np.diag([0.05, 1.0]), "squeeze the image to 0.05 of its size"),
        (np.diag([1.0, -1.0]), "mirror the image"),
        (np.diag([4.0, 1.0]), "stretch the image 4 times"),
        (np.diag([0.5, 2.0]), ""),
    ],
)
def test_a_linear_stage_that_cannot_be_meant_is_dropped_and_said(
    small_pair, ran, monkeypatch, change, said
) -> None:
    """MI of the overlap may reward a collapsed overlap; what came before goes on."""

    def there(self, params, dim):
        return (torch.as_tensor(change, dtype=params.dtype) + 0 * params.view(-1, dim, dim)).clone()

    (first,) = (Stage("turn", Rigid(), (SSD(),), Adam(0.5), PYRAMID),)
    before = ran(Plan((first,)), *small_pair).output.transform
    monkeypatch.setattr(AffineMap, "linear", there)
    linear = Stage("affine", AffineMap(), (SSD(),), Adam(0.1), Pyramid((Level(1, 5),), 8))
    found = ran(Plan((first, linear)), *small_pair)
    told = [e.message for e in found.of(Warning) if e.message.startswith("affine: its result")]
    assert len(told) == (said != "")
    assert said in (told or [""])[0]
    points = small_pair[0].grid.points_mm().reshape(-1, 2)
    same = np.allclose(found.output.transform(points), before(points))
    assert same == (said != "")
    assert len(found.output.stages[1][1].levels) == 1


@pytest.mark.parametrize("deformation", [Compositive(), Symmetric(), StationaryVelocity()])
def test_the_same_run_twice_is_the_same_to_the_bit(small_pair, deformation) -> None:
    warps = []
    for _ in range(2):
        *_, last = run_plan(Plan((stage(deformation),)), *small_pair, ExecutionContext())
        warp = last.result.transform.parts[0]
        assert isinstance(warp, Displacement)
        warps.append(warp.u)
    assert torch.equal(*warps)
