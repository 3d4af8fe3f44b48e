"""From a recipe to the objects of the pipeline: every value arrives."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_args

import numpy as np
import pytest

from fireants_engine.deformations import AffineMap, Compositive, Deformation, Rigid
from fireants_engine.errors import RecipeError
from fireants_engine.optimise import Adam, Stop
from fireants_engine.pipeline import Centre, Level, Moments, Pyramid, Stage
from fireants_engine.recipe import Recipe
from fireants_engine.recipe import models as m
from fireants_engine.recipe.build import build, build_stage
from fireants_engine.similarity import LNCC, SSD, MutualInformation, Term
from fireants_engine.transforms import Affine


def kinds(union: Any) -> list[type]:
    """The alternatives of a discriminated union."""
    return list(get_args(get_args(union)[0]))


def stage_of(deformation: Any = None, terms: Any = None, **more: Any) -> m.StageSpec:
    return m.StageSpec(
        deformation=deformation or m.RigidSpec(), terms=terms or (m.SSDSpec(),), **more
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
    assert (turn.name, turn.deformation, turn.terms) == ("turn", Rigid(), (SSD(0.3),))
    assert shear.deformation == AffineMap()
    assert shear.terms == (MutualInformation(weight=0.6, bins=20),)
    assert bend == Stage(
        name="bend",
        deformation=Compositive(1.1, 1.2, 1.3, 1.4),
        terms=(LNCC(2.1, 5, squared=False), SSD(2.2)),
        descent=Adam(step=0.31, decay=0.32, beta1=0.33, beta2=0.34, eps_rel=0.35),
        pyramid=Pyramid((Level(3.5, 41), Level(1.25, 42)), 9),
        stop=Stop(tolerance=0.004, window=6),
    )


def test_every_kind_of_the_schema_is_built() -> None:
    """A kind that is added to the recipe and forgotten here would give None."""
    for kind in kinds(m.DeformationSpec):
        assert isinstance(build_stage(stage_of(deformation=kind())).deformation, Deformation)
    for kind in kinds(m.TermSpec):
        (term,) = build_stage(stage_of(terms=(kind(weight=0.7),))).terms
        assert isinstance(term, Term)
        assert term.weight == 0.7
    starts = [build(m.Recipe(start=kind(), stages=(stage_of(),))).start for kind in kinds(m.Start)]
    assert starts == [None, Centre(), Moments()]


@pytest.mark.parametrize(
    ("spec", "made"),
    [
        (m.GreedySpec(), Compositive()),
        (m.AdamSpec(), Adam()),
        (m.StopSpec(), Stop()),
        (m.SSDSpec(), SSD()),
        (m.LNCCSpec(), LNCC()),
        (m.MISpec(), MutualInformation()),
        (m.MomentsStart(), Moments()),
    ],
    ids=lambda x: type(x).__name__,
)
def test_defaults_of_recipe_and_engine_are_the_same(spec: m.Spec, made: Any) -> None:
    assert is_dataclass(made)
    values = {f.name: getattr(made, f.name) for f in fields(made)}
    assert spec.model_dump(exclude={"kind"}).items() <= values.items()


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


def test_a_given_start_replaces_that_of_the_recipe() -> None:
    start = Affine(np.diag([1.1, 0.9, 1.0]))
    assert build(Recipe.from_dict(FULL), start).start is start
