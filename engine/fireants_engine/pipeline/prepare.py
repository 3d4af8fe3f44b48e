"""From images as loaded to tensors as registered: robust range, background, device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair
from fireants_engine.geometry import Grid, Image, check_pair
from fireants_engine.pipeline.pyramid import level_grid, shrink_image, shrink_mask

_SAMPLES = 1_000_000


def robust_range(values: Tensor) -> tuple[float, float]:
    """0.1 and 99.9 percentile of `values` (on at most a million evenly spaced samples).

    Where that collapses (a small object on a constant background), the full range.
    """
    flat = values.reshape(-1).float()
    stride = max(1, flat.numel() // _SAMPLES)
    thin = flat[::stride].sort().values
    last = thin.numel() - 1
    low, high = thin[round(0.001 * last)].item(), thin[round(0.999 * last)].item()
    if not high > low:
        low, high = flat.min().item(), flat.max().item()
    return low, high


def _background(channel: Tensor) -> float:
    """Median over the outer faces of the image: what lies beyond its border."""
    faces = [channel.select(axis, k).reshape(-1) for axis in range(channel.ndim) for k in (0, -1)]
    return torch.cat(faces).median().item()


def normalise(image: Image, ctx: ExecutionContext) -> Tensor:
    """(1, C, *spatial) on the device: robust range to unit length, background at 0.

    Values beyond the robust range (inside the mask, if there is one) are clipped. With the
    background at 0, the zeros that sampling gives outside the image look like background.
    """
    data = image.data.to(ctx.device, ctx.dtype)
    out = torch.empty_like(data)
    for c in range(data.shape[0]):
        channel = data[c]
        inside = channel if image.mask is None else channel[image.mask.to(ctx.device)]
        low, high = robust_range(inside)
        if not high > low:
            low, high = robust_range(channel)
        clipped = channel.clamp(low, high).sub_(low).div_(high - low)
        out[c] = clipped.sub_(_background(clipped))
    return out[None]


@dataclass(frozen=True)
class Prepared:
    """Both images at full resolution on the device; `level` makes the pairs of a pyramid."""

    fixed: Tensor
    moving: Tensor
    fixed_grid: Grid
    moving_grid: Grid
    fixed_mask: Tensor | None
    moving_mask: Tensor | None

    @classmethod
    def create(cls, fixed: Image, moving: Image, ctx: ExecutionContext) -> Prepared:
        """Raises InputError when the two images cannot be registered."""
        check_pair(fixed, moving)

        def mask(image: Image) -> Tensor | None:
            return None if image.mask is None else image.mask[None, None].to(ctx.device, ctx.dtype)

        return cls(
            normalise(fixed, ctx),
            normalise(moving, ctx),
            fixed.grid,
            moving.grid,
            mask(fixed),
            mask(moving),
        )

    def level_grid(self, shrink: float, min_size: int) -> Grid:
        """The fixed grid of a level."""
        return level_grid(self.fixed_grid, shrink, min_size)

    def level(self, shrink: float, min_size: int) -> Pair:
        """Both images with voxels of about `shrink` times the fixed image's finest spacing.

        The moving image's own voxels are kept where they are coarser than that.
        """
        fixed_grid = self.level_grid(shrink, min_size)
        finest = max(min(self.fixed_grid.spacing_mm), min(self.moving_grid.spacing_mm))
        moving_grid = level_grid(self.moving_grid, shrink, min_size, finest)
        return Pair(
            fixed=shrink_image(self.fixed, fixed_grid),
            moving=shrink_image(self.moving, moving_grid),
            fixed_grid=fixed_grid,
            moving_grid=moving_grid,
            fixed_mask=shrink_mask(self.fixed_mask, fixed_grid),
            moving_mask=shrink_mask(self.moving_mask, moving_grid),
        )
