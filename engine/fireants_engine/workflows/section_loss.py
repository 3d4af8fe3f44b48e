"""What one section has lost, left out of the comparison with another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fireants_engine.geometry import Image
from fireants_engine.ops import warp_image
from fireants_engine.transforms import Affine
from fireants_engine.workflows.sheets import hull_of, lost_places
from fireants_engine.workflows.tissue import distance_inside

_MOST = 0.4
"""Of the tissue: where more has nothing opposite it, the sections do not fit and all counts."""
_RIM = 0.03
"""Of the long side of the fixed image: what lies so near to a lost piece does not count either."""


def without_lost(
    fixed: Image, moving: Image, tissues: tuple[Image, Image], affine: Affine
) -> tuple[Image, tuple[str, ...]]:
    """The fixed image with a mask that leaves out where one section has tissue and the other an
    empty slide.

    fixed, moving: what is compared, 2D; tissues: 1 where each has tissue, on any grid; affine:
    fixed mm -> moving mm. Only what is thicker than a rim that shrinkage may leave
    (`lost_places`): a lost piece would otherwise be made up by stretching what lies beside it.
    Beyond the other image, and where its own mask leaves out, nothing is known to be lost. The
    notes say how much of the tissue it is.
    """
    back = affine.inverse()
    of_fixed = _lost(fixed, tissues[0], moving, tissues[1], affine)
    of_moving = _lost(moving, tissues[1], fixed, tissues[0], back)
    notes = (*_said(of_fixed, tissues[0], moving), *_said(of_moving, tissues[1], fixed))
    if not notes:
        return fixed, ()
    lost = (of_fixed.data[0] > 0.5) | _carried(of_moving, affine, fixed, 0.0)
    near = distance_inside(~lost.numpy()) <= _RIM * max(fixed.grid.shape)
    counts = ~torch.from_numpy(near)
    return replace(fixed, mask=counts if fixed.mask is None else fixed.mask & counts), notes


def _lost(image: Image, tissue: Image, other: Image, opposite: Image, across: Affine) -> Image:
    """1 where `image` has tissue and `other` an empty slide."""
    here = _carried(tissue, Affine.identity(2), image, 0.0)
    hull = replace(opposite, data=hull_of(opposite.data[0] > 0.5)[None].float())
    there = _carried(hull, across, image, 1.0)
    if other.mask is not None:
        counts = Image(other.mask[None].float(), other.grid)
        there = there | ~_carried(counts, across, image, 1.0)
    lost = lost_places(here, there)
    if float(lost.sum()) > _MOST * float(here.sum()):
        lost = torch.zeros_like(lost)
    return Image(lost[None].float(), image.grid, name=image.name)


def _said(lost: Image, tissue: Image, other: Image) -> tuple[str, ...]:
    area, whole = (float(x.data.sum()) * float(np.prod(x.grid.spacing_mm)) for x in (lost, tissue))
    if area == 0:
        return ()
    return (
        f"{area / whole:.0%} of the tissue of {lost.name} has an empty slide opposite it in "
        f"{other.name} and is left out of the comparison.",
    )


def _carried(mask: Image, across: Affine, onto: Image, beyond: float) -> Tensor:
    """(Y, X) bool on the grid of `onto`; beyond: what holds where the mask's image ends."""
    return warp_image(mask, across, onto.grid, fill=beyond).data[0] > 0.5
