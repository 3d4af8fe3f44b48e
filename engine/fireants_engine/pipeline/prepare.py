"""From images as loaded to tensors as registered: robust range, background, device."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import IMAGE, FeatureExtractor, Pair, Source
from fireants_engine.features import OneHot
from fireants_engine.geometry import Grid, Image, Landmarks, check_pair
from fireants_engine.kernels import REFERENCE, KernelTable
from fireants_engine.ops.resample import as_label_values
from fireants_engine.pipeline.inputs import LABELS, Extras, onto
from fireants_engine.pipeline.pyramid import level_grid, shrink_image, shrink_mask
from fireants_engine.pipeline.rotations import nearest_rotation
from fireants_engine.transforms import Affine

_SAMPLES = 1_000_000


def robust_range(values: Tensor) -> tuple[float, float]:
    """0.1 and 99.9 percentile of `values` (on at most a million evenly spaced samples).

    Where that collapses (a small object on a constant background), the full range.
    """
    flat = values.reshape(-1)
    stride = max(1, flat.numel() // _SAMPLES)
    thin = flat[::stride].sort().values
    last = thin.numel() - 1
    low, high = thin[round(0.001 * last)].item(), thin[round(0.999 * last)].item()
    if not high > low:
        low, high = flat.min().item(), flat.max().item()
    return low, high


def _background(channel: Tensor) -> float:
    """Median over the outer faces of the image: what lies beyond its border."""
    axes = [axis for axis, n in enumerate(channel.shape) if n > 1]
    faces = [channel.select(axis, k).reshape(-1) for axis in axes for k in (0, -1)]
    return torch.cat(faces).median().item()


def _computable(channel: Tensor, ctx: ExecutionContext) -> Tensor:
    """On the device as it is, or in float64 on the CPU where float32 would drop digits."""
    if channel.dtype in (torch.float64, torch.int32, torch.int64):
        return channel.cpu().double()
    return channel.to(ctx.device, ctx.dtype)


def intensity_ranges(image: Image, ctx: ExecutionContext) -> list[tuple[float, float]]:
    """Robust range of each channel inside the mask; of the whole channel where that is empty."""
    out = []
    for raw in image.data:
        channel = _computable(raw, ctx)
        inside = channel if image.mask is None else channel[image.mask.to(channel.device)]
        low, high = robust_range(inside)
        out.append((low, high) if high > low else robust_range(channel))
    return out


def common_spans(
    fixed: list[tuple[float, float]], moving: list[tuple[float, float]]
) -> tuple[list[float], list[float]]:
    """Lengths of the ranges; one length for both where they agree within a quarter.

    Then the images most likely share their unit (CT, a mask that hides the brightest part), and
    equal intensities stay equal, which SSD needs.
    """
    spans = [[high - low for low, high in ranges] for ranges in (fixed, moving)]
    for c, (a, b) in enumerate(zip(*spans, strict=True)):
        if 0 < max(a, b) <= 1.25 * min(a, b):
            spans[0][c] = spans[1][c] = max(a, b)
    return spans[0], spans[1]


def normalise(
    image: Image,
    ctx: ExecutionContext,
    ranges: list[tuple[float, float]] | None = None,
    spans: list[float] | None = None,
) -> Tensor:
    """(1, C, *spatial) on the device: clipped to `ranges`, divided by `spans`, background at 0.

    ranges: per channel, default `intensity_ranges`; spans: default their lengths. A channel
    without contrast becomes 0. The median of the outer faces is taken as background.
    """
    ranges = intensity_ranges(image, ctx) if ranges is None else ranges
    spans = [high - low for low, high in ranges] if spans is None else spans
    out = torch.empty(image.data.shape, device=ctx.device, dtype=ctx.dtype)
    for c, ((low, high), span) in enumerate(zip(ranges, spans, strict=True)):
        if not high > low:
            out[c] = 0
            continue
        clipped = _computable(image.data[c], ctx).clamp(low, high).sub_(low).div_(span)
        out[c] = clipped.sub_(_background(clipped))
    return out[None]


def by_signal(fixed: Image, moving: Image, ctx: ExecutionContext) -> list[Tensor]:
    """Both images (1, C, *spatial), each channel with the signal of the first that has some.

    Signal: the sum of what is above 0. In units of the robust range of that channel; nothing is
    cut off, no background taken away: what a field moves stays, and only the receiver's gain
    differs. A channel without signal is 0.
    """
    unit, wanted = 0.0, 0.0
    out = []
    for image in (fixed, moving):
        data = torch.zeros(image.data.shape, device=ctx.device, dtype=ctx.dtype)
        for c, raw in enumerate(image.data):
            channel = _computable(raw, ctx)
            total = channel.clamp(min=0).sum().item()
            if not total > 0:
                continue
            if not unit:
                low, high = robust_range(channel)
                unit = high - min(low, 0.0)
                wanted = total / unit
            data[c] = channel * (wanted / total)
        out.append(data[None])
    return out


def fill_outside(values: Tensor, weight: Tensor) -> Tensor:
    """`values` (1, C, *spatial) where `weight` (1, 1, *spatial) > 0, elsewhere a smooth extension.

    Pull and push: averages over 2^d blocks of what is known, coarser until all is known, then
    linear interpolation back. So nothing that a mask leaves out reaches coarse levels or the
    windows of a local similarity.
    """
    known = weight > 0
    if bool(known.all()) or not bool(known.any()):
        return values
    kernel = [min(2, n) for n in values.shape[2:]]
    pool = F.avg_pool3d if len(kernel) == 3 else F.avg_pool2d
    soft = known.to(values.dtype)
    share = pool(soft, kernel, ceil_mode=True)
    coarse = pool(values * soft, kernel, ceil_mode=True) / share.clamp(min=1e-6)
    filled = fill_outside(coarse, share)
    mode = "trilinear" if len(kernel) == 3 else "bilinear"
    far = F.interpolate(filled, size=values.shape[2:], mode=mode, align_corners=False)
    return torch.where(known, values, far)


def _mask(image: Image, ctx: ExecutionContext) -> Tensor | None:
    return None if image.mask is None else image.mask[None, None].to(ctx.device, ctx.dtype)


def axes_through(affine: Affine, fixed: Grid, moving: Grid) -> np.ndarray:
    """(d, d), array order: the axes of the fixed grid among those of the moving one, in mm, through
    the rotation (or reflection) nearest to `affine`."""
    turn = nearest_rotation(affine.matrix[:-1, :-1])
    return (moving.direction.T @ turn @ fixed.direction)[::-1, ::-1]


@dataclass(frozen=True)
class Prepared:
    """Both images at full resolution on the device; `level` makes the pairs of a pyramid.

    others: further named inputs that terms look at, on the same two grids. kernels: the run's.
    """

    fixed: Tensor
    moving: Tensor
    fixed_grid: Grid
    moving_grid: Grid
    fixed_mask: Tensor | None
    moving_mask: Tensor | None
    others: Mapping[str, Prepared] = field(default_factory=dict)
    landmarks: Landmarks | None = None
    kernels: KernelTable = REFERENCE

    @classmethod
    def create(
        cls,
        fixed: Image,
        moving: Image,
        ctx: ExecutionContext,
        extras: Extras | None = None,
        names: Collection[str] = (),
        intensities: str = "range",
    ) -> Prepared:
        """The pair, and of `extras` the inputs called `names`.

        intensities: `range` (`normalise`) or `signal` (`by_signal`); further images by range.

        Raises InputError when the two images cannot be registered or an input does not fit.
        """
        check_pair(fixed, moving)
        extras = extras or Extras()
        base = cls._images(fixed, moving, ctx, intensities)
        others = {}
        for name in names:
            if name == LABELS:
                both = extras.labels_on(fixed.grid, moving.grid)
                values = [as_label_values(item)[None, None].to(ctx.device) for item in both]
                OneHot().resolved(*values)  # refuses maps without a common label at the door
                others[name] = replace(base, fixed=values[0], moving=values[1])
            elif name in extras.images:
                given = extras.images[name]
                onto_grids = onto(given[0], fixed.grid), onto(given[1], moving.grid)
                own = cls._images(*onto_grids, ctx)
                others[name] = replace(
                    own,
                    fixed_mask=base.fixed_mask if own.fixed_mask is None else own.fixed_mask,
                    moving_mask=base.moving_mask if own.moving_mask is None else own.moving_mask,
                )
        return replace(base, others=others, landmarks=extras.landmarks)

    @classmethod
    def _images(
        cls, fixed: Image, moving: Image, ctx: ExecutionContext, intensities: str = "range"
    ) -> Prepared:
        masks = [_mask(image, ctx) for image in (fixed, moving)]
        if intensities == "signal":
            both = by_signal(fixed, moving, ctx)
        else:
            ranges = [intensity_ranges(image, ctx) for image in (fixed, moving)]
            spans = common_spans(*ranges)
            each = zip((fixed, moving), ranges, spans, masks, strict=True)
            both = [
                values if mask is None else fill_outside(values, mask)
                for values, mask in ((normalise(i, ctx, r, s), m) for i, r, s, m in each)
            ]
        return cls(
            both[0],
            both[1],
            fixed.grid,
            moving.grid,
            fixed_mask=masks[0],
            moving_mask=masks[1],
            kernels=ctx.kernels,
        )

    def level_grid(self, shrink: float, min_size: int) -> Grid:
        """The fixed grid of a level."""
        return level_grid(self.fixed_grid, shrink, min_size)

    def level(
        self,
        shrink: float,
        min_size: int,
        sources: Collection[Source] = (),
        smooth_vox: float = 0.0,
        through: Affine | None = None,
    ) -> Pair:
        """Both images with voxels of about `shrink` times the fixed image's finest spacing.

        The moving image's own voxels are kept where they are coarser than that. sources: what
        the terms look at, beside the images themselves. through: fixed mm -> moving mm, about how
        the images lie; features that tell directions are turned by it (default the identity).
        """
        fixed_grid = self.level_grid(shrink, min_size)
        finest = max(min(self.fixed_grid.spacing_mm), min(self.moving_grid.spacing_mm))
        moving_grid = level_grid(self.moving_grid, shrink, min_size, finest)
        own = Source()
        axes = axes_through(through or Affine.identity(fixed_grid.dim), fixed_grid, moving_grid)
        how = (fixed_grid, moving_grid, smooth_vox, axes)
        return replace(
            self._seen(own, *how),
            others={s: self._seen(s, *how) for s in {*sources} - {own}},
            landmarks=self.landmarks,
        )

    def _own(self, source: Source) -> Prepared:
        return self if source.name == IMAGE else self.others[source.name]

    def resolved(self, source: Source) -> FeatureExtractor | None:
        """The feature extractor of `source` for this pair, None for intensities."""
        own = self._own(source)
        return source.features and source.features.resolved(own.fixed, own.moving)

    def _seen(
        self,
        source: Source,
        fixed_grid: Grid,
        moving_grid: Grid,
        smooth_vox: float,
        axes: np.ndarray,
    ) -> Pair:
        """What `source` shows of this level; labels are not smoothed further."""
        smooth_vox = 0.0 if source.name == LABELS else smooth_vox
        own, extract = self._own(source), self.resolved(source)

        def features(
            data: Tensor, grid: Grid, target: Grid, extract: FeatureExtractor | None
        ) -> Tensor:
            how = {"kernels": self.kernels, "smooth_vox": smooth_vox}
            shrink = partial(shrink_image, target=target, **how)
            if extract is None:
                return shrink(data)
            return extract(data, grid, shrink).to(self.fixed.dtype)

        pair = Pair(
            fixed=features(own.fixed, own.fixed_grid, fixed_grid, extract),
            moving=features(
                own.moving, own.moving_grid, moving_grid, extract and extract.turned(axes)
            ),
            fixed_grid=fixed_grid,
            moving_grid=moving_grid,
            fixed_mask=shrink_mask(own.fixed_mask, fixed_grid),
            moving_mask=shrink_mask(own.moving_mask, moving_grid),
            zooms_mm=(self.fixed_grid.spacing_zyx, self.moving_grid.spacing_zyx),
        )
        return (
            pair if source.channels is None and source.masks == "both" else pair.looked_at(source)
        )
