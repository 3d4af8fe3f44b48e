"""Numerical inverse of a displacement field."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.kernels import REFERENCE, chosen_for, length


def _residual(u: Tensor, v: Tensor) -> Tensor:
    """`v + u o (id + v)`: zero where `id + v` is the inverse of `id + u`."""
    return chosen_for(u).compose(v, u)


def resize_displacement(field: Tensor, shape: tuple[int, ...], power: int = -1) -> Tensor:
    """Linear resampling of a voxel field to another size over the same field of view.

    Values are multiplied per axis by (new size / old size)^(-power): power -1 for displacements,
    1 for gradients by them, 2 for squared gradients. Never cubic (thesis 3.5).
    """
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    out = F.interpolate(field, size=shape, mode=mode, align_corners=False)
    ratio = [(n / o) ** -power for n, o in zip(shape, field.shape[2:], strict=True)]
    scale = torch.tensor(ratio, dtype=out.dtype, device=out.device)
    return out.mul_(scale.view(1, -1, *(1,) * len(shape)))


def sample_points(u: Tensor, points: Tensor) -> Tensor:
    """`u` at single points (d, n) in voxels -> (d, n)."""
    dim = u.shape[1]
    coords = points.reshape(1, dim, -1, *(1,) * (dim - 1))
    return REFERENCE.sample(u, coords, border=True)[0].reshape(dim, -1)


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
    """Solves `(I + Du) delta = error` in the least-squares sense; (d, n), at most two voxels."""
    jacobian = point_jacobians(u, points)
    normal = jacobian.mT @ jacobian
    normal.diagonal(dim1=1, dim2=2).add_(1e-4)
    right = jacobian.mT @ error.T[:, :, None]
    delta = torch.linalg.solve(normal, right)[:, :, 0].T
    return delta * (2.0 / length(delta[None])[0].clamp(min=2.0))


def solve_points(
    u: Tensor, start: Tensor, target: Tensor, tol_vox: float = 1e-2, steps: int = 15
) -> Tensor:
    """p with `p + u(p) = target` for single points; all (d, n) in voxels, u (1, d, *spatial).

    Three fixed-point steps, then damped Newton steps, each for the points that are not within
    `tol_vox` yet; a step is taken only where it brings a point closer.
    """
    points = start.clone()
    error = points + sample_points(u, points) - target
    size = length(error[None])[0]
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
            trial_far = length(trial_gap[None])[0]
            better = trial_far < far
            at, gap = torch.where(better, trial, at), torch.where(better, trial_gap, gap)
            far = torch.where(better, trial_far, far)
        points[:, left], error[:, left], size[left] = at, gap, far
    return points


def invert(u: Tensor, tol_vox: float = 1e-2, max_steps: int = 12) -> Tensor:
    """v with `(id + u) o (id + v) = id` on u's grid.

    u: (1, d, *spatial) voxels. Coarse to fine: the inverse of the half-resolution field starts
    a fixed-point iteration v <- v - (v + u o (id + v)) (Chen et al. 2008); the few voxels where
    that does not contract (|grad u| > 1) are finished by damped Newton. Beyond the border u
    continues with its edge value. Thesis 3.4 gives the variational form of the same problem.
    """
    shape = tuple(u.shape[2:])
    with torch.no_grad():
        if max(shape) > 24:
            half = tuple(max(1, (n + 1) // 2) for n in shape)
            v = resize_displacement(invert(resize_displacement(u, half), tol_vox, max_steps), shape)
        else:
            v = -u
        residual = _residual(u, v)
        for _ in range(max_steps):
            left = int((length(residual) > tol_vox).sum())
            if left == 0:
                return v
            if left < residual[0, 0].numel() / 200:
                break  # few enough for Newton
            v = v - residual
            residual = _residual(u, v)
        bad = length(residual)[0] > tol_vox
        if bool(bad.any()):
            where = bad.nonzero().T.to(u.dtype)
            found = solve_points(u, where + v[0][:, bad], where, tol_vox)
            v[0][:, bad] = found - where
        return v
