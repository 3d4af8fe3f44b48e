"""What the window and the worker of a section in a volume share. No Qt, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

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

    section: 2D, its data as the layer holds them; volume: what is brought onto it, another section
    where it is 2D; pixel_mm, other_mm: along x and y of both, the latter of a section; sized: False
    where nobody knows how large pixels are and 1 pixel is 1 mm; plane, side: "" for any; piece: the
    only part of the slide that counts, 0 for all; start: (4, 4) section mm -> volume mm, where a
    hand begins, None for the middle.
    """

    section: Snapshot
    volume: Snapshot
    pixel_mm: tuple[float, float]
    plane: str = ""
    side: str = ""
    tilt_deg: float = 15.0
    piece: int = 0
    device: str = "auto"
    other_mm: tuple[float, float] = (1.0, 1.0)
    sized: bool = True
    start: np.ndarray | None = None

    @property
    def pair(self) -> bool:
        """Two sections."""
        return len(self.volume.size) == 2


@dataclass(frozen=True, eq=False)
class Volume:
    """image: the engine's; data: (z, y, x) float32; to_index: LPS mm -> index x, y, z; limits: of
    what is shown dark and bright."""

    image: Any
    data: np.ndarray
    to_index: np.ndarray
    limits: tuple[float, float]
    title: ClassVar[str] = "The volume on its plane"
    flat: ClassVar[bool] = False

    def at(self, index: Sequence[np.ndarray]) -> np.ndarray:
        """Values (...) float32 at indices z, y, x, each (...); dark outside."""
        from scipy.ndimage import map_coordinates

        outside = self.limits[0]
        return map_coordinates(self.data, index, order=1, cval=outside, prefilter=False)

    def blank(self, shape: tuple[int, int]) -> np.ndarray:
        """A picture of nothing."""
        return np.zeros(shape, np.float32)


@dataclass(frozen=True, eq=False)
class Other:
    """Another section, in mm of its own at z = 0; what Volume is to a section in a volume.

    image: the engine's section; data: (y, x) or (y, x, 3) bytes; empty: the colour of its slide.
    """

    image: Any
    data: np.ndarray
    to_index: np.ndarray
    empty: tuple[float, ...]
    limits: ClassVar[tuple[float, float]] = (0.0, 255.0)
    title: ClassVar[str] = "The other section"
    flat: ClassVar[bool] = True

    def at(self, index: Sequence[np.ndarray]) -> np.ndarray:
        """Bytes (...) or (..., 3) at indices z, y, x, each (...); the empty slide outside."""
        from scipy.ndimage import map_coordinates

        parts = np.moveaxis(np.atleast_3d(self.data), -1, 0)
        found = [
            map_coordinates(part, index[1:], order=1, cval=value, prefilter=False)
            for part, value in zip(parts, self.empty, strict=True)
        ]
        return found[0] if self.data.ndim == 2 else np.stack(found, -1)

    def blank(self, shape: tuple[int, int]) -> np.ndarray:
        """A picture of the empty slide."""
        return np.full((*shape, *self.data.shape[2:]), self.empty, np.uint8)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A section made ready for one volume, or for another section.

    sheet: the engine's; picture: (Y, X) or (Y, X, 3) bytes, and tissue: (Y, X) bool, of every
    `step`-th pixel of the sheet; corner_mm, pixel_mm: x, y of the first pixel shown, and between
    two; middle_mm: (3,) of the tissue; slide_mm: x, y of a pixel of the slide itself.
    """

    sheet: Any
    volume: Volume | Other
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
        """The volume on every `step`-th pixel shown, as `Volume.at` or `Other.at` tell values."""
        rows, columns = (np.arange(0, n, step) for n in self.shape)
        matrix = self.volume.to_index @ pose.matrix
        start = (matrix @ np.array([*self.corner_mm, 0.0, 1.0]))[:3]
        along = matrix[:3, 0] * self.pixel_mm[0], matrix[:3, 1] * self.pixel_mm[1]
        return self.volume.at([
            start[k] + rows[:, None] * along[1][k] + columns[None] * along[0][k] for k in (2, 1, 0)
        ])  # fmt: skip

    def through(self, places_mm: np.ndarray) -> np.ndarray:
        """The volume where its places (n, 2 or 3), of all pixels shown, say."""
        places = np.zeros((len(places_mm), 4))
        places[:, : places_mm.shape[1]], places[:, 3] = places_mm, 1.0
        index = (places @ self.volume.to_index.T)[:, :3]
        return self.volume.at([index[:, k].reshape(self.shape) for k in (2, 1, 0)])

    @property
    def blank(self) -> np.ndarray:
        """What `cut` gives before there is a pose."""
        return self.volume.blank(self.shape)

    @property
    def places_mm(self) -> np.ndarray:
        """(n, 2) of all pixels shown, row by row, in section mm."""
        rows, columns = np.indices(self.shape).reshape(2, -1)
        return self.corner_mm + np.stack([columns, rows], 1) * self.pixel_mm

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
class OfStack:
    """How a section was fitted with its stack. stack: the engine's; number: in it, from 0; score:
    mutual information in nats; flagged: it fits far worse than the others; when: of the fit, later
    ones have a larger number."""

    stack: Any
    number: int
    score: float
    flagged: bool
    when: float


@dataclass(frozen=True, eq=False)
class Refined:
    """A section that was fitted. placement: the engine's; picture, labels: on what is shown.

    lines: (n, 2, 2) start and way of each, in rows and columns of what is shown: a square lattice
    of the volume as the fit has bent it, the affine map taken away; moved_um: median and largest
    displacement of the tissue within the plane; started: the pose. of_stack: None where it was
    fitted by itself.
    """

    placement: Any
    pose: Pose
    started: Pose
    picture: np.ndarray
    labels: np.ndarray | None
    lines: np.ndarray
    moved_um: tuple[float, float]
    seconds: float
    stopped: bool
    notes: tuple[str, ...] = ()
    of_stack: OfStack | None = None


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
        self.places_mm: np.ndarray | None = None
        """Places that a picture is made of; None: of the section's own plane."""

    def look(self) -> None:
        """Ask for one picture of the plane as it is by now."""
        if self.control is not None and not self.stopping:
            from fireants_engine import PreviewRequest

            planes = ((0, 0),) if self.places_mm is None else ()
            self.control.request_preview(PreviewRequest(planes, points_mm=self.places_mm))
            self.pace.asked()
