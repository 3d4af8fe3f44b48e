"""Moments of first and second order: where an image's mass lies, and along which axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import torch
from torch import Tensor

from fireants_engine.features import MIND
from fireants_engine.geometry import Grid, apply_matrix

_FLOOR = 0.05
"""Share of the robust range below which intensity counts as background."""
_NOISE = 4.0
"""Robust standard deviations of the outer faces above which there may be tissue."""
_PIECE = 0.2
"""Least share of what stands out that hangs together, or it is noise."""
_SPECK = 1e-3
"""Least share of the image (or its mask) that is tissue."""
NEARLY_EQUAL = 1.1
"""Ratio of neighbouring second moments below which the axes are said to be unstable."""
_UNSURE = 1.3
"""The same ratio, or that between the images' shapes, below or above which a search is worth it."""
_SCALES = (0.5, 2.0)
"""Scales along one axis that two images of one thing may differ by."""


# ------------------------------------------------------------------ mass
def mass(image: Tensor, mask: Tensor | None) -> Tensor:
    """Non-negative mass without background pedestal: |intensity - background| above 5% (LESSONS 8).

    image: (1, C, *spatial), normalised so that the background is 0.
    """
    total = image.abs().sum(dim=1)[0]
    total = (total - _FLOOR * image.shape[1]).clamp(min=0)
    return total if mask is None else total * mask[0, 0]


def foreground(image: Tensor, mask: Tensor | None = None) -> Tensor:
    """What is tissue, bool of shape (*spatial): the largest piece above the background, filled.

    image: (1, C, *spatial), normalised so that the background is 0. Background is what stays
    below half of Otsu's threshold of |intensity|, below 4 robust standard deviations of the
    outer faces (at most half of the range), or below 5% of the range. With a mask, only what
    lies in it. All false where nothing stands out, or only scattered voxels.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    total = image.abs().sum(dim=1)[0].double().cpu().numpy()
    inside = np.ones(total.shape, bool) if mask is None else mask[0, 0].cpu().numpy() > 0.5
    values = total[inside]
    if values.size == 0 or not values.max() > values.min():
        return torch.zeros(total.shape, dtype=torch.bool, device=image.device)
    signed = image.sum(dim=1)[0].double().cpu().numpy()
    sides = [(axis, k) for axis, n in enumerate(signed.shape) if n > 2 for k in (0, -1)]
    faces = np.concatenate([signed.take(k, axis).ravel() for axis, k in sides] or [[0.0]])
    noise = 1.4826 * float(np.median(np.abs(faces - np.median(faces))))
    channels = image.shape[1]
    above_noise = min(_NOISE * noise, 0.5 * channels)
    least = max(0.5 * float(threshold_otsu(values)), above_noise, _FLOOR * channels)
    found = inside & (total > least)
    pieces = _pieces(found)
    sizes = np.bincount(pieces.ravel(), minlength=2)[1:]
    if sizes.max() < max(_PIECE * sizes.sum(), _SPECK * inside.sum()):
        return torch.zeros(total.shape, dtype=torch.bool, device=image.device)
    found = pieces == 1 + int(sizes.argmax())
    filled = np.asarray(ndimage.binary_fill_holes(found), dtype=bool)
    return torch.from_numpy(filled & inside).to(image.device)


def _pieces(found: np.ndarray) -> np.ndarray:
    """Number of the connected piece of every voxel, 0 outside."""
    from scipy import ndimage

    pieces = np.empty(found.shape, np.int32)
    ndimage.label(found, output=pieces)
    return pieces


def mass_of(image: Tensor, mask: Tensor | None, grid: Grid, kind: str) -> Tensor:
    """Mass (*spatial) of one image of a level, (1, C, *spatial) with background 0.

    kind: `intensity` (see `mass`); `foreground`, 1 in the tissue: the same for every contrast;
    `mind`, the tissue by how much structure there is: 1 - mean over the MIND channels.
    """
    if kind == "intensity":
        return mass(image, mask)
    inside = foreground(image, mask).to(image.dtype)
    if kind == "foreground":
        return inside
    described = MIND()(image, grid, lambda level: level)
    return (1 - described.mean(dim=1)[0]) * inside


# ------------------------------------------------------------------ moments
@dataclass(frozen=True, eq=False)
class Body:
    """Centre of mass (d,) in mm and covariance (d, d) in mm^2. Thesis Eq. 6.1, 6.2."""

    centre_mm: np.ndarray
    covariance: np.ndarray

    @property
    def spread(self) -> np.ndarray:
        """Second moments along the principal axes, mm^2, ascending."""
        return np.linalg.eigvalsh(self.covariance)

    @property
    def least_ratio(self) -> float:
        """Of neighbouring second moments; 1 where two axes cannot be told apart."""
        values = np.maximum(self.spread, 1e-12)
        return float((values[1:] / values[:-1]).min())


def moments(weights: Tensor, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass (d,) in mm and covariance (d, d) in mm^2 of a mass on `grid`."""
    array = weights.double().cpu().numpy()
    total = array.sum()
    if total <= 0:
        return grid.centre_mm, np.diag(grid.extent_mm**2 / 12)
    coords = [np.arange(n, dtype=float) for n in array.shape]
    dim = array.ndim
    first = np.zeros(dim)
    second = np.zeros((dim, dim))
    for i in range(dim):
        others = tuple(k for k in range(dim) if k != i)
        line = array.sum(axis=others)
        first[i] = (line * coords[i]).sum() / total
        second[i, i] = (line * coords[i] ** 2).sum() / total
        for j in range(i + 1, dim):
            plane = array.sum(axis=tuple(k for k in range(dim) if k not in (i, j)))
            second[i, j] = second[j, i] = coords[i] @ plane @ coords[j] / total
    to_mm = grid.matrix("voxel", "mm")
    linear = to_mm[:-1, :-1]
    return apply_matrix(to_mm, first), linear @ (second - np.outer(first, first)) @ linear.T


def unsure(fixed: Body, moving: Body) -> str | None:
    """Why the axes of these two cannot be relied on, or None.

    Either has two nearly equal axes, or their shapes differ (a part of the other, another
    contrast), whatever their sizes.
    """
    if min(fixed.least_ratio, moving.least_ratio) < _UNSURE:
        return "two principal axes are nearly equal"
    unlike = np.log(np.maximum(moving.spread, 1e-12) / np.maximum(fixed.spread, 1e-12))
    if np.ptp(unlike) > np.log(_UNSURE):
        return "the images differ in shape"
    return None


def common_scale(fixed: Body, moving: Body) -> float:
    """One scale fixed -> moving: (det C_moving / det C_fixed)^(1 / 2d), within 1/2 and 2."""
    logs = np.log(np.maximum(moving.spread, 1e-12)) - np.log(np.maximum(fixed.spread, 1e-12))
    return float(np.clip(np.exp(logs.mean() / 2), *_SCALES))


def axis_matches(
    fixed: Body,
    moving: Body,
    *,
    improper: bool = False,
    reorder: bool = False,
    scale: bool = False,
) -> Iterator[tuple[str, np.ndarray]]:
    """Linear maps (d, d) that take the fixed principal axes to the moving ones, with names.

        A = U_moving P D S U_fixed^T,    S = sqrt(lambda_moving / lambda_fixed)

    Columns of U are ascending in their second moment; D: signs with det(A) > 0, with `improper`
    also those of reflections. P: `reorder` also pairs the axes in every other order, for axes so
    nearly equal that their order may be another in the other image. S: with `scale` the scale
    of every fixed axis, taken from the moving axis it is paired with (thesis 6.1).
    """
    dim = len(fixed.centre_mm)
    fixed_values, fixed_axes = np.linalg.eigh(fixed.covariance)
    moving_values, moving_axes = np.linalg.eigh(moving.covariance)
    orders = permutations(range(dim)) if reorder else [tuple(range(dim))]
    for order in orders:
        paired = moving_axes[:, list(order)]
        ratio = moving_values[list(order)] / np.maximum(fixed_values, 1e-12)
        sizes = np.clip(np.sqrt(np.maximum(ratio, 0)), *_SCALES) if scale else np.ones(dim)
        for signs in product((1.0, -1.0), repeat=dim):
            linear = paired @ np.diag(np.array(signs) * sizes) @ fixed_axes.T
            name = "axes " + "".join("+" if s > 0 else "-" for s in signs)
            if order != tuple(range(dim)):
                name += " in order " + "".join(str(k + 1) for k in order)
            if np.linalg.det(linear) > 0:
                yield name, linear
            elif improper:
                yield f"{name}, mirrored", linear
