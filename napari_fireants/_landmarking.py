"""Landmarks during a run, after it, and through a fit on trial: who asks, who is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal
from qtpy.QtCore import QCoreApplication

from fireants_engine.errors import InputError
from napari_fireants._autosave import Autosave
from napari_fireants._following import Follower, settled
from napari_fireants._landmark_term import with_landmarks
from napari_fireants._landmarks import Column, LandmarkTable, Mapped, Place, Row
from napari_fireants._latest import Latest
from napari_fireants._layers import snapshot
from napari_fireants._marks import Images, Marks, fits
from napari_fireants._picking import Picker
from napari_fireants._preview import Frames, Wanted
from napari_fireants._trial import Fitter, Kind, Trial, TrialView

if TYPE_CHECKING:
    from napari_fireants._scene import Scene
    from napari_fireants._session import Job, Session


class Landmarking:
    """Keeps distances and points of the table with the present map.

    told: a sentence, empty when all is well; trial_changed: a fit is shown, or no longer.
    """

    told = Signal(str)
    trial_changed = Signal()

    def __init__(
        self,
        table: LandmarkTable,
        images: Images,
        scene: Scene,
        session: Session,
        hold: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.table, self.scene, self.session, self._hold = table, scene, session, hold
        self.marks = Marks(scene.viewer, table, images, scene)
        self.picker = Picker(self.marks)
        self.view = TrialView(scene)
        self.trial: Trial | None = None
        self.running = False
        self._wanted: Kind | None = None
        self._fitter, self._latest = Fitter(), Latest()
        self.autosave = Autosave(table, self._names)
        app = QCoreApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.autosave.flush)
        self._step_mm = 0.5
        self._rows: tuple[Row, ...] = ()
        self._pending: Follower | None = None
        table.changed.connect(self._changed)

    def _names(self) -> tuple[str, str]:
        fixed, moving = self.marks.images()
        return "fixed" if fixed is None else fixed.name, "moving" if moving is None else moving.name

    @property
    def unit(self) -> tuple[str, float]:
        """In which lengths are told, and how many of it a mm has: µm for voxels under .1 mm."""
        fixed = self.marks.images()[0]
        try:
            small = fixed is not None and max(snapshot(fixed).spacing_mm) < 0.1
        except InputError:
            small = False
        return ("µm", 1000.0) if small else ("mm", 1.0)

    @property
    def trying(self) -> bool:
        """A fit is wanted, shown or still computed."""
        return self._wanted is not None

    @property
    def busy(self) -> bool:
        """Something is being computed for the landmarks."""
        return self._latest.busy

    # ------------------------------------------------------------ a run
    def prepare(self) -> None:
        """Before the layers change for a run."""
        self.try_fit(None)

    def into(self, job: Job) -> Job:
        """The run with the landmarks: measured in any case, pulling where they are used."""
        table = self.table
        pairs = tuple(row for row in table.pairs if fits(row, job.fixed.ndim))
        if not pairs:
            return job
        recipe = job.recipe
        if table.used:
            recipe = with_landmarks(recipe, table.strength, table.robust_mm)
        return replace(job, recipe=recipe, landmarks=pairs)

    def begin(self, job: Job) -> None:
        """A run begins."""
        self.running, self._step_mm = True, min(job.fixed.spacing_mm) / 2
        self._latest.forget()
        self._pending = Follower(self._step_mm)
        self.marks.follower, self.marks.exact = None, None
        self.table.forget()
        self.marks.write()

    def wish(self, wanted: Wanted) -> Wanted:
        """What the next preview has to bring for the landmarks."""
        fixed, follower = self.scene.fixed, self.marks.follower or self._pending
        if not self.running or fixed is None or follower is None:
            return wanted
        points = follower.ask([row for row in self.table.rows if fits(row, fixed.ndim)])
        return wanted if points is None else replace(wanted, points_mm=points)

    def see(self, frames: Frames) -> None:
        """The newest frames of a run, after they have been shown."""
        if frames.points_mm is None or not self.running:
            return
        if self.marks.follower is None:
            self.marks.follower, self._pending = self._pending, None
        follower = self.marks.follower
        if follower is not None:
            self._tell("now", self.table.rows, follower.take(np.asarray(frames.points_mm)))

    def end(self) -> None:
        """The run has ended, with a result or without; or another result takes its place."""
        self.running = False
        self.table.set_mapped("now", {})
        self._follow_result()

    def _follow_result(self) -> None:
        """Measure through the result, in a thread."""
        product = self.session.product
        if product is None:
            self._latest.forget()
            self.marks.follower, self.marks.exact = None, None
            self.marks.write()
            return
        step, transform = self._step_mm, product.result.transform
        self._rows = self.table.rows
        rows = tuple(row for row in self._rows if fits(row, product.result.grid.dim))

        def done(found: tuple[Follower, dict[int, Place]]) -> None:
            if self.session.product is product and self.trial is None and not self.running:
                self.marks.follower, self.marks.exact = found[0], transform
                self._tell("after", rows, found[1])

        self._latest.ask(lambda: settled(rows, transform, step), done, self.told.emit)

    def _tell(self, column: Column, rows: tuple[Row, ...], mapped: dict[int, Place]) -> None:
        own = {row.key: row.fixed_mm for row in rows}
        told: Mapped = {k: (f, p) for k, p in mapped.items() if (f := own.get(k)) is not None}
        self.table.set_mapped(column, told)

    # ------------------------------------------------------------ a fit
    def try_fit(self, kind: Kind | None) -> None:
        """Show the moving image through a fit of the pairs, changing no data; None: no longer."""
        self._wanted = kind
        if kind is None:
            if self.trial is not None or self.view.shown:
                self._end_trial()
            return
        fixed, moving = self.marks.images()
        if fixed is None or moving is None:
            self._refuse("Open two images first: landmarks are places in a fixed and a moving one.")
            return
        if self.running:
            self._refuse("A registration is under way; try a fit when it has ended.")
            return
        try:
            sources = snapshot(fixed), snapshot(moving)
        except InputError as error:
            self._refuse(str(error))
            return
        rows = tuple(row for row in self.table.rows if fits(row, fixed.ndim))

        def done(trial: Trial) -> None:
            if self._wanted is kind and not self.running:
                self._show_trial(trial, rows)

        self._latest.ask(lambda: self._fitter(kind, rows, *sources), done, self._refuse)

    def _refuse(self, sentence: str) -> None:
        """No fit: what was on trial before goes, too."""
        self._wanted = None
        if self.trial is not None:
            self._end_trial()
        self.told.emit(sentence)
        self.trial_changed.emit()

    def _show_trial(self, trial: Trial, rows: tuple[Row, ...]) -> None:
        fixed, moving = self.marks.images()
        if fixed is None or moving is None:
            return
        self.trial = trial
        with self._hold():
            self.view.show(trial.picture, fixed, moving)
        self.marks.follower, self.marks.exact = trial.follower, trial.exact
        self.table.trial = trial.kind
        self._tell("now", rows, trial.mapped)
        self.told.emit("")
        self.trial_changed.emit()

    def _end_trial(self) -> None:
        self.trial = None
        with self.picker.aside():
            self.view.hide()
        self.table.trial = ""
        self.table.set_mapped("now", {})
        self._follow_result()
        self.trial_changed.emit()

    def _changed(self) -> None:
        """Other landmarks: what does not come with the next preview is computed again."""
        if self.running:
            return
        if self._wanted is not None:
            self.try_fit(self._wanted)
        elif self.session.product is not None and self.table.rows != self._rows:
            self._follow_result()
