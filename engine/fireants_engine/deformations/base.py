"""Deformation: what a stage optimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations.motion import Motion, Views
from fireants_engine.deformations.pair import Pair
from fireants_engine.kernels import Direction
from fireants_engine.ops.rows import join
from fireants_engine.transforms import Affine, Transform


@dataclass(frozen=True)
class Folds:
    """Strictly folded voxels of a warp: smoothed away, left, and left as a share of all."""

    removed: int
    left: int
    fraction: float


class Deformation(ABC):
    """Parameters of a stage. `state` is opaque to the loop; `variable(state)` is its leaf tensor.

    A state belongs to the N pairs of a batch: its tensors have k N rows and its tuples N items
    (`ops.rows`), and the same code serves one pair and many. `init`, `transform`, `problem` and
    `settle` are of one pair at a time.
    Greedy warps the moving image only; a symmetric, EPI or slice-wise model differs in `motion`
    and `retract`, never in the loop.
    """

    @abstractmethod
    def init(self, pair: Pair, initial: Transform, ctx: ExecutionContext) -> Any:
        """State of no change on top of `initial`, linear or deformable, of one pair."""

    def begin(self, pair: Pair, initials: Sequence[Transform], ctx: ExecutionContext) -> Any:
        """`init` of every pair of a batch."""
        parts = zip(pair.each, initials, strict=True)
        return join([self.init(one, initial, ctx) for one, initial in parts])

    @abstractmethod
    def variable(self, state: Any) -> Tensor:
        """The tensor the loss is differentiated by."""

    @abstractmethod
    def with_variable(self, state: Any, variable: Tensor) -> Any:
        """The same state with another variable."""

    @abstractmethod
    def motion(self, pair: Pair, state: Any, ctx: ExecutionContext) -> Motion:
        """The present map; differentiable in `variable(state)`."""

    def views(self, pair: Pair, state: Any, ctx: ExecutionContext) -> Views:
        """Both images as the terms see them; differentiable in `variable(state)`."""
        return self.motion(pair, state, ctx).views(pair, ctx)

    @abstractmethod
    def precondition(self, pair: Pair, state: Any, grad: Tensor, ctx: ExecutionContext) -> Tensor:
        """The gradient the descent sees (smoothed, restricted, in comparable units)."""

    @abstractmethod
    def retract(
        self, pair: Pair, state: Any, way: Direction, step: float, ctx: ExecutionContext
    ) -> Any:
        """The state after moving along `way`; `step` is a fraction of the step bound."""

    @abstractmethod
    def resample(self, buffer: Tensor, power: int, old: Pair, new: Pair) -> Tensor:
        """A tensor shaped like the variable on the next level; `power`: degree in the gradient.

        old: what one of the pairs looked at on the last level; new: what all of them look at.

        The variable itself has power -1, first moments 1, second moments 2.
        """

    def carry(self, state: Any, old: Pair, new: Pair) -> Any:
        """The state on the next level."""
        return self.with_variable(state, self.resample(self.variable(state), -1, old, new))

    @abstractmethod
    def transform(self, pair: Pair, state: Any) -> Transform:
        """The map fixed mm -> moving mm that this state of one pair stands for."""

    def found(self, pair: Pair, state: Any) -> Any:
        """What this state of one pair tells beyond `transform`; None where that is all."""
        return None

    @abstractmethod
    def realigned(self, state: Any, change: Callable[[Affine], Affine]) -> Any:
        """The state with the affine part A of each pair's map `A o W` replaced by `change(A)`."""

    def problem(self, state: Any) -> str | None:
        """What makes the map of one pair useless, to follow "would"; None where nothing does."""
        return None

    def settle(self, pair: Pair, state: Any) -> tuple[Any, Folds | None]:
        """What a level leaves of one pair, without sampling folds; None where none can occur."""
        return state, None
