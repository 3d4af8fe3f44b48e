"""Sections as layers hold them, what is chosen beside them, and what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fireants_engine.errors import InputError
from napari_fireants._histo_link import Guess, Guesses, Refined, SectionJob
from napari_fireants._histo_pose import Pose
from napari_fireants._layers import Snapshot, data_of, file_of

if TYPE_CHECKING:
    from napari.layers import Layer


LARGEST = 2048
"""Pixels of the longer side that are read of a slide that is a pyramid, or more."""
ACCEPTED, SKIPPED, FLAGGED = "accepted", "skipped", "flagged"


@dataclass(frozen=True, eq=False)
class Options:
    """What may be chosen beside section and volume. plane, side: "" for any."""

    plane: str = ""
    side: str = ""
    tilt_deg: float = 15.0
    piece: int = 0
    labels: Layer | None = None


@dataclass(frozen=True, eq=False)
class Kept:
    """Where a section lay when its session was saved; fitted: a fit is to be made again."""

    pose: Pose
    fitted: bool


@dataclass(eq=False)
class Section:
    """One section and all that is known of it. index: in a stack, None for a 2D image.

    pairs: (section mm, volume mm), the latter None while it waits for its second click; turn: how
    often all was forgotten. kept: from a session, until it is read.
    """

    layer: Layer
    index: int | None = None
    found: Guesses | None = None
    job: SectionJob | None = None
    chosen: Guess | None = None
    pose: Pose | None = None
    refined: Refined | None = None
    as_refined: bool = False
    state: str = ""
    turn: int = 0
    kept: Kept | None = None
    pairs: list[tuple[np.ndarray, np.ndarray | None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.layer.name if self.index is None else f"{self.layer.name} [{self.index}]"

    @property
    def whole_pairs(self) -> np.ndarray:
        """(n, 5): section mm x, y and volume mm x, y, z."""
        rows = [np.concatenate(pair) for pair in self.pairs if pair[1] is not None]
        return np.array(rows).reshape(-1, 5)

    def length(self, um: float) -> str:
        """A distance for people: in pixels where nobody knows how large they are."""
        known = self.job is None or self.job.sized
        return f"{um:.0f} µm" if known else f"{um / 1000:.1f} px"

    @property
    def to_keep(self) -> Kept | None:
        """Where it lies, or lay."""
        return self.kept if self.pose is None else Kept(self.pose, self.as_refined)

    def unplace(self) -> None:
        """Where it lies is not known any more; landmarks stay."""
        self.found = self.job = self.chosen = self.pose = self.refined = self.kept = None
        self.as_refined = False

    def forget(self) -> None:
        """It belongs to another volume, or its pixels have another size."""
        self.unplace()
        self.pairs, self.turn = [], self.turn + 1


def sections_in(layer: Layer | None, layers: Sequence[Layer]) -> list[tuple[Layer, int | None]]:
    """(layer, index) of the sections that go together with `layer`: those of its stack, or all 2D
    images among `layers`."""
    if layer is None:
        return []
    if layer.ndim == 3:
        return [(layer, k) for k in range(_data(layer).shape[0])]
    flat = [x for x in layers if hasattr(x, "contrast_limits") and x.ndim == 2]
    return [(x, None) for x in flat]


def pixel_of(layer: Layer) -> tuple[float, float] | None:
    """Micrometres along x and y as the layer says; None where its scale is 1 and has no unit.

    A scale without a unit counts in mm, as everywhere in the plugin.
    """
    y, x = (_step_um(layer, axis, slice(-2, None)) for axis in (-2, -1))
    return None if x is None or y is None else (x, y)


def distance_of(layer: Layer) -> float | None:
    """Micrometres from a section of a stack to the next, as `pixel_of`; None for a 2D image."""
    return _step_um(layer, 0, slice(None)) if layer.ndim == 3 else None


def _step_um(layer: Layer, axis: int, among: slice) -> float | None:
    """Length of a step along an axis of the data, of what lies along `among` of the world."""
    ends = np.zeros(layer.ndim), np.eye(layer.ndim)[axis]
    origin, end = (np.asarray(layer.data_to_world(each)) for each in ends)
    unit, length = 1.0 * layer.units[axis], float(np.linalg.norm((end - origin)[among]))
    if unit.check("[length]"):
        return length * float(unit.to("micrometer").magnitude)
    return None if np.isclose(length, 1.0) else 1000 * length


def has_length(layer: Layer) -> bool:
    """Its last axis counts in a unit of length."""
    return (1.0 * layer.units[-1]).check("[length]")


def section_at(layer: Layer, index: int | None) -> Snapshot:
    """The section as it is now, in pixels of its own; nothing is read.

    size is that of the whole section; of a pyramid the data are those of a coarser level, where
    that has LARGEST pixels or more. Raises InputError for a layer that is no image of two or three
    axes.
    """
    if layer.ndim not in (2, 3) or not hasattr(layer, "contrast_limits"):
        raise InputError(f"{layer.name}: is no section; choose a 2D image or a stack of them.")
    data, name = _data(layer), layer.name
    if layer.ndim == 3:
        index = min(index or 0, data.shape[0] - 1)
        data, name = data[index], f"{layer.name} [{index}]"
    rgb = bool(getattr(layer, "rgb", False))
    whole = data_of(layer)
    size = whole.shape[layer.ndim - 1], whole.shape[layer.ndim - 2]
    ones, origin = (1.0, 1.0), (0.0, 0.0)
    path = file_of(layer) if layer.ndim == 2 else None
    return Snapshot(name, data, rgb, False, size, ones, origin, np.eye(2), path)


def _data(layer: Layer) -> np.ndarray:
    """Of a pyramid the coarsest level that is fine enough."""
    if not getattr(layer, "multiscale", False):
        return layer.data
    long = [max(level.shape[layer.ndim - 2 : layer.ndim]) for level in layer.data]
    return layer.data[max(k for k, n in enumerate(long) if n >= LARGEST or k == 0)]


# ------------------------------------------------------------------ what a search takes
def volume_job(
    section: Snapshot, volume: Snapshot, pixel_um: tuple[float, float] | None, piece: int,
    device: str,
) -> SectionJob:  # fmt: skip
    """A section in a volume. Raises InputError for what is no volume, or where pixels have no
    size."""
    if volume.rgb or len(volume.size) != 3:
        raise InputError(f"{volume.name}: is a stack of sections; choose a grey 3D image, or one "
                         "other section (2D).")  # fmt: skip
    if pixel_um is None:
        raise InputError(f"{section.name} does not say how large a pixel is; type it.")
    return SectionJob(section, volume, _in_mm(pixel_um), piece=piece, device=device)


def pair_job(
    section: Snapshot, other: Snapshot, pixel_um: tuple[float, float] | None,
    other_um: tuple[float, float] | None, piece: int, device: str,
) -> SectionJob:  # fmt: skip
    """Two sections. Where neither says how large its pixels are, 1 pixel counts as 1 mm; raises
    InputError where only one does."""
    if (pixel_um is None) != (other_um is None):
        unknown = section if pixel_um is None else other
        raise InputError(f"{unknown.name} does not say how large a pixel is, and the other section "
                         "does; type it.")  # fmt: skip
    if pixel_um is None or other_um is None:
        return SectionJob(section, other, (1.0, 1.0), piece=piece, device=device, sized=False)
    sizes = _in_mm(pixel_um), _in_mm(other_um)
    return SectionJob(section, other, sizes[0], piece=piece, device=device, other_mm=sizes[1])


def _in_mm(pixel_um: tuple[float, float]) -> tuple[float, float]:
    return pixel_um[0] / 1000, pixel_um[1] / 1000
