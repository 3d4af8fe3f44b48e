"""Factored Levenberg-Marquardt: curvature from the gradient itself, no moment buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fireants_engine.kernels import REFERENCE, Direction, KernelTable
from fireants_engine.ops.rows import spread
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
        self,
        grad: Tensor,
        state: LMState,
        loss: Tensor | None = None,
        kernels: KernelTable = REFERENCE,
    ) -> tuple[Direction, LMState]:
        if loss is None:
            raise TypeError("Levenberg-Marquardt judges its steps by the loss")
        worse = loss > state.loss
        damping = state.damping * torch.where(worse, _RISE, _FALL)
        best = torch.where(worse, state.loss, loss)
        way = kernels.levenberg_marquardt(grad, damping, self.tile)
        return way, replace(state, damping=damping, loss=best, worse=worse)

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
