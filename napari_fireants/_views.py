"""Ways to look at a registration, and the pictures of those that have to be composed. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from napari_fireants._preview import Pictures, checkerboard


class View(Enum):
    """Ways to look at the two images together, and at the deformation."""

    OVERLAY = "Overlay"
    BLEND = "Blend"
    BEFORE_AFTER = "Before / after"
    CHECKERBOARD = "Checkerboard"
    CURTAIN = "Curtain"
    DIFFERENCE = "Difference"
    EDGES = "Edges"
    GRID = "Warped grid"
    JACOBIAN = "Jacobian"
    DISPLACEMENT = "Displacement"

    @property
    def composed(self) -> bool:
        """A picture has to be made; the others are a matter of colours and opacity."""
        return self not in (View.OVERLAY, View.BLEND, View.BEFORE_AFTER)


TIPS = {
    View.OVERLAY: "Fixed in green, moving in magenta: grey or white where they agree",
    View.BLEND: "Fade from one image to the other",
    View.BEFORE_AFTER: "The moving image as it was, and as it is now",
    View.CHECKERBOARD: "Squares of both images in turn: edges should run on across them",
    View.CURTAIN: "Fixed on one side of a line, moving on the other",
    View.DIFFERENCE: "Moving minus fixed, both from dark to bright: grey where they agree",
    View.EDGES: "The edges of the fixed image, drawn on the moving one",
    View.GRID: "How the warp bends a regular grid (without the affine part)",
    View.JACOBIAN: "Logarithm of the local change of volume by the warp: green where the moving "
    "image had to shrink to fit, pink where it had to grow; folds are outlined",
    View.DISPLACEMENT: "How far the warp moves every voxel, in mm (without the affine part)",
}


@dataclass(frozen=True)
class Look:
    """The chosen view and its sliders.

    share: of the moving image; squares, lines: along the longest side; curtain: where it hangs,
    0 to 1 across the picture.
    """

    view: View = View.OVERLAY
    share: float = 0.5
    squares: int = 12
    before: bool = False
    curtain: float = 0.5
    lines: int = 20


@dataclass(frozen=True, eq=False)
class Picture:
    """An array on the fixed grid and how it is shown.

    over_moved: drawn on the moving image in grey, otherwise alone. folds: voxels to be outlined.
    note: what it says, in a sentence.
    """

    data: np.ndarray
    name: str
    colormap: str = "gray"
    limits: tuple[float, float] = (0.0, 255.0)
    over_moved: bool = False
    folds: np.ndarray | None = None
    note: str = ""


def compose(
    look: Look, pictures: Pictures, result: Any, spacing: Sequence[float], axes: Sequence[int]
) -> Picture:
    """The picture of a view for which `composed` holds; call it off the GUI thread.

    result: the engine's; spacing: mm along the array's axes; axes: those on the canvas, across it
    last.
    """
    fixed, moved = pictures.fixed_bytes, pictures.moved_bytes
    match look.view:
        case View.CHECKERBOARD:
            return Picture(checkerboard(fixed, moved, spacing, look.squares), "checkerboard")
        case View.CURTAIN:
            return Picture(curtain(fixed, moved, axes[-1], look.curtain), "curtain")
        case View.DIFFERENCE:
            difference = moved.astype(np.int16) - fixed
            return Picture(difference, "moving minus fixed", limits=(-255.0, 255.0))
        case View.EDGES:
            return Picture(edges(fixed, axes), "edges of fixed", "yellow", over_moved=True)
        case View.GRID:
            return _grid(look, result.warp_field, fixed.shape, spacing, axes)
        case View.JACOBIAN:
            return _jacobian(result)
        case View.DISPLACEMENT:
            return _displacement(result)
    raise ValueError(f"{look.view} is not composed")


# ------------------------------------------------------------------ two images
def curtain(a: np.ndarray, b: np.ndarray, axis: int, share: float) -> np.ndarray:
    """`a` up to `share` of the axis, `b` from there on."""
    out = a.copy()
    beyond = (slice(None),) * axis + (slice(round(share * a.shape[axis]), None),)
    out[beyond] = b[beyond]
    return out


def edges(image: np.ndarray, axes: Sequence[int], sigma: float = 1.0) -> np.ndarray:
    """255 on thin lines where the smoothed image is steep, 0 elsewhere (uint8).

    Zero crossings, along `axes`, of the second derivative along the gradient's axes (Marr and
    Hildreth 1980), at voxels steeper than a quarter of the steep ones.
    """
    import torch

    from fireants_engine.kernels import chosen_for

    values = torch.from_numpy(image.astype(np.float32))[None, None]
    values = chosen_for(values).smooth(values, [sigma] * image.ndim)[0, 0].numpy()
    axes = [axis for axis in axes if image.shape[axis] > 2]
    steep, laplace = np.zeros_like(values), np.zeros_like(values)
    for axis in axes:
        slope = np.gradient(values, axis=axis)
        steep += slope * slope
        laplace += np.gradient(slope, axis=axis)
    out = np.zeros(image.shape, np.uint8)
    seen = steep[steep > 1e-3]
    if seen.size == 0:
        return out
    strong = steep > float(np.quantile(seen[:: max(1, seen.size // 100_000)], 0.97)) / 16
    for axis in axes:
        low = (slice(None),) * axis + (slice(None, -1),)
        high = (slice(None),) * axis + (slice(1, None),)
        out[low] |= (laplace[low] > 0) != (laplace[high] > 0)
    return np.where(strong & (out > 0), np.uint8(255), np.uint8(0))


# ------------------------------------------------------------------ the deformation
NO_WARP = "This run has no warp: an affine map alone keeps the grid straight."


def round_step(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten from `value` on."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(k * power for k in (1, 2, 5, 10) if k * power >= value * (1 - 1e-9)))


def grid_lines(
    places: np.ndarray, spacing: Sequence[float], step_mm: float, axes: Sequence[int]
) -> np.ndarray:
    """Lines of a regular grid seen through a map, 0 to 255 (uint8), one voxel thin.

    places: (d, *shape), where every voxel comes from, in voxels.
    """
    bright = np.zeros(places.shape[1:], np.float32)
    for axis in axes:
        voxels = step_mm / spacing[axis]
        away = places[axis] / voxels
        away -= np.rint(away)
        np.maximum(bright, 1.5 - np.abs(away) * voxels, out=bright)
    return (np.clip(bright, 0, 1) * 255).astype(np.uint8)


def _grid(
    look: Look, warp: Any, shape: tuple[int, ...], spacing: Sequence[float], axes: Sequence[int]
) -> Picture:
    extent = max(n * s for n, s in zip(shape, spacing, strict=True))
    step = round_step(extent / look.lines)
    places = np.indices(shape, dtype=np.float32)
    if warp is not None:
        places += warp.u[0].numpy()
    lines = grid_lines(places, spacing, step, axes)
    text = f"Lines every {step:g} mm." + (f" {NO_WARP}" if warp is None else "")
    return Picture(lines, "warped grid", "yellow", over_moved=True, note=text)


def _jacobian(result: Any) -> Picture:
    from fireants_engine.ops.jacobian import strict_fold_mask

    determinant, warp = result.jacobian().numpy(), result.warp_field
    logarithm = np.log(np.maximum(determinant, 1e-3))
    limit = max(0.1, float(np.quantile(np.abs(logarithm), 0.995)))
    if warp is None:
        return Picture(logarithm, "log Jacobian", "PiYG", (-limit, limit), note=NO_WARP)
    folds = strict_fold_mask(warp.u)[0, 0].numpy()
    count = int(folds.sum())
    low, high = (float(x) for x in np.quantile(determinant, (0.001, 0.999)))
    text = f"Volume changes by factors of {low:.2f} to {high:.2f}. "
    text += "No folded voxel." if count == 0 else f"{count} folded voxels, outlined."
    shown = folds if count else None
    return Picture(logarithm, "log Jacobian", "PiYG", (-limit, limit), folds=shown, note=text)


def _displacement(result: Any) -> Picture:
    warp = result.warp_field
    if warp is None:
        zeros = np.zeros(result.grid.shape, np.float32)
        return Picture(zeros, "displacement (mm)", "viridis", (0.0, 1.0), note=NO_WARP)
    size = np.sqrt(np.square(warp.field_mm()).sum(axis=-1))
    middle, most = float(np.median(size)), float(size.max())
    limits = (0.0, max(1e-3, float(np.quantile(size, 0.995))))
    text = f"The warp moves voxels by up to {most:.1f} mm, half of them by less than {middle:.1f}."
    return Picture(size, "displacement (mm)", "viridis", limits, note=text)
