"""What session.json holds, and what is written into it. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np

from napari_fireants._files import ArrayRef, Plain
from napari_fireants._layers import Snapshot
from napari_fireants._runs import Run
from napari_fireants._store import Entry

VERSION = 2
"""2: histology; sessions of version 1 have none."""


class LayerState(Plain):
    """A layer: its kind, plain values, and its arrays by name."""

    kind: Literal["image", "labels", "points", "shapes"]
    state: dict[str, Any]
    arrays: dict[str, ArrayRef]


class RecipeState(Plain):
    """A recipe, and what it was made from: a preset's or a file's."""

    recipe: dict[str, Any]
    base: dict[str, Any]
    source: str
    is_preset: bool


class RunState(Plain):
    """A run of the history. layers: role -> index of a layer; thumbnail: an object."""

    number: int
    time: datetime
    fixed: str
    moving: str
    entry: RecipeState
    used: dict[str, Any]
    outcome: str
    sentence: str
    seconds: float
    device: str
    loss: dict[str, float | None]
    numbers: dict[str, Any]
    edits: tuple[str, ...]
    title: str
    note: str
    thumbnail: str | None
    kept: dict[str, Any] | None
    layers: dict[str, int]


class StartState(Plain):
    """Where the next run starts: homogeneous matrix fixed mm -> moving mm, and what it is from."""

    matrix: list[list[float]]
    origin: str


Row = tuple[float, float, float, float]
Place = tuple[float, float, float]
Spot = tuple[float, float]


class SectionState(Plain):
    """What was found of a section: number `index` of a stack, or a 2D image (None).

    pose: (4, 4) section mm -> volume mm; middle_mm: of its tissue; fitted: from that pose a fit is
    to be made again; pairs: section mm and volume mm, the latter None while it waits.
    """

    layer: int
    index: int | None
    state: Literal["", "accepted", "skipped", "flagged"]
    pose: tuple[Row, Row, Row, Row] | None
    middle_mm: Place | None
    fitted: bool
    pairs: list[tuple[Spot, Place | None]]


class HistologyState(Plain):
    """The Histology dock. pixels_um, distances_um: as typed, layer -> micrometres; distance_um:
    between 2D images; section, volume, labels and the keys are numbers of layers."""

    section: int | None
    index: int
    volume: int | None
    labels: int | None
    plane: str
    side: str
    tilt_deg: float
    piece: int
    pixels_um: dict[int, float]
    distances_um: dict[int, float]
    distance_um: float | None
    sections: list[SectionState]


class SessionState(Plain):
    """session.json. place: the folder that the session's folder was in."""

    format: Literal["fireants-session"] = "fireants-session"
    version: int = VERSION
    saved: datetime
    program: str
    place: str
    layers: list[LayerState]
    roles: dict[str, int]
    recipe: RecipeState
    device: str
    start: StartState | None
    landmarks: dict[str, Any] | None
    runs: list[RunState]
    shown: int | None
    compared: int | None
    view: dict[str, Any]
    histology: HistologyState | None = None


@dataclass(frozen=True, eq=False)
class LayerDraft:
    """A layer as the viewer has it: arrays by reference; known: their refs, if not changed since.

    where: of an image on a grid, to be written with its geometry.
    """

    kind: str
    state: dict[str, Any]
    arrays: dict[str, Any]
    path: str | None
    where: Snapshot | None = None
    known: dict[str, ArrayRef] | None = None


@dataclass(frozen=True, eq=False)
class Draft:
    """A session as it is in memory. run_layers: number -> role -> index of a layer."""

    layers: list[LayerDraft]
    roles: dict[str, int]
    entry: Entry
    device: str
    start: tuple[np.ndarray, str] | None
    landmarks: dict[str, Any] | None
    runs: list[Run]
    run_layers: dict[int, dict[str, int]]
    shown: int | None
    compared: int | None
    view: dict[str, Any]
    histology: HistologyState | None = None
    notes: tuple[str, ...] = ()
