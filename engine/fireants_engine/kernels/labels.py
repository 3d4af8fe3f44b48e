"""Labels between the samples of a label map in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

MARGIN = 1e-6
"""Sums of weights that differ by less are equal: so much is rounding."""


def check(labels: Tensor, coords: Tensor) -> None:
    """Raise TypeError or ValueError for what `label_vote` cannot take."""
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"label_vote: labels are whole numbers, not {labels.dtype}")
    if labels.ndim not in (2, 3) or not labels.numel():
        raise ValueError(
            f"label_vote: labels of shape {tuple(labels.shape)} are no map of 2 or 3 axes"
        )
    if coords.ndim < 2 or len(coords) != labels.ndim:
        raise ValueError(
            f"label_vote: coordinates of shape {tuple(coords.shape)} do not fit a map of "
            f"{labels.ndim} axes"
        )
    if coords.device != labels.device:
        raise TypeError(
            f"label_vote: labels are on {labels.device}, coordinates on {coords.device}"
        )


def label_vote(labels: Tensor, coords: Tensor) -> Tensor:
    """Label of the largest summed linear weight among the 2^d neighbours of each place.

    labels: whole numbers (*spatial); coords: voxels (d, *slab), a NaN counts as 0; result (*slab)
    of the labels' type. Equal sums go to the smallest label, and beyond the border the outermost
    labels go on: a linear interpolation of every one-hot map followed by argmax, without the maps.
    Raises TypeError or ValueError for what is neither. Thesis 2.5.
    """
    check(labels, coords)
    dim, slab = labels.ndim, coords.shape[1:]
    ends = torch.tensor(labels.shape, dtype=coords.dtype, device=coords.device)[:, None] - 1
    coords = coords.reshape(dim, -1).nan_to_num().clamp(min=0).minimum(ends)
    low = coords.floor()
    frac = coords - low
    low = low.to(torch.int64)
    flat = labels.reshape(-1)
    names, weights = [], []
    for corner in range(2**dim):
        index = torch.zeros(coords.shape[1], dtype=torch.int64, device=coords.device)
        weight = torch.ones_like(coords[0])
        for axis in range(dim):
            bit = (corner >> axis) & 1
            place = (low[axis] + bit).clamp(max=labels.shape[axis] - 1)
            index = index * labels.shape[axis] + place
            weight = weight * (frac[axis] if bit else 1 - frac[axis])
        names.append(flat[index])
        weights.append(weight)
    stacked = torch.stack(names)
    best = stacked[0].clone()
    mixed = (stacked != best).any(dim=0)  # elsewhere all neighbours agree
    if bool(mixed.any()):
        found = stacked[:, mixed]
        best[mixed] = _elected(found, torch.stack(weights)[:, mixed])
    return best.reshape(slab)


def _elected(names: Tensor, shares: Tensor) -> Tensor:
    """Of the labels (2^d, n) with their weights the winners (n,)."""
    totals = torch.stack([((names == name) * shares).sum(0) for name in names])
    most = torch.iinfo(names.dtype).max
    behind = totals < totals.amax(dim=0) - MARGIN
    return names.masked_fill(behind, most).amin(dim=0)
