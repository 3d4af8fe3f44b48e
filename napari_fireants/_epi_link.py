"""What the window and the worker of an EPI correction share. No Qt, no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_fireants._epi_sides import Side
from napari_fireants._layers import Snapshot
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
    mixed_axes: bool = False
    device: str = "auto"


@dataclass(frozen=True, eq=False)
class SeriesJob:
    """A series and how it was read out: a snapshot of each of its volumes."""

    side: Side
    sources: tuple[Snapshot, ...]


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
