"""Previews: what the moving image and the map look like now, made only on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fireants_engine.geometry import Grid, Image, as_points
from fireants_engine.ops.resample import warp_image
from fireants_engine.pipeline.control import PreviewRequest
from fireants_engine.pipeline.pyramid import level_grid
from fireants_engine.transforms import Displacement, Transform, affine_factor

BUDGET = 0.03
"""Share of the run's time that previews may take; requests wait when it is used up."""


@dataclass
class Previewer:
    """Resamples the moving image as loaded (full resolution, own intensities).

    spent_seconds: of the run's time, by previews so far; owed: an edit waits to be seen, which may
    cost more than the share.
    """

    moving: Image
    grid: Grid
    spent_seconds: float = field(default=0.0)
    last_seconds: float = field(default=0.0)
    owed: bool = field(default=False)

    def affordable(self, run_seconds: float) -> bool:
        """True while previews, with one more like the last, stay within their share so far."""
        return self.owed or self.spent_seconds + self.last_seconds <= BUDGET * run_seconds

    def make(
        self,
        request: PreviewRequest,
        transform: Callable[[], Transform],
        found: Callable[[], Any] = lambda: None,
    ) -> dict[str, Any]:
        """The fields of a Preview event; transform: gives the present map, which costs as well;
        found: what the deformation tells beyond it."""
        started = time.perf_counter()
        out: dict[str, Any] = {}
        if request.of_map:
            now = transform()
            out["frames"] = self.frames(request, now)
            out["warps"] = self.warps(request, now)
            out["points_mm"] = self.points(request, now)
        if request.found:
            out["found"] = found()
        self.last_seconds, self.owed = time.perf_counter() - started, False
        return out

    def frames(self, request: PreviewRequest, transform: Transform) -> Mapping[Any, np.ndarray]:
        """CPU float32 arrays: key (axis, index) -> plane, None -> (coarse) volume."""
        out: dict[Any, np.ndarray] = {}
        if request.volume_shrink is not None:
            target = level_grid(self.grid, request.volume_shrink, 8)
            out[None] = warp_image(self.moving, transform, target).numpy()
        for axis, index in request.planes:
            plane = self.grid.plane(axis, index)
            frame = warp_image(self.moving, transform, plane).numpy()
            out[(axis, index)] = frame.squeeze(axis)
        return out

    def warps(self, request: PreviewRequest, transform: Transform) -> Mapping[Any, Displacement]:
        """The deformable part where the frames are, on the CPU; nothing unless asked for.

        Of a plane, on three planes of the fixed grid with the plane in the middle, so that its
        Jacobian can be taken; of the volume, on the grid of its frame.
        """
        out: dict[Any, Displacement] = {}
        if not request.warp:
            return out
        alone = transform.then(affine_factor(transform).inverse())
        if request.volume_shrink is not None:
            target = level_grid(self.grid, request.volume_shrink, 8)
            out[None] = Displacement.from_mm(alone.displacement(target), target)
        for axis, index in request.planes:
            out[(axis, index)] = _slab(alone, self.grid, axis, index)
        return out

    def points(self, request: PreviewRequest, transform: Transform) -> np.ndarray | None:
        """The points that were asked for through the present map, moving mm."""
        if request.points_mm is None:
            return None
        return transform(as_points(request.points_mm, self.grid.dim))


def _slab(warp: Transform, grid: Grid, axis: int, index: int) -> Displacement:
    """`warp` on the plane and on its neighbours; beyond the image it goes on straight."""
    box = [slice(0, n) for n in grid.shape]
    box[axis] = slice(max(0, index - 1), min(grid.shape[axis], index + 2))
    inside = grid.part(box)
    u = Displacement.from_mm(warp.displacement(inside), inside).u
    planes = list(u.split(1, dim=2 + axis))
    if len(planes) == 1:
        planes = planes * 2
    if index == 0:
        planes.insert(0, 2 * planes[0] - planes[1])
    if len(planes) == 2:
        planes.append(2 * planes[1] - planes[0])
    box[axis] = slice(index - 1, index + 2)
    return Displacement(torch.cat(planes, dim=2 + axis), grid.part(box))
