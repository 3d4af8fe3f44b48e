"""Resampling images and label maps through a transform, one interpolation whatever its length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image, apply_matrix
from fireants_engine.kernels import chosen_for
from fireants_engine.ops.interpolate import KINDS, check_interpolation
from fireants_engine.transforms import Affine, Displacement, Transform, parts_of

_POINTS_PER_CHUNK = 1_000_000


def coordinates(
    transform: Transform, grid: Grid, source: Grid, start: int = 0, stop: int | None = None
) -> tuple[np.ndarray, Tensor]:
    """Where slices [start, stop) of `grid` lie in `source`, and which of them lie outside.

    Voxel coordinates (d, *slab) float64 in the axis order z, y, x, and flags (*slab): True where
    a point is more than half a voxel beyond the outermost samples of `source`.
    """
    stop = grid.shape[0] if stop is None else min(stop, grid.shape[0])
    voxels = _by_matrix(transform, grid, source, start, stop)
    if voxels is None:
        points = transform(grid.points_mm(start, stop))
        voxels = np.ascontiguousarray(apply_matrix(source.matrix("mm", "voxel"), points).T)
    outside = np.zeros(voxels.shape[1], dtype=bool)
    for axis, n in zip(voxels, source.shape, strict=True):
        outside |= (axis < -0.5) | (axis > n - 0.5)
    slab = (-1, *grid.shape[1:])
    return voxels.reshape(grid.dim, *slab), torch.from_numpy(outside.reshape(slab))


def _by_matrix(
    transform: Transform, grid: Grid, source: Grid, start: int, stop: int
) -> np.ndarray | None:
    """`coordinates` (d, n) where at most a warp on `grid` itself comes before affine maps: one
    product of a matrix with voxels that need not be looked up. None for other transforms."""
    first, *rest = parts_of(transform)
    u = None
    if isinstance(first, Displacement) and first.grid.same_space(grid, tol=1e-9):
        u = first.u[0][:, start:stop].cpu().flatten(1)
    else:
        rest = [first, *rest]
    matrix = grid.matrix("voxel", "mm")
    for part in rest:
        if not isinstance(part, Affine):
            return None
        matrix = part.matrix @ matrix
    matrix = torch.from_numpy(source.matrix("mm", "voxel") @ matrix)
    axes = [torch.arange(n, dtype=torch.float64) for n in grid.shape]
    axes[0] = axes[0][start:stop]
    voxels = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    if u is not None:
        voxels += u
    return torch.addmm(matrix[:-1, -1:], matrix[:-1, :-1], voxels).numpy()


def inside_box(coords: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """`coords` (d, *slab) moved to the nearest place of an image of `shape`, in place."""
    for axis, n in zip(coords, shape, strict=True):
        np.clip(axis, -0.5, n - 0.5, out=axis)
    return coords


Slab = tuple[int, int, np.ndarray, Tensor]
"""start and stop along array axis 0, voxel coordinates in the source, outside flags."""


def _slabs(transform: Transform, grid: Grid, source: Grid) -> Iterator[Slab]:
    """`coordinates` of `grid` slab by slab, so that no whole grid of points is in memory."""
    step = max(1, _POINTS_PER_CHUNK // max(1, grid.voxels // grid.shape[0]))
    for start in range(0, grid.shape[0], step):
        stop = min(grid.shape[0], start + step)
        coords, outside = coordinates(transform, grid, source, start, stop)
        yield start, stop, inside_box(coords, source.shape), outside


def check_dimensions(name: str, image: Grid, transform: Transform, grid: Grid) -> None:
    """Raise InputError unless the image called `name`, the transform and `grid` agree."""
    if image.dim != transform.dim:
        raise InputError(
            f"{name} is {image.dim}D but the transform is {transform.dim}D; "
            "apply it to an image of the same dimension."
        )
    if grid.dim != image.dim:
        raise InputError(
            f"{name} is {image.dim}D but the grid of the result is {grid.dim}D; "
            "choose a reference image of the same dimension."
        )


def result_type(values: torch.dtype, interpolation: str, fill: float, name: str) -> torch.dtype:
    """The type of resampled values: `nearest` and `label` keep integers, the rest is float32.

    Raises InputError when `fill` is no value of that type.
    """
    if interpolation not in ("nearest", "label") or values.is_floating_point:
        return torch.float32
    limits = torch.iinfo(values)
    if not (limits.min <= fill <= limits.max and fill == int(fill)):
        raise InputError(
            f"{name}: {fill:g} outside the image does not fit its whole numbers from "
            f"{limits.min} to {limits.max}; choose another value, or linear interpolation."
        )
    return values


def warp_image(
    image: Image,
    transform: Transform,
    grid: Grid,
    *,
    interpolation: str = "linear",
    fill: float = 0.0,
) -> Image:
    """`image o transform` on `grid`: one interpolation, `fill` outside the image.

    interpolation: `linear`; `nearest` (integers stay integers); `bspline` (cubic); `sinc`
    (Lanczos window of radius 5); `label` (the vote of `warp_labels`). All but `label` are ITK's,
    and so is the half voxel around the outermost samples, which still belongs to the image.
    Result float32 where nothing else is said. Raises InputError for an unknown name, dimensions
    that differ, or a `fill` that an integer result cannot hold.
    """
    check_interpolation(interpolation)
    check_dimensions(image.name, image.grid, transform, grid)
    return _resampled(image, _slabs(transform, grid, image.grid), grid, interpolation, fill)


def warp_each(
    images: Iterable[Image],
    transform: Transform,
    grid: Grid,
    *,
    interpolation: str = "linear",
    fill: float = 0.0,
) -> Iterator[Image]:
    """`warp_image` of images on one grid, as the volumes of a series, one by one.

    The transform is evaluated once and its coordinates are kept: 24 bytes a voxel of `grid`
    (16 in 2D). Raises InputError as `warp_image`, and ValueError when the grids differ.
    """
    check_interpolation(interpolation)
    source: Grid | None = None
    slabs: list[Slab] = []
    for image in images:
        if source is None:
            source = image.grid
            check_dimensions(image.name, source, transform, grid)
            slabs = list(_slabs(transform, grid, source))
        elif not source.same_space(image.grid):
            raise ValueError(f"{image.name} lies on another grid than the image before it")
        yield _resampled(image, slabs, grid, interpolation, fill)


def _resampled(
    image: Image, slabs: Iterable[Slab], grid: Grid, interpolation: str, fill: float
) -> Image:
    if interpolation == "label":
        return _voted(image, slabs, grid)
    data = image.data.detach().cpu()
    kind = result_type(data.dtype, interpolation, fill, image.name)
    between = KINDS[interpolation](data)
    out = torch.empty((image.channels, *grid.shape), dtype=kind)
    for start, stop, coords, outside in slabs:
        part = between(coords)
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
    check_dimensions(labels.name, labels.grid, transform, grid)
    return _voted(labels, _slabs(transform, grid, labels.grid), grid)


def _voted(labels: Image, slabs: Iterable[Slab], grid: Grid) -> Image:
    source = as_label_values(labels).cpu()
    out = torch.zeros((1, *grid.shape), dtype=source.dtype)
    for start, stop, coords, outside in slabs:
        voted = vote(source, coords)
        voted[outside] = 0
        out[0, start:stop] = voted
    return Image(out, grid, name=labels.name, path=labels.path)


def vote(source: Tensor, places: np.ndarray) -> Tensor:
    """`label_vote` by the kernels that `auto` chooses.

    source: integers (*spatial); places: voxel coordinates (d, *slab); result (*slab).
    """
    coords = torch.from_numpy(np.ascontiguousarray(places, dtype=np.float32))
    return chosen_for(source).label_vote(source, coords)
