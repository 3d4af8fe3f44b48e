"""A section made ready to be compared: its tissue, its tears, and a space of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.ops import warp_image
from fireants_engine.transforms import Affine
from fireants_engine.workflows.tissue import at_most, distance_inside, find_tissue

_RING = 0.03
"""Of the tissue's diameter: what is missing is thicker than this, what has shrunk is not."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A section made ready: a slice of one sample in a space of its own.

    image: (1, 1, Y, X) density, 0 outside the tissue, on a grid with x to the right, y down and
    z = 0 (mm); its mask leaves out tears and holes. tissue: (Y, X) bool. source: the file that it
    was made from.
    """

    image: Image
    tissue: Tensor
    source: str | None = None

    @property
    def pixel_mm(self) -> tuple[float, float]:
        return self.image.grid.spacing_mm[0], self.image.grid.spacing_mm[1]


def sheet_for(
    section: Image, volume: Image, *, component: int | None = None, thickness_mm: float = 1.0
) -> Sheet:
    """A stained (RGB) or grey 2D section with its tissue, at half the volume's finest voxel size
    or its own, and at most `tissue.LONGEST` pixels long.

    section.mask: where tissue may be; component: see `find_tissue`. Raises InputError where the
    section is no 2D image, shows no tissue, or is larger than the volume.
    """
    if section.dim != 2:
        raise InputError(f"{section.name}: is {section.dim}D; a section is a 2D image.")
    small = at_pixel_size(section, min(volume.grid.spacing_mm) / 2)
    tissue = find_tissue(small, component)
    rows, columns = torch.nonzero(tissue.mask, as_tuple=True)
    spans = [float(x.max() - x.min() + 1) for x in (columns, rows)]
    size = np.array(spans) * tissue.image.grid.spacing_mm
    room = float(np.linalg.norm(volume.grid.extent_mm))
    if size.max() > room:
        raise InputError(
            f"{section.name}: its tissue is {size[0]:.0f} x {size[1]:.0f} mm, larger than "
            f"{volume.name} ({room:.0f} mm across); check the pixel size "
            f"({section.grid.spacing_mm[0]:g} mm)."
        )
    density = Image(tissue.density[None], tissue.image.grid, name=section.name)
    return replace(sheet_of(density, tissue.mask, thickness_mm), source=section.path)


def at_pixel_size(image: Image, pixel_mm: float) -> Image:
    """A 2D image with pixels of about `pixel_mm`; never finer than it is."""
    return at_most(image, max(1, round(float(image.grid.extent_mm.max()) / pixel_mm)))


def sheet_of(density: Image, tissue: Tensor, thickness_mm: float = 1.0) -> Sheet:
    """A 2D density image (one channel) and its tissue (Y, X) as a Sheet.

    Tears and holes, that is what closing the tissue fills, do not count in any comparison.
    Raises InputError where there is no tissue.
    """
    if not bool(tissue.any()):
        raise InputError(f"{density.name}: no tissue was found; give a mask of it.")
    grid = density.grid
    flat = Grid(
        (*grid.size, 1), (*grid.spacing_mm, thickness_mm), (*grid.origin_mm, 0.0),
        _on_the_slide(grid),
    )  # fmt: skip
    values = torch.where(tissue, density.data[0].float(), 0.0)
    counts = ~(hull_of(tissue) & ~tissue)
    image = Image(values[None, None], flat, counts[None], density.name)
    return Sheet(image, tissue, density.path)


def _on_the_slide(grid: Grid) -> np.ndarray:
    out = np.eye(3)
    out[:2, :2] = grid.direction
    return out


def hull_of(tissue: Tensor) -> Tensor:
    """The tissue with its holes filled and its tears closed."""
    from scipy import ndimage

    width = max(1, round(0.04 * math.sqrt(float(tissue.sum()))))
    padded = np.pad(tissue.numpy(), width + 1)
    grown = distance_inside(~padded) <= width
    filled = np.asarray(ndimage.binary_fill_holes((distance_inside(grown) > width) | padded))
    inner = (slice(width + 1, -width - 1),) * 2
    return torch.from_numpy(np.ascontiguousarray(filled[inner]))


def flat_grid(grid: Grid) -> Grid:
    """That of a volume of one slice in its own plane, 2D."""
    return Grid(grid.size[:2], grid.spacing_mm[:2], grid.origin_mm[:2], grid.direction[:2, :2])


def corners_of(sheet: Sheet) -> np.ndarray:
    """(4, 3) mm: the corners of the box around the tissue, the first opposite to the last."""
    rows, columns = torch.nonzero(sheet.tissue, as_tuple=True)
    ends = [(int(x.min()), int(x.max())) for x in (columns, rows)]
    index = np.array([[x, y, 0.0, 1.0] for x in ends[0] for y in ends[1]])
    return (index @ sheet.image.grid.matrix("index", "mm").T)[:, :3]


def middle_of(sheet: Sheet) -> np.ndarray:
    """(3,) mm: the mean place of the tissue."""
    rows, columns = torch.nonzero(sheet.tissue, as_tuple=True)
    index = np.array([float(columns.double().mean()), float(rows.double().mean()), 0.0, 1.0])
    return (sheet.image.grid.matrix("index", "mm") @ index)[:3]


def without_missing(sheet: Sheet, brain: Image, affine: Affine) -> Sheet:
    """The sheet with those places left out, too, where `brain` (1 inside) is and tissue is not.

    Only what is thicker than a ring that shrinkage may leave (`_RING`): a lost piece would
    otherwise be made up by stretching what lies beside it.
    """
    there = warp_image(brain, affine, sheet.image.grid).data[0, 0] > 0.5
    lost = lost_places(there, sheet.tissue)
    if not bool(lost.any()):
        return sheet
    assert sheet.image.mask is not None
    counts = sheet.image.mask & ~lost[None]
    return replace(sheet, image=replace(sheet.image, mask=counts))


def lost_places(there: Tensor, tissue: Tensor) -> Tensor:
    """(Y, X) bool: where the other image has tissue (`there`) and this one an empty slide.

    Only what is thicker than twice a ring (`_RING`) that shrinkage may leave; holes and tears of
    `tissue` count as tissue. Both are (Y, X) bool on one grid.
    """
    lost = (there & ~hull_of(tissue)).numpy()
    width = _RING * math.sqrt(4 / math.pi * float(tissue.sum()))
    core = distance_inside(lost) > width
    if not core.any():
        return torch.zeros_like(tissue)
    return torch.from_numpy(lost & (distance_inside(~core) <= width + 1))
