"""Distance of corresponding points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.deformations.pair import LANDMARKS
from fireants_engine.errors import InputError
from fireants_engine.geometry import apply_matrix
from fireants_engine.similarity.base import Loss, Term


@dataclass(frozen=True)
class LandmarkDistance(Term):
    """Weighted mean of the squared distances of landmarks, in mm^2.

        sum_i w_i rho(|T(q_i) - p_i|) / sum_i w_i,  rho(r) = r^2

    q_i, p_i, w_i: `fixed_mm`, `moving_mm` and `weights` of the pair's landmarks; T: the present
    map fixed mm -> moving mm. robust_mm: Huber's rho instead, `2 c r - c^2` for r > c =
    robust_mm: a wrong landmark pulls no harder than one c away.
    The difference is taken in moving voxels and then brought to mm, so a far origin costs no
    digits. It works on any deformation; with a symmetric one the gradient by the fixed half is
    first order (see `Halfway.points`). The pull is on a few voxels: smooth the gradient
    (`sigma_grad_mm`) as far as the landmarks shall speak for.
    Raises InputError in `bind` when the pair has no landmarks; ValueError for robust_mm <= 0.
    """

    robust_mm: float | None = None

    def __post_init__(self) -> None:
        if self.robust_mm is not None and not self.robust_mm > 0:
            raise ValueError(f"robust_mm must be positive or None, not {self.robust_mm}")

    @property
    def needs(self) -> str:
        return LANDMARKS

    @property
    def reach_vox(self) -> int:
        return 0

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        losses = [self._of_one(k, part, ctx) for k, part in enumerate(pair.each)]
        return lambda views: torch.stack([loss(views) for loss in losses])

    def _of_one(self, number: int, pair: Pair, ctx: ExecutionContext) -> Loss:
        """The loss of pair `number` of the batch, a scalar."""
        marks = pair.landmarks
        if marks is None or marks.weights is None:
            raise InputError("A term needs landmarks but none are given; give --landmarks.")

        def on_device(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, device=ctx.device, dtype=ctx.dtype)

        fixed = on_device(apply_matrix(pair.fixed_grid.matrix("mm", "voxel"), marks.fixed_mm).T)
        target = on_device(apply_matrix(pair.moving_grid.matrix("mm", "voxel"), marks.moving_mm).T)
        to_mm = on_device(pair.moving_grid.matrix("voxel", "mm")[:-1, :-1])
        share = on_device(marks.weights / marks.weights.sum())

        def loss(views: Views) -> Tensor:
            assert views.motion is not None
            gap = to_mm @ (views.motion.points(fixed, number) - target)
            return (share * self._rho(gap.square().sum(0))).sum()

        return loss

    def _rho(self, squared: Tensor) -> Tensor:
        if self.robust_mm is None:
            return squared
        near = self.robust_mm**2
        far = 2 * self.robust_mm * squared.clamp(min=near).sqrt() - near
        return torch.where(squared <= near, squared, far)
