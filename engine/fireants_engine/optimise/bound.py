"""The step bound: how far one update may move a voxel."""

from __future__ import annotations

from torch import Tensor

from fireants_engine.ops.rows import per_pair


def step_factors(peaks: Tensor, step: float, pairs: int = 1) -> Tensor:
    """`0.5 step / max(1, max|direction|)` for every row of a direction, (k N,).

    peaks: (k N, d), the largest size of each channel (`Direction`) of N = `pairs` pairs, each
    with its own maximum; natural unit 1 (as Adam's). With this factor no component exceeds half a
    voxel times `step` (Eq. B.1, thesis B.2), so no entry of the step's Jacobian exceeds `step`:
    along a single axis `id + v` is a diffeomorphism for step < 1, and for the roughest direction
    (signs that alternate along all axes) for step < 1/d, where I + Dv is diagonally dominant. In
    between it is for smooth directions; folds are therefore counted, not assumed away. Where a
    peak is infinite the factor is 0. The maximum stays on the device: no synchronisation.
    """
    limit = per_pair(peaks, pairs).amax(1).clamp(min=1.0)
    return (0.5 * step / limit).repeat_interleave(len(peaks) // pairs)
