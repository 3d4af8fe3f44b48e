"""Results of a registration: immutable maps fixed mm -> moving mm.

Displacements are imported when first used: affine maps need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fireants_engine.transforms.base import Chain, Transform, parts_of
from fireants_engine.transforms.fit import fit_points
from fireants_engine.transforms.linear import Affine, affine_factor, linear_part
from fireants_engine.transforms.split import split, warp_factor

if TYPE_CHECKING:
    from fireants_engine.transforms.displacement import Displacement, Inverse, sampled

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


def __getattr__(name: str) -> Any:
    if name in ("Displacement", "Inverse", "sampled"):
        from fireants_engine.transforms import displacement

        value = getattr(displacement, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
