"""Stationary velocity field: the comparator of thesis 3.3."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations.base import Folds
from fireants_engine.deformations.dense import Dense, DenseState
from fireants_engine.deformations.motion import Motion, Pulled
from fireants_engine.deformations.pair import Pair
from fireants_engine.kernels import Direction, chosen_for
from fireants_engine.kernels.reference import scaled
from fireants_engine.ops.exponential import exponential, squarings
from fireants_engine.ops.jacobian import strict_fold_mask
from fireants_engine.transforms import Chain, Displacement, Transform
from fireants_engine.transforms.invert import resize_displacement

_REFRESH = 10
"""Steps between two looks at the Lipschitz bound: it costs a device synchronisation."""


@dataclass(frozen=True)
class VelocityState(DenseState):
    """u: the velocity w, (N, d, *spatial) voxels per unit time; base: warp of the start.

    squarings: of the exponential, per pair; age: steps since the choice.
    """

    base: Tensor | None = None
    squarings: tuple[int, ...] = (0,)
    age: int = 0


@dataclass(frozen=True)
class StationaryVelocity(Dense):
    """`phi = phi_0 o exp(w)`, w constant in time; the gradient goes through the exponential.

    Scaling and squaring with n halvings chosen so that `Lip(w) / 2^n <= 1/4`, where each factor
    `id + w / 2^n` is a diffeomorphism (Theorem 1, thesis 3.3). w is updated by addition and
    smoothed. phi_0: warp of the start, held.
    """

    def init(self, pair: Pair, initial: Transform, ctx: ExecutionContext) -> VelocityState:
        base, affine = self.start(pair, initial, ctx)
        start = base if bool(base.any()) else None
        return VelocityState(torch.zeros_like(base), (affine,), start)

    def _displacement(self, state: VelocityState, ctx: ExecutionContext | None = None) -> Tensor:
        kernels = chosen_for(state.u) if ctx is None else ctx.kernels
        u = exponential(state.u, state.squarings, kernels.compose)
        return u if state.base is None else kernels.compose(u, state.base)

    def motion(self, pair: Pair, state: VelocityState, ctx: ExecutionContext) -> Motion:
        return Pulled(self.matrix(pair, state, ctx), self._displacement(state, ctx))

    def retract(
        self,
        pair: Pair,
        state: VelocityState,
        way: Direction,
        step: float,
        ctx: ExecutionContext,
    ) -> VelocityState:
        w = state.u + scaled(*self.bounded(way, step, len(state.affines)))
        state = replace(state, u=self.smoothed(pair, w, ctx), age=state.age + 1)
        return self._fresh(state) if state.age >= _REFRESH else state

    def _fresh(self, state: VelocityState) -> VelocityState:
        return replace(state, squarings=squarings(state.u), age=0)

    def carry(self, state: VelocityState, old: Pair, new: Pair) -> VelocityState:
        base = state.base
        if base is not None:
            base = resize_displacement(base, new.fixed_grid.shape)
        return self._fresh(replace(super().carry(state, old, new), base=base))

    def transform(self, pair: Pair, state: VelocityState) -> Transform:
        u = self._displacement(self._fresh(state))
        return Chain([Displacement(u, pair.fixed_grid), *state.affines])

    def settle(self, pair: Pair, state: VelocityState) -> tuple[VelocityState, Folds]:
        state = self._fresh(state)
        left = int(strict_fold_mask(self._displacement(state)).sum())
        return state, Folds(0, left, left / state.u[0, 0].numel())
