"""Undistorted: EPI volumes as they would look without the field that bends them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations.motion import Halfway, Motion, Pulled, Views, product
from fireants_engine.deformations.pair import Pair
from fireants_engine.errors import InputError
from fireants_engine.kernels import REFERENCE, KernelTable


@dataclass(frozen=True)
class Scan:
    """How one volume shows the true grid on a level: `y = M (x + s v(x) M^-1 e)`.

    axis: array axis of e, its phase encoding; scale: s, voxels of shift per unit of v; matrix:
    M, (N, d, d+1) true voxel -> voxel of the volume without a field, None for the identity.
    """

    axis: int
    scale: float
    matrix: Tensor | None = None

    def way(self) -> Tensor | None:
        """M^-1 e, (N, d); None for e itself."""
        if self.matrix is None:
            return None
        return torch.linalg.inv(self.matrix[:, :, :-1])[:, :, self.axis]


@dataclass(frozen=True)
class Undistorted(Motion):
    """Both images are seen on the true grid, through one scalar field v.

        I(y(x)) J(x),  y = M (x + s v(x) M^-1 e),  J = 1 + s (M^-1 e) . grad v

    v: (N, 1, *spatial) voxels of the level at the longest readout time; scans: one per volume.
    With two volumes the fixed image shows the first and the moving image the second; with more,
    channel c of the fixed image shows volume c and of the moving image volume c + 1 (the last
    one the first). modulate: multiply by J, as signal is moved and not lost; kernels: what runs.
    Andersson et al. 2003; thesis 6.2.
    """

    v: Tensor
    scans: tuple[Scan, ...]
    modulate: bool = True
    kernels: KernelTable = REFERENCE

    @property
    def warps(self) -> tuple[Tensor, ...]:
        """What the longest readout does: its displacement along its own axis."""
        return (self.displacement(max(self.scans, key=lambda scan: abs(scan.scale))),)

    @cached_property
    def _known(self) -> dict[Any, Tensor]:
        """What was computed of v."""
        return {}

    def slope(self, axis: int) -> Tensor:
        """dv/dx along an array axis, (N, 1, *spatial)."""
        if axis not in self._known:
            self._known[axis] = self.kernels.slope(self.v, axis)
        return self._known[axis]

    def displacement(self, scan: Scan) -> Tensor:
        """(N, d, *spatial) voxels, before M; along any other axis exactly 0 where M is not."""
        way, moved = scan.way(), self.v * scan.scale
        if way is not None:
            return moved * way.view(*way.shape, *(1,) * (self.v.ndim - 2))
        still = torch.zeros_like(moved)
        return torch.cat([moved if k == scan.axis else still for k in range(self.v.ndim - 2)], 1)

    def stretch(self, scan: Scan) -> Tensor:
        """`J - 1`, (N, 1, *spatial): how much longer the volume shows what is here."""
        way = scan.way()
        if way is None:
            key = (scan.axis, scan.scale)
            if key not in self._known:
                self._known[key] = self.kernels.slope(self.v, scan.axis, scan.scale)
            return self._known[key]
        parts = [
            self.slope(k) * way[:, k].view(-1, *(1,) * (self.v.ndim - 1))
            for k in range(self.v.ndim - 2)
        ]
        return torch.stack(parts).sum(0) * scan.scale

    def stretches(self) -> tuple[Tensor, ...]:
        """`stretch` of every volume whose size differs from those of the others."""
        sizes = {(scan.axis, abs(scan.scale)): scan for scan in self.scans if scan.matrix is None}
        moved = [scan for scan in self.scans if scan.matrix is not None]
        return tuple(self.stretch(scan) for scan in [*sizes.values(), *moved] if scan.scale)

    # ------------------------------------------------------------- images
    def shown(self, pair: Pair) -> tuple[list[Scan], list[Scan]]:
        """The volume of each channel of the fixed and of the moving image."""
        count, volumes = pair.fixed.shape[1], len(self.scans)
        if volumes == 2:
            return [self.scans[0]] * count, [self.scans[1]] * pair.moving.shape[1]
        if count != volumes or pair.moving.shape[1] != volumes:
            raise InputError(
                f"A correction of {volumes} EPI volumes compares images of {volumes} channels, one "
                f"per volume, but a term sees {count}; leave its channels and features as they are."
            )
        return list(self.scans), [*self.scans[1:], self.scans[0]]

    def through(self, scan: Scan) -> Pulled:
        """The map of one volume."""
        d = self.v.ndim - 2
        eye = torch.eye(d, d + 1, device=self.v.device, dtype=self.v.dtype)
        return Pulled(eye if scan.matrix is None else scan.matrix, self.displacement(scan))

    def _seen(
        self, image: Tensor, scans: list[Scan], one: Callable[[Tensor, Scan], Tensor]
    ) -> Tensor:
        """`one` of every channel through its volume; channels of one volume together."""
        if all(scan is scans[0] for scan in scans):
            return one(image, scans[0])
        return torch.cat([one(image[:, c : c + 1], scan) for c, scan in enumerate(scans)], 1)

    def restored(self, image: Tensor, scan: Scan, pair: Pair, ctx: ExecutionContext) -> Tensor:
        """Channels of one volume on the true grid; of one that lies still along its axis alone."""
        if scan.matrix is None and image.shape[2:] == self.v.shape[2:]:
            modulate = self.modulate and bool(scan.scale)
            return ctx.kernels.unbend(image, self.v, scan.axis, scan.scale, modulate=modulate)
        seen = self.through(scan).pulled(image, pair, ctx)
        if not self.modulate or not scan.scale:
            return seen
        return torch.addcmul(seen, seen, self.stretch(scan))

    def views(self, pair: Pair, ctx: ExecutionContext) -> Views:
        scans = self.shown(pair)
        images = (pair.fixed, pair.moving)
        fixed, moving = (
            self._seen(image, own, lambda part, scan: self.restored(part, scan, pair, ctx))
            for image, own in zip(images, scans, strict=True)
        )
        mask = None
        for name, own in zip(("fixed", "moving"), scans, strict=True):
            if (pair.fixed_mask if name == "fixed" else pair.moving_mask) is not None:
                mask = product(mask, self.through(own[0]).mask_of(name, pair, ctx))
        return Views(fixed, moving, product(mask, self._inside(pair, ctx)), mask, self)

    def _inside(self, pair: Pair, ctx: ExecutionContext) -> Tensor | None:
        """What every volume that has moved shows: the rest is not known."""
        inside = None
        for scan in self.scans:
            if scan.matrix is not None:
                seen = self.through(scan).carried(pair.field_of_view, pair, ctx)
                inside = product(inside, seen)
        return inside

    def points(self, fixed: Tensor, pair: int = 0) -> Tensor:
        """Voxels of the first volume -> voxels of the second, through the true grid."""
        second = self.through(self.scans[1])
        halves = self.displacement(self.scans[0]), self.displacement(self.scans[1])
        return Halfway(second.matrix, *halves).points(fixed, pair)
