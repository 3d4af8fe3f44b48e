"""Descents: how a gradient becomes a direction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fireants_engine.kernels import REFERENCE, Direction, KernelTable


class Descent(ABC):
    """Turns gradients into directions (to be *added*); `step` scales the step bound.

    `decay`: the step falls linearly to this fraction of itself over a level.
    """

    step: float
    decay: float

    @abstractmethod
    def init(self, variable: Tensor, pairs: int = 1) -> Any:
        """Fresh state for a variable of this shape, (k N, ...) for N = `pairs` pairs."""

    @abstractmethod
    def direction(
        self,
        grad: Tensor,
        state: Any,
        loss: Tensor | None = None,
        kernels: KernelTable = REFERENCE,
    ) -> tuple[Direction, Any]:
        """The descent direction and the next state; loss: (N,), at the present variable.

        `grad` and the buffers of `state` may be overwritten.

        No pair has a say in another's direction. Without a loss there is one pair.
        """

    def accept(self, before: Tensor, proposal: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The variable to go on with: the proposal, or an earlier one where it was worse."""
        return proposal, state

    @abstractmethod
    def transfer(self, state: Any, resample: Callable[[Tensor, int], Tensor]) -> Any:
        """The state on the next level; `resample(buffer, degree in the gradient)`."""

    def step_at(self, i: int, max_steps: int) -> float:
        """Step of iteration i of max_steps."""
        return self.step * (1 - (1 - self.decay) * i / max(1, max_steps - 1))


@dataclass
class AdamState:
    """Moments of the gradient; `first` is None where beta1 = 0 needs none.

    counts: steps taken, per pair.
    """

    first: Tensor | None
    second: Tensor
    counts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Adam(Descent):
    """Adam (Kingma and Ba 2015) in the tangent space at the identity (thesis 3.4).

    m <- b1 m + (1-b1) g,  v <- b2 v + (1-b2) g^2,  direction = -m^ / (sqrt(v^) + e),
    e = eps_rel * rms(sqrt(v^)): relative, so that the trajectory does not depend on the unit of
    the loss and voxels without signal stay where they are. b1 = 0 is RMSprop (Tieleman and Hinton
    2012) with the bias of its average removed, and keeps one buffer only.
    """

    step: float = 0.5
    decay: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.99
    eps_rel: float = 1e-3

    def init(self, variable: Tensor, pairs: int = 1) -> AdamState:
        first = torch.zeros_like(variable) if self.beta1 > 0 else None
        return AdamState(first, torch.zeros_like(variable), (0,) * pairs)

    def direction(
        self,
        grad: Tensor,
        state: AdamState,
        loss: Tensor | None = None,
        kernels: KernelTable = REFERENCE,
    ) -> tuple[Direction, AdamState]:
        counts = tuple(count + 1 for count in state.counts)
        way = kernels.adam(
            grad, state.first, state.second, counts, self.beta1, self.beta2, self.eps_rel
        )
        return way, replace(state, counts=counts)

    def transfer(self, state: AdamState, resample: Callable[[Tensor, int], Tensor]) -> AdamState:
        first = None if state.first is None else resample(state.first, 1)
        return AdamState(first, resample(state.second, 2), state.counts)
