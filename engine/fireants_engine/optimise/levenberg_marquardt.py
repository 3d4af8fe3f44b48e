"""Factored Levenberg-Marquardt: curvature from the gradient itself, no moment buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from fireants_engine.kernels.reference import box_sum
from fireants_engine.ops.rows import per_pair, spread
from fireants_engine.optimise.adam import Descent

_RISE, _FALL = 1.5, 0.975
"""Factors of the damping after a step that raised the loss, and after any other."""


@dataclass(frozen=True)
class LMState:
    """damping: factor on mean|g|^2; loss: at the last accepted variable; both (N,), on the device.

    kept: the last accepted variable; worse: (N,), whether the last step has to be undone.
    """

    damping: Tensor
    loss: Tensor
    kept: Tensor
    worse: Tensor


@dataclass(frozen=True)
class LevenbergMarquardt(Descent):
    """`v = -(box_n(g g^T) + l I)^-1 g`, l = damping * mean|g|^2, in units of its largest value.

    tile 1 is `g / (|g|^2 + l)`; an odd tile n averages g g^T over windows of n^d voxels and solves
    a d x d system per voxel. l is relative, so the unit of the loss does not matter (LESSONS 10).
    A step that raises the loss is undone and the damping grows by 1.5; otherwise it falls by
    0.975. Everything stays on the device. The direction is scaled by 2 sqrt(l), so that with
    tile 1 no voxel exceeds the natural unit 1 of the step bound. For dense deformations.
    Source: arXiv 2603.19371; thesis 3.2 for the conditioning it answers.
    """

    step: float = 1.0
    decay: float = 1.0
    tile: int = 1
    damping: float = 1.0

    def init(self, variable: Tensor, pairs: int = 1) -> LMState:
        return LMState(
            variable.new_full((pairs,), self.damping),
            variable.new_full((pairs,), float("inf")),
            variable,
            torch.zeros(pairs, dtype=torch.bool, device=variable.device),
        )

    def direction(
        self, grad: Tensor, state: LMState, loss: Tensor | None = None
    ) -> tuple[Tensor, LMState]:
        if loss is None:
            raise TypeError("Levenberg-Marquardt judges its steps by the loss")
        worse = loss > state.loss
        damping = state.damping * torch.where(worse, _RISE, _FALL)
        # in units of its root mean square: products of small gradients would underflow
        power = (grad * grad).sum(dim=1, keepdim=True)
        size = per_pair(power, damping.numel()).mean(1).sqrt()
        g = grad / spread(size.clamp(min=torch.finfo(grad.dtype).tiny), grad)
        level = spread(damping, grad)
        if self.tile == 1:
            solved = g / ((g * g).sum(dim=1, keepdim=True) + level)
        else:
            solved = _solve(_averaged(g, self.tile), level[:, 0], g)
        best = torch.where(worse, state.loss, loss)
        return solved.mul_(-2 * level.sqrt()), replace(
            state, damping=damping, loss=best, worse=worse
        )

    def accept(self, before: Tensor, proposal: Tensor, state: LMState) -> tuple[Tensor, LMState]:
        """Back to the last accepted variable where `before` had raised the loss."""
        worse = spread(state.worse, before)
        kept = torch.where(worse, state.kept, before)
        return torch.where(worse, kept, proposal), replace(state, kept=kept)

    def transfer(self, state: LMState, resample: Callable[[Tensor, int], Tensor]) -> LMState:
        kept = resample(state.kept, -1)
        return replace(
            self.init(kept, state.damping.numel()), damping=state.damping
        )  # another level's losses do not compare


def _averaged(grad: Tensor, tile: int) -> dict[tuple[int, int], Tensor]:
    """Entries (i, j), i <= j, of g g^T averaged over windows of tile^d voxels; (k, *spatial)."""
    radius = (tile - 1) // 2
    size = float(tile ** (grad.ndim - 2))
    out = {}
    for i, j in combinations_with_replacement(range(grad.shape[1]), 2):
        product = (grad[:, i] * grad[:, j])[:, None]
        out[i, j] = box_sum(product, radius)[:, 0] / size
    return out


def _solve(a: dict[tuple[int, int], Tensor], level: Tensor, grad: Tensor) -> Tensor:
    """`(A + level I)^-1 g` per voxel for symmetric A, by cofactors; (k, d, *spatial)."""
    g = grad.unbind(dim=1)
    if len(g) == 2:
        p, q, r = a[0, 0] + level, a[0, 1], a[1, 1] + level
        det = p * r - q * q
        return torch.stack([(r * g[0] - q * g[1]) / det, (p * g[1] - q * g[0]) / det], dim=1)
    p, q, r = (a[k, k] + level for k in range(3))
    x, y, z = a[0, 1], a[0, 2], a[1, 2]
    c00, c01, c02 = q * r - z * z, y * z - x * r, x * z - y * q
    det = p * c00 + x * c01 + y * c02
    c11, c12, c22 = p * r - y * y, x * y - p * z, p * q - x * x
    rows = [
        c00 * g[0] + c01 * g[1] + c02 * g[2],
        c01 * g[0] + c11 * g[1] + c12 * g[2],
        c02 * g[0] + c12 * g[1] + c22 * g[2],
    ]
    return torch.stack([row / det for row in rows], dim=1)
