"""An EPI correction in one viewer: what is given, what is at work, what was found. No widgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from fireants_engine.errors import FireantsError, InputError
from napari_fireants._epi_link import EpiJob, EpiLink, SeriesJob
from napari_fireants._epi_scene import EpiScene
from napari_fireants._epi_sides import TYPED, Side, read_side
from napari_fireants._latest import Latest
from napari_fireants._layers import file_of, opened_from, snapshot, time_points
from napari_fireants._task import outcome

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_fireants._controller import Controller

SIDES = ("up", "down", "series")
COMBINED = {
    "jacobian": "",
    "plain": "Mean of both, as bright as recorded",
    "least-squares": "Least squares of both",
}
"""What the corrected image is called; empty: as usual."""
CORRECTING, CHECKING, APPLYING, SAVING = (
    "An EPI correction is still at work",
    "Phase-encoding directions are being tried",
    "A series is being corrected",
    "An EPI correction is being saved",
)


@dataclass(frozen=True, eq=False)
class Options:
    """What may be chosen beside the pair. mixed_axes: different axes are meant."""

    motion: bool = False
    mixed_axes: bool = False
    structural: Layer | None = None
    field_map: Layer | None = None


class Epi:
    """What the EPI dock shows and does.

    changed: what is given (carries up, down or series, or nothing); working: something begins or
    ends; progressed: how far it is; told: a sentence and its tone; found: there is another result;
    checked: directions were tried (carries up or series, and the engine's Check).
    """

    changed = Signal(str)
    working = Signal()
    progressed = Signal(object)
    told = Signal(str, str)
    found_changed = Signal()
    checked = Signal(str, object)

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.session = controller.session
        self.scene = EpiScene(controller.viewer, lambda: controller.hold_painting())
        self.sides = {name: Side() for name in SIDES}
        self.options = Options()
        self.combine: Any = "jacobian"
        self.found: Any = None
        self.task = ""
        self._link = EpiLink()
        self._reading = {name: Latest(engine=False) for name in SIDES}
        self._composing = Latest()
        self._series: SeriesJob | None = None
        self.asked: set[str] = set()
        """Sides that a person has chosen, if only to be none."""

    @property
    def on_canvas(self) -> bool:
        """A correction is what a person looks at."""
        return self.found is not None and not self.task and self.scene.seen

    # ------------------------------------------------------------ what is given
    def choose(self, name: str, layer: Layer | None) -> None:
        """Take a layer for a side, and read what its sidecars say in a thread."""
        if layer == self.sides[name].layer and layer is not None:
            return
        self._reading[name].forget()
        self.sides[name] = Side(layer)
        self.changed.emit(name)
        if layer is not None:
            self._read(name)

    def _read(self, name: str) -> None:
        side = self.sides[name]
        try:
            source = self._source(name, side.layer)
        except FireantsError as error:
            self._put(name, replace(side, problem=str(error)))
            return

        def done(read: Side) -> None:
            now = self.sides[name]
            if now.layer == read.layer:
                kept = {key: getattr(now, key) for key, from_ in now.origin.items()
                        if from_ == TYPED}  # fmt: skip
                self._put(name, read.typed(**kept))

        self._reading[name].ask(
            lambda: read_side(side.layer, source, side.direction),
            done,
            lambda text: self._put(name, replace(self.sides[name], problem=text)),
        )

    @staticmethod
    def _source(name: str, layer: Layer) -> Any:
        if name != "series":
            return snapshot(layer)
        return replace(time_points(layer)[0][0], path=opened_from(layer))

    def _put(self, name: str, side: Side) -> None:
        self.sides[name] = side
        self.changed.emit(name)

    def set_direction(self, name: str, direction: str) -> None:
        """Of DIRECTIONS, as typed; the sidecar may still know the readout time."""
        if direction != self.sides[name].direction:
            self._put(name, self.sides[name].typed(direction=direction))
            if self.sides[name].readout_s is None and self.sides[name].layer is not None:
                self._read(name)

    def set_readout(self, name: str, seconds: float | None) -> None:
        if seconds != self.sides[name].readout_s:
            self._put(name, self.sides[name].typed(readout_s=seconds))

    def read_acqparams(self, path: Path) -> None:
        """Directions and readout times of up and down from FSL's file: its first two rows.

        Raises InputError for a file that is none, or has one row.
        """
        from fireants_engine.io.acqparams import load_acqparams

        rows = load_acqparams(path)
        if len(rows) < 2:
            raise InputError(f"{path}: has one row; give a row for up and one for down.")
        for name, row in zip(("up", "down"), rows, strict=False):
            values = {"direction": row.direction, "readout_s": row.readout_s or None}
            self._put(name, self.sides[name].typed(**values))

    def swap(self) -> None:
        """Up and down change places, with all that is known of them."""
        up, down = self.sides["up"], self.sides["down"]
        self.sides |= {"up": down, "down": up}
        for name in ("up", "down"):
            self._reading[name].forget()
            self.changed.emit(name)
            side = self.sides[name]
            if side.layer is not None and not side.read:
                self._read(name)

    def set_options(self, **values: Any) -> None:
        self.options = replace(self.options, **values)
        self.changed.emit("")

    @property
    def problem(self) -> str:
        """Why a correction cannot begin, in one sentence; empty where it can."""
        try:
            self._check()
        except FireantsError as error:
            return str(error)
        return ""

    def _check(self) -> None:
        up, down, options = self.sides["up"], self.sides["down"], self.options
        if up.layer is None:
            raise InputError("Choose two EPI images first.")
        if up.layer == down.layer:
            raise InputError(f"Up and down are both {up.layer.name}; choose two different images.")
        first = up.encoding
        first.array_axis(up.layer.ndim)
        if down.layer is None and options.field_map is not None:
            return
        down.encoding.array_axis(down.layer.ndim)
        second = down.stored_as(up).encoding
        if options.field_map is not None:  # which corrects each image alone
            return
        if (first.axis, first.signed_readout_s) == (second.axis, second.signed_readout_s):
            raise InputError(
                f"Both have the phase encoding {first}, so nothing tells how far they are bent; "
                "choose images of opposite direction, or correct the directions."
            )
        if first.axis != second.axis and not options.mixed_axes:
            raise InputError(
                f"{first.direction} and {second.direction} are different axes, which is rarely "
                "meant; correct the directions, or say under More that it is."
            )

    def job(self) -> EpiJob:
        """What a correction would take now; raises InputError where something is missing."""
        self._check()
        return self._job_of_sides()

    def _job_of_sides(self) -> EpiJob:
        up, down, options = self.sides["up"], self.sides["down"], self.options
        assert up.layer is not None
        down = down.stored_as(up)

        def maybe(layer: Layer | None) -> Any:
            return None if layer is None else snapshot(layer)

        job = EpiJob(
            up, down, snapshot(up.layer), maybe(down.layer), options.motion,
            maybe(options.structural), maybe(options.field_map),
            self.controller.current_device(),
        )  # fmt: skip
        job.check_grids()
        return job

    # ------------------------------------------------------------ commands
    def attempt(self, action: Callable[[], object]) -> None:
        """Do it; what is refused is told."""
        try:
            action()
        except FireantsError as error:
            self.told.emit(str(error), "error")

    def start(self) -> None:
        """Correct the pair; raises InputError where that cannot be."""
        job = self.job()
        self._composing.forget()
        self._begin(CORRECTING, lambda link: _job().run_correction(job, link), self._on_found)
        self.scene.begin(self.sides["up"], self.sides["down"])

    def check(self) -> None:
        """Try other directions; with a field map, the other sign."""
        job = self.job() if self.options.field_map is not None else self._loose_job()
        done: Callable[[Any], None] = lambda check: self.checked.emit("up", check)  # noqa: E731
        self._begin(CHECKING, lambda link: _job().run_check(job, link), done)

    def _loose_job(self) -> EpiJob:
        """A pair whose directions may be wrong: that is what a check is for."""
        up, down = self.sides["up"], self.sides["down"]
        if up.layer is None or down.layer is None or up.layer == down.layer:
            raise InputError("Choose two EPI images first.")
        for side in (up, down):
            side.encoding.array_axis(side.layer.ndim)
        return replace(self._job_of_sides(), field_map=None)

    def follow(self, check: Any, name: str = "up") -> None:
        """Take the directions that a check suggests."""
        directions = [encoding.direction for encoding in check.suggested.encodings]
        if name == "up":  # a pair was checked in the axes of up's file
            down = self.sides["down"]
            told = replace(down.stored_as(self.sides["up"]), direction=directions.pop())
            self.set_direction("down", told.stored_as(down).direction)
        self.set_direction(name, directions.pop())

    def check_series(self) -> None:
        found, job = self._correction(), self._series_job()
        done: Callable[[Any], None] = lambda check: self.checked.emit("series", check)  # noqa: E731
        self._begin(CHECKING, lambda _: _job().check_series(found, job), done)

    def apply(self) -> None:
        """Correct the chosen series; it becomes a layer beside it."""
        found, job = self._correction(), self._series_job()
        layer = self.sides["series"].layer

        def done(data: Any) -> None:
            made = self.scene.add_series(data, layer)
            said = f"All {len(data)} volumes are corrected: the layer {made}."
            self.told.emit(f"{said} Save writes it, too." if job.path else said, "good")
            self._series = job if job.path else None

        self._begin(APPLYING, lambda link: _job().run_series(found, job, link), done)

    def save(self, folder: Path) -> None:
        """Write the folder of the correction."""
        found, how, series = self._correction(), self.combine, self._series

        def done(where: Path) -> None:
            self.told.emit(f"Saved in {where}: images, field, warps and a report.", "good")

        self._begin(SAVING, lambda _: _job().save(found, folder, how, series), done)

    def stop(self) -> None:
        """End what is at work; a correction keeps its best state."""
        self._link.stop()
        if self.task:
            self.told.emit("Stopping after this step…", "note")

    def show_combined(self, how: str) -> None:
        """Another way to make one image of the volumes."""
        self.combine, found = how, self.found
        if found is None:
            return

        def done(image: Any) -> None:
            if self.found is found:
                self.scene.put_corrected(image, COMBINED[how])

        failed: Callable[[str], None] = lambda text: self.told.emit(text, "error")  # noqa: E731
        self._composing.ask(lambda: _job().combined(found, how), done, failed)

    def _correction(self) -> Any:
        if self.found is None:
            raise InputError("Correct a pair first; its field corrects the series.")
        return self.found

    def _series_job(self) -> SeriesJob:
        side = self.sides["series"]
        if side.layer is None:
            raise InputError("Choose a series (an image with a time axis) first.")
        side.encoding.array_axis(3)
        files = [each.layer and file_of(each.layer) for name in ("up", "down")
                 if (each := self.sides[name]).layer is not None]  # fmt: skip
        sources = tuple(time_points(side.layer)[0])
        return SeriesJob(side, sources, opened_from(side.layer), tuple(filter(None, files)))

    def make_room(self) -> None:
        """A registration needs the canvas."""
        if self.scene.seen:
            self.scene.put_away()

    # ------------------------------------------------------------ the border
    def _begin(
        self, task: str, work: Callable[[EpiLink], Any], done: Callable[[Any], None]
    ) -> None:
        if self.session.busy:
            raise InputError(f"{self.session.busy_with}; wait until it is done, or stop it.")
        link = self._link = EpiLink()

        def finish(ended: tuple[Any, str]) -> None:
            value, error = ended
            self.task = ""
            self.drain()
            self.told.emit("", "note")
            if error and task == CORRECTING:
                self.scene.abandon()
            if error:
                self._failed(error)
            elif value is not None:
                done(value)
            self.working.emit()

        self.session.submit(lambda: outcome(lambda: work(link)), finish, task, link.stop)
        self.task = task
        self.told.emit("", "note")
        self.working.emit()

    def _failed(self, sentence: str) -> None:
        self.told.emit(sentence, "note" if sentence.startswith("Stopped") else "error")

    def _on_found(self, outcome: Any) -> None:
        self.found, pictures = outcome
        self._series = None
        self.scene.finish(pictures)
        self.found_changed.emit()
        if self.combine != "jacobian":
            self.show_combined(self.combine)

    def drain(self) -> None:
        """Show the newest of what the worker has to say, and ask for more; a few times a second."""
        progress, _, notes, _ = self._link.take()
        if progress is not None:
            self.progressed.emit(progress)
        for note in notes:
            self.told.emit(note, "note")
        frames = self._link.pictures.take()
        if frames is not None:
            self.scene.show(*frames)
        if self.task == CORRECTING and self._link.pace.due():
            self._link.look(self.scene.key)
        if self.task and not self.session.busy:  # shut down, with the dock or the window
            correcting, self.task = self.task == CORRECTING, ""
            if correcting:
                self.scene.abandon()
            self.told.emit("Stopped, because the dock that ran it was closed.", "note")
            self.working.emit()


def _job() -> Any:
    """The worker's side, which imports the engine: for the thread only."""
    from napari_fireants import _epi_job

    return _epi_job
