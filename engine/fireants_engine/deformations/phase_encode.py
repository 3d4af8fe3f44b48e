"""Phase encoding: one scalar field along the readout of EPI volumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations.base import Deformation, Folds
from fireants_engine.deformations.dense import sigma_voxels
from fireants_engine.deformations.linear import LinearState, Rigid
from fireants_engine.deformations.motion import Motion
from fireants_engine.deformations.pair import Pair
from fireants_engine.deformations.undistorted import Scan, Undistorted
from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding
from fireants_engine.kernels import Direction, KernelTable, chosen_for
from fireants_engine.kernels.reference import scaled
from fireants_engine.ops.transport import transported
from fireants_engine.optimise.bound import step_factors
from fireants_engine.transforms import Affine, Transform, affine_factor, parts_of
from fireants_engine.transforms.distortion import Distortion
from fireants_engine.transforms.invert import resize_field

MAX_SLOPE = 0.95
"""Difference of neighbours, in voxels of shift, that no volume may exceed: `1 +- v' > 0`."""
_RIGID = Rigid()
_widths = lru_cache(64)(sigma_voxels)  # the same in every step


def _lie_alike(pair: Pair, head: LinearState) -> bool:
    """Whether volumes on one grid have bases that are exactly 1: then nothing needs computing."""
    fixed, moving = pair.fixed_grid, pair.moving_grid
    same = fixed is moving or (
        fixed.size == moving.size
        and fixed.spacing_mm == moving.spacing_mm
        and fixed.origin_mm == moving.origin_mm
        and np.array_equal(fixed.direction, moving.direction)
    )
    return same and all(np.array_equal(b.matrix, np.eye(len(b.matrix))) for b in head.bases)


@dataclass(frozen=True)
class FieldState:
    """u: (k N, 1, *spatial); heads: how the volumes after the first lie, N items.

    Row 0 of a pair is v, the shift at the longest readout time in voxels of the level along the
    axis of that volume. With estimated motion there is a row 1, of which the first numbers are
    the rigid parameters of all `heads` (their own `params` are where they began, 0).
    """

    u: Tensor
    heads: tuple[LinearState, ...]


@dataclass(frozen=True)
class PhaseEncode(Deformation):
    """One field v on the true grid, the same for all volumes, each with its own readout.

        I_k(M_k (x + s_k v(x) e_k)) (1 + s_k dv/de_k),   s_k = sign_k readout_k / longest readout

    volumes: the encodings; two, or more with one image channel each (`Undistorted`). The first
    defines the true grid. motion: also estimate how each further volume has moved, 6 numbers
    (3 in 2D) each, in the same steps; a shift along the readout cannot be told from a constant
    field and is taken as field (`_told`). modulate: multiply by the stretch; for SSD, and not for
    terms that scale locally (LNCC, MI), which would lose what tells them of pile-up.
    start: `transport` matches the signal along the lines of the first two volumes of one axis
    (`ops.transport`), `zero` begins without a field.
    sigma_grad_mm, sigma_warp_mm and their floors: isotropic smoothing of the update and of v.
    Whatever the step, `1 + s_k v'` stays above `1 - MAX_SLOPE`; nothing moves along other axes.
    Raises InputError in `init` for volumes that cannot tell a field. Thesis 6.2; Andersson et al.
    2003; LESSONS 17 to 21.
    """

    volumes: tuple[Encoding, ...] = ()
    with_motion: bool = False
    modulate: bool = True
    start: str = "transport"
    sigma_grad_mm: float = 2.0
    sigma_warp_mm: float = 0.0
    grad_floor_vox: float = 1.0
    warp_floor_vox: float = 0.0
    window: str = "gaussian"

    # ------------------------------------------------------------- what is asked
    @property
    def rows(self) -> int:
        """Rows of the variable per pair."""
        return 2 if self.with_motion else 1

    @property
    def longest(self) -> Encoding:
        """The first of the volumes with the longest readout."""
        return max(self.volumes, key=lambda one: one.readout_s)

    def check(self, dim: int) -> None:
        """Raises InputError where no field can be told from these volumes."""
        if len(self.volumes) < 2:
            raise InputError(
                "A phase_encode stage needs the direction and readout time of every volume (two "
                "at least); set `volumes`, or use `fireants-engine epi`, which reads them from "
                "sidecars."
            )
        if not self.longest.readout_s:
            raise InputError(
                "All volumes have a readout time of 0 s, so none is distorted; give their total "
                "readout times in seconds."
            )
        for one in self.volumes:
            one.array_axis(dim)
        if len({(one.axis, one.signed_readout_s) for one in self.volumes}) == 1:
            raise InputError(
                f"All volumes have the same phase encoding ({self.volumes[0]}), so nothing tells "
                "how far they are bent; give at least two that differ."
            )

    def scales(self, pair: Pair) -> list[float]:
        """s_k in voxels of the level along each volume's axis, per unit of v."""
        dim, reference, grid = pair.fixed_grid.dim, self.longest, pair.fixed_grid.spacing_zyx
        zooms = pair.zooms_mm[0] if pair.zooms_mm else grid
        axis = reference.array_axis(dim)
        unit = grid[axis] / zooms[axis]  # voxels as stored per unit of v
        out = []
        for one in self.volumes:
            along = one.array_axis(dim)
            share = one.signed_readout_s / reference.readout_s
            out.append(share * unit * zooms[along] / grid[along])
        return out

    # ------------------------------------------------------------- state
    def init(self, pair: Pair, initial: Transform, ctx: ExecutionContext) -> FieldState:
        self.check(pair.fixed_grid.dim)
        if not pair.fixed_grid.same_space(pair.moving_grid):
            raise InputError(
                "The volumes of a phase_encode stage lie on different grids; give volumes of one "
                "acquisition, resampled neither of them or all of them alike."
            )
        if any(not isinstance(part, Affine) for part in parts_of(initial)):
            raise InputError(
                "A phase_encode stage cannot start from a warp; start it from a linear "
                "transform, or from nothing."
            )
        first = _RIGID.init(pair, affine_factor(initial), ctx)
        others = len(self.volumes) - 1
        head = LinearState(
            first.params.expand(others, -1),
            first.bases * others,
            first.centres_mm * others,
            first.radii_mm * others,
        )
        shape = pair.fixed_grid.shape
        u = torch.zeros((self.rows, 1, *shape), device=ctx.device, dtype=ctx.dtype)
        state = FieldState(u, (head,))
        if self.start == "transport":
            u[:1] = self._transported(pair, state, ctx)
        return state

    def _transported(self, pair: Pair, state: FieldState, ctx: ExecutionContext) -> Tensor:
        """A first v (1, 1, *spatial), from the two volumes that differ most along one axis."""
        motion, scales = self._motion(pair, state, ctx), self.scales(pair)
        motion.shown(pair)  # refuses another number of channels
        numbers = [
            (a, b)
            for a, b in combinations(range(len(self.volumes)), 2)
            if self.volumes[a].axis == self.volumes[b].axis
        ]
        if not numbers:
            return torch.zeros_like(state.u[:1])
        a, b = max(numbers, key=lambda both: abs(scales[both[0]] - scales[both[1]]))
        still = replace(motion, modulate=False)
        every = [pair.fixed[:, :1], *pair.moving.split(1, dim=1)]
        images = [still.restored(every[k], motion.scans[k], pair, ctx) for k in (a, b)]
        axis = self.volumes[a].array_axis(pair.fixed_grid.dim)
        found = transported(images[0], images[1], axis, (scales[a], scales[b]))
        # what lies in the dark follows its neighbours; the lines know nothing of each other
        signal = torch.minimum(*images).clamp(min=0) + 0.02
        sigma = _widths(2 * self.sigma_grad_mm, 1.0, pair.fixed_grid)
        near = ctx.kernels.smooth(found * signal, sigma)
        near = near / ctx.kernels.smooth(signal, sigma)
        return self._bounded(near, scales, ctx.kernels)

    def variable(self, state: FieldState) -> Tensor:
        return state.u

    def with_variable(self, state: FieldState, variable: Tensor) -> FieldState:
        return replace(state, u=variable)

    def _split(self, rows: Tensor, heads: tuple[LinearState, ...]) -> tuple[Tensor, Tensor | None]:
        """v of every pair (N, 1, *spatial), and the parameters (N, heads, n) where they move."""
        both = rows.unflatten(0, (-1, self.rows))
        if self.rows == 1:
            return both[:, 0], None
        count = heads[0].params.numel()
        return both[:, 0], both[:, 1].flatten(1)[:, :count].unflatten(1, heads[0].params.shape)

    def _joined(self, v: Tensor, params: Tensor | None) -> Tensor:
        """The rows of `_split`."""
        if params is None:
            return v
        rest = torch.zeros_like(v).flatten(1)
        rest = torch.cat([params.flatten(1), rest[:, params[0].numel() :]], 1).view_as(v)
        return torch.stack([v, rest], 1).flatten(0, 1)

    # ------------------------------------------------------------- the map
    def _poses(self, pair: Pair, state: FieldState, ctx: ExecutionContext) -> list[Tensor | None]:
        """M of every volume (N, d, d+1), voxels; None where it is the identity for all pairs."""
        _, params = self._split(state.u, state.heads)
        wide = torch.float64 if ctx.device.type != "mps" else torch.float32
        each = []
        for n, (one, head) in enumerate(zip(pair.each, state.heads, strict=True)):
            given = head.params if params is None else params[n]
            if params is None and _lie_alike(one, head):
                each.append(None)
                continue
            left = one.moving_grid.matrix("mm", "voxel")
            right = [base.matrix @ one.fixed_grid.matrix("voxel", "mm") for base in head.bases]
            if params is None and all(np.allclose(left @ r, np.eye(len(r))) for r in right):
                each.append(None)
                continue
            delta = _RIGID.delta(head, given.to(wide))
            found = delta.new_tensor(left) @ delta @ delta.new_tensor(np.stack(right))
            each.append(found[:, :-1].to(ctx.dtype))
        if all(found is None for found in each):
            return [None] * len(self.volumes)
        eye = torch.eye(pair.fixed_grid.dim + 1, device=ctx.device, dtype=ctx.dtype)[:-1]
        others = len(self.volumes) - 1
        filled = torch.stack([eye.expand(others, -1, -1) if m is None else m for m in each])
        return [None, *filled.unbind(1)]

    def _motion(self, pair: Pair, state: FieldState, ctx: ExecutionContext) -> Undistorted:
        dim = pair.fixed_grid.dim
        parts = zip(self.volumes, self.scales(pair), self._poses(pair, state, ctx), strict=True)
        scans = tuple(Scan(one.array_axis(dim), scale, pose) for one, scale, pose in parts)
        v = self._split(state.u, state.heads)[0]
        return Undistorted(v, scans, self.modulate, ctx.kernels)

    def motion(self, pair: Pair, state: FieldState, ctx: ExecutionContext) -> Motion:
        return self._motion(pair, state, ctx)

    # ------------------------------------------------------------- steps
    def precondition(
        self, pair: Pair, state: FieldState, grad: Tensor, ctx: ExecutionContext
    ) -> Tensor:
        v, params = self._split(grad, state.heads)
        sigma = _widths(self.sigma_grad_mm, self.grad_floor_vox, pair.fixed_grid)
        voxels = float(pair.fixed_grid.voxels)
        smooth = ctx.kernels.smooth(v.contiguous(), sigma, voxels, self.window)
        # a mean over all voxels beside one per voxel: brought to its size
        return self._joined(smooth, None if params is None else params * voxels**0.5)

    def retract(
        self, pair: Pair, state: FieldState, way: Direction, step: float, ctx: ExecutionContext
    ) -> FieldState:
        pairs = len(state.heads)
        peaks = way.peaks.view(pairs, self.rows, -1)
        v, params = self._split(state.u, state.heads)
        move, turn = self._split(way.values, state.heads)
        v = v + scaled(move, step_factors(peaks[:, 0], step, pairs))
        sigma = _widths(self.sigma_warp_mm, self.warp_floor_vox, pair.fixed_grid)
        if max(sigma) > 0:
            v = ctx.kernels.smooth(v, sigma, window=self.window)
        v = self._bounded(v, self.scales(pair), ctx.kernels)
        if params is not None and turn is not None:
            voxel_mm = float(np.mean(pair.fixed_grid.spacing_mm))
            factors = step_factors(peaks[:, 1], step, pairs) * voxel_mm
            params = params + self._told(pair, scaled(turn, factors))
        return replace(state, u=self._joined(v, params))

    def _told(self, pair: Pair, moves: Tensor) -> Tensor:
        """Moves of the heads (N, heads, n) without the one that nothing tells from the field.

        A constant field, and all volumes shifted along their readouts, show the same: the first
        volume that is read out unlike the first one does not shift along its own axis.
        """
        first = self.volumes[0]
        others = enumerate(self.volumes[1:])
        unlike = [
            (k, one)
            for k, one in others
            if (one.axis, one.signed_readout_s) != (first.axis, first.signed_readout_s)
        ]
        number, encoding = unlike[0]
        moves = moves.clone()
        for n, one in enumerate(pair.each):
            way = moves.new_tensor(one.moving_grid.direction[:, encoding.axis].copy())
            shift = moves[n, number, : len(way)]
            shift -= (shift @ way) * way
        return moves

    def _axes(self, scales: list[float], dim: int) -> dict[int, float]:
        """Array axes of all volumes -> the steepest slope of v that none of them folds at."""
        out: dict[int, float] = {}
        for one, scale in zip(self.volumes, scales, strict=True):
            if scale:
                axis = one.array_axis(dim)
                out[axis] = min(out.get(axis, np.inf), MAX_SLOPE / abs(scale))
        return out

    def _bounded(self, v: Tensor, scales: list[float], kernels: KernelTable) -> Tensor:
        """v with slopes that no volume folds at."""
        for axis, limit in self._axes(scales, v.ndim - 2).items():
            v = kernels.bounded_slopes(v, axis, limit)
        return v

    def settle(self, pair: Pair, state: FieldState) -> tuple[FieldState, Folds]:
        """Slopes brought under the limit strictly; what is left folds."""
        v, params = self._split(state.u, state.heads)
        scales = self.scales(pair)
        before = self._folded(v, scales)
        v = self._bounded(v, scales, chosen_for(v))
        after = self._folded(v, scales)
        state = replace(state, u=self._joined(v, params))
        return state, Folds(before - after, after, after / v.numel())

    def _folded(self, v: Tensor, scales: list[float]) -> int:
        """Neighbours that change places in some volume."""
        axes = self._axes(scales, v.ndim - 2)
        return sum(
            int((v.diff(dim=a + 2).abs() * MAX_SLOPE >= top).sum()) for a, top in axes.items()
        )

    # ------------------------------------------------------------- levels and results
    def resample(self, buffer: Tensor, power: int, old: Pair, new: Pair) -> Tensor:
        v, rest = buffer.unflatten(0, (-1, self.rows))[:, 0], None
        axis = self.longest.array_axis(new.fixed_grid.dim)
        shape = new.fixed_grid.shape
        ratio = (shape[axis] / old.fixed_grid.shape[axis]) ** -power
        v = resize_field(v, shape).mul_(ratio)
        if self.rows == 2:
            count = (len(self.volumes) - 1) * (3 if len(shape) == 2 else 6)
            rest = buffer.unflatten(0, (-1, 2))[:, 1].flatten(1)[:, :count]
        return self._joined(v, rest)

    def distortion(self, pair: Pair, state: FieldState) -> Distortion:
        """The field and the poses that this state of one pair stands for."""
        v, params = self._split(state.u, state.heads)
        grid, head = pair.fixed_grid, state.heads[0]
        own = pair.zooms_mm[0] if pair.zooms_mm else grid.spacing_zyx
        axis = self.longest.array_axis(grid.dim)
        hz = v * (grid.spacing_zyx[axis] / own[axis] / self.longest.readout_s)
        given = head.params if params is None else params[0]
        delta = _RIGID.delta(head, given.detach().cpu().double()).numpy()
        poses = [Affine.identity(grid.dim)]
        poses += [
            Affine(one @ base.matrix, grid.centre_mm)
            for one, base in zip(delta, head.bases, strict=True)
        ]
        return Distortion(hz.detach(), grid, self.volumes, tuple(poses), tuple(own))

    def transform(self, pair: Pair, state: FieldState) -> Transform:
        """Mm of the first volume -> mm of the second."""
        return self.distortion(pair, state).between()

    def found(self, pair: Pair, state: FieldState) -> Distortion:
        return self.distortion(pair, state)

    def realigned(self, state: FieldState, change: Callable[[Affine], Affine]) -> FieldState:
        v, params = self._split(state.u, state.heads)
        heads = []
        for n, head in enumerate(state.heads):
            now = head if params is None else replace(head, params=params[n])
            heads.append(_RIGID.realigned(now, change))
        still = None if params is None else torch.zeros_like(params)
        return FieldState(self._joined(v, still), tuple(heads))
