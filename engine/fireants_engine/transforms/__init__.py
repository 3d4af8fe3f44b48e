"""Results of a registration: immutable maps fixed mm -> moving mm."""

from fireants_engine.transforms.base import Chain, Transform
from fireants_engine.transforms.displacement import Displacement, Inverse, sampled
from fireants_engine.transforms.linear import Affine, linear_part
from fireants_engine.transforms.split import affine_factor, parts_of, split, warp_factor

__all__ = [
    "Affine",
    "Chain",
    "Displacement",
    "Inverse",
    "Transform",
    "affine_factor",
    "linear_part",
    "parts_of",
    "sampled",
    "split",
    "warp_factor",
]
