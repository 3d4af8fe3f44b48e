"""What the window and the worker of a section in a volume share. No Qt, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_fireants._histo_pose import Pose
from napari_fireants._layers import Snapshot
from napari_fireants._link import Link
from napari_fireants._preview import Mailbox

SHOWN_PX = 450
"""Longest side of what is shown of a section; a plane of so many pixels is cut in 25 ms."""


@dataclass(frozen=True, eq=False)
class SectionJob:
    """Everything a search needs, fixed at its start.

    section: 2D, its data as the layer holds them; pixel_mm: along x and y; plane, side: "" for any;
    piece: the only part of the slide that counts, 0 for all.
    """

    section: Snapshot
    volume: Snapshot
    pixel_mm: tuple[float, float]
    plane: str = ""
    side: str = ""
    tilt_deg: float = 15.0
    piece: int = 0
    device: str = "auto"


@dataclass(frozen=True, eq=False)
class Volume:
    """image: the engine's; data: (z, y, x) float32; to_index: LPS mm -> index x, y, z."""

    image: Any
    data: np.ndarray
    to_index: np.ndarray
    limits: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A section made ready for one volume.

    sheet: the engine's; picture: (Y, X) or (Y, X, 3) bytes, and tissue: (Y, X) bool, of every
    `step`-th pixel of the sheet; corner_mm, pixel_mm: x, y of the first pixel shown, and between
    two; middle_mm: (3,) of the tissue; slide_mm: x, y of a pixel of the slide itself.
    """

    sheet: Any
    volume: Volume
    picture: np.ndarray
    tissue: np.ndarray
    step: int
    corner_mm: np.ndarray
    pixel_mm: np.ndarray
    middle_mm: np.ndarray
    slide_mm: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        return self.tissue.shape[0], self.tissue.shape[1]

    def cut(self, pose: Pose, step: int = 1) -> np.ndarray:
        """The volume on every `step`-th pixel shown, (Y, X) float32; dark outside of it."""
        from scipy.ndimage import map_coordinates

        rows, columns = (np.arange(0, n, step) for n in self.shape)
        matrix = self.volume.to_index @ pose.matrix
        start = (matrix @ np.array([*self.corner_mm, 0.0, 1.0]))[:3]
        along = matrix[:3, 0] * self.pixel_mm[0], matrix[:3, 1] * self.pixel_mm[1]
        index = [
            start[k] + rows[:, None] * along[1][k] + columns[None] * along[0][k] for k in (2, 1, 0)
        ]
        outside = self.volume.limits[0]
        return map_coordinates(self.volume.data, index, order=1, cval=outside, prefilter=False)

    def place_mm(self, row: float, column: float) -> np.ndarray:
        """(2,) of a place in what is shown, in section mm."""
        return self.corner_mm + np.array([column, row]) * self.pixel_mm

    def shown_at(self, points_mm: np.ndarray) -> np.ndarray:
        """(n, 2) section mm as rows and columns of what is shown."""
        points = np.asarray(points_mm, dtype=float).reshape(-1, 2)
        return ((points - self.corner_mm) / self.pixel_mm)[:, ::-1]


@dataclass(frozen=True, eq=False)
class Guess:
    """A candidate for the eye. found: the engine's; picture: section beside plane, bytes."""

    pose: Pose
    score: float
    found: Any
    picture: np.ndarray


@dataclass(frozen=True, eq=False)
class Guesses:
    """What a search has found, best first; note: what a person should know before choosing."""

    prepared: Prepared
    guesses: tuple[Guess, ...]
    margin: float | None
    note: str


@dataclass(frozen=True, eq=False)
class Refined:
    """A section that was fitted. placement: the engine's; picture, labels: on what is shown.

    moved_um: median and largest displacement of the tissue within the plane; started: the pose.
    """

    placement: Any
    pose: Pose
    started: Pose
    picture: np.ndarray
    labels: np.ndarray | None
    moved_um: tuple[float, float]
    seconds: float
    stopped: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Export:
    """Everything that is written of a section. points: pairs (n, 5), section mm and volume mm."""

    job: SectionJob
    prepared: Prepared
    refined: Refined
    others: tuple[Any, ...] = ()
    labels: Snapshot | None = None
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 5)))


class HistoLink(Link):
    """A Link whose picture is the plane while it is fitted."""

    def __init__(self) -> None:
        super().__init__()
        self.picture: Mailbox[np.ndarray] = Mailbox()

    def look(self) -> None:
        """Ask for one picture of the plane as it is by now."""
        if self.control is not None and not self.stopping:
            from fireants_engine import PreviewRequest

            self.control.request_preview(PreviewRequest(planes=((0, 0),)))
            self.pace.asked()
