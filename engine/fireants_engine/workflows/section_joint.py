"""A section that no sure pair reaches, registered onto what the others show together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fireants_engine.geometry import Grid, Image
from fireants_engine.ops import warp_image
from fireants_engine.transforms import Affine, Transform, sampled
from fireants_engine.workflows.section_fit import local_fit
from fireants_engine.workflows.sections import Section, match, region, section_of
from fireants_engine.workflows.sheets import lost_places


def mean_of(sections: Mapping[str, Section], maps: Mapping[str, Transform], grid: Grid) -> Image:
    """The mean of what is compared of `sections` on `grid`, 0 off their tissue.

    maps: points of the grid's space to each. What one has lost where two others have tissue, and
    what its mask leaves out, is taken from the others.
    """
    images, tissues, counting = [], [], []
    for name, section in sections.items():
        through = sampled(maps[name])
        images.append(warp_image(section.image, through, grid).data)
        tissues.append(warp_image(region(section), through, grid).data[0] > 0.5)
        mask = section.image.mask
        given = torch.ones(section.image.grid.shape) if mask is None else mask.float()
        carried = warp_image(Image(given[None], section.image.grid), through, grid, fill=1.0)
        counting.append(carried.data[0] > 0.5)
    there = torch.stack(tissues).sum(0) >= 2
    keep = torch.stack([
        mask & ~lost_places(there, tissue)
        for mask, tissue in zip(counting, tissues, strict=True)
    ]).float()  # fmt: skip
    total = (torch.stack(images)[:, 0] * keep).sum(0) / keep.sum(0).clamp(min=1)
    return Image(total[None], grid, name="the others")


def joined(
    moving: Section,
    others: Mapping[str, Section],
    maps: Mapping[str, Transform],
    grid: Grid,
    path: Transform,
    start: Affine,
    **options: Any,
) -> Transform | None:
    """The map of `moving` from a registration onto the mean of `others`, or None where `path` fits
    that mean better.

    start: reference mm -> moving mm, to begin from; options: those of `match`.
    """
    mean = section_of(mean_of(others, maps, grid), pixels=max(grid.size))
    found = match(mean, moving, start=start, **options).result.forward
    return found if local_fit(mean, moving, found) > local_fit(mean, moving, path) else None
