"""Symmetric diffeomorphism: both images meet halfway."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations.base import Folds
from fireants_engine.deformations.dense import Composed, DenseState
from fireants_engine.deformations.motion import Halfway, Motion
from fireants_engine.deformations.pair import Pair
from fireants_engine.kernels import Direction, chosen_for
from fireants_engine.ops.unfold import unfold
from fireants_engine.transforms import Chain, Displacement, Transform
from fireants_engine.transforms.invert import invert


def _halves(u: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of the fixed and of the moving half, (N, ...) each."""
    fixed, moving = u.unflatten(0, (-1, 2)).unbind(1)
    return fixed, moving


@dataclass(frozen=True)
class Symmetric(Composed):
    """Two half warps from a midpoint, each updated by composition (SyN-type).

    State: rows 2n (fixed half) and 2n + 1 (moving half) of u belong to pair n. The terms compare
    `F o phi_F` with `M o A o phi_M` on the fixed grid; the result is `A o phi_M o phi_F^-1`.
    Both move equally far and in opposite directions: to move them alike
    changes no correspondence, but a mean over the midpoint rewards it (both images grow).
    Exchanging the images (without an affine part) exchanges the halves,
    so the result is inverted. A deformable start enters `phi_M`.
    Thesis 3.4; Avants et al. 2008.
    """

    def init(self, pair: Pair, initial: Transform, ctx: ExecutionContext) -> DenseState:
        u, affine = self.start(pair, initial, ctx)
        return DenseState(torch.cat([torch.zeros_like(u), u]), (affine,))

    def motion(self, pair: Pair, state: DenseState, ctx: ExecutionContext) -> Motion:
        return Halfway(self.matrix(pair, state, ctx), *_halves(state.u))

    def precondition(
        self, pair: Pair, state: DenseState, grad: Tensor, ctx: ExecutionContext
    ) -> Tensor:
        """Equal and opposite for both halves: what would move both alike is taken out."""
        fixed, moving = _halves(super().precondition(pair, state, grad, ctx))
        half = (fixed - moving).mul_(0.5)
        return torch.stack([half, -half], dim=1).flatten(0, 1)

    def retract(
        self, pair: Pair, state: DenseState, way: Direction, step: float, ctx: ExecutionContext
    ) -> DenseState:
        moves, factors = self.bounded(way, step, len(state.affines))
        u = ctx.kernels.compose(moves, state.u, factors)
        return replace(state, u=self.smoothed(pair, u, ctx))

    def whole(self, state: DenseState) -> Tensor:
        """(1, d, *spatial): displacement of `phi_M o phi_F^-1`."""
        u_fixed, u_moving = state.u.split(1)
        return chosen_for(state.u).compose(invert(u_fixed), u_moving)

    def transform(self, pair: Pair, state: DenseState) -> Transform:
        return Chain([Displacement(self.whole(state), pair.fixed_grid), *state.affines])

    def settle(self, pair: Pair, state: DenseState) -> tuple[DenseState, Folds]:
        done = [unfold(half) for half in state.u.split(1)]
        state = replace(state, u=torch.cat([u for u, _, _ in done]))
        removed = sum(before - after for _, before, after in done)
        left = max(after for _, _, after in done)
        return state, Folds(removed, left, left / state.u[0, 0].numel())
