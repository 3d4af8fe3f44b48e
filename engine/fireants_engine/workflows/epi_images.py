"""Images of an EPI correction: corrected volumes, restoration, what is lost, and series."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding, Grid, Image
from fireants_engine.kernels import chosen_for
from fireants_engine.ops import warp_image
from fireants_engine.transforms import Affine, Displacement, parts_of
from fireants_engine.transforms.distortion import Distortion
from fireants_engine.workflows.epi import Correction, Volume

Combine = Literal["jacobian", "plain", "least-squares"]
LOST = 0.25
"""Stretch below which what lies here shares its voxel with more than four others."""
_ROUNDS = 12
"""Of conjugate gradients in a restoration."""
_PLACES = (-0.25, 0.25)
"""Within a voxel, whose signal is laid on its own: where it is stretched it leaves no gaps."""
_DAMPING = 1e-2
"""Of a restoration, beside the one voxel of signal that every voxel of a volume adds."""


# ------------------------------------------------------------------ one volume
def unbent(image: Image, distortion: Distortion, volume: int, *, modulate: bool = True) -> Image:
    """Volume number `volume` on the true grid.

        I(y(x)) (1 + d shift / dx),   y = pose(x + shift)

    modulate: with the stretch, by which signal that piled up is spread again; without it the
    brightness stays as it was recorded. Linear interpolation, border values beyond the edge.
    """
    own, pose = distortion.volumes[volume], distortion.poses[volume]
    name = f"{image.name}, corrected"
    if image.grid.same_space(distortion.grid) and np.array_equal(pose.matrix, np.eye(pose.dim + 1)):
        source = image.data.float()[None]
        axis, shift = own.array_axis(image.dim), distortion.shift_in_grid(own)
        data = chosen_for(source).unbend(source, shift, axis, 1.0, modulate=modulate)
        return Image(data[0], distortion.grid, name=name)
    data = _pulled(image, distortion, volume)
    if modulate:
        data = data * distortion.stretch(own)
    return Image(data[0], distortion.grid, name=name)


def _matrix(distortion: Distortion, volume: int, grid: Grid) -> np.ndarray:
    """(d, d+1) true voxel -> voxel of the volume, which lies on `grid`, without its shift."""
    pose = distortion.poses[volume].matrix
    whole = grid.matrix("mm", "voxel") @ pose @ distortion.grid.matrix("voxel", "mm")
    return whole[:-1]


def _turned(distortion: Distortion, volume: int, grid: Grid) -> tuple[Tensor, Tensor]:
    """Matrix and displacement for `kernels.warp`: the shift follows the pose."""
    matrix = torch.as_tensor(_matrix(distortion, volume, grid), dtype=torch.float32)
    warp = parts_of(distortion.to(volume))[0]
    assert isinstance(warp, Displacement)
    return matrix, warp.u


def _pulled(image: Image, distortion: Distortion, volume: int) -> Tensor:
    """(1, C, *shape)."""
    matrix, u = _turned(distortion, volume, image.grid)
    source = image.data.float()[None]
    return chosen_for(source).warp(source, matrix, distortion.grid.shape, u, border=True)


# ------------------------------------------------------------------ all of them
def corrected(correction: Correction, *, modulate: bool = True) -> list[Image]:
    """Every volume on the true grid, with the gain of the first."""
    return [
        unbent(one.image, correction.distortion, k, modulate=modulate)
        for k, one in enumerate(balanced(correction))
    ]


def balanced(correction: Correction) -> list[Volume]:
    """The volumes with equal sums: signal is moved, and only the receiver's gain differs."""
    sums = [float(one.image.data.double().clamp(min=0).sum()) for one in correction.volumes]
    out = []
    for one, total in zip(correction.volumes, sums, strict=True):
        gain = sums[0] / total if total > 0 else 1.0
        data = one.image.data.float() * gain
        out.append(replace(one, image=replace(one.image, data=data)))
    return out


def mean_of(images: Sequence[Image], name: str) -> Image:
    """Their mean."""
    data = torch.stack([image.data.float() for image in images]).mean(0)
    return Image(data, images[0].grid, name=name)


def combined(correction: Correction, how: Combine, images: Sequence[Image] | None = None) -> Image:
    """One image of all volumes.

    how: the mean of the `jacobian`-modulated volumes, of those `plain` without modulation, or
    `least-squares` (`restored`). images: the modulated ones, where they are known.
    """
    if how == "plain":
        images = corrected(correction, modulate=False)
    mean = mean_of(images or corrected(correction), "corrected")
    return restored(correction, mean) if how == "least-squares" else mean


def restored(correction: Correction, start: Image | None = None) -> Image:
    """Least-squares restoration: the true image that explains all volumes together.

        argmin_x  sum_k |K_k x - I_k|^2 + damping |x|^2

    K_k lays the signal of every true voxel, both halves of it, where volume k shows it (the
    adjoint of linear interpolation there). Where one volume has piled signal up, another has it
    spread, and that one decides. Conjugate gradients from `start`, the mean of the `corrected`
    volumes where it is not given. Andersson et al. 2003.
    """
    distortion, parts = correction.distortion, []
    shape = distortion.grid.shape
    for k, one in enumerate(balanced(correction)):
        matrix, u = _turned(distortion, k, one.image.grid)
        along = distortion.volumes[k].array_axis(distortion.grid.dim)
        step = torch.zeros((1, u.shape[1], *(1,) * len(shape)))
        step[0, along] = 1.0
        stretched = step * distortion.stretch(distortion.volumes[k])
        places = [u + part * stretched for part in _PLACES]
        parts.append((one.image.data.float()[None], matrix, places))
    warp = chosen_for(parts[0][0]).warp

    def pull(image: Tensor, matrix: Tensor, places: list[Tensor]) -> Tensor:
        seen = [warp(image, matrix, shape, u) for u in places]
        return torch.stack(seen).mean(0)

    def lay(x: Tensor, like: Tensor, matrix: Tensor, places: list[Tensor]) -> Tensor:
        with torch.enable_grad():
            zero = torch.zeros_like(like, requires_grad=True)
            (laid,) = torch.autograd.grad(pull(zero, matrix, places), zero, x)
        return laid

    def normal(x: Tensor) -> Tensor:
        out = x * _DAMPING
        for image, *where in parts:
            out = out + pull(lay(x, image, *where), *where)
        return out

    right = torch.stack([pull(*part) for part in parts]).sum(0)
    start = start or mean_of(corrected(correction), "start")
    return Image(_solved(normal, right, start.data[None])[0], distortion.grid, name="restored")


def _solved(normal: Callable[[Tensor], Tensor], right: Tensor, x: Tensor) -> Tensor:
    """Conjugate gradients from x."""
    rest = right - normal(x)
    way, size = rest.clone(), rest.double().square().sum()
    for _ in range(_ROUNDS):
        bent = normal(way)
        step = (size / (way.double() * bent.double()).sum().clamp(min=1e-30)).to(x.dtype)
        x, rest = x + step * way, rest - step * bent
        size, before = rest.double().square().sum(), size
        way = rest + (size / before.clamp(min=1e-30)).to(x.dtype) * way
    return x


def unrecoverable(correction: Correction) -> Image:
    """In how many volumes each true voxel is lost (uint8, 0 to all of them).

    Lost where more than `1 / LOST` voxels fall into one, or where a volume shows it beyond its
    field of view. Where all are lost, what the corrected image shows is made up by smoothness.
    """
    distortion = correction.distortion
    total = torch.zeros(distortion.grid.shape, dtype=torch.uint8)
    for k, one in enumerate(correction.volumes):
        matrix, u = _turned(distortion, k, one.image.grid)
        there = torch.ones((1, 1, *one.image.grid.shape))
        seen = chosen_for(there).warp(there, matrix, distortion.grid.shape, u)[0, 0] > 0.5
        piled = distortion.stretch(one.encoding)[0, 0] < LOST
        total += (piled | ~seen).to(torch.uint8)
    return Image(total[None], distortion.grid, name="unrecoverable")


# ------------------------------------------------------------------ series
def on_grid(distortion: Distortion, grid: Grid) -> Distortion:
    """The field on another acquisition's grid by its place in the world, with that one's voxels."""
    if distortion.grid.same_space(grid):
        return distortion
    field = Image(distortion.field_hz[0].float().cpu(), distortion.grid, name="field")
    hz = warp_image(field, Affine.identity(grid.dim), grid).data[None]
    poses, zooms = distortion.poses, tuple(grid.spacing_zyx)
    return Distortion(hz, grid, distortion.volumes, poses, zooms)


def corrected_series(
    volumes: Iterator[Image], encodings: Sequence[Encoding], distortion: Distortion, grid: Grid
) -> Iterator[Image]:
    """Every volume of a series, unbent by the field with its own readout (LESSONS 21).

    encodings: one for all, or one per volume. The series lies still where the field was measured.
    Raises InputError where their number is not that of the volumes.
    """
    field = on_grid(distortion, grid)
    still = Affine.identity(grid.dim)
    for k, image in enumerate(volumes):
        if len(encodings) != 1 and k >= len(encodings):
            raise InputError(
                f"The series has more volumes than there are readouts ({len(encodings)}); give one "
                "for all or one per volume."
            )
        own = encodings[0] if len(encodings) == 1 else encodings[k]
        yield unbent(image, replace(field, volumes=(own,), poses=(still,)), 0)
