"""How well one section fits another through a map."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fireants_engine.ops import warp_image
from fireants_engine.transforms import Affine, Transform, sampled
from fireants_engine.workflows.sections import Section, region

_RADIUS = 4
_FLAT = 0.01
"""Standard deviation at which a window shows hardly more than noise and counts half."""


def local_fit(fixed: Section, moving: Section, through: Transform) -> float:
    """Mean squared correlation of what is compared, in windows of 9 x 9 pixels of the fixed image.

    `s_ab^2 / (s_a^2 s_b^2 + flat^4)` over the places where both have tissue, so that lost pieces
    do not count; 0 where there are none. through: fixed mm -> moving mm.
    """
    grid, across = fixed.image.grid, sampled(through)
    here = warp_image(region(fixed), Affine.identity(2), grid).data[0] > 0.5
    there = warp_image(region(moving), across, grid).data[0] > 0.5
    both = here & there
    if not bool(both.any()):
        return 0.0
    a = fixed.image.data[None].double()
    b = warp_image(moving.image, across, grid).data[None].double()

    def mean(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 2 * _RADIUS + 1, 1, _RADIUS, count_include_pad=False)

    spread_a, spread_b = mean(a * a) - mean(a) ** 2, mean(b * b) - mean(b) ** 2
    shared = mean(a * b) - mean(a) * mean(b)
    squared = shared**2 / (spread_a.clamp(min=0) * spread_b.clamp(min=0) + _FLAT**4)
    return float(squared[0, 0][both].mean())
