"""Directions of descent in plain torch, with what the step bound has to know of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import torch
from torch import Tensor

from fireants_engine.kernels.reference import box_sum, spread


class Direction(NamedTuple):
    """What is *added* to the variable, and how large it is.

    values: (k N, d, *spatial), or (N, parameters); peaks: the largest size of each channel,
    (k N, d) or (N, parameters). A NaN or infinity in a channel shows in its peak.
    """

    values: Tensor
    peaks: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Direction:
        """With its peaks found."""
        size = values.abs()
        return cls(values, size.flatten(2).amax(2) if values.ndim > 2 else size)

    def where(self, valid: Tensor) -> Direction:
        """No step for those of the N pairs that are not `valid`: their peaks are infinite."""
        rows = valid.repeat_interleave(len(self.peaks) // len(valid))
        return Direction(self.values, self.peaks.masked_fill(~rows[:, None], float("inf")))


def adam(
    grad: Tensor,
    first: Tensor | None,
    second: Tensor,
    counts: Sequence[int],
    beta1: float,
    beta2: float,
    eps_rel: float,
) -> Direction:
    """Adam's direction, (k N, ...) like `grad`, which may be overwritten; moments in place.

    m <- b1 m + (1-b1) g,  v <- b2 v + (1-b2) g^2,  -m^ / (sqrt(v^) + e),
    e = eps_rel * rms(sqrt(v^)) over all of a pair. first: m, None for b1 = 0; counts: steps taken
    with this one, of each of the N pairs.
    """
    many = len(set(counts)) > 1

    def unbias(beta: float) -> float | Tensor:
        if not many:
            return 1 - beta ** counts[0]
        return spread(grad.new_tensor([1 - beta**count for count in counts]), grad)

    mean = grad if first is None else first.lerp_(grad, 1 - beta1)
    second.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    unbias1, unbias2 = unbias(beta1), unbias(beta2)
    root = (second / unbias2).sqrt_()
    power = spread(second.reshape(len(counts), -1).mean(1), grad)
    floor = (power / unbias2).sqrt() * eps_rel + torch.finfo(grad.dtype).tiny
    return Direction.of((mean / root.add_(floor)).mul_(-1 / unbias1))


def check_tile(grad: Tensor, damping: Tensor, tile: int) -> None:
    """Raise ValueError for what `levenberg_marquardt` cannot take, TypeError for another device."""
    name = "levenberg_marquardt"
    if tile < 1 or tile % 2 == 0:
        raise ValueError(f"{name}: a tile of {tile} voxels has no middle; take 1, 3, 5, ...")
    shape = tuple(grad.shape)
    if grad.ndim < 2 or grad.numel() == 0:
        raise ValueError(f"{name}: a gradient of shape {shape} holds no vectors")
    if tile > 1 and not (grad.ndim in (4, 5) and grad.shape[1] in (2, 3)):
        raise ValueError(
            f"{name}: tiles need 2 or 3 channels on 2 or 3 axes, not a gradient of shape {shape}; "
            "take tile 1"
        )
    if damping.ndim != 1 or not damping.numel() or len(grad) % damping.numel():
        raise ValueError(
            f"{name}: dampings of shape {tuple(damping.shape)} do not fit {len(grad)} rows"
        )
    if damping.device != grad.device:
        raise TypeError(f"{name}: damping is on {damping.device}, the gradient on {grad.device}")


def levenberg_marquardt(grad: Tensor, damping: Tensor, tile: int) -> Direction:
    """`-2 sqrt(l) (box_n(g g^T) + l I)^-1 g`, g in units of its root mean square over a pair.

    grad: (k N, d, *spatial), which may be overwritten; damping: l, (N,); tile: n, odd, voxels
    per axis, 1 for `g / (|g|^2 + l)`. No voxel of tile 1 exceeds 1.
    Raises ValueError for what `check_tile` refuses.
    """
    check_tile(grad, damping, tile)
    # in units of its root mean square: products of small gradients would underflow
    power = (grad * grad).sum(dim=1, keepdim=True)
    size = power.reshape(damping.numel(), -1).mean(1).sqrt()
    g = grad / spread(size.clamp(min=torch.finfo(grad.dtype).tiny), grad)
    level = spread(damping, grad)
    if tile == 1:
        solved = g / ((g * g).sum(dim=1, keepdim=True) + level)
    else:
        solved = _solve(_averaged(g, tile), level[:, 0], g)
    return Direction.of(solved.mul_(-2 * level.sqrt()))


def _averaged(grad: Tensor, tile: int) -> dict[tuple[int, int], Tensor]:
    """Entries (i, j), i <= j, of g g^T averaged over windows of tile^d voxels; (k, *spatial)."""
    radius = (tile - 1) // 2
    size = float(tile ** (grad.ndim - 2))
    out = {}
    for i, j in combinations_with_replacement(range(grad.shape[1]), 2):
        product = (grad[:, i] * grad[:, j])[:, None]
        out[i, j] = box_sum(product, radius)[:, 0] / size
    return out


def _solve(a: dict[tuple[int, int], Tensor], level: Tensor, grad: Tensor) -> Tensor:
    """`(A + level I)^-1 g` per voxel for symmetric A, by cofactors; (k, d, *spatial)."""
    g = grad.unbind(dim=1)
    if len(g) == 2:
        p, q, r = a[0, 0] + level, a[0, 1], a[1, 1] + level
        det = p * r - q * q
        return torch.stack([(r * g[0] - q * g[1]) / det, (p * g[1] - q * g[0]) / det], dim=1)
    p, q, r = (a[k, k] + level for k in range(3))
    x, y, z = a[0, 1], a[0, 2], a[1, 2]
    c00, c01, c02 = q * r - z * z, y * z - x * r, x * z - y * q
    det = p * c00 + x * c01 + y * c02
    c11, c12, c22 = p * r - y * y, x * y - p * z, p * q - x * x
    rows = [
        c00 * g[0] + c01 * g[1] + c02 * g[2],
        c01 * g[0] + c11 * g[1] + c12 * g[2],
        c02 * g[0] + c12 * g[1] + c22 * g[2],
    ]
    return torch.stack([row / det for row in rows], dim=1)
