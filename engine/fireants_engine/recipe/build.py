"""From a Recipe to the objects of the pipeline."""

from __future__ import annotations

from fireants_engine.deformations import AffineMap, Compositive, Deformation, Rigid
from fireants_engine.errors import RecipeError
from fireants_engine.optimise import Adam, Stop
from fireants_engine.pipeline import Centre, Level, Moments, Plan, Pyramid, Stage
from fireants_engine.recipe import models as m
from fireants_engine.similarity import LNCC, SSD, MutualInformation, Term
from fireants_engine.transforms import Transform


def _deformation(spec: m.RigidSpec | m.AffineSpec | m.GreedySpec) -> Deformation:
    match spec:
        case m.RigidSpec():
            return Rigid()
        case m.AffineSpec():
            return AffineMap()
        case m.GreedySpec():
            return Compositive(**spec.model_dump(exclude={"kind"}))


def _term(spec: m.SSDSpec | m.LNCCSpec | m.MISpec) -> Term:
    match spec:
        case m.SSDSpec():
            return SSD(weight=spec.weight)
        case m.LNCCSpec():
            return LNCC(weight=spec.weight, radius_vox=spec.radius_vox, squared=spec.squared)
        case m.MISpec():
            return MutualInformation(weight=spec.weight, bins=spec.bins)


def _start(spec: m.IdentityStart | m.CentreStart | m.MomentsStart) -> Moments | Centre | None:
    match spec:
        case m.IdentityStart():
            return None
        case m.CentreStart():
            return Centre()
        case m.MomentsStart():
            return Moments(order=spec.order, score=spec.score)


def build_stage(spec: m.StageSpec) -> Stage:
    """The pipeline's Stage for one stage of a recipe."""
    levels = tuple(Level(level.shrink, level.max_steps) for level in spec.pyramid.levels)
    return Stage(
        name=spec.name,
        deformation=_deformation(spec.deformation),
        terms=tuple(_term(term) for term in spec.terms),
        descent=Adam(**spec.descent.model_dump(exclude={"kind"})),
        pyramid=Pyramid(levels, spec.pyramid.min_size),
        stop=Stop(**spec.stop.model_dump()),
    )


def build(recipe: m.Recipe, initial: Transform | None = None) -> Plan:
    """The plan of a recipe; `initial` replaces the recipe's start.

    Raises RecipeError when no stage is enabled.
    """
    stages = tuple(build_stage(stage) for stage in recipe.stages if stage.enabled)
    if not stages:
        raise RecipeError("The recipe has no enabled stage; enable at least one.")
    return Plan(stages, initial if initial is not None else _start(recipe.start))
