"""Pairs of a batch: each comes to what it would come to alone, and ends by itself."""

from __future__ import annotations

from collections.abc import Sequence
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
    Similarity,
    Source,
    StationaryVelocity,
    Symmetric,
    Translation,
)
from fireants_engine.errors import DivergedError, InputError
from fireants_engine.features import MIND, Distance, OneHot
from fireants_engine.geometry import Grid, Image, Landmarks
from fireants_engine.optimise import SGD, Adam, LevenbergMarquardt, Stop
from fireants_engine.pipeline import (
    Case,
    Extras,
    Iteration,
    Level,
    LevelFinished,
    Moments,
    Outcome,
    Plan,
    Pyramid,
    RunOutput,
    RunStarted,
    Stage,
    StageFinished,
    Warning,
    run_batch,
)
from fireants_engine.regularise import (
    Bending,
    Diffusion,
    Elastic,
    InverseConsistency,
    JacobianPenalty,
    Laplacian,
)
from fireants_engine.similarity import (
    LNCC,
    NCC,
    SSD,
    Dice,
    LandmarkDistance,
    Loss,
    MutualInformation,
    Term,
)
from fireants_engine.transforms import Affine, Chain, Displacement

WIDE = ExecutionContext(dtype=torch.float64)
PYRAMID = Pyramid((Level(2, 20), Level(1, 15)), 8)
GREEDY = Compositive(2.0)
MATCH = (SSD(),)


def plan(deformation=GREEDY, descent=None, terms=MATCH, start=None, stop=Stop(0)) -> Plan:  # noqa: B008
    return Plan((Stage("s", deformation, terms, descent or Adam(0.5), PYRAMID, stop),), start)


@pytest.fixture(scope="module")
def cases(blobs, centred_grid) -> list[Case]:
    """Three 2D pairs of one size, apart by unlike amounts; the last on grids of its own."""
    found = []
    for k, (angle, shift) in enumerate([(0.12, [1.5, -1.0]), (-0.2, [0.0, 1.0]), (0.03, [0.3, 0])]):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shape, grid = blobs(2, seed=k), centred_grid((40, 36), (1.1, 1.0))
        fixed = shape.image(grid, name=f"fixed {k}")
        moving = shape.image(grid, lambda y, t=turn, s=shift: (y - s) @ t, name=f"moving {k}")
        if k == 2:  # the same picture elsewhere and turned
            fixed, moving = (elsewhere(image) for image in (fixed, moving))
        found.append(Case(fixed, moving))
    return found


def elsewhere(image: Image) -> Image:
    direction = np.array([[0.0, -1.0], [1.0, 0.0]])
    origin = tuple(np.array([100.0, -50.0]) + direction @ np.array(image.grid.origin_mm))
    grid = Grid(image.grid.size, image.grid.spacing_mm, origin, direction)
    return Image(image.data, grid, name=image.name)


def outputs(the_plan: Plan, cases: Sequence[Case], ctx=WIDE) -> tuple[RunOutput, ...]:
    *_, last = run_batch(the_plan, cases, ctx)
    return last.result


def assert_the_same(a: RunOutput, b: RunOutput, grid: Grid) -> None:
    assert a.outcome is b.outcome
    steps, losses = (
        [[getattr(end, name) for _, stage in run.stages for end in stage.levels] for run in (a, b)]
        for name in ("steps", "loss")
    )
    assert steps[0] == steps[1]
    np.testing.assert_allclose(*losses, rtol=1e-6, atol=1e-9)
    points = grid.points_mm().reshape(-1, grid.dim)
    gap = np.abs(a.transform(points) - b.transform(points)).max()
    assert gap < 1e-6
    moved = np.abs(a.transform(points) - points).max()
    assert moved > 0.2  # or there would be nothing to compare


def assert_as_alone(the_plan: Plan, cases: Sequence[Case]) -> None:
    together = outputs(the_plan, cases)
    assert [output.pairs for output in together] == [len(cases)] * len(cases)
    for case, output in zip(cases, together, strict=True):
        (alone,) = outputs(the_plan, [case])
        assert_the_same(output, alone, case.fixed.grid)


# ------------------------------------------------------------------------- as if alone
@pytest.mark.parametrize(
    "deformation",
    [
        Translation(),
        Rigid(),
        Similarity(),
        AffineMap(),
        GREEDY,
        Compositive(2.0, jacobian_transpose=True),
        FreeForm(2.0),
        Symmetric(2.0),
        StationaryVelocity(2.0),
        Compositive(2.0, axis_weights=(1.0, 0.5)),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("stop", [Stop(0), Stop(2e-2, 5)], ids=["all steps", "plateau"])
def test_every_deformation(cases, deformation, stop) -> None:
    assert_as_alone(plan(deformation, stop=stop), cases)


@pytest.mark.parametrize(
    "descent",
    [
        LevenbergMarquardt(),
        LevenbergMarquardt(tile=3),
        SGD(),
        Adam(0.5, beta1=0.0),
    ],
    ids=["lm1", "lm3", "sgd", "rmsprop"],
)
@pytest.mark.parametrize("deformation", [GREEDY, Symmetric(2.0)], ids=["greedy", "symmetric"])
@pytest.mark.parametrize("stop", [Stop(0), Stop(2e-2, 5)], ids=["all steps", "plateau"])
def test_every_descent(cases, deformation, descent, stop) -> None:
    assert_as_alone(plan(deformation, descent, stop=stop), cases)


@pytest.mark.parametrize(
    "term",
    [
        SSD(),
        NCC(),
        NCC(squared=True),
        LNCC(radius_vox=2),
        LNCC(radius_vox=3, window="gaussian", squared=False),
        LNCC(radius_vox=3, gradient="approximate"),
        MutualInformation(16),
        MutualInformation(16, window="gaussian", normalised=True),
        SSD(source=Source(features=MIND())),
    ],
    ids=["ssd", "ncc", "ncc2", "lncc", "lncc gaussian", "lncc approximate", "mi", "nmi", "mind"],
)
@pytest.mark.parametrize("deformation", [GREEDY, Symmetric(2.0)], ids=["greedy", "symmetric"])
def test_every_similarity(cases, deformation, term) -> None:
    assert_as_alone(plan(deformation, terms=(term,)), cases)


@pytest.mark.parametrize("deformation", [Rigid(), GREEDY, Symmetric(2.0)])
@pytest.mark.parametrize("term", [SSD(), NCC(), LNCC(radius_vox=2), MutualInformation(16)])
def test_a_mask_of_one_pair_is_no_mask_of_another(cases, deformation, term) -> None:
    first = cases[0]
    half = np.ones(first.fixed.grid.shape, np.float32)
    half[:, :14] = 0
    mask = Image.from_numpy(half, first.fixed.grid)
    masked = Case(first.fixed.with_mask(mask), first.moving)
    assert_as_alone(plan(deformation, terms=(term,)), [cases[1], masked])


@pytest.mark.parametrize(
    "term",
    [Diffusion(), Elastic(), Laplacian(), Bending(), JacobianPenalty()],
    ids=lambda term: type(term).__name__,
)
def test_every_regulariser(cases, term) -> None:
    terms = (SSD(), replace(term, weight=0.002))
    assert_as_alone(plan(terms=terms), cases)
    assert_as_alone(plan(Symmetric(2.0), terms=(*terms, InverseConsistency(weight=0.05))), cases)


def test_labels_and_landmarks(cases) -> None:
    """Each pair with its own, of unlike number."""
    given = []
    for k, case in enumerate(cases[:2]):
        labels = [
            Image((image.data > 0.4).to(torch.int32), image.grid, name="labels")
            for image in (case.fixed, case.moving)
        ]
        points = case.fixed.grid.centre_mm + np.array([[3.0, 1], [-4, 2], [0, -6], [5, 5]])
        marks = Landmarks(points[: 3 + k], points[: 3 + k] + np.array([0.8, -0.5 * k]))
        given.append(replace(case, extras=Extras(labels[1], labels[0], landmarks=marks)))
    near = SSD(source=Source("labels", Distance(limit_mm=4)), weight=0.1)
    terms = (Dice(), near, LandmarkDistance(weight=0.02))
    for deformation in (AffineMap(), GREEDY, Symmetric(2.0)):
        assert_as_alone(plan(deformation, terms=terms), given)


def test_further_images_and_a_recipe_of_stages(cases) -> None:
    given = [replace(c, extras=Extras(images={"t2": (c.moving, c.fixed)})) for c in cases[:2]]
    away = SSD(source=Source("t2"), weight=0.1)
    (bend,) = plan(terms=(SSD(), away)).stages
    (turn,) = plan(Rigid()).stages
    assert_as_alone(Plan((turn, bend, replace(turn, name="again")), Moments(1)), given)


def test_each_pair_has_its_own_start(cases) -> None:
    """From moments, from a linear map, and from a warp that the others do not have."""
    grid = cases[1].fixed.grid
    warp = Chain(
        [Displacement(torch.full((1, 2, *grid.shape), 0.4), grid), Affine.identity(2)],
    )
    started = [
        cases[0],
        replace(cases[1], initial=warp),
        replace(cases[2], initial=Affine(np.array([[1.0, 0, 0.7], [0, 1, -0.2], [0, 0, 1]]))),
    ]
    for deformation in (Rigid(), GREEDY, Symmetric(2.0)):
        assert_as_alone(plan(deformation, start=Moments(1)), started)


def test_one_fixed_image_against_many_and_the_reverse(cases) -> None:
    fixed = cases[0].fixed
    assert_as_alone(plan(), [Case(fixed, case.moving) for case in cases[:2]])
    assert_as_alone(plan(), [Case(case.moving, fixed) for case in cases[:2]])


def test_in_3d(blobs, centred_grid) -> None:
    shape, grid = blobs(3), centred_grid((20, 18, 16), (1.6, 1.7, 1.9))
    fixed = shape.image(grid)
    given = [
        Case(fixed, shape.image(grid, lambda y, s=shift: y - [s, 1.0, 0.0]))
        for shift in (1.5, -1.0)
    ]
    for deformation in (AffineMap(), GREEDY, Symmetric(2.0)):
        assert_as_alone(plan(deformation, terms=(LNCC(radius_vox=2),)), given)


# ---------------------------------------------------------------------------- events, ends
def test_pairs_end_by_themselves(cases) -> None:
    """Each stops at its own plateau; the others take no step more or less for it."""
    the_plan = plan(stop=Stop(5e-2, 3))
    *events, last = run_batch(the_plan, cases, WIDE)
    assert next(e for e in events if isinstance(e, RunStarted)).pairs == 3
    ends = [e for e in events if isinstance(e, LevelFinished)]
    assert [(e.level, e.pair) for e in ends] == [(k, n) for k in (0, 1) for n in (0, 1, 2)]
    seen = [
        [e.step for e in events if isinstance(e, Iteration) and e.pair == n and e.level == 1]
        for n in range(3)
    ]
    for end, steps in zip(ends[3:], seen, strict=True):
        assert steps[-1] == end.steps
    assert len({steps[-1] for steps in seen}) > 1
    assert [e.pair for e in events if isinstance(e, StageFinished)] == [0, 1, 2]
    for case, output in zip(cases, last.result, strict=True):
        (alone,) = outputs(the_plan, [case])
        assert output.stages[0][1].levels[-1].steps == alone.stages[0][1].levels[-1].steps
        assert output.outcome is alone.outcome
    fractions = [e.fraction for e in events]
    assert fractions == sorted(fractions)


def test_a_pair_that_cannot_be_compared_leaves_the_others_alone(cases) -> None:
    class Broken(Term):
        """SSD, invalid for pair 1 of three; alone always valid."""

        @property
        def reach_vox(self) -> int:
            return 0

        def bind(self, pair, ctx) -> Loss:
            def loss(views):
                values = ((views.fixed - views.moving) ** 2).flatten(1).mean(1)
                if len(values) == 3:
                    values = values * torch.tensor([1, torch.nan, 1], dtype=values.dtype)
                return values

            return loss

    the_plan = plan(terms=(Broken(),))
    *events, last = run_batch(the_plan, cases, WIDE)
    told = [e for e in events if isinstance(e, Warning)]
    assert [(e.pair, "invalid from the first step" in e.message) for e in told] == [(1, True)]
    bad = last.result[1]
    assert bad.outcome is Outcome.DIVERGED
    assert isinstance(bad.error, DivergedError)
    points = cases[1].fixed.grid.points_mm().reshape(-1, 2)
    np.testing.assert_array_equal(bad.transform(points), points)
    assert last.outcome is Outcome.DIVERGED
    for k in (0, 2):
        (alone,) = outputs(plan(), [cases[k]])
        assert_the_same(last.result[k], alone, cases[k].fixed.grid)


def test_one_error_for_all_where_no_pair_can_be_compared(cases, scripted) -> None:
    term = scripted(lambda *_: float("nan"))
    with pytest.raises(DivergedError, match="invalid from the first step"):
        list(run_batch(plan(terms=(term,)), cases[:1], WIDE))


# ---------------------------------------------------------------------------- bad input
def test_pairs_of_unlike_size_are_named(cases, blobs, centred_grid) -> None:
    other = blobs(2).image(centred_grid((40, 30), (1.1, 1.0)), name="small")
    with pytest.raises(InputError, match=r"Pair 3 of the batch \(small, .*another size"):
        next(run_batch(plan(), [*cases[:2], Case(other, other)], WIDE))
    coarse = blobs(2).image(centred_grid((40, 36), (1.3, 1.0)), name="coarse")
    with pytest.raises(InputError, match="separate batches"):
        next(run_batch(plan(), [cases[0], Case(coarse, cases[0].moving)], WIDE))
    with pytest.raises(InputError, match="at least one pair"):
        next(run_batch(plan(), [], WIDE))


def test_unlike_common_labels_are_refused(cases) -> None:
    def labelled(case: Case, top: int) -> Case:
        maps = []
        for image in (case.moving, case.fixed):
            data = (image.data > 0.4).to(torch.int32)
            data[0, 0, :top] = torch.arange(2, 2 + top, dtype=torch.int32)
            maps.append(Image(data, image.grid, name="labels"))
        return replace(case, extras=Extras(*maps))

    given = [labelled(cases[0], 1), labelled(cases[1], 2)]
    with pytest.raises(InputError, match="common labels"):
        next(run_batch(plan(terms=(Dice(),)), given, WIDE))
    named = Dice(source=Source("labels", OneHot((1, 2))))
    assert_as_alone(plan(terms=(named,)), given)


def test_a_term_that_does_not_tell_the_pairs_apart_says_so(cases, scripted) -> None:
    with pytest.raises(TypeError, match="Scripted gave 1 losses, not 2"):
        list(run_batch(plan(terms=(scripted(lambda *_: 1.0),)), cases[:2], WIDE))
