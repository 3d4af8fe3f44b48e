"""Distortion: what one off-resonance field does to every EPI volume read out in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fireants_engine.geometry import Encoding, Grid
from fireants_engine.kernels import chosen_for
from fireants_engine.kernels.slopes import slope
from fireants_engine.transforms.base import Chain, Transform
from fireants_engine.transforms.displacement import Displacement
from fireants_engine.transforms.invert import invert, resize_field
from fireants_engine.transforms.linear import Affine


@dataclass(frozen=True, eq=False)
class Distortion:
    """A field in Hz on the true grid, and how each volume was read out in it.

    field_hz: (1, 1, *grid.shape); volumes: their encodings; poses: true mm -> mm of each volume,
    the identity for the first. zooms_mm: voxel size of the acquisition along array axes: a shift
    is so many of *its* voxels (LESSONS 20), whatever `grid` is.

        shift of volume k, in voxels:  sign_k readout_k field_hz
    """

    field_hz: Tensor
    grid: Grid
    volumes: tuple[Encoding, ...]
    poses: tuple[Affine, ...]
    zooms_mm: tuple[float, ...]

    def on(self, grid: Grid) -> Distortion:
        """The same on another size of the same field of view, on the CPU."""
        field = self.field_hz.float().cpu()
        if not self.grid.same_space(grid):
            field = resize_field(field, grid.shape)
        return Distortion(field, grid, self.volumes, self.poses, self.zooms_mm)

    def shift_voxels(self, volume: int = 0) -> np.ndarray:
        """(*shape): how far volume number `volume` shows everything along its axis, in voxels."""
        shift = self.field_hz[0, 0] * self.volumes[volume].signed_readout_s
        return shift.float().cpu().numpy()

    def shift_in_grid(self, encoding: Encoding) -> Tensor:
        """The shift in voxels of `grid`, (1, 1, *shape)."""
        axis = encoding.array_axis(self.grid.dim)
        ratio = self.zooms_mm[axis] / self.grid.spacing_zyx[axis]
        return self.field_hz * (encoding.signed_readout_s * ratio)

    def stretch(self, encoding: Encoding) -> Tensor:
        """`1 + dshift/dx` along the axis, (1, 1, *shape): 0 or less where it cannot be undone."""
        return 1 + slope(self.shift_in_grid(encoding), encoding.array_axis(self.grid.dim))

    def warp(self, encoding: Encoding) -> Displacement:
        """True mm -> mm of a still volume read out so; along other voxel axes exactly 0."""
        axis, shift = encoding.array_axis(self.grid.dim), self.shift_in_grid(encoding)
        still = torch.zeros_like(shift)
        parts = [shift if k == axis else still for k in range(self.grid.dim)]
        return Displacement(torch.cat(parts, 1), self.grid)

    def to(self, volume: int) -> Transform:
        """True mm -> mm of volume number `volume`: its shift along its own axis, and its pose."""
        encoding, pose = self.volumes[volume], self.poses[volume]
        warp = self.warp(encoding)
        if np.allclose(pose.matrix, np.eye(pose.dim + 1)):
            return warp
        # the shift follows the pose, along the voxel axis of the volume
        turned = pose.inverse().matrix[:-1, :-1]
        mm = np.moveaxis(warp.field_mm(), -1, 0).reshape(self.grid.dim, -1)
        field = (turned @ mm).reshape(self.grid.dim, *self.grid.shape)
        return Chain([Displacement.from_mm(np.moveaxis(field, 0, -1), self.grid), pose])

    def between(self, first: int = 0, second: int = 1) -> Transform:
        """Mm of one volume -> mm of another, through the true grid.

        Of still volumes as one displacement, sampled on the grid.
        """
        start, end = self.to(first), self.to(second)
        if isinstance(start, Displacement) and isinstance(end, Displacement):
            u = chosen_for(start.u).compose(invert(start.u), end.u)
            return Displacement(u, self.grid)
        return Chain([start.inverse(), end])
