"""Landmarks of a section: places of it and the same places of the volume, and how far apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_fireants._histo_given import Section
from napari_fireants._histo_pose import errors_um
from napari_fireants._histo_work import job_side
from napari_fireants._latest import Latest

if TYPE_CHECKING:
    from napari_fireants._histo import Histo

FIRST, SECOND = (
    "Click a place on the section, then the same place on the plane.",
    "Now the same place on the plane.",
)


class Pairs:
    """Pairs of the section that is at work. changed: there are others, or their errors."""

    changed = Signal()

    def __init__(self, histo: Histo) -> None:
        self._histo = histo
        self.errors_um: np.ndarray | None = None
        """Of the whole pairs, through what is shown; None while it is not known."""
        self._measuring = Latest()

    @property
    def waiting(self) -> bool:
        """The last one lacks its place on the plane."""
        section = self._histo.section
        return section is not None and bool(section.pairs) and section.pairs[-1][1] is None

    def click(self, side: str, place_mm: np.ndarray) -> str:
        """A place on the picture of the section or of the plane, (2,) section mm; what is next."""
        section = self._histo.section
        if section is None or section.pose is None:
            return "Find the plane first."
        before = section.pairs
        if side == "section":
            now = [*(before[:-1] if self.waiting else before), (place_mm, None)]
        elif self.waiting:
            now = [*before[:-1], (before[-1][0], self._in_volume(section, place_mm))]
        else:
            return FIRST
        self._put("Landmark", section, now)
        return SECOND if side == "section" else FIRST

    @staticmethod
    def _in_volume(section: Section, place_mm: np.ndarray) -> np.ndarray:
        assert section.pose is not None
        if section.as_refined and section.refined is not None:
            return job_side().places_in_volume(section.refined, place_mm[None])[0]
        return section.pose(place_mm[None])[0]

    def remove(self) -> None:
        """The last one goes."""
        section = self._histo.section
        if section is not None and section.pairs:
            self._put("Remove a landmark", section, section.pairs[:-1])

    def _put(self, name: str, section: Section, now: list[Any]) -> None:
        before, turn = section.pairs, section.turn

        def put(pairs: list[Any]) -> None:
            if section.turn == turn:
                section.pairs = pairs
                self.measure()

        self._histo.undo.push(name, lambda: put(before), lambda: put(now))
        put(now)

    def measure(self) -> None:
        """Draw them, and measure how far they are apart."""
        section, self.errors_um = self._histo.section, None
        self._measuring.forget()
        if section is None or section.pose is None:
            self.changed.emit()
            return
        whole = section.whole_pairs
        on_section = np.array([pair[0] for pair in section.pairs]).reshape(-1, 2)
        self._histo.scene.show_marks(on_section, section.pose.on_section(whole[:, 2:]))
        fitted = section.refined if section.as_refined else None
        if fitted is None or not len(whole):
            self.errors_um = errors_um(whole[:, 2:], section.pose(whole[:, :2]))
            self.changed.emit()
            return

        def done(found: tuple[np.ndarray, np.ndarray]) -> None:
            self._histo.scene.show_marks(on_section, found[1])
            self.errors_um = errors_um(whole[:, 2:], found[0])
            self.changed.emit()

        failed: Callable[[str], None] = lambda _: self.changed.emit()  # noqa: E731
        self._measuring.ask(lambda: job_side().both_ways(fitted, whole), done, failed)
