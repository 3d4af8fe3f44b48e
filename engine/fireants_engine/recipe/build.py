"""From a Recipe to the objects of the pipeline."""

from __future__ import annotations

from fireants_engine.deformations import (
    AffineMap,
    Compositive,
    Deformation,
    Rigid,
    Similarity,
    Translation,
)
from fireants_engine.errors import RecipeError
from fireants_engine.optimise import SGD, Adam, Descent, Stop
from fireants_engine.pipeline import Centre, Level, Moments, Plan, Pyramid, Stage
from fireants_engine.recipe import models as m
from fireants_engine.similarity import LNCC, NCC, SSD, MutualInformation, Term
from fireants_engine.transforms import Transform


def _deformation(spec: m.LinearSpec | m.GreedySpec) -> Deformation:
    match spec:
        case m.TranslationSpec():
            return Translation()
        case m.RigidSpec():
            return Rigid()
        case m.SimilaritySpec():
            return Similarity()
        case m.AffineSpec():
            return AffineMap()
        case m.GreedySpec():
            return Compositive(**spec.model_dump(exclude={"kind"}))


def _term(spec: m.SSDSpec | m.NCCSpec | m.LNCCSpec | m.MISpec) -> Term:
    match spec:
        case m.SSDSpec():
            return SSD(weight=spec.weight)
        case m.NCCSpec():
            return NCC(weight=spec.weight, squared=spec.squared)
        case m.LNCCSpec():
            return LNCC(weight=spec.weight, radius_vox=spec.radius_vox, squared=spec.squared)
        case m.MISpec():
            return MutualInformation(weight=spec.weight, bins=spec.bins)


def _descent(spec: m.AdamSpec | m.RMSpropSpec | m.SGDSpec) -> Descent:
    values = spec.model_dump(exclude={"kind"})
    match spec:
        case m.AdamSpec():
            return Adam(**values)
        case m.RMSpropSpec():
            return Adam(**values, beta1=0.0)
        case m.SGDSpec():
            return SGD(**values)


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
        descent=_descent(spec.descent),
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
