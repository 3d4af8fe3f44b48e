"""The one loop when it is stopped, rises or breaks: what is kept, and what is said of it."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Compositive, Deformation, Pair, Rigid
from fireants_engine.errors import DivergedError
from fireants_engine.geometry import Image
from fireants_engine.optimise import Adam, Stop
from fireants_engine.pipeline import (
    Control,
    Iteration,
    Level,
    LevelFinished,
    Outcome,
    Plan,
    Pyramid,
    Stage,
    StageFinished,
)
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.similarity import SSD, Loss, Term

NEVER = Stop(tolerance=0)


def named(thing: object) -> str:
    return type(thing).__name__


def stage(*steps: int, term: Term | None = None, deformation: Deformation | None = None, **more):
    """A stage whose levels shrink by ... 4, 2, 1."""
    levels = tuple(Level(2.0 ** (len(steps) - 1 - k), n) for k, n in enumerate(steps))
    more = {"descent": Adam(0.5), "stop": NEVER, "name": "stage", **more}
    return Stage(
        deformation=deformation or Compositive(),
        terms=(term or SSD(),),
        pyramid=Pyramid(levels, 8),
        **more,
    )


def ssd_of(found, small_pair, ctx) -> float:
    """Mean square of what is left at full resolution, through the transform of the run."""
    prepared = Prepared.create(*small_pair, ctx)
    moving = Image(prepared.moving[0], prepared.moving_grid)
    points = found.output.transform(prepared.fixed_grid.points_mm())
    voxels = (points - moving.grid.origin_mm) / moving.grid.spacing_mm
    moved = map_coordinates(moving.numpy(), voxels[:, ::-1].T, order=1, mode="nearest")
    return float(((moved - prepared.fixed.numpy().ravel()) ** 2).mean())


@dataclass(frozen=True)
class Changed(Term):
    """Another term; `change(call number, loss)` sees each evaluation and gives what counts."""

    inner: Term
    change: Callable[[int, Tensor], Tensor]

    @property
    def reach_vox(self) -> int:
        return self.inner.reach_vox

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        loss, calls = self.inner.bind(pair, ctx), itertools.count()
        return lambda views: self.change(next(calls), loss(views))


@pytest.fixture(scope="module")
def volumes(blobs, centred_grid) -> tuple[Image, Image]:
    """A 3D pair of 16 x 14 x 12 voxels, 1.5 mm apart."""
    shape, grid = blobs(3, 9.0), centred_grid((16, 14, 12), (1.2, 1.2, 1.3))
    return shape.image(grid), shape.image(grid, lambda y: y - [1.5, -1.0, 0.5])


def test_a_stopped_run_keeps_what_it_had(scripted, small_pair, ran, ctx) -> None:
    control = Control()
    term = scripted(lambda call, _: (control.stop() or 1.0) if call == 27 else 1.0)
    found = ran(Plan((stage(60, term=term),)), *small_pair, control)
    (end,) = found.of(LevelFinished)
    assert end.steps == 28
    assert end.loss < 0.5 * found.losses[0]
    assert ssd_of(found, small_pair, ctx) == pytest.approx(end.loss, rel=1e-3)


def test_the_best_state_is_kept_when_the_loss_rises_at_the_end(small_pair, ran, ctx) -> None:
    """From step 20 on the gradient is turned and every step makes the match worse."""
    uphill = Changed(SSD(), lambda call, x: x if call < 20 else 2 * x.detach() - x)
    found = ran(Plan((stage(60, term=uphill),)), *small_pair)
    assert found.losses[-1] > 3 * min(found.losses)  # it truly rose
    (end,) = found.of(LevelFinished)
    checked = [e.loss for e in found.of(Iteration)]
    assert end.loss == min(checked)
    assert ssd_of(found, small_pair, ctx) == pytest.approx(min(checked), rel=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("passing", [False, True], ids=["for good", "for one step"])
def test_a_loss_that_turns_invalid_ends_with_the_last_good_state(
    bad, passing, scripted, volumes, ran, ctx
) -> None:
    broken = scripted(lambda call, _: bad if call == 17 or (call > 17 and not passing) else 1.0)
    found = ran(Plan((stage(60, term=broken), stage(5, name="never reached"))), *volumes)
    assert found.output.outcome is Outcome.DIVERGED
    assert [e.outcome for e in found.of(StageFinished)] == [Outcome.DIVERGED]
    (end,) = found.of(LevelFinished)
    assert end.reason == "the loss became invalid"
    assert end.loss == found.of(Iteration)[-1].loss < found.losses[0]
    assert all(map(math.isfinite, found.losses))
    assert ssd_of(found, volumes, ctx) == pytest.approx(end.loss, rel=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_invalid_from_the_first_step_is_an_error(bad, scripted, volumes, ran):
    with pytest.raises(DivergedError, match=r"stage: the loss was invalid from the first step"):
        ran(Plan((stage(20, term=scripted(lambda *_: bad)),)), *volumes)


@pytest.mark.parametrize("where", ["level", "stage"])
def test_a_later_level_that_is_invalid_at_once_leaves_the_earlier_result(
    where, scripted, volumes, ran
) -> None:
    """What was reached before is a usable state: no error, but DIVERGED."""
    fine = volumes[0].grid.shape
    broken = scripted(lambda call, shape: math.nan if shape == fine else 1.0)
    rigid = stage(10, deformation=Rigid())
    stages = (rigid, stage(10, term=broken)) if where == "stage" else (stage(10, 10, term=broken),)
    found = ran(Plan(stages), *volumes)
    assert found.output.outcome is Outcome.DIVERGED
    moved = found.output.transform(np.zeros((1, 3)))
    assert np.isfinite(moved).all()
    assert np.abs(moved).max() > 0.1


@pytest.mark.parametrize("deformation", [Rigid(), Compositive()], ids=named)
def test_a_gradient_that_turns_invalid_under_a_valid_loss_does_not_reach_the_result(
    deformation, volumes, ran
) -> None:
    """sqrt(0) has a value and no slope; samplers read NaN places as voxel 0."""
    poisoned = Changed(SSD(), lambda call, x: x + (0 if call < 2 else 0 * (x - x.detach()).sqrt()))
    found = ran(Plan((stage(20, term=poisoned, deformation=deformation),)), *volumes)
    assert found.output.outcome is Outcome.DIVERGED
    assert np.isfinite(found.output.transform(np.zeros((1, 3)))).all()


IN_THE_PLANE = """
import torch
from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import {kind}
from fireants_engine.geometry import Image
from fireants_engine.optimise import Adam
from fireants_engine.pipeline import Level, Plan, Pyramid, Stage, run_plan
from fireants_engine.similarity import SSD

class Broken(SSD):
    def bind(self, pair, ctx):
        loss, calls = super().bind(pair, ctx), iter(range(10**6))
        return lambda views: loss(views) * (float("nan") if next(calls) >= 7 else 1.0)

images = [Image.from_numpy(torch.rand(40, 36).numpy()) for _ in range(2)]
stage = Stage("stage", {kind}(), (Broken(),), Adam(), Pyramid((Level(1.0, 30),)))
print([e for e in run_plan(Plan((stage,)), *images, ExecutionContext())][-1].outcome.name)
"""


@pytest.mark.parametrize("kind", ["Rigid", "Compositive"])
def test_an_invalid_loss_in_the_plane_does_not_end_the_process(kind) -> None:
    """torch's 2D sampler on the CPU may read outside its memory at places that are NaN."""
    command = [sys.executable, "-c", IN_THE_PLANE.format(kind=kind)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-300:]
    assert done.stdout.strip() == "DIVERGED"


def test_the_loss_told_is_that_of_the_warp_that_is_kept(ran, ctx) -> None:
    """Two noise images and no smoothing: hundreds of folds are smoothed away at the end."""
    rng = np.random.default_rng(0)
    pair = [Image.from_numpy(rng.random((36, 40)).astype(np.float32)) for _ in range(2)]
    rough = Compositive(sigma_grad_mm=0, sigma_warp_mm=0, grad_floor_vox=0, warp_floor_vox=0)
    found = ran(Plan((stage(40, deformation=rough, descent=Adam(1.0)),)), *pair)
    (end,) = found.of(LevelFinished)
    assert end.unfolded > 100
    assert end.loss == pytest.approx(ssd_of(found, pair, ctx), rel=1e-3)
