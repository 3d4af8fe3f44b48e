"""Results of a registration: immutable maps fixed mm -> moving mm."""

from fireants_engine.transforms.base import Chain, Transform, parts_of
from fireants_engine.transforms.displacement import Displacement, Inverse, sampled
from fireants_engine.transforms.fit import fit_points
from fireants_engine.transforms.linear import Affine, affine_factor, linear_part
from fireants_engine.transforms.split import split, warp_factor

__all__ = [
    "Affine",
    "Chain",
    "Displacement",
    "Inverse",
    "Transform",
    "affine_factor",
    "fit_points",
    "linear_part",
    "parts_of",
    "sampled",
    "split",
    "warp_factor",
]
