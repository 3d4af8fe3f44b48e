"""Sections from files, and the folder of a pair: a run directory with pictures and candidates."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.io.images import load_image, save_image
from fireants_engine.io.slides import Slide, is_slide, open_slide
from fireants_engine.ops import warp_image
from fireants_engine.transforms import Transform
from fireants_engine.workflows.pictures import GREY, png
from fireants_engine.workflows.report import source_of
from fireants_engine.workflows.rundir import CANDIDATES_FILE, Made, save_run
from fireants_engine.workflows.sections import Candidate, Match
from fireants_engine.workflows.slides import warp_slide
from fireants_engine.workflows.tissue import background_of

LARGEST = 4096
"""Pixels of the long side of a slide that are read; finer than this is for the tile-wise warp."""
_SHOWN = 4
OUTLINE = "#2f9e8f"


@dataclass(frozen=True, eq=False)
class Given:
    """A section from a file. sized: False where 1 pixel is 1 unit, for want of anything better;
    notes: sentences for a person; grid: of the whole file; reopened: opens it as a slide, None
    for other files."""

    image: Image
    sized: bool
    notes: tuple[str, ...] = ()
    grid: Grid | None = None
    reopened: Callable[[], Slide] | None = None

    @property
    def reduced(self) -> bool:
        """True where the file has more pixels than `image`."""
        return self.grid is not None and self.grid.size != self.image.grid.size


# ------------------------------------------------------------------ files
def load_section(
    path: str | Path, pixel_mm: float | None = None, mask: str | Path | None = None
) -> Given:
    """A 2D section or slice: RGB or grey, from a picture, a slide or a medical image.

    pixel_mm: size of a pixel, before what the file says. Pictures (.png, .jpg) never tell it,
    TIFFs and scanners' files where they keep it for microscopy, medical formats always; where
    nobody knows, 1 pixel is 1 unit. Places are mm from the middle of the first pixel, x to the
    right and y down, so that a landmark in pixels times the pixel size is a point; a volume of one
    slice is taken as that slice. Of larger slides 4096 pixels along the long side are read.
    mask: its non-zero pixels count. Raises InputError naming the file.
    """
    path = Path(path)
    if pixel_mm is not None and not pixel_mm > 0:
        raise InputError(f"{path}: a pixel of {pixel_mm:g} mm is no size; give more than 0.")
    reopened = None
    if is_slide(path):
        reopened = partial(open_slide, path, pixel_mm, unknown="pixel")
        with reopened() as slide:
            large = max(slide.shape) > LARGEST
            image = slide.at_most(LARGEST) if large else slide.level(0)
            whole, sized, notes = slide.grid, slide.sized, tuple(slide.notes)
        full = whole.size
        if large:
            notes += (f"{path.name} is read at {max(image.grid.size)} of {max(full)} pixels.",)
    else:
        image, sized, notes = _flat(load_image(path)), True, ()
        full = image.grid.size
        if pixel_mm is not None:
            image = replace(image, grid=Grid.identity(full, pixel_mm))
        whole = image.grid
    if mask is not None:
        image = image.with_mask(_on(load_image(mask), image, full))
    return Given(image, sized, notes, whole, reopened)


def _flat(image: Image) -> Image:
    """A volume of one slice as a 2D image in the plane's own mm. Raises InputError for others."""
    if image.dim == 2:
        return image
    single = [axis for axis, n in enumerate(image.grid.shape) if n == 1]
    if not single:
        raise InputError(
            f"{image.name}: is a volume of {image.grid.shape[0]} slices; extract one of them, or "
            "look for the section's place with 'histology slice'."
        )
    axis = single[0]
    shape = [n for k, n in enumerate(image.grid.shape) if k != axis]
    spacing = [s for k, s in enumerate(image.grid.spacing_zyx) if k != axis]
    grid = Grid.identity(shape[::-1], spacing[::-1])
    return Image(image.data.squeeze(axis + 1), grid, name=image.name, path=image.path)


def _on(mask: Image, image: Image, full: tuple[int, ...]) -> Image:
    """A mask of the whole section on the image that was read of it: by pixels, as pictures have
    no place in the world."""
    if mask.dim != 2:
        mask = _flat(mask)
    if mask.grid.size not in (full, image.grid.size):
        raise InputError(
            f"{mask.name}: the mask has {mask.grid.size[0]} x {mask.grid.size[1]} pixels and "
            f"{image.name} {full[0]} x {full[1]}; draw the mask on this image."
        )
    data = (mask.data != 0).float()[None]
    return Image(
        F.interpolate(data, size=image.grid.shape, mode="nearest")[0].to(torch.uint8),
        image.grid, name=mask.name, path=mask.path,
    )  # fmt: skip


def unsized_note(*given: Given) -> str | None:
    """What to say where a pixel size is not known."""
    names = [one.image.name for one in given if not one.sized]
    if not names:
        return None
    return (
        f"The size of a pixel is not known for {' and '.join(names)}: 1 pixel is 1 unit, in which "
        "results called mm are given; say it with --pixel-size."
    )


# ------------------------------------------------------------------ the folder
def save_match(
    found: Match,
    folder: str | Path,
    *,
    files: dict[str, Path] | None = None,
    given: tuple[Given, Given] | None = None,
) -> Path:
    """Write the run directory (`rundir.save_run`) and what belongs to sections.

    warped.tif: the moving section in its own colours on the fixed section's pixels, with the
    colour of its empty slide beyond it; candidates.json: scores, margins, how tissue was found;
    candidate-1.png, ... and tissue.png. warped.nii.gz and the transforms are on the grid on which
    the sections were compared; fixed.nii.gz and moving.nii.gz are what was compared. given: where
    the sections came from; of slides that were read with fewer pixels warped.tif then has all of
    them, tile by tile, as a pyramid.
    Raises InputError when it cannot be written.
    """
    report = {**found.to_dict(), "inputs": _sources(found)}
    report["pictures"] = [
        f"candidate-{k}.png" for k in range(1, 1 + len(found.candidates[:_SHOWN]))
    ]

    def further(place: Path) -> None:
        for name, one in zip(report["pictures"], found.candidates, strict=False):
            (place / name).write_bytes(candidate_picture(found, one))
        (place / "tissue.png").write_bytes(tissue_picture(found))
        fixed, moving = found.fixed.original, found.moving.original
        save_onto(moving, found.result.forward, fixed.grid, place / "warped.tif", given)
        text = json.dumps(report, indent=1, allow_nan=False) + "\n"
        (place / CANDIDATES_FILE).write_text(text, encoding="utf-8", newline="\n")

    made = {
        "fixed": Made((found.fixed.original.path,)),
        "moving": Made((found.moving.original.path,), found.scale),
    }
    return save_run(found.result, folder, files=files, made=made, further=further)


def _sources(found: Match) -> dict[str, Any]:
    return {
        role: {"name": section.original.name, **source_of(section.original.path),
               "grid": section.original.grid.to_dict()}
        for role, section in (("fixed", found.fixed), ("moving", found.moving))
    }  # fmt: skip


def save_onto(
    moving: Image,
    forward: Transform,
    grid: Grid,
    path: Path,
    given: tuple[Given, Given] | None = None,
) -> None:
    """Write `moving` in its own colours through `forward` on `grid`, the fixed section's.

    given: the fixed and the moving section's files; where one was read with fewer pixels, all of
    them, tile by tile.
    """
    reopened = None if given is None else given[1].reopened
    if given is None or reopened is None or not any(one.reduced for one in given):
        save_image(painted(moving, forward, grid), path)
        return
    with reopened() as slide:
        warp_slide(forward, slide, given[0].grid or grid, path)


def warped(found: Match, grid: Grid | None = None) -> Image:
    """The moving section as it was given on the fixed section's own grid, or on `grid`.

    Beyond it every channel has the value of its empty slide. Whole numbers stay whole numbers.
    """
    return painted(found.moving.original, found.result.forward, grid or found.fixed.original.grid)


def painted(image: Image, transform: Transform, grid: Grid) -> Image:
    """`image` through `transform` on `grid`, the empty slide around it."""
    empty, _ = background_of(image)
    whole = not image.data.is_floating_point()
    out = []
    for channel, value in zip(image.data, empty, strict=True):
        one = Image(channel[None].float(), image.grid, name=image.name)
        data = warp_image(one, transform, grid, fill=value).data
        out.append(data.round_().to(image.data.dtype) if whole else data)
    return Image(torch.cat(out), grid, name=image.name)


# ------------------------------------------------------------------ pictures
def shown(image: Image) -> np.ndarray:
    """(Y, X, 3) from 0 to 1."""
    data = image.data.float()
    if data.shape[0] != 3:
        data = data.mean(0, keepdim=True).expand(3, -1, -1)
    data = (data / max(float(data.max()), 1e-12)).clamp(0, 1)
    return data.permute(1, 2, 0).numpy()


def _axes(count: int, shape: tuple[int, ...]) -> tuple[Figure, list[Any]]:
    height = 3.2
    width = min(5.5, max(1.6, height * shape[1] / shape[0]))
    figure = Figure(figsize=(count * width, height + 0.3), dpi=100)
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    for ax in axes:
        ax.set_axis_off()
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.92, wspace=0.03)
    return figure, axes


def tissue_picture(found: Match) -> bytes:
    """PNG: both sections with the outlines of what was taken as tissue."""
    figure, axes = _axes(2, found.fixed.tissue.mask.shape)
    for ax, title, section in zip(
        axes, ("fixed", "moving"), (found.fixed, found.moving), strict=True
    ):
        tissue = section.tissue
        ax.imshow(shown(tissue.image), interpolation="antialiased")
        ax.contour(tissue.mask.numpy(), [0.5], colors=OUTLINE, linewidths=1.0)
        ax.set_title(f"{title}: {section.original.name}", fontsize=8, color=GREY)
    return png(figure)


def candidate_picture(found: Match, one: Candidate) -> bytes:
    """PNG: the fixed section, and the moving one on it with the fixed outline."""
    tissue = found.fixed.tissue
    figure, axes = _axes(2, tissue.mask.shape)
    moved = painted(found.moving.tissue.image, one.affine, tissue.image.grid)
    turn = f"{one.turn_deg:.0f} degrees{', mirrored' if one.mirrored else ''}"
    title = f"{found.moving.original.name}, {turn}, score {one.score:.3f}"
    for ax, image, text in zip(axes, (tissue.image, moved), ("fixed", title), strict=True):
        ax.imshow(shown(image), interpolation="antialiased")
        ax.contour(tissue.mask.numpy(), [0.5], colors=OUTLINE, linewidths=1.0)
        ax.set_title(text, fontsize=8, color=GREY)
    return png(figure)


def sentence(found: Match) -> str:
    """What was decided about the orientation."""
    one = found.candidates[0]
    turn = f"turned by {one.turn_deg:.0f} degrees{' and mirrored' if one.mirrored else ''}"
    text = f"The moving section is {turn}"
    if found.margin is None:
        return f"{text}."
    return f"{text} (score {one.score:.3f}, {found.margin:.3f} above any other orientation)."
