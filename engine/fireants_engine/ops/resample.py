"""Resampling images and label maps through a transform, one interpolation whatever its length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image, apply_matrix
from fireants_engine.kernels import REFERENCE
from fireants_engine.transforms import Transform

_POINTS_PER_CHUNK = 1_000_000


def _coordinates(
    transform: Transform, grid: Grid, source: Grid
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Slabs of `grid`: start, stop, voxel coordinates in `source` (1, d, *slab), outside flags."""
    to_voxel = source.matrix("mm", "voxel")
    step = max(1, _POINTS_PER_CHUNK // max(1, grid.voxels // grid.shape[0]))
    limit = np.asarray(source.shape)
    for start in range(0, grid.shape[0], step):
        stop = min(grid.shape[0], start + step)
        voxels = apply_matrix(to_voxel, transform(grid.points_mm(start, stop)))
        outside = np.any((voxels < -0.5) | (voxels > limit - 0.5), axis=1)
        coords = torch.from_numpy(np.ascontiguousarray(voxels.T, dtype=np.float32))
        slab = (stop - start, *grid.shape[1:])
        flags = torch.from_numpy(outside.reshape(slab))
        yield start, stop, coords.view(1, grid.dim, *slab), flags


def _check(image: Image, transform: Transform, grid: Grid) -> None:
    if not image.dim == transform.dim == grid.dim:
        raise InputError(
            f"{image.name} is {image.dim}D but the transform is {transform.dim}D; "
            "apply it to an image of the same dimension."
        )


def warp_image(
    image: Image, transform: Transform, grid: Grid, *, fill: float = 0.0, nearest: bool = False
) -> Image:
    """`image o transform` on `grid`: linear (or nearest) interpolation, `fill` outside the image.

    The half voxel around the outermost samples takes their value, as in ITK. Result float32.
    """
    _check(image, transform, grid)
    data = image.data[None].float().cpu()
    out = torch.empty((image.channels, *grid.shape), dtype=torch.float32)
    for start, stop, coords, outside in _coordinates(transform, grid, image.grid):
        part = REFERENCE.sample(data, coords, nearest=nearest, border=True)[0]
        part[:, outside] = fill
        out[:, start:stop] = part
    return Image(out, grid, name=image.name, path=image.path)


def as_label_values(labels: Image) -> Tensor:
    """The label map (*grid.shape) as integers; raises InputError for channels or fractions."""
    if labels.channels != 1:
        raise InputError(f"{labels.name}: a label map has one channel, not {labels.channels}.")
    values = labels.data[0]
    if values.is_floating_point():
        whole = torch.isfinite(values) & (values == values.round())
        if not bool(whole.all()):
            raise InputError(f"{labels.name}: label values must be whole numbers.")
        narrow = torch.iinfo(torch.int32)
        fits = bool((values >= narrow.min).all() and (values <= narrow.max).all())
        values = values.to(torch.int32 if fits else torch.int64)
    return values


def warp_labels(labels: Image, transform: Transform, grid: Grid) -> Image:
    """Labels through `transform`: one-hot, linear, argmax; 0 outside the label map.

    Integer labels of any value and number: per output voxel only the labels of its 2^d
    neighbours vote (equal to a linear interpolation of every one-hot map followed by argmax,
    without materialising them; thesis 2.5, LESSONS 12). Ties go to the smallest label.
    """
    _check(labels, transform, grid)
    source = as_label_values(labels).cpu()
    out = torch.zeros((1, *grid.shape), dtype=source.dtype)
    for start, stop, coords, outside in _coordinates(transform, grid, labels.grid):
        voted = _vote(source, coords[0].reshape(grid.dim, -1)).view(outside.shape)
        voted[outside] = 0
        out[0, start:stop] = voted
    return Image(out, grid, name=labels.name, path=labels.path)


def _vote(source: Tensor, coords: Tensor) -> Tensor:
    """Label with the largest summed linear weight among the 2^d neighbours; coords (d, n)."""
    dim = source.ndim
    low = coords.floor()
    frac = coords - low
    low = low.to(torch.int64)
    flat = source.reshape(-1)
    labels, weights = [], []
    for corner in range(2**dim):
        index = torch.zeros(coords.shape[1], dtype=torch.int64)
        weight = torch.ones(coords.shape[1])
        for axis in range(dim):
            bit = (corner >> axis) & 1
            place = (low[axis] + bit).clamp(0, source.shape[axis] - 1)
            index = index * source.shape[axis] + place
            weight = weight * (frac[axis] if bit else 1 - frac[axis])
        labels.append(flat[index])
        weights.append(weight)
    stacked = torch.stack(labels)
    best = stacked[0].clone()
    mixed = (stacked != best).any(dim=0)  # elsewhere all neighbours agree
    if bool(mixed.any()):
        names, shares = stacked[:, mixed], torch.stack(weights)[:, mixed]
        totals = torch.stack([((names == name) * shares).sum(0) for name in names])
        top = totals.amax(dim=0)
        ceiling = torch.iinfo(names.dtype).max
        winners = torch.where(totals >= top - 1e-6, names, torch.full_like(names, ceiling))
        best[mixed] = winners.amin(dim=0)
    return best
