"""Moving images in units of their own: registered at another scale, the map in their own mm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fireants_engine.geometry import Grid, Image
from fireants_engine.transforms import Affine, Chain, Transform, parts_of
from fireants_engine.workflows.result import Result


def scaled(image: Image, scale: float) -> Image:
    """The image with `scale` mm for every mm."""
    if scale == 1:
        return image
    grid = image.grid
    spacing, origin = np.asarray(grid.spacing_mm) * scale, np.asarray(grid.origin_mm) * scale
    return replace(image, grid=Grid(grid.size, tuple(spacing), tuple(origin), grid.direction))


def zoom(scale: float, affine: Affine) -> Affine:
    """`affine`, and its results times `scale`."""
    if scale == 1:
        return affine
    return Affine(np.diag([*[scale] * affine.dim, 1.0])).after(affine)


def through(transform: Transform, scale: float) -> Transform:
    """A transform, affine at its end, whose results are times `scale`; the centre stays."""
    if scale == 1:
        return transform
    *warps, last = parts_of(transform)
    assert isinstance(last, Affine)
    own = Affine(zoom(scale, last).matrix, last.centre_mm)
    return Chain([*warps, own]) if warps else own


def own_units(result: Result, moving: Image, scale: float) -> Result:
    """A result of `scaled(moving, scale)` with the moving image in its own mm.

    By a power of two, there and back is the same to the bit.
    """
    if scale == 1:
        return result
    forward = through(result.forward, 1 / scale)
    initial = None if result.initial is None else through(result.initial, 1 / scale)
    output = replace(result.output, transform=forward)
    return replace(result, forward=forward, moving=moving, initial=initial, output=output)
