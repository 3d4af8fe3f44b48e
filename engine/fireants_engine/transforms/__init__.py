"""Results of a registration: immutable maps fixed mm -> moving mm."""

from fireants_engine.transforms.base import Chain, Transform
from fireants_engine.transforms.displacement import Displacement
from fireants_engine.transforms.linear import Affine, linear_part

__all__ = ["Affine", "Chain", "Displacement", "Transform", "linear_part"]
