"""Gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fireants_engine.kernels import REFERENCE, Direction, KernelTable
from fireants_engine.ops.rows import per_pair, spread
from fireants_engine.optimise.adam import Descent


@dataclass
class SGDState:
    """velocity: momentum average; scale: each pair's largest |gradient| at the level's start."""

    velocity: Tensor
    scale: Tensor | None = None


@dataclass(frozen=True)
class SGD(Descent):
    """Steepest descent with momentum (Polyak 1964).

    m <- b m + (1 - b) g,  direction = -m / max|g_0|, g_0 the first gradient of the level: the
    steepest voxel of a level starts with the full step, and steps shrink with the gradient.
    One buffer less than Adam. Comparator of thesis 3.2 and B.1.
    """

    step: float = 1.0
    decay: float = 1.0
    momentum: float = 0.9

    def init(self, variable: Tensor, pairs: int = 1) -> SGDState:
        return SGDState(torch.zeros_like(variable))

    def direction(
        self,
        grad: Tensor,
        state: SGDState,
        loss: Tensor | None = None,
        kernels: KernelTable = REFERENCE,
    ) -> tuple[Direction, SGDState]:
        velocity = state.velocity.lerp_(grad, 1 - self.momentum)
        scale = state.scale
        if scale is None:
            pairs = 1 if loss is None else loss.numel()
            largest = per_pair(grad, pairs).abs().amax(1)
            scale = largest.clamp(min=torch.finfo(grad.dtype).tiny)
        way = Direction.of(velocity / spread(-scale, velocity))
        return way, SGDState(velocity, scale)

    def transfer(self, state: SGDState, resample: Callable[[Tensor, int], Tensor]) -> SGDState:
        return SGDState(resample(state.velocity, 1))
