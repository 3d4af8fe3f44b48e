"""What the window and the worker of an EPI correction share. No Qt, no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fireants_engine.errors import InputError
from napari_fireants._epi_sides import Side
from napari_fireants._layers import Snapshot, grid_of
from napari_fireants._link import Link
from napari_fireants._preview import Mailbox

Key = tuple[int, int] | None
"""A plane (array axis, index) of the layers; None for all of them."""
Pictures = dict[str, np.ndarray]
"""Arrays as the layers show them, by BEFORE, AFTER or the name of a map."""
BEFORE = ("up before", "down before", "corrected before")
AFTER = ("up after", "down after", "corrected after")
"""The pair and its mean, on the same brightness."""


@dataclass(frozen=True, eq=False)
class EpiJob:
    """Everything a correction needs, fixed at its start. down_source: None with a field map."""

    up: Side
    down: Side
    up_source: Snapshot
    down_source: Snapshot | None
    motion: bool = False
    structural: Snapshot | None = None
    field_map: Snapshot | None = None
    device: str = "auto"

    def check_grids(self) -> None:
        """Raise InputError where the images do not lie on one grid, or the map has another
        dimension."""
        first = self.up.axes.grid(grid_of(self.up_source))
        if self.down_source is not None:
            second = self.down.axes.grid(grid_of(self.down_source))
            if first.dim != second.dim or not first.same_space(second):
                raise InputError(
                    f"{self.down_source.name}: lies on another grid than {self.up_source.name} "
                    f"(size {second.size} against {first.size}, or another origin, spacing or "
                    "direction); choose images of one acquisition that were not resampled."
                )
        given = {"structural image": self.structural, "field map": self.field_map}
        for what, source in given.items():
            if source is not None and source.ndim != first.dim:
                raise InputError(
                    f"{source.name}: is {source.ndim}D and the images are {first.dim}D; choose "
                    f"another {what}."
                )


@dataclass(frozen=True, eq=False)
class SeriesJob:
    """A series and how it was read out: a snapshot of each of its volumes.

    path: of its file; pair: of the files of the pair, whose sidecars may say what they are for.
    """

    side: Side
    sources: tuple[Snapshot, ...]
    path: str | None = None
    pair: tuple[str, ...] = ()


class EpiLink(Link):
    """A Link whose pictures are of three images. key: where the canvas looks."""

    def __init__(self) -> None:
        super().__init__()
        self.key: Key = None
        self.pictures: Mailbox[tuple[Key, Pictures]] = Mailbox()

    def look(self, key: Key) -> None:
        """Ask for one picture of what is found by now."""
        self.key = key
        if self.control is not None and not self.stopping:
            from fireants_engine import PreviewRequest

            self.control.request_preview(PreviewRequest(found=True))
            self.pace.asked()
