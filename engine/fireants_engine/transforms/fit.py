"""The rigid, similarity or affine map that brings paired points closest, in closed form."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Landmarks, as_points
from fireants_engine.transforms.linear import Affine

Kind = Literal["rigid", "similarity", "affine"]

FLAT = 1e-3
"""Points count as collinear (coplanar) when they spread less than this share of their largest
spread along the next direction."""
_SHAPES = {0: "at one place", 1: "on one line", 2: "in one plane"}


def fit_points(pairs: Landmarks, kind: Kind = "rigid", *, reflections: bool = False) -> Affine:
    """T = argmin sum_i w_i |T(q_i) - p_i|^2 over the maps of `kind`; q fixed, p moving landmarks.

    With weighted means q', p', C = sum_i w_i (p_i - p')(q_i - q')^T = U D V^T (singular values
    falling), V_q = sum_i w_i |q_i - q'|^2:

    rigid       R = U S V^T, S = diag(1, .., 1, det(U) det(V));  T(x) = R (x - q') + p'
    similarity  s R with s = tr(D S) / V_q
    affine      A = C (sum_i w_i (q_i - q')(q_i - q')^T)^-1

    S. Umeyama, IEEE PAMI 13 (1991) 376-380; for rotations in 3D also B. K. P. Horn, JOSA A 4
    (1987) 629-642. reflections: allow maps that mirror (then S = 1). The centre of the map is q'.

    Raises InputError for too few landmarks of positive weight, for those that lie at one place,
    on a line or in a plane where the map is not determined, and for an affine map that mirrors.
    """
    if kind not in ("rigid", "similarity", "affine"):
        raise InputError(f"There is no fit {kind!r}; choose rigid, similarity or affine.")
    dim = np.asarray(pairs.fixed_mm).shape[1]
    fixed = as_points(pairs.fixed_mm, dim, f"{pairs.name}, fixed")
    moving = as_points(pairs.moving_mm, dim, f"{pairs.name}, moving")
    assert pairs.weights is not None
    counts = pairs.weights > 0
    share = pairs.weights[counts] / pairs.weights.sum()
    fixed, moving = fixed[counts], moving[counts]
    rank = dim if kind == "affine" else dim - 1
    if len(fixed) <= rank:
        raise InputError(
            f"A {kind} fit in {dim}D needs at least {rank + 1} landmarks; {len(fixed)} count."
        )
    middle, aim = share @ fixed, share @ moving
    own, other = fixed - middle, moving - aim
    _must_spread(own, share, rank, kind, "fixed")
    _must_spread(other, share, rank, kind, "moving")
    covariance = (share[:, None] * other).T @ own
    if kind == "affine":
        linear = covariance @ np.linalg.inv((share[:, None] * own).T @ own)
        if np.linalg.det(linear) <= 0 and not reflections:
            raise InputError(
                "The affine fit of the landmarks mirrors the image; look for pairs that are "
                "swapped, or choose the rigid fit."
            )
        return Affine.about(linear, aim - middle, middle)
    u, singular, vt = np.linalg.svd(covariance)
    if rank and singular[rank - 1] <= FLAT**2 * np.linalg.norm(own) * np.linalg.norm(other):
        raise InputError(
            "The landmarks of one image do not follow those of the other in any way; look for "
            "pairs that are swapped."
        )
    signs = np.ones(dim)
    if not reflections:
        signs[-1] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    linear = (u * signs) @ vt
    if kind == "similarity":
        linear = linear * (singular @ signs) / (share @ np.square(own).sum(axis=1))
    return Affine.about(linear, aim - middle, middle)


def _must_spread(points: np.ndarray, share: np.ndarray, rank: int, kind: str, role: str) -> None:
    """Raise InputError unless the centred points span `rank` directions."""
    spread = np.linalg.svd(points * np.sqrt(share)[:, None], compute_uv=False)
    found = int(np.sum(spread > FLAT * max(float(spread[0]), 1e-12)))
    if found < rank:
        raise InputError(
            f"The {role} landmarks lie {_SHAPES[found]}, which does not determine a {kind} map; "
            "set one away from the others."
        )
