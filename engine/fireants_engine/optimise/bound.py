"""The step bound: how far one update may move a voxel."""

from __future__ import annotations

from torch import Tensor

from fireants_engine.ops.rows import per_pair, spread


def bounded_step(direction: Tensor, step: float, pairs: int = 1) -> Tensor:
    """`step * 0.5 / max(1, max|direction|) * direction`, in voxels per axis.

    direction: (k N, d, *spatial) of N = `pairs` pairs, each with its own maximum; natural unit 1
    (as Adam's). No component exceeds half a voxel
    times `step` (Eq. B.1, thesis B.2), so no entry of the step's Jacobian exceeds `step`: along a
    single axis `id + v` is a diffeomorphism for step < 1, and for the roughest direction (signs
    that alternate along all axes) for step < 1/d, where I + Dv is diagonally dominant. In
    between it is for smooth directions; folds are therefore counted, not assumed away. The
    maximum stays on the device: no synchronisation.
    """
    limit = per_pair(direction, pairs).abs().amax(1).clamp(min=1.0)
    return direction * spread(0.5 * step / limit, direction)
