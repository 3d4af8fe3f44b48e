"""Results of a registration: immutable maps fixed mm -> moving mm."""

from fireants_engine.transforms.base import Chain, Transform
from fireants_engine.transforms.displacement import Displacement, Inverse
from fireants_engine.transforms.linear import Affine, linear_part

__all__ = ["Affine", "Chain", "Displacement", "Inverse", "Transform", "linear_part"]
