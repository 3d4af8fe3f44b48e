"""The kernels of `cuda_ext/src/cpu` (distribution fireants-kernels) on tensors of the CPU."""

from fireants_engine.kernels.native import (
    descent,
    jacobian,
    labels,
    library,
    lncc,
    memory,
    parzen,
    points,
    slopes,
    smooth,
    unbend,
    warp,
)

__all__ = [
    "descent",
    "jacobian",
    "labels",
    "library",
    "lncc",
    "memory",
    "parzen",
    "points",
    "slopes",
    "smooth",
    "unbend",
    "warp",
]
