"""A figure of the slice on the canvas, for a paper: views, scale bar, names and numbers.

No Qt; matplotlib draws off the screen, off the GUI thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fireants_engine.errors import InputError
from napari_fireants._ortho import composite
from napari_fireants._seen import Arrows, Picture, Seen, round_step
from napari_fireants._views import Look, View, compose

SUFFIXES = (".png", ".svg", ".pdf")
CHOICES = (
    View.BEFORE_AFTER,
    View.OVERLAY,
    View.BLEND,
    View.CHECKERBOARD,
    View.CURTAIN,
    View.DIFFERENCE,
    View.EDGES,
    View.GRID,
    View.ARROWS,
    View.DISPLACEMENT,
    View.JACOBIAN,
    View.INVERSE,
)
"""Views that stand still, in the order of a figure."""
TITLES = {View.BEFORE_AFTER: "Before", View.OVERLAY: "After"}
INCH, DPI = 2.5, 300


@dataclass(frozen=True, eq=False)
class Panel:
    """One view of the slice: what is drawn, the title above, the sentence below."""

    title: str
    beneath: np.ndarray
    picture: Picture | Arrows | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Slice:
    """The slice: how it is turned (the engine's Plane), spacing of rows and columns, names.

    plane: its size of sample in mm, as displayed, is `mm`.
    """

    plane: Any
    mm: tuple[float, float]
    title: str
    numbers: str = ""


def panel_of(look: Look, seen: Seen, colours: tuple[str, str]) -> Panel:
    """A view of a plane (or of a 2D image) as bytes in colour, in array order."""
    flat = [array.squeeze(seen.key[0]) if seen.key else array for array in (seen.fixed, seen.moved)]
    fixed, moved = flat
    title, view = TITLES.get(look.view, look.view.value), look.view
    if view is View.BEFORE_AFTER:
        before = seen.before()
        before = before.squeeze(seen.key[0]) if seen.key else before
        return Panel(title, composite("Overlay", fixed, before, colours))
    if view in (View.OVERLAY, View.BLEND):
        return Panel(title, composite(view.value, fixed, moved, colours))
    picture = compose(look, seen)
    if isinstance(picture, Picture) and not picture.over:
        return Panel(title, np.zeros((*fixed.shape, 3), np.uint8), picture, picture.note)
    return Panel(title, composite("Moving", fixed, moved, colours), picture, picture.note)


def draw_figure(path: str | Path, slice_: Slice, panels: Sequence[Panel], key: Any) -> Path:
    """Write the figure whole, in the format of the file's ending, and return its path.

    key: (array axis, index) of the slice in the volume, None for a 2D image. Raises InputError for
    another ending or a place that cannot be written.
    """
    from fireants_engine.io.itk import write_whole

    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: figures are written as .png, .svg or .pdf; choose one of these.")
    figure = _figure(slice_, panels, key)
    return write_whole(path, lambda place: figure.savefig(place, dpi=DPI))


def figure_png(slice_: Slice, panels: Sequence[Panel], key: Any) -> bytes:
    """The figure as bytes of a PNG, for a report."""
    import io

    buffer = io.BytesIO()
    _figure(slice_, panels, key).savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _figure(slice_: Slice, panels: Sequence[Panel], key: Any) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(panels), 3 if len(panels) != 4 else 2)
    rows = -(-len(panels) // columns)
    height, width = slice_.plane.show(panels[0].beneath).shape[:2]
    # inches: beside each panel room for its scale, below it for two lines, above for a title
    beside = 0.5 if any(_scaled(panel.picture) for panel in panels) else 0.12
    above, below, top, foot = 0.24, 0.3, 0.35, 0.28 if slice_.numbers else 0.08
    high = min(1.6 * INCH, INCH * height * slice_.mm[0] / (width * slice_.mm[1]))
    wide = high * width * slice_.mm[1] / (height * slice_.mm[0])
    size = (wide + beside) * columns + 0.1, (high + above + below) * rows + top + foot
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left=0.1 / size[0], right=1 - beside / size[0], wspace=beside / wide,
        top=1 - (top + above) / size[1], bottom=(foot + below) / size[1],
        hspace=(above + below) / high,
    )  # fmt: skip
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False)):
        _draw(figure, axes, panel, slice_, key)
        if number == 0:
            _scale_bar(axes, slice_, (height, width))
    figure.suptitle(slice_.title, fontsize=9, y=1 - 0.08 / size[1], va="top")
    if slice_.numbers:
        figure.text(0.5, 0.08 / size[1], slice_.numbers, fontsize=7, ha="center", va="bottom")
    return figure


def _scaled(picture: Picture | Arrows | None) -> bool:
    """It has a scale of colours beside it."""
    plain = isinstance(picture, Picture) and (bool(picture.over) or picture.colormap == "gray")
    return picture is not None and not plain


def _draw(figure: Any, axes: Any, panel: Panel, slice_: Slice, key: Any) -> None:
    aspect = slice_.mm[0] / slice_.mm[1]
    picture, plane = panel.picture, slice_.plane
    beneath = plane.show(panel.beneath)
    if isinstance(picture, Picture) and not picture.over:
        drawn = axes.imshow(
            _cut(picture.data, plane, key), cmap=_colours(picture.colormap),
            vmin=picture.limits[0], vmax=picture.limits[1], aspect=aspect,
        )  # fmt: skip
        if _scaled(picture):
            _bar(figure, axes, drawn, "mm" if "mm" in picture.name else "log J")
    else:
        axes.imshow(beneath * (0.7 if picture else 1.0) / 255, aspect=aspect)
    if isinstance(picture, Picture) and picture.over:
        lines = _cut(picture.data, plane, key).astype(float) / 255
        colour = np.zeros((*lines.shape, 4))
        colour[..., :3] = (1.0, 0.85, 0.0)
        colour[..., 3] = lines
        axes.imshow(colour, aspect=aspect)
    if isinstance(picture, Picture) and picture.folds is not None:
        folds = _cut(picture.folds.astype(np.uint8), plane, key)
        axes.contour(folds, [0.5], colors="red", linewidths=0.6)
    if isinstance(picture, Arrows):
        _arrows(figure, axes, picture, plane, key, beneath.shape[:2])
    axes.set_title(panel.title, fontsize=8, pad=3)
    if panel.note:
        axes.text(
            0.5, -0.03, _wrapped(panel.note), transform=axes.transAxes, fontsize=5.5, ha="center",
            va="top",
        )  # fmt: skip


def _arrows(
    figure: Any, axes: Any, arrows: Arrows, plane: Any, key: Any, shape: tuple[int, int]
) -> None:
    if not len(arrows.mm):
        return
    rest = [a for a in range(arrows.vectors.shape[2]) if key is None or a != key[0]]
    cut = shape[::-1] if plane.transpose else shape
    ends = arrows.vectors[:, 0][:, rest], arrows.vectors.sum(axis=1)[:, rest]
    rows, columns = [], []
    for points in ends:
        shown = np.array([plane.shown_at((a, b), cut) for a, b in points])
        rows.append(shown[:, 0])
        columns.append(shown[:, 1])
    drawn = axes.quiver(
        columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0], arrows.mm,
        angles="xy", scale_units="xy", scale=1, cmap="turbo", clim=(0, arrows.limit), width=0.006,
    )  # fmt: skip
    _bar(figure, axes, drawn, "mm")


def _bar(figure: Any, axes: Any, drawn: Any, unit: str) -> None:
    """The scale of the colours, in the room beside a panel."""
    bar = figure.colorbar(drawn, cax=axes.inset_axes([1.02, 0.2, 0.035, 0.6]))
    bar.ax.tick_params(labelsize=5.5, length=2, pad=1.5)
    bar.ax.set_title(unit, fontsize=5.5, pad=3)


def _scale_bar(axes: Any, slice_: Slice, shape: tuple[int, int]) -> None:
    """A bar of about a quarter of the width, white on black, with its length."""
    height, width = shape
    wide = width * slice_.mm[1]
    step = round_step(wide / 8)
    across = step / slice_.mm[1]
    x, y = 0.05 * width, 0.94 * height
    for colour, thick in (("black", 4.0), ("white", 2.0)):
        axes.plot([x, x + across], [y, y], color=colour, linewidth=thick, solid_capstyle="butt")
    text = f"{step * 1000:g} µm" if step < 0.5 else f"{step:g} mm"
    label = axes.text(x, y - 0.025 * height, text, color="white", fontsize=6, va="bottom")
    from matplotlib import patheffects

    label.set_path_effects([patheffects.withStroke(linewidth=1.5, foreground="black")])
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _cut(data: np.ndarray, plane: Any, key: Any) -> np.ndarray:
    """A picture of one plane, or the plane of a picture of the whole, as displayed."""
    if key is not None:
        index = 0 if data.shape[key[0]] == 1 else key[1]
        data = data.take(index, key[0])
    return plane.show(data)


def _colours(name: str) -> Any:
    """A colour map of matplotlib that looks like napari's."""
    return {"PiYG": "PiYG", "viridis": "viridis", "magma": "magma"}.get(name, "gray")


def _wrapped(text: str, width: int = 58) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


def slice_of(result: Any, key: Any, numbers: str = "") -> Slice:
    """The slice at `key` of the fixed grid of the engine's Result."""
    from fireants_engine.geometry.planes import plane_of

    axis, index = (None, 0) if key is None else key
    plane = plane_of(result.grid, axis, index)
    rest = [s for a, s in enumerate(result.grid.spacing_zyx) if a != axis]
    mm = (rest[1], rest[0]) if plane.transpose else (rest[0], rest[1])
    names = f"{result.moving.name} onto {result.fixed.name}"
    return Slice(plane, mm, f"{names}, {plane.title}" if plane.title else names, numbers)


def parts_of_figure(
    product: Any, key: Any, look: Look, views: Sequence[View], colours: tuple[str, str], space: Any
) -> tuple[Slice, list[Panel], Any]:
    """What a figure of a finished run's slice is drawn from: views with the present sliders.

    product: the session's; space: spacing, and axes on the canvas.
    """
    from fireants_engine.workflows.quality import similarities
    from napari_fireants._sources import of_result

    seen = of_result(product.pictures, product.result, key, *space)
    if product.compared:  # similarities are those of the images, not of the two results
        slice_ = replace(slice_of(product.result, key), title=product.compared)
        panels = [panel_of(replace(look, view=view), seen, colours) for view in views]
        return slice_, panels, key
    looks = [replace(look, view=view, before=view is View.BEFORE_AFTER) for view in views]
    numbers = ", ".join(
        f"{name} {before:.3f} → {after:.3f}"
        for name, (before, after) in similarities(product.result).items()
    )
    slice_ = slice_of(product.result, key, f"{numbers}; recipe {product.result.recipe.name}")
    return slice_, [panel_of(one, seen, colours) for one in looks], key


def save_pixels(path: str | Path, pixels: np.ndarray) -> Path:
    """Write a picture (rows, columns, 3 or 4) as PNG, whole."""
    from matplotlib.image import imsave

    from fireants_engine.io.itk import write_whole

    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: a screenshot is written as .png; choose that ending.")
    return write_whole(path, lambda place: imsave(place, pixels))
