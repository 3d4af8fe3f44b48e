"""Warps at single points, and the points that a warp takes to given places, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from fireants_engine.kernels import reference


def sample_points(u: Tensor, points: Tensor) -> Tensor:
    """`u` at single points (d, n) in voxels -> (d, n)."""
    dim = u.shape[1]
    coords = points.reshape(1, dim, -1, *(1,) * (dim - 1))
    return reference.sample(u, coords, border=True)[0].reshape(dim, -1)


def point_jacobians(u: Tensor, points: Tensor) -> Tensor:
    """`I + Du` at single points (d, n) in voxels -> (n, d, d); central differences."""
    dim, h = u.shape[1], 0.25
    columns = []
    for k in range(dim):
        shift = torch.zeros(dim, 1, dtype=u.dtype, device=u.device)
        shift[k] = h
        slope = sample_points(u, points + shift) - sample_points(u, points - shift)
        columns.append(slope / (2 * h))
        columns[k][k] += 1
    return torch.stack(columns, dim=1).movedim(-1, 0)


def _newton_step(u: Tensor, points: Tensor, error: Tensor) -> Tensor:
    """Solves `(I + Du) delta = error`; (d, n), at most two voxels. `error` where there is none."""
    found = torch.linalg.solve_ex(point_jacobians(u, points), error.T[:, :, None])
    solved = (found.info == 0)[None] & torch.isfinite(found.result[:, :, 0].T)
    delta = torch.where(solved, found.result[:, :, 0].T, error)
    return delta * (2.0 / reference.length(delta[None])[0].clamp(min=2.0))


def solve_points(
    u: Tensor, start: Tensor, target: Tensor, tol_vox: float = 1e-2, steps: int = 15
) -> Tensor:
    """p with `p + u(p) = target` for single points; all (d, n) in voxels, u (1, d, *spatial).

    Three fixed-point steps, then damped Newton steps, each for the points that are not within
    `tol_vox` yet; a step is taken only where it brings a point closer.
    """
    points = start.clone()
    error = points + sample_points(u, points) - target
    size = reference.length(error[None])[0]
    for k in range(steps):
        left = (size > tol_vox).nonzero()[:, 0]
        if left.numel() == 0:
            break
        base, goal = points[:, left], target[:, left]
        at, gap, far = base, error[:, left], size[left]
        simple = k < 3
        delta = gap if simple else _newton_step(u, at, gap)
        for damping in (1.0,) if simple else (1.0, 0.5, 0.2, 0.05):
            trial = base - damping * delta
            trial_gap = trial + sample_points(u, trial) - goal
            trial_far = reference.length(trial_gap[None])[0]
            better = trial_far < far
            at, gap = torch.where(better, trial, at), torch.where(better, trial_gap, gap)
            far = torch.where(better, trial_far, far)
        points[:, left], error[:, left], size[left] = at, gap, far
    return points
