"""What the window and the worker of a whole stack of sections share. No Qt, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_fireants._histo_link import Export, Guesses, Refined, SectionJob
from napari_fireants._layers import Snapshot


@dataclass(frozen=True, eq=False)
class Member:
    """A section that counts. found: of before, None where it is to be read; start: (4, 4) section
    mm -> volume mm, None where it is to be searched for."""

    job: SectionJob
    found: Guesses | None
    start: np.ndarray | None


@dataclass(frozen=True, eq=False)
class StackJob:
    """Everything a fit of a stack needs. members: in order, None for one that is skipped."""

    members: tuple[Member | None, ...]
    spacing_mm: float
    labels: Snapshot | None
    device: str


@dataclass(frozen=True, eq=False)
class Part:
    """What was found of one section; refined: None where only its place is known."""

    found: Guesses
    refined: Refined | None = None


@dataclass(frozen=True, eq=False)
class StackFit:
    """parts: one for each section, None where nothing is new. stopped: before its end."""

    parts: tuple[Part | None, ...]
    notes: tuple[str, ...]
    stopped: bool

    @property
    def fitted(self) -> int:
        return sum(part is not None and part.refined is not None for part in self.parts)

    @property
    def placed(self) -> int:
        return sum(part is not None for part in self.parts)


@dataclass(frozen=True, eq=False)
class StackExport:
    """Everything that is written of a stack. stack: the engine's; names: of all sections; parts:
    number in the stack -> what is written of that section."""

    stack: Any
    names: tuple[str, ...]
    parts: dict[int, Export]
