"""Numerical inverse of a displacement field."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.kernels import REFERENCE


def _residual(u: Tensor, v: Tensor) -> Tensor:
    """`v + u o (id + v)`: zero where `id + v` is the inverse of `id + u`."""
    return REFERENCE.compose(v, u)


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


def _newton(u: Tensor, start: Tensor, target: Tensor, steps: int, tol: float) -> Tensor:
    """Damped Newton for single points: finds p with p + u(p) = target; (d, n) voxels."""
    dim = u.shape[1]

    def at(points: Tensor) -> Tensor:
        coords = points.reshape(1, dim, -1, *(1,) * (dim - 1))
        return REFERENCE.sample(u, coords, border=True)[0].reshape(dim, -1)

    points = start
    error = points + at(points) - target
    size = error.norm(dim=0)
    h = 0.25
    for _ in range(steps):
        if float(size.max()) < tol:
            break
        jacobian = torch.eye(dim, dtype=u.dtype, device=u.device).repeat(points.shape[1], 1, 1)
        for k in range(dim):
            shift = torch.zeros(dim, 1, dtype=u.dtype, device=u.device)
            shift[k] = h
            jacobian[:, :, k] += ((at(points + shift) - at(points - shift)) / (2 * h)).T
        delta = torch.einsum("nij,jn->in", torch.linalg.pinv(jacobian), error)
        delta = delta * (2.0 / delta.norm(dim=0).clamp(min=2.0))  # at most two voxels a step
        for damping in (1.0, 0.5, 0.2, 0.05):
            trial = points - damping * delta
            trial_error = trial + at(trial) - target
            better = trial_error.norm(dim=0) < size
            points = torch.where(better, trial, points)
            error = torch.where(better, trial_error, error)
            size = error.norm(dim=0)
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
            left = int((residual.norm(dim=1) > tol_vox).sum())
            if left == 0:
                return v
            if left < residual[0, 0].numel() / 200:
                break  # few enough for Newton
            v = v - residual
            residual = _residual(u, v)
        bad = residual.norm(dim=1)[0] > tol_vox
        if bool(bad.any()):
            where = bad.nonzero().T.to(u.dtype)
            found = _newton(u, where + v[0][:, bad], where, 15, tol_vox)
            v[0][:, bad] = found - where
        return v
