"""Greedy compositive diffeomorphism: the method of thesis chapter 3."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations.base import Folds
from fireants_engine.deformations.dense import Composed, Dense, DenseState
from fireants_engine.deformations.motion import Motion, Pulled
from fireants_engine.deformations.pair import Pair
from fireants_engine.kernels import Direction
from fireants_engine.kernels.reference import scaled
from fireants_engine.ops.unfold import unfold
from fireants_engine.transforms import Chain, Displacement, Transform


@dataclass(frozen=True)
class Single(Dense):
    """One displacement field whose samples are the variable."""

    def init(self, pair: Pair, initial: Transform, ctx: ExecutionContext) -> DenseState:
        u, affine = self.start(pair, initial, ctx)
        return DenseState(u, (affine,))

    def motion(self, pair: Pair, state: DenseState, ctx: ExecutionContext) -> Motion:
        return Pulled(self.matrix(pair, state, ctx), state.u)

    def transform(self, pair: Pair, state: DenseState) -> Transform:
        return Chain([Displacement(state.u, pair.fixed_grid), *state.affines])

    def settle(self, pair: Pair, state: DenseState) -> tuple[DenseState, Folds]:
        u, before, after = unfold(state.u)
        return replace(state, u=u), Folds(before - after, after, after / u[0, 0].numel())


@dataclass(frozen=True)
class Compositive(Single, Composed):
    """`phi(x) = A (x + u(x)) + t`, updated by composition `phi <- phi o (id + e v)`.

    Thesis 3.4 (Jacobian-free Eulerian descent), Eq. B.1.
    """

    def retract(
        self, pair: Pair, state: DenseState, way: Direction, step: float, ctx: ExecutionContext
    ) -> DenseState:
        move, factors = self.bounded(way, step, len(state.affines))
        u = ctx.kernels.compose(move, state.u, factors)
        return replace(state, u=self.smoothed(pair, u, ctx))


@dataclass(frozen=True)
class FreeForm(Single):
    """`phi(x) = A (x + u(x)) + t`, updated by addition `u <- u + e v`.

    Gateaux descent on the displacement itself (thesis 3.4): nothing keeps it invertible but its
    smoothing, which with sigma_warp_mm acts on the whole field, as an elastic model does.
    """

    def retract(
        self, pair: Pair, state: DenseState, way: Direction, step: float, ctx: ExecutionContext
    ) -> DenseState:
        u = state.u + scaled(*self.bounded(way, step, len(state.affines)))
        return replace(state, u=self.smoothed(pair, u, ctx))
