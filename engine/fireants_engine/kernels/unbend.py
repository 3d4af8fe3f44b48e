"""Images bent along one axis seen straight, in plain torch: two neighbours, and the stretch."""

from __future__ import annotations

import torch
from torch import Tensor

from fireants_engine.kernels.slopes import slope


def check(image: Tensor, v: Tensor, axis: int) -> None:
    """Raise ValueError for what `unbend` cannot take."""
    if image.ndim not in (4, 5) or 0 in image.shape[2:]:
        raise ValueError(
            f"unbend: an image of shape {tuple(image.shape)} is none of 2 or 3 axes with samples"
        )
    if not 0 <= axis < image.ndim - 2:
        raise ValueError(f"unbend: there is no axis {axis} in an image of {image.ndim - 2} axes")
    if v.ndim != image.ndim or v.shape[1:] != (1, *image.shape[2:]):
        raise ValueError(
            f"unbend: v of shape {tuple(v.shape)} does not fit an image of shape "
            f"{tuple(image.shape)}; it has one channel on the same grid"
        )
    rows = max(len(image), len(v))
    if len(image) not in (1, rows) or len(v) not in (1, rows):
        raise ValueError(f"unbend: {len(image)} rows of the image and {len(v)} of v do not fit")


def unbend(image: Tensor, v: Tensor, axis: int, scale: float, *, modulate: bool = True) -> Tensor:
    """`I(x + s v(x) e) (1 + s dv/de)` for every voxel x of the grid of the image.

    image: (B, C, *spatial); v: (B, 1, *spatial), in units of 1/s voxels, a batch of 1 serves all;
    axis: array axis of e; scale: s; modulate: with the second factor, dv/de by central
    differences (`slopes.slope`). Returns (B, C, *spatial). Linear between the samples; beyond the
    image its border value goes on, without slope, as in `reference.warp` with `border`, of which
    this is the case of a displacement along one axis. Differentiable in image and v:

        dL/dv = s (g I'(y) (1 + s dv/de)) + s D^T(g I(y)),   y = x + s v e, g = dL/d(result),

    D the matrix of the differences. A NaN in v makes its voxel NaN. Raises ValueError for shapes
    that do not fit.
    """
    check(image, v, axis)
    dim = axis + 2
    n = image.shape[dim]
    place = [1] * v.ndim
    place[dim] = n
    c = v * scale + torch.arange(n, device=v.device, dtype=v.dtype).view(place)
    still = c.detach().clamp(0, n - 1)
    c = torch.where((c > 0) & (c < n - 1), c, still)
    low = still.nan_to_num(0.0).floor_().clamp_(max=max(n - 2, 0))
    index = low.long().expand(max(len(image), len(v)), image.shape[1], *image.shape[2:])
    image = image.expand(len(index), *image.shape[1:])
    left = right = image
    if n > 1:
        left, right = image.narrow(dim, 0, n - 1), image.narrow(dim, 1, n - 1)
    seen = torch.lerp(left.gather(dim, index), right.gather(dim, index), c - low)
    return torch.addcmul(seen, seen, slope(v, axis, scale)) if modulate else seen
