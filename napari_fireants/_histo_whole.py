"""The whole stack at once: how far its sections are apart, fitted together, exported."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fireants_engine.errors import FireantsError, InputError
from napari_fireants._histo_given import FLAGGED, SKIPPED, Section, distance_of
from napari_fireants._histo_link import Export, OfStack
from napari_fireants._histo_stack_link import Member, Part, StackExport, StackFit, StackJob
from napari_fireants._histo_work import EXPORTING, FITTING, files_side, stack_side
from napari_fireants._layers import snapshot

if TYPE_CHECKING:
    import numpy as np
    from napari.layers import Layer

    from napari_fireants._histo import Histo

FIT, PLACE = "Fit the stack", "Find the planes of the stack"
"""Steps that can be taken back."""
NO_DISTANCE = "Type how far one section is from the next; it is never guessed."
NO_STACK = "Sections are matched with another section one by one; a stack needs a volume."
TOO_FEW = "A stack needs at least two sections that are not skipped."
NOT_FITTED = "Fit the stack first: what is exported is the fitted stack."
CHANGED = "of its sections were fitted again since, and have no files of their own in it."


class Whole:
    """The sections of the dock's list as one stack, in the order of the list."""

    def __init__(self, histo: Histo) -> None:
        self._histo = histo
        self.typed_um: dict[Layer | None, float] = {}
        """Distances that were typed; None: of 2D images."""

    # ------------------------------------------------------------ what is given
    @property
    def _key(self) -> Layer | None:
        """Of the distance: a stack's layer; None for 2D images."""
        layer = self._histo.layer
        return layer if layer is not None and layer.ndim == 3 else None

    @property
    def distance_um(self) -> float | None:
        """From a section to the next; None where nobody has said it."""
        key = self._key
        return self.typed_um.get(key) or (None if key is None else distance_of(key))

    @property
    def distance_typed(self) -> bool:
        return self._key in self.typed_um

    def set_distance_um(self, value: float | None) -> None:
        """As typed; None: as the layer says."""
        if value == self.distance_um:
            return
        self.typed_um.pop(self._key, None)
        if value is not None:
            self.typed_um[self._key] = value
        self._histo.changed.emit()

    def forget_gone(self, there: Collection[Layer]) -> None:
        self.typed_um = {
            key: one for key, one in self.typed_um.items() if key is None or key in there
        }

    @property
    def problem(self) -> str:
        """Why a fit cannot begin, in one sentence; empty where it can."""
        histo = self._histo
        used = [section for section in histo.sections if section.state != SKIPPED]
        if histo.pair:
            return NO_STACK
        if len(used) < 2:
            return TOO_FEW
        if self.distance_um is None:
            return NO_DISTANCE
        try:
            histo.job(used[0])
        except FireantsError as error:
            return str(error)
        return ""

    # ------------------------------------------------------------ fitting
    def fit(self) -> None:
        """Place and fit all sections that are not skipped; raises InputError where that cannot
        be. Those that have a place begin there."""
        if self.problem:
            raise InputError(self.problem)
        histo, labels = self._histo, self._histo.options.labels
        sections = histo.sections
        assert self.distance_um is not None
        job = StackJob(
            tuple(None if one.state == SKIPPED else self._member(one) for one in sections),
            self.distance_um / 1000,
            None if labels is None else snapshot(labels),
            histo.controller.current_device(),
        )
        volume, turns = histo.read_before, [one.turn for one in sections]

        def done(fit: StackFit) -> None:
            there = [
                (section, member.job, part)
                for section, member, part, turn in zip(
                    sections, job.members, fit.parts, turns, strict=True
                )
                if member is not None and part is not None and section.turn == turn
            ]
            if there:
                histo.keep_read(there[0][2].found.prepared.volume)
                self._take(FIT if fit.fitted else PLACE, there)
            histo.work.told.emit(*_told(fit, len(sections)))

        histo.work.begin(FITTING, lambda link: stack_side().fit_stack(job, volume, link), done)

    def _member(self, section: Section) -> Member:
        start = _start_of(section)
        return Member(self._histo.job(section), None if start is None else section.found, start)

    def _take(self, name: str, there: list[tuple[Section, Any, Part]]) -> None:
        """What was found becomes the sections', as one step."""
        steps = []
        for section, job, part in there:
            after = _after(section, part) | {"job": job}
            steps.append((section, {key: getattr(section, key) for key in after}, after))

        def put(now: int, then: int) -> None:
            for step in steps:
                section, values = step[0], step[now]
                if section.found is step[then]["found"]:
                    for key, value in values.items():
                        setattr(section, key, value)
            self._histo.changed.emit()
            self._histo.show()

        self._histo.undo.push(name, lambda: put(1, 2), lambda: put(2, 1))
        put(2, 1)

    # ------------------------------------------------------------ files
    @property
    def stack(self) -> Any:
        """The engine's, of what the sections of the list were fitted with last; None without."""
        fits = [fit for one in self._histo.sections if (fit := _of_stack(one)) is not None]
        return max(fits, key=lambda fit: fit.when).stack if fits else None

    def export(self, folder: Path) -> None:
        """Write the stack, and of each section the volume on its slide, into a folder."""
        histo, labels, stack = self._histo, self._histo.options.labels, self.stack
        if stack is None:
            raise InputError(NOT_FITTED)
        source = None if labels is None else snapshot(labels)
        sections, parts = histo.sections, dict[int, Export]()
        for section in sections:
            fit, job, found, refined = (
                _of_stack(section), section.job, section.found, section.refined
            )  # fmt: skip
            if fit is not None and fit.stack is stack and job and found and refined:
                pairs = section.whole_pairs
                parts[fit.number] = Export(job, found.prepared, refined, (), source, pairs)
        given = StackExport(stack, tuple(one.name for one in sections), parts)
        others = sum(one is not None for one in stack.sections) - len(parts)

        def done(where: Path) -> None:
            words = f"Written to {where}; report.html shows it."
            if others:
                words = f"{words} {others} {CHANGED}"
            histo.work.told.emit(words, "note" if others else "good")

        histo.work.begin(
            EXPORTING, lambda link: files_side().export_stack(given, folder, link), done
        )


def _of_stack(section: Section) -> OfStack | None:
    return None if section.refined is None else section.refined.of_stack


def _start_of(section: Section) -> np.ndarray | None:
    """Where a section begins: its pose, unless that is doubted and nobody has moved it."""
    pose, chosen, refined = section.pose, section.chosen, section.refined
    if pose is None and section.kept is not None and section.state != FLAGGED:
        return section.kept.pose.matrix
    if pose is None:
        return None
    untouched = (chosen is not None and pose is chosen.pose) or (
        refined is not None and pose is refined.pose
    )
    return None if section.state == FLAGGED and untouched else pose.matrix


def _after(section: Section, part: Part) -> dict[str, Any]:
    """What is known of a section once its stack was fitted, or it was searched for."""
    found, refined = part.found, part.refined
    chosen = section.chosen if found is section.found else found.guesses[0]
    after = {"found": found, "chosen": chosen, "refined": refined, "as_refined": False}
    after["kept"] = None
    if refined is None:
        return after | {"pose": found.guesses[0].pose}
    return after | {
        "pose": refined.pose,
        "as_refined": True,
        "state": _state(section, refined.of_stack),
    }


def _state(section: Section, now: OfStack | None) -> str:
    """Flagged where it fits badly; a flag of an earlier fit goes."""
    before = _of_stack(section)
    if now is not None and now.flagged:
        return FLAGGED
    of_fit = before is not None and before.flagged and section.state == FLAGGED
    return "" if of_fit else section.state


def _told(fit: StackFit, count: int) -> tuple[str, str]:
    """A sentence for a person, and its tone."""
    notes = " ".join(fit.notes)
    if not fit.fitted:
        if not fit.placed:
            return f"Stopped; nothing was changed. {notes}".strip(), "note"
        words = f"Stopped; the planes of {fit.placed} sections were found and are kept."
        return f"{words} {notes}".strip(), "note"
    how = "Stopped early: this is the best state by then. " if fit.stopped else ""
    words = f"{how}{fit.fitted} of {count} sections are fitted. {notes}".strip()
    return words, "note" if fit.notes or fit.stopped else "good"
