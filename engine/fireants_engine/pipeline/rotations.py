"""Rotations spread evenly over all there are."""

from __future__ import annotations

import math

import numpy as np

_PSI = 1.533751168755204288118041
"""The real root of x^4 = x + 4 that makes the spiral even (Alexa 2022)."""


def covering(dim: int, degrees: float) -> np.ndarray:
    """(n, dim, dim) rotations about `degrees` from their neighbours; the first is the identity.

    In the plane evenly; in space the super-Fibonacci spiral of unit quaternions, turned so that
    it begins at the identity. Alexa, Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling of
    SO(3), CVPR 2022. Raises ValueError for an angle that is not positive.
    """
    if not degrees > 0:
        raise ValueError(f"rotations are a positive angle apart, not {degrees}")
    if dim == 2:
        angles = 2 * np.pi * np.arange(max(2, math.ceil(360 / degrees))) / math.ceil(360 / degrees)
        cos, sin = np.cos(angles), np.sin(angles)
        return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)
    from scipy.spatial.transform import Rotation

    # a ball of half that angle has about theta^3 / (48 pi) of the volume of all rotations
    count = max(8, math.ceil(48 * np.pi / np.radians(degrees) ** 3))
    at = np.arange(count) + 0.5
    turn = 2 * np.pi * at
    inner, outer = np.sqrt(at / count), np.sqrt(1 - at / count)
    quaternions = np.stack(
        [
            inner * np.sin(turn / math.sqrt(2)),
            inner * np.cos(turn / math.sqrt(2)),
            outer * np.sin(turn / _PSI),
            outer * np.cos(turn / _PSI),
        ],
        axis=1,
    )
    found = Rotation.from_quat(quaternions).as_matrix()
    return found @ found[0].T


def small_turns(dim: int, angle: float) -> list[np.ndarray]:
    """Turns by +angle and -angle (radians) about every axis, 2D: in the plane."""
    planes = [(0, 1)] if dim == 2 else [(1, 2), (2, 0), (0, 1)]
    out = []
    for i, j in planes:
        for by in (angle, -angle):
            turn = np.eye(dim)
            turn[[i, j], [i, j]] = math.cos(by)
            turn[i, j], turn[j, i] = -math.sin(by), math.sin(by)
            out.append(turn)
    return out


def nearest_rotation(linear: np.ndarray) -> np.ndarray:
    """The orthogonal factor of a (d, d) matrix: a rotation, or a reflection where det < 0."""
    left, _, right = np.linalg.svd(linear)
    return left @ right


def degrees_between(a: np.ndarray, b: np.ndarray) -> float:
    """Angle of the turn between two linear maps' orthogonal factors; 180 where one mirrors."""
    if np.linalg.det(a) * np.linalg.det(b) < 0:
        return 180.0
    relative = nearest_rotation(a) @ nearest_rotation(b).T
    dim = len(relative)
    cosine = (np.trace(relative) - (1 if dim == 3 else 0)) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
