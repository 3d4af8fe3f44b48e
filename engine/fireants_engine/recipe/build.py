"""From a Recipe to the objects of the pipeline."""

from __future__ import annotations

from fireants_engine import deformations as shapes
from fireants_engine import regularise, similarity
from fireants_engine.deformations import Deformation, FeatureExtractor, Source
from fireants_engine.errors import RecipeError
from fireants_engine.features import MIND, Distance, OneHot
from fireants_engine.geometry import Encoding
from fireants_engine.optimise import SGD, Adam, Descent, LevenbergMarquardt, Stop
from fireants_engine.pipeline import Centre, Level, Moments, Plan, Pyramid, Stage
from fireants_engine.pipeline.inputs import LABELS
from fireants_engine.recipe import deformations as d
from fireants_engine.recipe import descents as o
from fireants_engine.recipe import models as m
from fireants_engine.recipe import terms as t
from fireants_engine.similarity import Term

_DEFORMATIONS: dict[type, type[Deformation]] = {
    d.TranslationSpec: shapes.Translation,
    d.RigidSpec: shapes.Rigid,
    d.SimilaritySpec: shapes.Similarity,
    d.AffineSpec: shapes.AffineMap,
    d.SlicewiseSpec: shapes.Slicewise,
    d.GreedySpec: shapes.Compositive,
    d.SymmetricSpec: shapes.Symmetric,
    d.VelocitySpec: shapes.StationaryVelocity,
    d.FreeFormSpec: shapes.FreeForm,
    d.PhaseEncodeSpec: shapes.PhaseEncode,
}
_TERMS: dict[type, type[Term]] = {
    t.SSDSpec: similarity.SSD,
    t.NCCSpec: similarity.NCC,
    t.LNCCSpec: similarity.LNCC,
    t.MISpec: similarity.MutualInformation,
    t.DiceSpec: similarity.Dice,
    t.ContourSpec: similarity.SSD,
    t.LandmarksSpec: similarity.LandmarkDistance,
    t.StructuralSpec: similarity.Structural,
    t.DiffusionSpec: regularise.Diffusion,
    t.ElasticSpec: regularise.Elastic,
    t.LaplacianSpec: regularise.Laplacian,
    t.JacobianSpec: regularise.JacobianPenalty,
    t.BendingSpec: regularise.Bending,
    t.InverseConsistencySpec: regularise.InverseConsistency,
    t.BarrierSpec: regularise.StretchBarrier,
}
_DESCENTS: dict[type, type[Descent]] = {
    o.AdamSpec: Adam,
    o.SGDSpec: SGD,
    o.LMSpec: LevenbergMarquardt,
}


def _deformation(spec: d.DeformationSpec) -> Deformation:
    values = spec.model_dump(exclude={"kind", "volumes"})
    if isinstance(spec, d.PhaseEncodeSpec):
        values["volumes"] = tuple(Encoding.parse(v.direction, v.readout_s) for v in spec.volumes)
    return _DEFORMATIONS[type(spec)](**values)


def _features(spec: t.FeatureSpec) -> FeatureExtractor | None:
    match spec:
        case t.IntensityFeatures():
            return None
        case t.MINDFeatures():
            return MIND(radius_vox=spec.radius_vox, dilation_vox=spec.dilation_vox)


def _source(spec: t.TermSpec) -> Source:
    match spec:
        case t.DiceSpec():
            return Source(LABELS, OneHot(spec.labels), masks=spec.masks)
        case t.ContourSpec():
            return Source(LABELS, Distance(spec.labels, spec.limit_mm), masks=spec.masks)
        case t.SSDSpec() | t.NCCSpec() | t.LNCCSpec():
            features = _features(spec.features)
            return Source(spec.input, features, spec.channels or None, spec.masks)
        case t.MISpec():
            return Source(spec.input, None, spec.channels or None, spec.masks)
    return Source()


_SOURCE_KEYS = {"kind", "input", "features", "channels", "masks", "labels", "limit_mm"}


def _term(spec: t.TermSpec) -> Term:
    values = spec.model_dump(exclude=_SOURCE_KEYS)
    if isinstance(spec, t.LandmarksSpec):
        values["robust_mm"] = spec.robust_mm or None
    return _TERMS[type(spec)](**values, source=_source(spec))


def _descent(spec: o.DescentSpec) -> Descent:
    values = spec.model_dump(exclude={"kind"})
    if isinstance(spec, o.RMSpropSpec):
        return Adam(**values, beta1=0.0)
    return _DESCENTS[type(spec)](**values)


def _start(spec: m.IdentityStart | m.CentreStart | m.MomentsStart) -> Moments | Centre | None:
    match spec:
        case m.IdentityStart():
            return None
        case m.CentreStart():
            return Centre()
        case m.MomentsStart():
            return Moments(**spec.model_dump(exclude={"kind"}))


def build_stage(spec: m.StageSpec) -> Stage:
    """The pipeline's Stage for one stage of a recipe."""
    levels = tuple(Level(**one.model_dump()) for one in spec.pyramid.levels)
    return Stage(
        name=spec.name,
        deformation=_deformation(spec.deformation),
        terms=tuple(_term(term) for term in spec.terms),
        descent=_descent(spec.descent),
        pyramid=Pyramid(levels, spec.pyramid.min_size),
        stop=Stop(**spec.stop.model_dump()),
    )


def build(recipe: m.Recipe) -> Plan:
    """The plan of a recipe.

    Raises RecipeError when no stage is enabled.
    """
    stages = tuple(build_stage(stage) for stage in recipe.stages if stage.enabled)
    if not stages:
        raise RecipeError("The recipe has no enabled stage; enable at least one.")
    return Plan(stages, _start(recipe.start), recipe.intensities)
