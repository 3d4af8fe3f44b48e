"""Ways to look at a registration, and which picture each of them needs. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from napari_fireants._compare import curtain, edges
from napari_fireants._preview import checkerboard, enlarge
from napari_fireants._seen import BEFORE, Arrows, Picture, Seen
from napari_fireants._warp_views import (
    arrows_picture,
    displacement_picture,
    grid_picture,
    inverse_picture,
    jacobian_picture,
)


class View(Enum):
    """Ways to look at the two images together, and at the deformation."""

    OVERLAY = "Overlay"
    BLEND = "Blend"
    BEFORE_AFTER = "Before / after"
    FLICKER = "Flicker"
    CHECKERBOARD = "Checkerboard"
    CURTAIN = "Curtain"
    DIFFERENCE = "Difference"
    EDGES = "Edges"
    GRID = "Warped grid"
    ARROWS = "Arrows"
    DISPLACEMENT = "Displacement"
    JACOBIAN = "Jacobian"
    INVERSE = "Inverse error"

    @property
    def composed(self) -> bool:
        """A picture has to be made; the others are a matter of colours and opacity."""
        return self not in (View.OVERLAY, View.BLEND, View.BEFORE_AFTER, View.FLICKER)

    @property
    def of_warp(self) -> bool:
        """It shows the deformation."""
        return self in (View.GRID, View.ARROWS, View.DISPLACEMENT, View.JACOBIAN, View.INVERSE)

    @property
    def per_slice(self) -> bool:
        """Its picture is made for the slice on the canvas, never for all at once."""
        return self is View.ARROWS


TIPS = {
    View.OVERLAY: "Both images in a pair of colours: grey or white where they agree",
    View.BLEND: "Fade from one image to the other",
    View.BEFORE_AFTER: "The moving image as it was, and as it is now",
    View.FLICKER: "Both images in turn at one place: what jumps does not match",
    View.CHECKERBOARD: "Squares of both images in turn: edges should run on across them",
    View.CURTAIN: "Fixed on one side of a line, moving on the other; drag the line",
    View.DIFFERENCE: "Moving minus fixed, both from dark to bright: grey where they agree",
    View.EDGES: "The edges of the fixed image, drawn on the moving one",
    View.GRID: "How the warp bends a regular grid (without the affine part)",
    View.ARROWS: "From places in the fixed image to where the warp takes them from (in the plane, "
    "without the affine part)",
    View.DISPLACEMENT: "How far the warp moves every voxel, in mm (without the affine part)",
    View.JACOBIAN: "Logarithm of the local change of volume by the warp: green where the moving "
    "image had to shrink to fit, pink where it had to grow; folds are outlined",
    View.INVERSE: "How far the map and its saved inverse, one after the other, miss the place "
    "where they began, in mm",
}


@dataclass(frozen=True)
class Look:
    """The chosen view and its sliders.

    share: of the moving image; squares, lines, arrows: along the longest side; curtain: where it
    hangs, 0 to 1 across the picture; longer: arrows are drawn so many times as long; before: the
    moving image as it was, instead of as it is or (flicker) instead of the fixed one; rate: changes
    a second, 0 while a key is held only.
    """

    view: View = View.OVERLAY
    share: float = 0.5
    squares: int = 12
    before: bool = False
    curtain: float = 0.5
    lines: int = 20
    arrows: int = 30
    longer: float = 1.0
    rate: float = 2.0

    @property
    def composed(self) -> bool:
        """A picture has to be made for it."""
        before = self.before and self.view in (View.BEFORE_AFTER, View.FLICKER)
        return self.view.composed or before


def _checkerboard(look: Look, seen: Seen) -> Picture:
    pair = seen.fixed, seen.moved
    board = checkerboard(*pair, seen.spacing, look.squares, seen.shape, seen.key)
    return Picture(board, "checkerboard")


def _curtain(look: Look, seen: Seen) -> Picture:
    return Picture(curtain(seen.fixed, seen.moved, seen.axes[-1], look.curtain), "curtain")


def _difference(_: Look, seen: Seen) -> Picture:
    difference = seen.moved.astype(np.int16) - seen.fixed
    return Picture(difference, "moving minus fixed", limits=(-255.0, 255.0))


def _edges(_: Look, seen: Seen) -> Picture:
    return Picture(edges(seen.fixed, seen.axes), "edges of fixed", "yellow", over="moved")


def _before(look: Look, seen: Seen) -> Picture:
    if not look.before:
        raise ValueError(f"{look.view} is not composed")
    over = "fixed" if look.view is View.BEFORE_AFTER else "moved"
    return Picture(seen.before(), BEFORE, over=over)


_PICTURES: dict[View, Callable[[Look, Seen], Picture | Arrows]] = {
    View.OVERLAY: _edges,  # where colours do not tell the images apart
    View.BEFORE_AFTER: _before,
    View.FLICKER: _before,
    View.CHECKERBOARD: _checkerboard,
    View.CURTAIN: _curtain,
    View.DIFFERENCE: _difference,
    View.EDGES: _edges,
    View.GRID: lambda look, seen: grid_picture(seen, look.lines),
    View.ARROWS: lambda look, seen: arrows_picture(seen, look.arrows, look.longer),
    View.DISPLACEMENT: lambda _, seen: displacement_picture(seen),
    View.JACOBIAN: lambda _, seen: jacobian_picture(seen),
    View.INVERSE: lambda _, seen: inverse_picture(seen),
}


def compose(look: Look, seen: Seen) -> Picture | Arrows:
    """The picture of a look for which `composed` holds, or the edges of an overlay.

    That of a coarse volume comes in the size of the fixed grid. Call it off the GUI thread.
    """
    make = _PICTURES.get(look.view)
    if make is None:
        raise ValueError(f"{look.view} is not composed")
    made = make(look, seen)
    if isinstance(made, Arrows) or seen.key is not None or not seen.full:
        return made
    folds = None if made.folds is None else enlarge(made.folds, seen.full)
    return replace(made, data=enlarge(made.data, seen.full), folds=folds)
