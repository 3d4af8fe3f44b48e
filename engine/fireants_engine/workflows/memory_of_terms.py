"""What each term of a loss holds, in volumes of what it compares: a table, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MIND_CHANNELS = {2: 4, 3: 12}


@dataclass(frozen=True)
class TermArrays:
    """In arrays of the compared channels on the fixed grid, or, `of_warp`, in warps.

    forward: at once while the loss is computed; saved: from then on for the gradient; backward:
    at once while it is; kept: for the whole level. channels: that it compares (0: none). lent:
    they are kernels' results.
    """

    forward: float
    saved: float
    backward: float
    kept: float = 0.0
    channels: int = 0
    lent: bool = False
    of_warp: bool = False


_NATIVE = {
    "lncc": (0, 1, 0, 0, True),
    "mi": (0, 0, 1, 0, True),
    "ssd": (3, 1, 4, 0, False),
    "ncc": (9, 5, 8, 0, False),
    "dice": (4, 4, 4, 0, False),
    "contour": (3, 1, 4, 0, False),
}
"""forward, saved, backward, kept; whether the kernels lend them."""

_REFERENCE = {
    **_NATIVE,
    "lncc": (11, 5, 7, 2, False),
    "mi": (9, 4, 6, 0, False),
}

_WARPS = {
    "diffusion": (3, 1, 5),
    "elastic": (12, 10, 6),
    "laplacian": (6, 5, 5),
    "bending": (6, 5.5, 3),
    "jacobian": (30, 27, 6),
    "inverse_consistency": (3, 2, 3),
}
"""forward, saved, backward, in warps."""


def arrays_of(term: Any, channels: int, native: bool) -> TermArrays:
    """The arrays of one term (its part of a recipe) that compares `channels` channels."""
    if term.kind in _WARPS:
        return TermArrays(*_WARPS[term.kind], of_warp=True)
    table = _NATIVE if native else _REFERENCE
    if term.kind not in table:  # landmarks
        return TermArrays(0, 0, 0)
    *counts, lent = table[term.kind]
    return TermArrays(*counts, channels=channels, lent=lent)
