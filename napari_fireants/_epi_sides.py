"""What is known of how a layer was read out: from sidecars beside its file. No Qt, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding
from napari_fireants._epi_axes import Axes, way_of
from napari_fireants._layers import Snapshot

if TYPE_CHECKING:
    from fireants_engine import Image
    from fireants_engine.workflows.epi import Volume

DIRECTIONS = ("i", "i-", "j", "j-", "k", "k-")
LONG_S = 0.3
"""No scanner reads out for longer, seconds."""
TYPED, SAMPLE = "typed", "sample"


@dataclass(frozen=True, eq=False)
class Side:
    """One of the volumes: its layer, and how it was read out.

    direction: of DIRECTIONS, voxel axes as the file stores them, or empty while unknown;
    readout_s: None while unknown; origin: where each of the two comes from (a file's name, TYPED);
    problem: why the sidecars could not be used.
    """

    layer: Any = None
    axes: Axes = field(default_factory=lambda: Axes.same(3))
    world: np.ndarray = field(default_factory=lambda: np.eye(3))
    direction: str = ""
    readout_s: float | None = None
    origin: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    filed: bool = False
    read: bool = False
    """Its file and sidecars were looked at."""

    @property
    def known(self) -> bool:
        return bool(self.direction) and self.readout_s is not None

    @property
    def phase(self) -> Encoding:
        """Its direction alone, which has to be known."""
        return Encoding.parse(self.direction, self.readout_s or 0.0)

    @property
    def encoding(self) -> Encoding:
        """Raises InputError while something is missing, and for what no scanner does."""
        if self.layer is None:
            raise InputError("Choose two EPI images first.")
        if not self.direction:
            raise InputError(
                f"{self.layer.name}: its phase-encoding direction is not known; choose one of "
                f"{', '.join(DIRECTIONS)} (it is never guessed)."
            )
        if self.readout_s is None:
            raise InputError(
                f"{self.layer.name}: its total readout time is not known; type its seconds."
            )
        return Encoding.parse(self.direction, self.readout_s)

    def words(self) -> str:
        """One line for people: which way the direction points, and where it is from."""
        if self.layer is None:
            return ""
        parts = []
        if self.direction and self.filed:
            parts.append(self.way)
        if self.problem:
            parts.append(self.problem)
        elif not self.known:
            parts.append("no sidecar says more; choose a direction and type the readout time")
        elif self.sources:
            parts.append("as the sample says" if self.sources == [SAMPLE] else "from its sidecar")
        if self.direction and not self.filed:
            parts.append("i, j, k are the layer's x, y, z")
        if (self.readout_s or 0.0) > LONG_S:
            parts.append(f"a readout of {self.readout_s:g} s is very long")
        text = ", ".join(part for part in parts if part)
        return text if text.startswith("i, j, k") else text[:1].upper() + text[1:]

    @property
    def sources(self) -> list[str]:
        """The files that say so."""
        return sorted(set(self.origin.values()) - {TYPED})

    @property
    def way(self) -> str:
        """The direction in the world, as A → P."""
        if not self.direction:
            return ""
        phase = self.phase
        if phase.axis >= self.axes.dim or len(self.world) != 3:
            return ""
        return way_of(phase.sign * self.world[:, phase.axis])

    def typed(self, **values: Any) -> Side:
        """With a direction or a readout time from a person's hand; what is emptied is unknown."""
        origin = {key: where for key, where in self.origin.items() if key not in values}
        origin |= {key: TYPED for key, value in values.items() if value}
        return replace(self, origin=origin, **values)

    def stored_as(self, other: Side) -> Side:
        """The same told in the axes in which the file of `other` is stored.

        Two files may hold one grid with its axes in another order, or running the other way.
        """
        dim = len(self.world)
        if self.world.shape != other.world.shape or np.allclose(self.world, other.world):
            return self
        change = Axes.between(other.world, self.world)  # axis k of other is order[k] of ours
        shown = np.empty_like(self.world)
        for k, (axis, turned) in enumerate(zip(self.axes.order, self.axes.turned, strict=True)):
            shown[:, axis] = -self.world[:, k] if turned else self.world[:, k]
        axes = Axes.between(other.world, shown)
        direction = self.direction
        if direction and self.phase.axis < dim:
            axis = change.order.index(self.phase.axis)
            sign = self.phase.sign * (-1 if change.turned[axis] else 1)
            direction = DIRECTIONS[2 * axis + (sign < 0)]
        return replace(self, axes=axes, world=other.world, direction=direction)


def read_side(layer: Any, source: Snapshot, direction: str = "") -> Side:
    """What the file of a layer, and the sidecars beside it, tell; looks at files, so off the GUI
    thread. direction: chosen by a person, and counts before the sidecar's."""
    known = _axes_of(source)
    axes, world = known or (Axes.same(source.ndim), np.asarray(source.direction))
    side = Side(layer, axes, world, filed=known is not None, read=True)
    if (told := _told(layer)) is not None:
        origin = dict.fromkeys(told, SAMPLE)
        return replace(side, filed=True, origin=origin, **told)
    if known is None:
        return side
    assert source.path is not None
    return _from_sidecars(side, Path(source.path), direction)


def _from_sidecars(side: Side, path: Path, direction: str) -> Side:
    from fireants_engine.io.bids import encoding_of, find_sidecar

    origin: dict[str, str] = {}
    try:
        sidecar = find_sidecar(path)
        if not sidecar.files:
            return side
        if not direction:
            if "PhaseEncodingDirection" not in sidecar:
                return side
            direction = encoding_of(path, None, 1.0).direction
            origin["direction"] = sidecar.sources["PhaseEncodingDirection"].name
        side = replace(side, direction=direction, origin=origin)
        timed = [key for key in ("TotalReadoutTime", "EffectiveEchoSpacing") if key in sidecar]
        if timed:
            seconds = encoding_of(path, direction).readout_s
            origin = origin | {"readout_s": sidecar.sources[timed[0]].name}
            side = replace(side, readout_s=seconds, origin=origin)
    except InputError as error:
        side = replace(side, problem=str(error))
    return side


def _axes_of(source: Snapshot) -> tuple[Axes, np.ndarray] | None:
    """How the layer lies in its file, and the file's directions; None without an image file."""
    from fireants_engine.io.series import load_grid

    if source.path is None:
        return None
    try:
        grid = load_grid(source.path)
    except InputError:
        return None
    if grid.dim != source.ndim:
        return None
    axes = Axes.between(grid.direction, np.asarray(source.direction))
    if tuple(source.size[axis] for axis in axes.order) != tuple(grid.size):
        return None
    return axes, grid.direction


def _told(layer: Any) -> dict[str, Any] | None:
    """A sample tells how it was read out itself."""
    own = layer.metadata.get("fireants")
    return own.get("encoding") if isinstance(own, dict) else None


def volume_of(side: Side, source: Snapshot) -> Volume:
    """The engine's volume, as the file stores it; reads lazy data. Call it off the GUI thread."""
    from fireants_engine.workflows.epi import Volume

    return Volume(stored_image(side.axes, source), side.encoding)


def stored_image(axes: Axes, source: Snapshot) -> Image:
    """A layer as its file stores it."""
    from fireants_engine import Image
    from napari_fireants._layers import grid_of

    array = np.ascontiguousarray(axes.stored(np.asarray(source.data)))
    return Image.from_numpy(array, axes.grid(grid_of(source)), name=source.name, path=source.path)
