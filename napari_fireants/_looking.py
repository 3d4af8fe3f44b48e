"""The chosen way to look at a registration, while it runs and after. No widgets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib import import_module
from typing import Any

from psygnal import Signal

from napari_fireants._latest import Latest
from napari_fireants._preview import Frames, Wanted
from napari_fireants._remember import remember
from napari_fireants._scene import EDGES, Scene
from napari_fireants._seen import Arrows, Key, Picture
from napari_fireants._session import Job, Session
from napari_fireants._sources import Standing, of_frames, of_result
from napari_fireants._views import Look, View, compose

WAITING = "The next preview brings it."
HOLD_KEY = "Q"
"""Held on the canvas: the fixed image alone."""
AFTERWARDS = "The inverse is computed when the run has ended; this view works then."


class Looking:
    """Composes pictures in a thread, the newest only, and has the scene show them.

    changed: the look was chosen, here or by the mouse; told: what the picture says, or why there
    is none; ready: there is something to look at, or no longer. hold: keeps the window from
    painting while a layer is added.
    """

    changed = Signal(Look)
    told = Signal(str)
    ready = Signal(bool)

    def __init__(
        self,
        scene: Scene,
        session: Session,
        hold: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.scene, self.session, self._hold = scene, session, hold
        self.look = Look()
        self.frames: Frames | None = None
        self.standing: Standing | None = None
        self.running = False
        self._latest = Latest()
        self._again: bool | None = None
        dims = scene.viewer.dims.events
        dims.order.connect(self._turned)
        dims.ndisplay.connect(self._turned)
        dims.current_step.connect(self._moved)

    # ------------------------------------------------------------ what it is
    @property
    def busy(self) -> bool:
        """A picture is being made."""
        return self._latest.busy

    @property
    def possible(self) -> bool:
        """There is something to look at."""
        there = self.frames is not None if self.running else self.session.product is not None
        return there and self.scene.there

    @property
    def _composed(self) -> bool:
        edges = self.look.view is View.OVERLAY and self.scene.pair == EDGES
        return self.look.composed or edges

    @property
    def key(self) -> Key:
        """The plane on the canvas, None where all is."""
        planes = self.scene.wanted().planes
        return planes[0] if planes else None

    def wish(self, wanted: Wanted) -> Wanted:
        """What the next preview has to bring for this look."""
        return replace(wanted, warp=True) if self.look.view.of_warp else wanted

    # ------------------------------------------------------------ commands
    def choose(self, look: Look, *, sliding: bool = False) -> None:
        """Look in another way. sliding: a slider is in motion, the slice on the canvas will do."""
        self.look = look
        self.changed.emit(look)
        self.show(quick=sliding)

    def colour(self, pair: str) -> None:
        """Another pair of colours, a name in PAIRS; kept for the next viewer, too."""
        self.scene.pair = pair
        remember("display", "colours", pair)
        self.show()

    def flick(self, first: bool) -> None:
        """Of the flickering images the first or the second."""
        if self.possible and self.look.view is View.FLICKER and not self.busy:
            self.scene.flick(first, self.look.before)

    def hold_fixed(self, held: bool) -> None:
        """The fixed image alone for as long as a key is held, whatever the view."""
        if not self.possible:
            return
        if held:
            self.scene.apply(Look(View.FLICKER))
            self.scene.flick(True)
        else:
            self.show()

    def show(self, quick: bool = False) -> None:
        """Show the chosen look as things are now."""
        if not self.possible:
            self.told.emit("")
        elif self.running and self.look.view is View.INVERSE:
            self.scene.apply(Look())
            self.told.emit(AFTERWARDS)
        elif self._composed:
            self._compose(quick)
        else:
            self.scene.apply(self.look)
            self.told.emit("")

    # ------------------------------------------------------------ what happens
    def begin(self, job: Job) -> None:
        """A run begins; the view stays."""
        self.running, self.standing, self.frames = True, Standing(job), None
        self.told.emit("")
        self.ready.emit(False)

    def see(self, frames: Frames) -> None:
        """The newest frames of a run."""
        first, self.frames = self.frames is None, frames
        if self._composed and self.look.view is not View.INVERSE:
            self._compose()
        elif first:
            self.show()
        self.ready.emit(True)

    def end(self) -> None:
        """The run has ended, with a result or without; or another result takes its place."""
        self.running, self.frames, self.standing = False, None, None
        self.show()
        self.ready.emit(self.possible)

    def _turned(self, *_: object) -> None:
        if self.possible and self._composed:
            self._compose()

    def _moved(self, *_: object) -> None:
        if self.possible and self.look.view.per_slice:
            self._compose(quick=True)

    # ------------------------------------------------------------ composing
    def _compose(self, quick: bool = False) -> None:
        if self._latest.busy:
            self._again = quick
            return
        source = self._from_run() if self.running else self._from_result(quick)
        if source is None:
            return
        look, key, seen, valid = source

        def done(picture: Any) -> None:
            if valid() and self.possible and look.view is self.look.view and self._composed:
                self._present(picture, key)
            self._next()

        def failed(sentence: str) -> None:
            self.told.emit(sentence)
            self._next()

        def work() -> Picture | Arrows:
            if look.view is View.ARROWS:
                import_module("pandas")  # napari's, for arrows: half a second, not in the window
            return compose(look, seen())

        self._latest.ask(work, done, failed)

    def _next(self) -> None:
        if self._again is not None:
            quick, self._again = self._again, None
            self.show(quick)

    def _present(self, picture: Picture | Arrows, key: Key) -> None:
        with self._hold() if self.scene.extras.lacks(picture) else nullcontext():
            self.scene.present(picture, key)
        self.told.emit(picture.note)

    def _from_result(self, quick: bool) -> Any:
        product = self.session.product
        if product is None:
            return None
        plane = quick and self.look.view is not View.INVERSE
        key = self.key if plane or self.look.view.per_slice else None
        space = self.scene.spacing, self.scene.canvas_axes()
        return (
            self.look,
            key,
            lambda: of_result(product.pictures, product.result, key, *space),
            lambda: self.session.product is product,
        )

    def _from_run(self) -> Any:
        frames, standing, look = self.frames, self.standing, self.look
        if look.view is View.INVERSE:
            return None
        wanted, axes = self.scene.wanted(), self.scene.canvas_axes()
        key = wanted.planes[0] if wanted.planes else None
        if frames is None or standing is None or key not in frames.images:
            return None
        if look.view.of_warp and key not in frames.warps:
            self.told.emit(WAITING)
            return None
        return (
            look,
            key,
            lambda: of_frames(frames, standing, key, wanted.shrink or 1.0, axes),
            lambda: self.frames is not None,
        )
