"""Pictures of two images together. No Qt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def curtain(a: np.ndarray, b: np.ndarray, axis: int, share: float) -> np.ndarray:
    """`a` up to `share` of the axis, `b` from there on."""
    out = a.copy()
    beyond = (slice(None),) * axis + (slice(round(share * a.shape[axis]), None),)
    out[beyond] = b[beyond]
    return out


def edges(image: np.ndarray, axes: Sequence[int], sigma: float = 1.0) -> np.ndarray:
    """255 on thin lines where the smoothed image is steep, 0 elsewhere (uint8).

    Zero crossings, along `axes`, of the second derivative along the gradient's axes (Marr and
    Hildreth 1980), at voxels steeper than a quarter of the steep ones.
    """
    import torch

    from fireants_engine.kernels import chosen_for

    values = torch.from_numpy(image.astype(np.float32))[None, None]
    values = chosen_for(values).smooth(values, [sigma] * image.ndim)[0, 0].numpy()
    axes = [axis for axis in axes if image.shape[axis] > 2]
    steep, laplace = np.zeros_like(values), np.zeros_like(values)
    for axis in axes:
        slope = np.gradient(values, axis=axis)
        steep += slope * slope
        laplace += np.gradient(slope, axis=axis)
    out = np.zeros(image.shape, np.uint8)
    seen = steep[steep > 1e-3]
    if seen.size == 0:
        return out
    strong = steep > float(np.quantile(seen[:: max(1, seen.size // 100_000)], 0.97)) / 16
    for axis in axes:
        low = (slice(None),) * axis + (slice(None, -1),)
        high = (slice(None),) * axis + (slice(1, None),)
        out[low] |= (laplace[low] > 0) != (laplace[high] > 0)
    return np.where(strong & (out > 0), np.uint8(255), np.uint8(0))
