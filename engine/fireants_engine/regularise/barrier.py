"""A barrier against lines that fold: what keeps every EPI volume invertible."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.deformations.undistorted import Undistorted
from fireants_engine.errors import InputError
from fireants_engine.similarity import Loss, Term


@dataclass(frozen=True)
class StretchBarrier(Term):
    """Mean over x and all volumes of `t^4 / (1 - t^2)`, t = s_k dv/de_k, dimensionless.

    Of volumes with equal |s| one is counted.

    Nothing for small stretches, and without bound where a volume is about to fold (t = -1) or to
    open as wide (t = 1, a fold for the reversed volume). Finite at any t: beyond 0.99 the
    denominator stays. Masks do not count. Raises InputError at the first evaluation in a stage
    that is not phase_encode. After Ruthotto et al. 2012 (hyperelastic correction of EPI).
    """

    @property
    def reach_vox(self) -> int:
        return 1

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        def loss(views: Views) -> Tensor:
            if not isinstance(views.motion, Undistorted):
                raise InputError(
                    "StretchBarrier: only a phase_encode stage has stretches; remove the term."
                )
            parts = [_energy(t) for t in views.motion.stretches()]
            return torch.stack(parts).mean(0)

        return loss


def _energy(stretch: Tensor) -> Tensor:
    """(N,) from (N, 1, *spatial)."""
    square = stretch * stretch
    return (square * square / (1 - square).clamp(min=0.02)).flatten(1).mean(1)
