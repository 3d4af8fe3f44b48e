"""What a stage optimises, and the pair of images it looks at."""

from fireants_engine.deformations.base import Deformation, Folds
from fireants_engine.deformations.compositive import Compositive, FreeForm
from fireants_engine.deformations.linear import AffineMap, Rigid, Similarity, Translation
from fireants_engine.deformations.motion import Motion, Pulled, Views
from fireants_engine.deformations.pair import IMAGE, FeatureExtractor, Pair, Source
from fireants_engine.deformations.phase_encode import PhaseEncode
from fireants_engine.deformations.slicewise import Slicewise
from fireants_engine.deformations.symmetric import Symmetric
from fireants_engine.deformations.velocity import StationaryVelocity

__all__ = [
    "IMAGE",
    "AffineMap",
    "Compositive",
    "Deformation",
    "FeatureExtractor",
    "Folds",
    "FreeForm",
    "Motion",
    "Pair",
    "PhaseEncode",
    "Pulled",
    "Rigid",
    "Similarity",
    "Slicewise",
    "Source",
    "StationaryVelocity",
    "Symmetric",
    "Translation",
    "Views",
]
