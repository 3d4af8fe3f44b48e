"""The field between two reversed EPI volumes, line by line, from where their signal lies."""

from __future__ import annotations

import torch
from torch import Tensor

_FLOOR = 0.02
"""Signal added everywhere, in units of the brightest: where there is none, nothing moves."""


def transported(
    first: Tensor, second: Tensor, axis: int, scales: tuple[float, float], quantiles: int = 0
) -> Tensor:
    """v (N, 1, *spatial) in voxels with `first(x + a v)(1 + a v') = second(x + b v)(1 + b v')`.

    first, second: (N, 1, *spatial), not negative where it counts; scales: a and b, of unlike sign
    or size. Along a line of voxels signal moves and is not lost, so equal shares of both lines
    belong together: the share q lies at y1(q) in one and at y2(q) in the other, where
    `v = (y1 - y2) / (a - b)` and `x = y1 - a v`. Both images have a common range of about 0 to 1.
    Optimal transport in one dimension; Chang and Fitzpatrick 1992.
    """
    a, b = scales
    lines = [image.movedim(axis + 2, -1).clamp(min=0) + _FLOOR for image in (first, second)]
    n = lines[0].shape[-1]
    count = quantiles or 4 * n
    share = (torch.arange(count, device=first.device, dtype=first.dtype) + 0.5) / count
    share = share.expand(*lines[0].shape[:-1], count).contiguous()
    places = [_inverse(line, share) for line in lines]
    v = (places[0] - places[1]) / (a - b)
    true = (places[0] - a * v).cummax(-1).values  # with noise, scales of one sign may go back
    voxels = torch.arange(n, device=first.device, dtype=first.dtype)
    voxels = voxels.expand(*lines[0].shape[:-1], n).contiguous()
    return _between(true, v, voxels).movedim(-1, axis + 2).contiguous()


def _inverse(line: Tensor, share: Tensor) -> Tensor:
    """Where the shares of all signal of each line lie, in voxels (samples at whole numbers)."""
    wide = torch.float64 if line.device.type != "mps" else torch.float32
    total = line.to(wide).cumsum(-1)
    total = torch.cat([torch.zeros_like(total[..., :1]), total], -1) / total[..., -1:]
    edges = torch.arange(total.shape[-1], device=line.device, dtype=line.dtype) - 0.5
    return _between(total.to(line.dtype), edges.expand(total.shape), share)


def _between(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """y at `at`, linear between the increasing x of each line and constant beyond them."""
    right = torch.searchsorted(x.contiguous(), at).clamp(1, x.shape[-1] - 1)
    low, high = x.gather(-1, right - 1), x.gather(-1, right)
    part = ((at - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return torch.lerp(y.gather(-1, right - 1), y.gather(-1, right), part)
