"""A section in a volume, or two sections: what is given, how it may lie, how it was placed.

No widgets. Sections are kept one by one: those of a stack, or all 2D images that are open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from fireants_engine.errors import FireantsError, InputError
from napari_fireants._histo_given import (
    Options,
    Section,
    has_length,
    pair_job,
    pixel_of,
    section_at,
    sections_in,
    volume_job,
)
from napari_fireants._histo_link import Export, Guess, Guesses, Refined, SectionJob, Volume
from napari_fireants._histo_move import Hand
from napari_fireants._histo_pairs import Pairs
from napari_fireants._histo_pose import Pose, side_of_plane
from napari_fireants._histo_scene import HistoScene
from napari_fireants._histo_whole import Whole
from napari_fireants._histo_work import (
    EXPORTING,
    PREPARING,
    REFINING,
    SEARCHING,
    Work,
    files_side,
    job_side,
)
from napari_fireants._layers import snapshot

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_fireants._controller import Controller

NO_SECTION = "Choose a section first: a 2D image, or a stack of them."
NO_VOLUME = "Choose the volume that the section was cut from, or another section."
OF_STACK = (
    "This section was fitted with its stack: Export the stack, below the list of sections, which "
    "writes every section, too."
)


class Histo:
    """What the Histology dock shows and does.

    changed: what is given, or what is thought of a section; placed: another section, pose or fit
    is shown. `work` says what is going on, `pairs` are the landmarks.
    """

    changed = Signal()
    placed = Signal()

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.viewer, self.undo = controller.viewer, controller.undo
        self.work = Work(controller.session)
        self.scene = HistoScene(controller.viewer, lambda: controller.hold_painting())
        self.layer: Layer | None = None
        self.volume: Layer | None = None
        self.index = 0
        self.options = Options()
        self.typed_um: dict[Layer, float] = {}
        """Pixel sizes that were typed."""
        self._known: dict[tuple[Layer, int | None], Section] = {}
        self._read: tuple[Layer, Volume] | None = None
        self.pairs, self.hand, self.whole = Pairs(self), Hand(self), Whole(self)
        self.work.seen.connect(self.scene.show_picture)
        self.work.failed.connect(self._show_pose)

    # ------------------------------------------------------------ what is given
    @property
    def sections(self) -> list[Section]:
        """Those that can be walked through: of the stack, or all 2D images."""
        own = (*self.scene.own, self.volume)
        keys = sections_in(self.layer, [x for x in self.viewer.layers if x not in own])
        return [self.section_of(*key) for key in keys]

    def section_of(self, layer: Layer, index: int | None) -> Section:
        return self._known.setdefault((layer, index), Section(layer, index))

    @property
    def known(self) -> list[Section]:
        """Those of which something is known that opening them again would not bring back."""
        every = self._known.values()
        return [one for one in every if one.state or one.pairs or one.to_keep is not None]

    @property
    def section(self) -> Section | None:
        """The one that is at work."""
        if self.layer is None:
            return None
        return self.section_of(self.layer, self.index if self.layer.ndim == 3 else None)

    def choose_section(self, layer: Layer | None, index: int = 0) -> None:
        if layer == self.layer and index == self.index:
            return
        self.layer, self.index = layer, index
        self.changed.emit()
        self.show()

    def choose_volume(self, layer: Layer | None) -> None:
        if layer == self.volume:
            return
        self.volume = layer
        for section in self._known.values():
            section.forget()
        self.scene.put_away()
        self.changed.emit()
        self._placed()

    @property
    def pair(self) -> bool:
        """What was chosen beside the section is another section."""
        return self.volume is not None and self.volume.ndim == 2

    def set_pixel_um(self, layer: Layer | None, value: float | None) -> None:
        """Of a layer of sections, as typed; None: as the layer says."""
        if layer is None or value == self.pixel_um(layer):
            return
        self.typed_um.pop(layer, None)
        if value is not None:
            self.typed_um[layer] = value
        for section in self._known.values():
            if layer in (section.layer, self.volume):
                section.forget()
        if layer == self.volume:
            self._read = None
        self.scene.put_away()
        self.changed.emit()
        self._placed()

    def pixel_um(self, layer: Layer | None) -> float | None:
        """Along x; None where nobody has said it."""
        return None if layer is None else (self._pixel(layer) or (None,))[0]

    def pixel_typed(self, layer: Layer | None) -> bool:
        return layer in self.typed_um

    def _pixel(self, layer: Layer) -> tuple[float, float] | None:
        """Along x and y in um, as typed or as the layer says."""
        typed = self.typed_um.get(layer)
        return (typed, typed) if typed else pixel_of(layer)

    def set_options(self, **values: Any) -> None:
        self.options = replace(self.options, **values)
        self.changed.emit()

    def forget_gone(self) -> None:
        """Layers that have left the viewer are let go, with what was found of them."""
        there = set(self.viewer.layers)
        self._known = {key: one for key, one in self._known.items() if key[0] in there}
        self.typed_um = {layer: one for layer, one in self.typed_um.items() if layer in there}
        self.whole.forget_gone(there)
        if self._read is not None and self._read[0] not in there:
            self._read = None

    @property
    def problem(self) -> str:
        """Why a search cannot begin, in one sentence; empty where it can."""
        try:
            self.job()
        except FireantsError as error:
            return str(error)
        return ""

    def job(self, section: Section | None = None) -> SectionJob:
        """What a search for the section (the one at work) would take now; raises InputError where
        something is missing or wrong."""
        section, volume, options = section or self.section, self.volume, self.options
        if section is None:
            raise InputError(NO_SECTION)
        source = section_at(section.layer, section.index)
        if volume is None:
            raise InputError(NO_VOLUME)
        if volume == section.layer:
            raise InputError(f"Section and volume are both {volume.name}; choose two layers.")
        common = (options.piece, self.controller.current_device())
        start = None if section.kept is None else section.kept.pose.matrix
        if self.pair:
            job = pair_job(source, section_at(volume, None), self._pixel(section.layer),
                           self._pixel(volume), *common)  # fmt: skip
            return replace(job, start=start)
        if not side_of_plane(options.plane, options.side):
            raise InputError(
                f"No {options.plane} section is seen from {options.side}; choose another side."
            )
        job = volume_job(source, snapshot(volume), self._pixel(section.layer), *common)
        return replace(
            job, plane=options.plane, side=options.side, tilt_deg=options.tilt_deg, start=start
        )

    @property
    def read_before(self) -> Volume | None:
        """The chosen volume, where it was read already."""
        return self._read[1] if self._read is not None and self._read[0] == self.volume else None

    def keep_read(self, volume: Volume) -> None:
        """The chosen volume was read."""
        if self.volume is not None:
            self._read = self.volume, volume

    # ------------------------------------------------------------ where it may lie
    def find(self) -> None:
        """Search for the plane; raises InputError where that cannot be."""
        self._look_for(SEARCHING, "find")

    def by_hand(self) -> None:
        """A plane through the middle, to be moved by hand; or the one that a session kept."""
        self._look_for(PREPARING, "by_hand")

    def _look_for(self, task: str, how: str) -> None:
        job, section, volume, pair = self.job(), self.section, self.volume, self.pair
        assert section is not None
        assert volume is not None
        known = self.read_before

        def done(found: Guesses) -> None:
            self.keep_read(found.prepared.volume)
            section.unplace()
            section.found, section.job = found, job
            section.chosen, section.pose = found.guesses[0], found.guesses[0].pose
            self.show()
            self.work.told.emit(found.note, "note")

        self.work.begin(task, lambda link: getattr(job_side(pair), how)(job, known, link), done)

    def choose(self, guess: Guess) -> None:
        """Show a candidate as it was found; a step that can be undone."""
        self._step_to("Choose a plane", pose=guess.pose, chosen=guess, as_refined=False)

    # ------------------------------------------------------------ moving it
    def move(self, name: str, change: Callable[[Pose], Pose], merge: object = None) -> None:
        """Move by hand, as a step of that name; does nothing before there is a pose."""
        section = self.section
        if section is not None and section.pose is not None and not self.work.task:
            self._step_to(name, merge, pose=change(section.pose), as_refined=False)

    def reset(self) -> None:
        """Back to the chosen candidate."""
        section = self.section
        if section is not None and section.chosen is not None:
            self._step_to("Reset the plane", pose=section.chosen.pose, as_refined=False)

    def show_refined(self, on: bool) -> None:
        """The plane as it was fitted, or as it was placed before."""
        section = self.section
        if section is not None and section.refined is not None and section.as_refined != on:
            fitted = section.refined
            pose = fitted.pose if on else fitted.started
            self._step_to("As fitted" if on else "As placed", pose=pose, as_refined=on)

    def _step_to(self, name: str, merge: object = None, **after: Any) -> None:
        """Change what is known of the section, as a step that can be taken back."""
        section = self.section
        if section is None or section.found is None:
            return
        found, before = section.found, {key: getattr(section, key) for key in after}

        def put(values: dict[str, Any]) -> None:
            if section.found is found:
                for key, value in values.items():
                    setattr(section, key, value)
                if section is self.section:
                    self._show_pose()

        self.undo.push(name, lambda: put(before), lambda: put(after), merge)
        put(after)

    def show(self) -> None:
        """The chosen section on the canvas, if it was placed."""
        section = self.section
        if section is None or section.found is None:
            self.scene.put_away()
        else:
            unit = "mm" if has_length(section.layer) else "pixel"
            self.scene.begin(section.found.prepared, section.name, unit)
            self._show_pose()
            return
        self._placed()

    def put_away(self) -> None:
        """Hide section and plane; choosing the section again brings them back."""
        self.hand.use("")
        self.scene.put_away()
        self.placed.emit()

    def make_room(self) -> None:
        """A registration needs the canvas."""
        if self.scene.on:
            self.put_away()

    def _show_pose(self) -> None:
        section = self.section
        if section is not None and section.found is not None and section.pose is not None:
            fitted = section.refined if section.as_refined else None
            self.scene.show_plane(section.pose, None if fitted is None else fitted.picture)
            self.scene.show_regions(None if fitted is None else fitted.labels)
            self.scene.show_lines(None if fitted is None else fitted.lines)
        self._placed()

    def _placed(self) -> None:
        self.placed.emit()
        self.pairs.measure()

    # ------------------------------------------------------------ fitting
    def refine(self) -> None:
        """Fit from the present pose: plane, affine map, deformation within the plane."""
        section, job = self._ready(), self._job_now()
        found, pose, labels = section.found, section.pose, self.options.labels
        assert found is not None
        assert pose is not None
        source = None if labels is None else snapshot(labels)

        def done(refined: Refined) -> None:
            if section is self.section:
                self._step_to("Refine", pose=refined.pose, refined=refined, as_refined=True)
            self.work.told.emit(" ".join(refined.notes), "note")

        def work(link: Any) -> Refined | None:
            return job_side(job.pair).refine(job, found.prepared, pose, source, link)

        self.work.begin(REFINING, work, done)

    def _ready(self) -> Section:
        section = self.section
        if section is None or section.pose is None:
            raise InputError("Find the plane first, or place it by hand.")
        return section

    def _job_now(self) -> SectionJob:
        job = self._ready().job
        assert job is not None
        return replace(job, device=self.controller.current_device())

    # ------------------------------------------------------------ sections one by one
    def step(self, by: int) -> None:
        """To the next section, or back."""
        every = self.sections
        if self.section in every:
            self.go_to(every[(every.index(self.section) + by) % len(every)])

    def go_to(self, section: Section) -> None:
        self.choose_section(section.layer, section.index or 0)

    def judge(self, state: str) -> None:
        """Accepted, skipped or flagged; the same once more: undecided."""
        section = self.section
        if section is not None:
            section.state = "" if section.state == state else state
            self.changed.emit()

    # ------------------------------------------------------------ files
    def export(self, folder: Path) -> None:
        """Write everything of the fitted section into a folder."""
        section, job = self._ready(), self._job_now()
        if section.refined is None or section.found is None or not section.as_refined:
            raise InputError("Refine first: what is exported is the fitted section.")
        if section.refined.of_stack is not None:
            raise InputError(OF_STACK)
        chosen = section.chosen
        others = [one.found for one in section.found.guesses if one is not chosen and one.found]
        labels = self.options.labels
        given = Export(
            job, section.found.prepared, section.refined, tuple(others),
            None if labels is None else snapshot(labels), section.whole_pairs,
        )  # fmt: skip

        def done(where: Path) -> None:
            self.work.told.emit(f"Written to {where}; report.html shows it.", "good")

        self.work.begin(EXPORTING, lambda _: files_side().export(given, folder), done)
