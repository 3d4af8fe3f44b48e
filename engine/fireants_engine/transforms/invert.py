"""Numerical inverse of a displacement field."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.kernels import chosen_for

_POINTS_AT_ONCE = 1_000_000


def resize_field(field: Tensor, shape: Sequence[int]) -> Tensor:
    """(N, C, *spatial) linearly on another size over the same field of view."""
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return F.interpolate(field, size=tuple(shape), mode=mode, align_corners=False)


def resize_displacement(field: Tensor, shape: tuple[int, ...], power: int = -1) -> Tensor:
    """Linear resampling of a voxel field to another size over the same field of view.

    Values are multiplied per axis by (new size / old size)^(-power): power -1 for displacements,
    1 for gradients by them, 2 for squared gradients. Never cubic (thesis 3.5).
    """
    out = resize_field(field, shape)
    ratio = [(n / o) ** -power for n, o in zip(shape, field.shape[2:], strict=True)]
    scale = torch.tensor(ratio, dtype=out.dtype, device=out.device)
    return out.mul_(scale.view(1, -1, *(1,) * len(shape)))


def invert(u: Tensor, tol_vox: float = 2e-3, max_steps: int = 15) -> Tensor:
    """v with `(id + u) o (id + v) = id` on u's grid.

    u: (1, d, *spatial) voxels. Coarse to fine: the inverse of the half-resolution field is where
    the search for every voxel starts (`solve_points`). Beyond the border u continues with its edge
    value. Thesis 3.4 gives the variational form of the same problem.
    """
    shape = tuple(u.shape[2:])
    with torch.no_grad():
        if max(shape) > 24:
            half = tuple(max(1, (n + 1) // 2) for n in shape)
            v = resize_displacement(invert(resize_displacement(u, half), tol_vox, max_steps), shape)
        else:
            v = -u
        solve = chosen_for(u).solve_points
        planes = max(1, _POINTS_AT_ONCE * shape[0] // math.prod(shape))
        for first in range(0, shape[0], planes):
            slab = v[0][:, first : first + planes]
            place = _voxels(slab.shape[1:], first, u)
            found = solve(u, (place + slab).flatten(1), place.flatten(1), tol_vox, max_steps)
            torch.sub(found.view_as(place), place, out=slab)
        return v


def _voxels(shape: Sequence[int], first: int, like: Tensor) -> Tensor:
    """The voxels (d, *shape) of a slab that starts at plane `first`."""
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in shape]
    axes[0] += first
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
