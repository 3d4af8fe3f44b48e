"""From a recipe to the objects of the pipeline: every value arrives."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_args

import pytest

from fireants_engine.deformations import (
    AffineMap,
    Compositive,
    Deformation,
    FreeForm,
    PhaseEncode,
    Rigid,
    Slicewise,
    Source,
    StationaryVelocity,
    Symmetric,
)
from fireants_engine.errors import RecipeError
from fireants_engine.features import MIND, Distance, OneHot
from fireants_engine.optimise import SGD, Adam, LevenbergMarquardt, Stop
from fireants_engine.pipeline import Centre, Level, Moments, Pyramid, Stage
from fireants_engine.recipe import Recipe
from fireants_engine.recipe import deformations as d
from fireants_engine.recipe import descents as o
from fireants_engine.recipe import models as m
from fireants_engine.recipe import terms as t
from fireants_engine.recipe.build import build, build_stage
from fireants_engine.regularise import (
    Bending,
    Diffusion,
    Elastic,
    JacobianPenalty,
    Laplacian,
    StretchBarrier,
)
from fireants_engine.similarity import (
    LNCC,
    NCC,
    SSD,
    Dice,
    LandmarkDistance,
    MutualInformation,
    Structural,
    Term,
)


def kinds(union: Any) -> list[type]:
    """The alternatives of a discriminated union, also of one made of unions."""
    alternatives = get_args(get_args(union)[0])
    return [kind for part in alternatives for kind in (get_args(part) or (part,))]


def stage_of(deformation: Any = None, terms: Any = None, **more: Any) -> m.StageSpec:
    return m.StageSpec(
        deformation=deformation or d.RigidSpec(), terms=terms or (t.SSDSpec(),), **more
    )


FULL = {
    "name": "full",
    "start": {"kind": "moments", "order": 1, "score": "mi"},
    "stages": [
        {
            "name": "turn",
            "deformation": {"kind": "rigid"},
            "terms": [{"kind": "ssd", "weight": 0.3}],
        },
        {
            "name": "shear",
            "deformation": {"kind": "affine"},
            "terms": [{"kind": "mi", "weight": 0.6, "bins": 20}],
        },
        {
            "name": "bend",
            "deformation": {
                "kind": "greedy",
                "sigma_grad_mm": 1.1,
                "sigma_warp_mm": 1.2,
                "grad_floor_vox": 1.3,
                "warp_floor_vox": 1.4,
            },
            "terms": [
                {"kind": "lncc", "weight": 2.1, "radius_vox": 5, "squared": False},
                {"kind": "ssd", "weight": 2.2},
            ],
            "descent": {"step": 0.31, "decay": 0.32, "beta1": 0.33, "beta2": 0.34, "eps_rel": 0.35},
            "pyramid": {
                "levels": [{"shrink": 3.5, "max_steps": 41}, {"shrink": 1.25, "max_steps": 42}],
                "min_size": 9,
            },
            "stop": {"tolerance": 0.004, "window": 6},
        },
    ],
}


def test_every_value_arrives() -> None:
    plan = build(Recipe.from_dict(FULL))
    assert plan.start == Moments(order=1, score="mi")
    turn, shear, bend = plan.stages
    assert (turn.name, turn.deformation, turn.terms) == ("turn", Rigid(), (SSD(weight=0.3),))
    assert shear.deformation == AffineMap()
    assert shear.terms == (MutualInformation(weight=0.6, bins=20),)
    assert bend == Stage(
        name="bend",
        deformation=Compositive(1.1, 1.2, 1.3, 1.4),
        terms=(LNCC(weight=2.1, radius_vox=5, squared=False), SSD(weight=2.2)),
        descent=Adam(step=0.31, decay=0.32, beta1=0.33, beta2=0.34, eps_rel=0.35),
        pyramid=Pyramid((Level(3.5, 41), Level(1.25, 42)), 9),
        stop=Stop(tolerance=0.004, window=6),
    )


def test_every_kind_of_the_schema_is_built() -> None:
    """A kind that is added to the recipe and forgotten here would give None."""
    for kind in kinds(m.DeformationSpec):
        assert isinstance(build_stage(stage_of(deformation=kind())).deformation, Deformation)
    for kind in kinds(t.TermSpec):
        field = kind in (t.BarrierSpec, t.StructuralSpec)
        fitting = d.PhaseEncodeSpec() if field else d.SymmetricSpec()
        spec = kind(weight=0.7, level_weights=(2.0, 0.5))
        (term,) = build_stage(stage_of(fitting, (spec,))).terms
        assert isinstance(term, Term)
        assert (term.weight, term.level_weights) == (0.7, (2.0, 0.5))
        assert [term.at(level).weight for level in range(3)] == pytest.approx([1.4, 0.35, 0.35])
    for kind in kinds(o.DescentSpec):
        made = build_stage(stage_of(d.GreedySpec(), descent=kind(step=0.25, decay=0.75)))
        assert (made.descent.step, made.descent.decay) == (0.25, 0.75)
    starts = [build(m.Recipe(start=kind(), stages=(stage_of(),))).start for kind in kinds(m.Start)]
    assert starts == [None, Centre(), Moments()]


@pytest.mark.parametrize(
    ("spec", "made"),
    [
        (d.RigidSpec(), Rigid()),
        (d.AffineSpec(), AffineMap()),
        (d.SlicewiseSpec(), Slicewise()),
        (d.GreedySpec(), Compositive()),
        (d.SymmetricSpec(), Symmetric()),
        (d.VelocitySpec(), StationaryVelocity()),
        (d.FreeFormSpec(), FreeForm()),
        (d.PhaseEncodeSpec(), PhaseEncode()),
        (o.AdamSpec(), Adam()),
        (o.SGDSpec(), SGD()),
        (o.LMSpec(), LevenbergMarquardt()),
        (m.StopSpec(), Stop()),
        (t.SSDSpec(), SSD()),
        (t.NCCSpec(), NCC()),
        (t.LNCCSpec(), LNCC()),
        (t.MISpec(), MutualInformation()),
        (t.MINDFeatures(), MIND()),
        (t.DiffusionSpec(), Diffusion()),
        (t.ElasticSpec(), Elastic()),
        (t.LaplacianSpec(), Laplacian()),
        (t.JacobianSpec(), JacobianPenalty()),
        (t.BarrierSpec(), StretchBarrier()),
        (t.StructuralSpec(), Structural()),
        (t.BendingSpec(), Bending()),
        (m.MomentsStart(), Moments()),
    ],
    ids=lambda x: type(x).__name__,
)
def test_defaults_of_recipe_and_engine_are_the_same(spec: m.Spec, made: Any) -> None:
    assert is_dataclass(made)
    values = {f.name: getattr(made, f.name) for f in fields(made)}
    of_the_source = {"kind", "input", "features", "channels", "masks"}
    given = spec.model_dump(exclude=of_the_source)
    assert {name: values[name] for name in given} == given
    if "source" in values:
        field = isinstance(spec, t.BarrierSpec | t.StructuralSpec)
        fitting = d.PhaseEncodeSpec() if field else d.GreedySpec()
        assert build_stage(stage_of(fitting, (spec,))).terms == (made,)


@pytest.mark.parametrize(
    ("spec", "source"),
    [
        (
            t.SSDSpec(features={"kind": "mind", "radius_vox": 2}),
            Source(features=MIND(radius_vox=2)),
        ),
        (t.LNCCSpec(input="t2", channels=(1,)), Source("t2", channels=(1,))),
        (t.MISpec(input="t2", masks="moving"), Source("t2", masks="moving")),
        (t.DiceSpec(labels=(3, 4)), Source("labels", OneHot((3, 4)))),
        (t.ContourSpec(limit_mm=5), Source("labels", Distance((), 5))),
        (t.LandmarksSpec(), Source()),
    ],
    ids=lambda x: getattr(x, "kind", ""),
)
def test_a_term_looks_where_its_spec_says(spec: Any, source: Source) -> None:
    (term,) = build_stage(stage_of(terms=(spec,))).terms
    assert term.source == source
    needs = {"dice": "labels", "contour": "labels", "landmarks": "landmarks"}
    assert term.needs == needs.get(spec.kind, source.name)


def test_landmarks_without_a_reach_are_not_robust() -> None:
    for given, made in ((0, None), (2.5, 2.5)):
        (term,) = build_stage(stage_of(terms=(t.LandmarksSpec(robust_mm=given),))).terms
        assert term == LandmarkDistance(robust_mm=made)
    assert build_stage(stage_of(terms=(t.DiceSpec(),))).terms == (Dice(),)


def test_the_default_pyramid_is_that_of_the_recipe() -> None:
    stage = build_stage(stage_of())
    assert [level.shrink for level in stage.pyramid.levels] == [4, 2, 1]
    assert stage.pyramid.min_size == Pyramid(()).min_size == 16


def test_stages_that_are_off_are_left_out() -> None:
    recipe = Recipe.from_dict(FULL).with_values({"stages.shear.enabled": False})
    assert [stage.name for stage in build(recipe).stages] == ["turn", "bend"]


@pytest.mark.parametrize("stages", [[], [{**FULL["stages"][0], "enabled": False}]])
def test_a_recipe_without_a_stage_to_run_is_refused(stages: list) -> None:
    with pytest.raises(RecipeError, match="no enabled stage"):
        build(Recipe.from_dict({"stages": stages}))
