"""Maps that begin on a section: the deformation in its own plane, then the plane in the volume."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fireants_engine.geometry import Grid
from fireants_engine.transforms import (
    Affine,
    Displacement,
    Inverse,
    Transform,
    linear_part,
    parts_of,
)
from fireants_engine.transforms.embedding import Embedding, Projection
from fireants_engine.workflows.result import Mapping
from fireants_engine.workflows.sheets import flat_grid

Part = Transform | Embedding | Projection
SECTIONS_FILE = "sections.json"
"""Of a stack: what its sections are."""


def section_file(number: int) -> str:
    """The affine file of section `number` (from 0) onto the stack."""
    return f"section-{number + 1:03d}.mat"


def section_number(name: str) -> int | None:
    """The number (from 0) of a `section_file`; None for another name."""
    match = re.fullmatch(r"section-(\d{3,})\.mat", name)
    return None if match is None else int(match[1]) - 1


def is_section(grid: Grid) -> bool:
    """Is this the grid of a section in a space of its own: a volume of one slice, at z = 0?"""
    flat = grid.dim == 3 and grid.size[2] == 1 and grid.origin_mm[2] == 0
    return flat and abs(grid.direction[2, 2]) == 1


@dataclass(frozen=True, eq=False)
class SectionMap:
    """Section mm (x, y) -> volume mm: in the plane by `warp`, then `plane` o `warp`.

    warp, back: 2D, and its inverse; None where there is none.
    """

    plane: Embedding
    warp: Displacement | None = None
    back: Inverse | None = None

    @property
    def forward(self) -> tuple[Part, ...]:
        return (self.plane,) if self.warp is None else (self.warp, self.plane)

    @property
    def backward(self) -> tuple[Part, ...]:
        return (Projection(self.plane),) if self.back is None else (
            Projection(self.plane), self.back,
        )  # fmt: skip


class OnSection(Transform):
    """A SectionMap with a third coordinate: `T(x, y, z) = E(w(x, y)) + z n`.

    z: mm off the section's plane along its unit normal n; 0 on the section.
    """

    dim = 3

    def __init__(self, found: SectionMap) -> None:
        self.found = found

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        flat = points_mm[:, :2]
        if self.found.warp is not None:
            flat = self.found.warp(flat)
        return self.found.plane(flat) + points_mm[:, 2:] * self.found.plane.normal

    def inverse(self) -> OffSection:
        return OffSection(self.found)


class OffSection(Transform):
    """The reverse of OnSection: the foot on the plane (x, y), and how far the point was off (z)."""

    dim = 3

    def __init__(self, found: SectionMap) -> None:
        self.found = found

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        foot, off = self.found.plane.project(points_mm)
        if self.found.back is not None:
            foot = self.found.back(foot)
        return np.column_stack([foot, off])

    def inverse(self) -> OnSection:
        return OnSection(self.found)


def section_map(mapping: Mapping) -> SectionMap | None:
    """A run whose fixed image is a section, as the map of its plane.

    None where the fixed image is something else, and where the deformation leaves the plane.
    """
    if not is_section(mapping.grid):
        return None
    *warps, affine = parts_of(mapping.forward)
    if not isinstance(affine, Affine):
        return None
    plane = _plane(affine)
    if not warps:
        return SectionMap(plane)
    warp, back = warps[0], parts_of(mapping.backward)[-1]
    if len(warps) > 1 or not isinstance(warp, Displacement) or not isinstance(back, Inverse):
        return None
    if not _in_plane(warp, mapping.grid) or not _in_plane(back.nearly, mapping.grid):
        return None
    flat = _flat(warp)
    return SectionMap(plane, flat, Inverse(flat, _flat(back.nearly)))


def section_of_stack(path: Path) -> SectionMap | None:
    """A file `section-001.mat` in the folder of a stack: section mm (x, y) -> stack mm."""
    from fireants_engine.io.transforms import load_transform

    number = section_number(path.name)
    if number is None or not (path.parent / SECTIONS_FILE).is_file():
        return None
    affine = linear_part(load_transform(path))
    return None if affine is None or affine.dim != 3 else SectionMap(_plane(affine))


def name_in_stack(path: Path) -> str:
    """What the section of `section_of_stack` was called."""
    number = section_number(path.name)
    assert number is not None
    rows = json.loads((path.parent / SECTIONS_FILE).read_text(encoding="utf-8"))["sections"]
    return rows[number]["name"]


def _plane(affine: Affine) -> Embedding:
    return Embedding(affine.matrix[:3, :2], affine.matrix[:3, 3])


def _in_plane(warp: Displacement, grid: Grid) -> bool:
    """Does a warp on the section's grid leave z as it is?"""
    return warp.grid.same_space(grid) and not bool(warp.u[:, 0].any())


def _flat(warp: Displacement) -> Displacement:
    return Displacement(warp.u[:, 1:, 0].contiguous(), flat_grid(warp.grid))
