"""Inverse consistency of the two halves of a symmetric stage."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fireants_engine.errors import InputError
from fireants_engine.regularise.base import Regulariser, Spacing, in_mm


@dataclass(frozen=True)
class InverseConsistency(Regulariser):
    """Mean over x of `|u_F(x) + u_M(x)|^2` in mm^2: both halves equally long and opposite.

    phi_F, phi_M = id + u_F, id + u_M lead from the midpoint to the fixed and the moving image.
    With u_M = -u_F the midpoint is the mean of both; and to first order in u, phi_M is then the
    inverse of phi_F, whose full residual is `phi_M(phi_F(x)) - x = u_F(x) + u_M(x + u_F(x))`
    (the objective of thesis 3.4 with psi = phi_M). Nothing else in a symmetric stage holds the
    midpoint. A deformable start lies in phi_M alone at first; this term shares it out.
    A single warp is consistent with its own inverse by construction: the term raises InputError
    at the first evaluation in a stage without two halves.
    """

    @property
    def reach_vox(self) -> int:
        return 0

    def of_warps(self, warps: tuple[Tensor, ...], spacing: Spacing) -> Tensor:
        if len(warps) != 2:
            raise InputError(
                "InverseConsistency: the stage has no pair of half warps; remove the term or use "
                "a symmetric stage."
            )
        return self.energies(warps[0] + warps[1], spacing)

    def energy(self, u: Tensor, spacing: Spacing) -> Tensor:
        """Mean of |u|^2 in mm^2; u: (1, d, *spatial) voxels, the sum of both halves."""
        return in_mm(u, spacing).square().mean() * u.shape[1]
