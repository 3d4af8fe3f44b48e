"""The truth: every kernel in plain torch, readable, on any device.

Frames: coordinates and displacements are in *voxels*, channel order = array axis order (z, y, x).
Shapes: images (B, C, *spatial), displacements (B, d, *spatial); 2D and 3D alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def _grid_sample(image: Tensor, normalised: Tensor, nearest: bool, border: bool) -> Tensor:
    """torch's sampler on (B, d, *out) coordinates that are already normalised, x first."""
    mode = "nearest" if nearest else "bilinear"
    padding = "border" if border else "zeros"
    dim, *out = normalised.shape[1:]
    batch = max(len(image), len(normalised))
    # The CPU sampler parallelises over the batch only: slabs of one volume become a batch.
    slabs = 4 if batch == 1 and image.device.type == "cpu" and out[0] % 4 == 0 else 1
    if slabs > 1:
        image = image.expand(slabs, *image.shape[1:])
        grid = normalised.reshape(dim, slabs, out[0] // slabs, *out[1:]).movedim(0, -1)
    else:
        image = image.expand(batch, *image.shape[1:])
        grid = normalised.expand(batch, *normalised.shape[1:]).movedim(1, -1)
    sampled = F.grid_sample(image, grid, mode=mode, padding_mode=padding, align_corners=False)
    if slabs > 1:
        sampled = sampled.transpose(0, 1).reshape(1, sampled.shape[1], *out)
    return sampled


def _normaliser(shape: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and offset taking voxel coordinate c of axis size N to (2c + 1)/N - 1."""
    sizes = torch.tensor(list(shape), device=like.device, dtype=like.dtype)
    return 2.0 / sizes, 1.0 / sizes - 1.0


def sample(image: Tensor, coords: Tensor, *, nearest: bool = False, border: bool = False) -> Tensor:
    """`image` at voxel `coords`: (B, C, *in), (B, d, *out) -> (B, C, *out).

    Linear (or nearest) interpolation; outside the image 0, or the border value if `border`.
    Differentiable in both arguments.
    """
    scale, offset = _normaliser(image.shape[2:], coords)
    view = (1, -1) + (1,) * (coords.ndim - 2)
    normalised = (coords * scale.view(view) + offset.view(view)).flip(1)
    return _grid_sample(image, normalised, nearest, border)


def warp(
    image: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    u: Tensor | None = None,
    *,
    nearest: bool = False,
    border: bool = False,
) -> Tensor:
    """Composite sampler `I(A (x + u(x)) + t)` for every voxel x of a grid of `shape`.

    image: (B, C, *in); matrix: (d, d+1), voxels of the output grid -> voxels of `image`, or
    (B, d, d+1), one per image; u: (B, d, *shape) voxels or None. A batch of 1 serves all.
    Returns (B, C, *shape). Differentiable in image, matrix and u. Thesis 5.2, Algorithm 1 (this
    form materialises the coordinates).
    """
    dim = len(shape)
    scale, offset = _normaliser(image.shape[2:], matrix)
    matrix = matrix.reshape(-1, dim, dim + 1)
    linear = (matrix[:, :, :dim] * scale[:, None]).flip(1)
    shift = (matrix[:, :, dim] * scale + offset).flip(1)
    if u is None:
        coords = shift.view(-1, dim, *(1,) * dim)
    else:
        coords = (linear @ u.reshape(len(u), dim, -1)).view(-1, dim, *shape)
    for k, size in enumerate(shape):
        place = [-1, dim, *(1,) * dim]
        place[k + 2] = size
        axis = torch.arange(size, device=image.device, dtype=matrix.dtype)
        line = linear[:, :, k, None] * axis
        if u is None:
            coords = coords + line.view(place)
        else:
            coords = coords.add_((line + shift[:, :, None] if k == 0 else line).view(place))
    return _grid_sample(image, coords, nearest, border)


def spread(values: Tensor, like: Tensor) -> Tensor:
    """One value per pair, (N,), broadcastable to `like` (k N, ...)."""
    if len(values) != len(like) and len(values) > 1:
        values = values.repeat_interleave(len(like) // len(values))
    return values.view(-1, *(1,) * (like.ndim - 1))


def scaled(field: Tensor, scale: Tensor) -> Tensor:
    """`scale` times a field, one number (B,) per row; scale 0 gives 0 even where it is NaN."""
    factor = spread(scale, field)
    return torch.where(factor == 0, 0.0, field * factor)


def compose(v: Tensor, u: Tensor, scale: Tensor | None = None) -> Tensor:
    """Displacement of `(id + u) o (id + s v)`: `s v + u(x + s v(x))`; (B, d, *spatial) voxels.

    scale: s, (B,), one number per row, None for 1; where it is 0 nothing moves, whatever v is.
    Outside the grid `u` continues with its border value. Thesis 3.4 (retraction update).
    """
    shape = u.shape[2:]
    dim = len(shape)
    v = v if scale is None else scaled(v, scale)
    eye = torch.eye(dim, dim + 1, device=u.device, dtype=u.dtype)
    return warp(u, eye, shape, v, border=True).add_(v)


def length(field: Tensor) -> Tensor:
    """Euclidean lengths of vectors: (B, d, *spatial) -> (B, *spatial).

    Channel by channel: torch's `norm` over such an axis is many times slower on the CPU.
    """
    total = field[:, 0].square()
    for k in range(1, field.shape[1]):
        total.addcmul_(field[:, k], field[:, k])
    return total.sqrt_()


SIGMA_MIN = 0.05
"""Voxels below which an axis is not smoothed."""

SMOOTHING_WINDOWS = ("gaussian", "box")

_FAR = 2.0**31
"""Voxels; no axis is longer."""


def widths(field: Tensor, sigma_vox: Sequence[float], window: str) -> list[float]:
    """`sigma_vox` as `smooth` uses it, 0 for an axis that is left alone; ValueError for bad input.

    field: (B, C, *spatial).
    """
    if window not in SMOOTHING_WINDOWS:
        raise ValueError(f"smooth: window {window!r} is not one of {', '.join(SMOOTHING_WINDOWS)}")
    if len(sigma_vox) != field.ndim - 2:
        raise ValueError(
            f"smooth: {len(sigma_vox)} widths do not fit a field of shape {tuple(field.shape)}; "
            "give one for each axis after the channels"
        )
    if not all(map(math.isfinite, sigma_vox)):
        raise ValueError(f"smooth: widths {list(sigma_vox)} have to be finite numbers of voxels")
    return [
        0.0 if sigma < SIGMA_MIN or size == 1 else float(sigma)
        for sigma, size in zip(sigma_vox, field.shape[2:], strict=True)
    ]


def taps(distance: Tensor, sigma: float, window: str) -> Tensor:
    """Weights of a window of standard deviation `sigma` at whole distances, all in voxels.

    gaussian: `exp(-d^2 / 2 sigma^2)`, cut at 3 sigma. box: 1 up to the largest r whose variance,
    r (r + 1) / 3, is not above sigma^2, and at r + 1 the part w of a sample that makes it exactly
    `(r (r+1) (2r+1) / 3 + 2 w (r+1)^2) / (2r + 1 + 2w) = sigma^2`.
    """
    if window == "gaussian":
        weights = torch.exp(-0.5 * (distance / sigma) ** 2)
        reach = float(max(1, math.ceil(3 * min(sigma, _FAR) - 1e-9)))
        return weights * (distance.abs() <= reach)
    square = sigma * sigma
    r = float(math.floor(min((math.sqrt(1 + 12 * square) - 1) / 2, _FAR)))
    rest = square * (2 * r + 1) - r * (r + 1) * (2 * r + 1) / 3
    part = max(0.0, rest / (2 * ((r + 1) ** 2 - square)))
    away = distance.abs()
    inside, end = (away <= r).to(distance.dtype), (away == r + 1).to(distance.dtype)
    return inside + part * end


def smoothing_matrix(size: int, sigma: float, window: str, like: Tensor) -> Tensor:
    """(size, size) matrix that smooths one axis by `taps`.

    Rows sum to 1, so constants stay and the border neither darkens nor needs padding.
    """
    i = torch.arange(size, device=like.device, dtype=like.dtype)
    weights = taps(i[:, None] - i, sigma, window)
    return weights / weights.sum(dim=1, keepdim=True)


def smooth(
    field: Tensor, sigma_vox: Sequence[float], scale: float = 1.0, window: str = "gaussian"
) -> Tensor:
    """`scale` times a separable window of `sigma_vox` per array axis, renormalised at the border.

    field: (B, C, *spatial); window: `gaussian` or `box`, of one variance. A sigma below 0.05
    voxel or an axis of one sample is left alone.
    One matrix product per axis: faster on the CPU than torch's convolutions of one channel, and
    independent of sigma.
    """
    out = field if scale == 1 else field * scale
    for axis, sigma in enumerate(widths(field, sigma_vox, window), start=2):
        if sigma:
            out = _along(out, axis, smoothing_matrix(field.shape[axis], sigma, window, field))
    return out


def _along(field: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """`matrix` (n, n) times every line of `field` along `axis` (of n samples, not a channel)."""
    if axis == field.ndim - 1:
        return field @ matrix.T
    return (matrix @ field.flatten(axis + 1)).view(field.shape)


def box_sum(field: Tensor, radius: int) -> Tensor:
    """Sum over the (2 radius + 1)^d window, zeros outside; by shifted in-place additions."""
    for axis in range(2, field.ndim):
        size = field.shape[axis]
        out = field.clone()
        for k in range(1, min(radius, size - 1) + 1):
            out.narrow(axis, k, size - k).add_(field.narrow(axis, 0, size - k))
            out.narrow(axis, 0, size - k).add_(field.narrow(axis, k, size - k))
        field = out
    return field


def box_count(shape: Sequence[int], radius: int, like: Tensor) -> Tensor:
    """Number of samples in each window, (1, 1, *shape): what `box_sum(ones)` would give."""
    count = torch.ones([1] * (len(shape) + 2), device=like.device, dtype=like.dtype)
    for axis, size in enumerate(shape):
        i = torch.arange(size, device=like.device)
        n = (i + radius).clamp(max=size - 1) - (i - radius).clamp(min=0) + 1
        place = [1] * (len(shape) + 2)
        place[axis + 2] = -1
        count = count * n.to(like.dtype).view(place)
    return count


def _gaussian_weights(size: int, radius: int, like: Tensor) -> Tensor:
    """(size, size) weights of the Gaussian windows along one axis; not normalised."""
    i = torch.arange(size, device=like.device, dtype=like.dtype)
    distance = i[:, None] - i
    weights = torch.exp(-2.0 * (distance / max(radius, 1)) ** 2)
    return weights * (distance.abs() <= radius)


def gaussian_sum(field: Tensor, radius: int) -> Tensor:
    """Sum over the (2 radius + 1)^d window with weights `exp(-2 |k / radius|^2)`, zeros outside.

    A Gaussian of sigma = radius / 2 voxels cut at the radius, 1 in the middle; field:
    (B, C, *spatial) -> the same. Symmetric, hence its own adjoint. Matrix products as in `smooth`.
    """
    for axis in range(2, field.ndim):
        size = field.shape[axis]
        if size > 1:
            field = _along(field, axis, _gaussian_weights(size, radius, field))
    return field


def gaussian_count(shape: Sequence[int], radius: int, like: Tensor) -> Tensor:
    """Sum of the weights in each window, (1, 1, *shape): what `gaussian_sum(ones)` would give."""
    count = torch.ones([1] * (len(shape) + 2), device=like.device, dtype=like.dtype)
    for axis, size in enumerate(shape):
        place = [1] * (len(shape) + 2)
        place[axis + 2] = -1
        count = count * _gaussian_weights(size, radius, like).sum(dim=1).view(place)
    return count
