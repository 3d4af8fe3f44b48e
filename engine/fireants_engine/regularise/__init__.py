"""Regularisers: terms that look at the warp alone."""

from fireants_engine.regularise.barrier import StretchBarrier
from fireants_engine.regularise.base import Regulariser
from fireants_engine.regularise.inverse_consistency import InverseConsistency
from fireants_engine.regularise.jacobian import JacobianPenalty
from fireants_engine.regularise.smoothness import Bending, Diffusion, Elastic, Laplacian

__all__ = [
    "Bending",
    "Diffusion",
    "Elastic",
    "InverseConsistency",
    "JacobianPenalty",
    "Laplacian",
    "Regulariser",
    "StretchBarrier",
]
