"""Previews: planes of the moving image through the present transform, made only on request."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fireants_engine.geometry import Grid, Image
from fireants_engine.ops.resample import warp_image
from fireants_engine.pipeline.control import PreviewRequest
from fireants_engine.pipeline.pyramid import level_grid
from fireants_engine.transforms import Transform

BUDGET = 0.03
"""Share of the run's time that previews may take; requests wait when it is used up."""


@dataclass
class Previewer:
    """Resamples the moving image as loaded (full resolution, own intensities)."""

    moving: Image
    grid: Grid
    spent_seconds: float = field(default=0.0)

    def affordable(self, run_seconds: float) -> bool:
        """True while previews have taken less than their share of the run so far."""
        return self.spent_seconds <= BUDGET * run_seconds

    def frames(self, request: PreviewRequest, transform: Transform) -> Mapping[Any, np.ndarray]:
        """CPU float32 arrays: key (axis, index) -> plane, None -> (coarse) volume."""
        started = time.perf_counter()
        out: dict[Any, np.ndarray] = {}
        if request.volume_shrink is not None:
            target = level_grid(self.grid, request.volume_shrink, 8)
            out[None] = warp_image(self.moving, transform, target).numpy()
        for axis, index in request.planes:
            plane = self.grid.plane(axis, index)
            frame = warp_image(self.moving, transform, plane).numpy()
            out[(axis, index)] = frame.squeeze(axis)
        self.spent_seconds += time.perf_counter() - started
        return out
