"""How good a result is, before against after: similarities, labels, and the inverse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair
from fireants_engine.deformations.motion import Pulled
from fireants_engine.errors import InputError
from fireants_engine.evaluation.overlap import LabelOverlap, label_overlap
from fireants_engine.geometry import Grid, Image
from fireants_engine.kernels import chosen_for
from fireants_engine.ops import as_label_values, warp_image
from fireants_engine.pipeline.prepare import normalise
from fireants_engine.similarity import LNCC, NCC, MutualInformation, Term
from fireants_engine.transforms import Affine
from fireants_engine.workflows.result import Mapping, Result

MEASURES: dict[str, Term] = {
    "NCC": NCC(),
    "LNCC": LNCC(squared=False),
    "MI": MutualInformation(),
}
"""Name -> term; of each the negative loss is told, so that more is better."""


def similarities(result: Result) -> dict[str, tuple[float, float]]:
    """Name -> (before, after) of MEASURES at full resolution, as the terms count them.

    Before: the identity in mm, not the start that the recipe found.
    """
    ctx = ExecutionContext.create("cpu")
    fixed_mask, moving_mask = (
        None if image.mask is None else image.mask.to(ctx.dtype)[None, None]
        for image in (result.fixed, result.moving)
    )
    pair = Pair(
        normalise(result.fixed, ctx), normalise(result.moving, ctx), result.grid,
        result.moving.grid, fixed_mask, moving_mask,
    )  # fmt: skip
    warp = result.warp_field
    still = pair.voxel_matrices([Affine.identity(result.grid.dim)], ctx)
    moved = pair.voxel_matrices([result.affine], ctx)
    motions = Pulled(still), Pulled(moved, None if warp is None else warp.u.to(ctx.dtype))
    out: dict[str, list[float]] = {name: [] for name in MEASURES}
    with torch.no_grad():
        for motion in motions:
            views = motion.views(pair, ctx)
            for name, term in MEASURES.items():
                out[name].append(-float(term.bind(pair, ctx)(views)))
    return {name: (before, after) for name, (before, after) in out.items()}


# ------------------------------------------------------------------ labels
def still_labels(labels: Image, grid: Grid) -> Image:
    """Labels of the moving image on `grid` where they were before the registration."""
    return warp_image(labels, Affine.identity(grid.dim), grid, interpolation="nearest")


@dataclass(frozen=True, eq=False)
class LabelTable:
    """One entry per label that either map has, in ascending order; volumes in mL.

    dice_before, dice_after: NaN where neither map has the label; centres_voxel: (labels, d),
    array order, of the fixed label (of the moved one where the fixed map has it not).
    """

    labels: NDArray[np.int64]
    dice_before: NDArray[np.float64]
    dice_after: NDArray[np.float64]
    fixed_ml: NDArray[np.float64]
    moved_ml: NDArray[np.float64]
    centres_voxel: NDArray[np.float64]

    @property
    def difference_ml(self) -> NDArray[np.float64]:
        """Moved minus fixed."""
        return self.moved_ml - self.fixed_ml


def label_table(result: Mapping, fixed_labels: Image, moving_labels: Image) -> LabelTable:
    """Dice and volume of every label before and after.

    Raises InputError for maps that are not of whole numbers, or fixed labels on another grid than
    the fixed image.
    """
    if not fixed_labels.grid.same_space(result.grid):
        raise InputError(
            f"{fixed_labels.name}: the fixed labels lie on another grid than the fixed image; "
            "resample them onto it."
        )
    before = still_labels(moving_labels, result.grid)
    after = result.warp_labels(moving_labels)
    fixed, still, moved = (
        as_label_values(item).cpu().numpy() for item in (fixed_labels, before, after)
    )
    now, then = label_overlap(fixed, moved), label_overlap(fixed, still)
    labels = np.union1d(now.labels, then.labels)
    voxel_ml = float(np.prod(result.grid.spacing_mm)) / 1000.0
    return LabelTable(
        labels,
        _dice(then, labels),
        _dice(now, labels),
        _spread(now.labels, now.fixed_voxels, labels, 0) * voxel_ml,
        _spread(now.labels, now.moved_voxels, labels, 0) * voxel_ml,
        _centres(labels, fixed, moved),
    )


def _spread(
    known: NDArray[np.int64], values: np.ndarray, labels: NDArray[np.int64], other: float
) -> NDArray[np.float64]:
    """`values` of the `known` labels at the places of `labels`, `other` for those not known."""
    out = np.full(labels.size, other, dtype=np.float64)
    out[np.searchsorted(labels, known)] = values
    return out


def _dice(overlap: LabelOverlap, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    return _spread(overlap.labels, overlap.dice, labels, np.nan)


def _centres(labels: NDArray[np.int64], *maps: np.ndarray) -> NDArray[np.float64]:
    """Mean place (labels, d) of each label in the first of `maps` that has it."""
    out = np.full((labels.size, maps[0].ndim), np.nan)
    for values in maps:
        places = np.nonzero(np.isin(values, labels))
        codes = np.searchsorted(labels, values[places])
        count = np.bincount(codes, minlength=labels.size)
        new = np.isnan(out[:, 0]) & (count > 0)
        for axis, place in enumerate(places):
            total = np.bincount(codes, place.astype(np.float64), labels.size)
            out[new, axis] = total[new] / count[new]
    return out


# ------------------------------------------------------------------ the inverse
def inverse_error_mm(result: Mapping) -> NDArray[np.float32] | None:
    """|T^-1(T(x)) - x| in mm at the fixed grid's voxels, of the sampled inverse that is saved.

    NaN where T(x) leaves the fixed image, of which nothing is known; None where there is no warp.
    The affine part cancels.
    """
    warp, inverse = result.warp_field, result.inverse_warp_field
    if warp is None or inverse is None:
        return None
    residual = chosen_for(warp.u).compose(warp.u, inverse.u)[0]
    square = torch.zeros(result.grid.shape)
    inside = torch.ones(result.grid.shape, dtype=torch.bool)
    for axis, (n, step) in enumerate(zip(result.grid.shape, result.grid.spacing_zyx, strict=True)):
        square.addcmul_(residual[axis], residual[axis], value=step * step)
        shape = [1] * result.grid.dim
        shape[axis] = n
        place = torch.arange(n, dtype=torch.float32).reshape(shape) + warp.u[0, axis]
        inside &= (place >= 0) & (place <= n - 1)
    return torch.where(inside, square.sqrt_(), torch.nan).numpy()
