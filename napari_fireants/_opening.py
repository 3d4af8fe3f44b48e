"""A saved session on its way into a viewer, piece by piece. Only writes layers and the view.

Reading happens in a thread, one layer is added at a time, and questions are asked between.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants import _sessionfile as sessionfile
from napari_fireants._files import Question
from napari_fireants._sessionfile import Loaded, Opened
from napari_fireants._viewerstate import look_again, look_like, make, slice_again
from napari_fireants._views import Look, View

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_fireants._controller import Controller

Locate = Callable[[str, str], str | None]
"""(path, name of the layer) -> where the file is now, None to go on without."""
Answer = Callable[[str], bool]
"""(sentence) -> whether to go on."""


class Opening:
    """One session that is being opened. done: called when everything is there; ended: when it is
    over in any case."""

    def __init__(
        self,
        controller: Controller,
        folder: Path,
        locate: Locate,
        go_on: Answer,
        done: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._ended = ended
        self._controller, self._keeper = controller, controller.keeper
        self._folder, self._locate, self._go_on, self._done = folder, locate, go_on, done
        self._layers: list[Layer | None] = []
        self._told: list[str] = []

    def _ask(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        def failed(sentence: str) -> None:
            self._ended()
            self._keeper.said.emit(sentence, "error")

        self._keeper.behind.ask(work, then, failed, engine=False)

    # ------------------------------------------------------------ reading
    def begin(self) -> None:
        """Read session.json, and look for its files."""
        files = self._keeper.history.files

        def work() -> tuple[Opened, list[Question]]:
            opened = sessionfile.read(self._folder)
            return opened, sessionfile.missing(opened, files)

        self._ask(work, lambda found: self._find(*found))

    def _find(self, opened: Opened, missing: list[Question]) -> None:
        """Ask for files that were moved; others are looked for beside those that were found."""
        files, folders = self._keeper.history.files, list[Path]()
        for question in missing:
            path = files.where(question.file, folders)
            path = path or self._locate(question.file.path, question.role)
            if path is not None:
                files.moved(question.file, path)
                folders.append(Path(path).parent)
        self._ask(
            lambda: sessionfile.changed(opened, files), lambda found: self._check(opened, found)
        )

    def _check(self, opened: Opened, changed: list[Question]) -> None:
        if changed and not self._go_on(_changed(changed)):
            self._ended()
            self._keeper.said.emit("The session was not opened.", "note")
            return
        files, objects = self._keeper.history.files, self._keeper.objects

        def work() -> Loaded:
            self._keeper.hold.take()
            return sessionfile.load(opened, files, objects)

        self._ask(work, self._replace)

    # ------------------------------------------------------------ writing
    def _replace(self, loaded: Loaded) -> None:
        """Take away one layer after the other, then add those of the session."""
        controller = self._controller
        self._keeper.history.fill([])
        self._keeper.recall.layers.clear()
        controller.session.show(None)
        controller.scene.forget()
        if "histo" in vars(controller):
            controller.histo.put_away()
        controller.looking.end()
        controller.landmarks.restore(type(controller.landmarks.content)())
        for _ in range(len(controller.viewer.layers)):
            self._ask(lambda: None, lambda _: self._remove())
        for index in range(len(loaded.arrays)):
            self._ask(lambda: None, lambda _, i=index: self._add(loaded, i))
        self._ask(lambda: None, lambda _: self._fill(loaded))

    def _remove(self) -> None:
        layers = self._controller.viewer.layers
        if len(layers):
            with self._controller.hold_painting():
                layers.pop()

    def _add(self, loaded: Loaded, index: int) -> None:
        state, arrays = loaded.opened.state.layers[index], loaded.arrays[index]
        if arrays is None:
            self._layers.append(None)
            return
        with self._controller.hold_painting():
            self._layers.append(make(self._controller.viewer, state.kind, state.state, arrays))
            with suppress(KeyError, TypeError, ValueError):  # now: the next is sliced only once
                slice_again(self._controller.viewer, loaded.opened.state.view)

    def _fill(self, loaded: Loaded) -> None:
        """Roles, recipe, landmarks and runs; then the run that was shown."""
        controller, state, keeper = self._controller, loaded.opened.state, self._keeper
        roles = {role: self._layer(index) for role, index in state.roles.items()}
        known = {f.name for f in fields(controller.last_roles)}
        controller.choose_roles(controller.roles(**{r: x for r, x in roles.items() if r in known}))
        controller.choose_device(state.device)
        controller.store.restore(loaded.entry)
        start = state.start
        controller.initial = None if start is None else np.array(start.matrix)
        controller.initial_from = "" if start is None else start.origin
        controller.initial_changed.emit()
        content = type(controller.landmarks.content)
        if state.landmarks is not None:
            try:
                controller.landmarks.restore(content.from_dict(state.landmarks))
            except (KeyError, TypeError, ValueError):
                loaded.notes.append("The landmarks of the session are damaged and left out.")
        if state.histology is not None:
            from napari_fireants._histo_kept import restore

            names = [str(layer.state.get("name", layer.kind)) for layer in state.layers]
            self._told = restore(controller.histo, state.histology, self._layer, names)
        keeper.history.fill(loaded.runs)
        for run in state.runs:
            keeper.recall.remember(
                run.number, {role: self._layer(index) for role, index in run.layers.items()}
            )
        controller.undo.clear()
        there = {run.number for run in loaded.runs if run.kept is not None}
        if state.shown in there:
            keeper.history.put(state.shown, state.compared if state.compared in there else None)
        self._ask(lambda: None, lambda _: self._look(loaded))

    def _layer(self, index: int) -> Layer | None:
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def _look(self, loaded: Loaded) -> None:
        """Every layer and the view look as they did."""
        controller, view = self._controller, dict(loaded.opened.state.view)
        look, pair = view.pop("look", {}), view.pop("pair", "")
        for layer, state in zip(self._layers, loaded.opened.state.layers, strict=True):
            if layer is not None:
                look_like(layer, state.kind, state.state)
        with suppress(KeyError, TypeError, ValueError):
            chosen = Look(**{**look, "view": View[look["view"]]})
            controller.scene.pair = pair or controller.scene.pair
            if chosen.view is not View.OVERLAY:
                controller.looking.choose(chosen)
        with suppress(KeyError, TypeError, ValueError):
            look_again(controller.viewer, view)
        for note in self._told:
            self._keeper.said.emit(note, "note")
        for note in loaded.notes:
            self._keeper.said.emit(note, "error")
        self._ended()
        self._done()


def _changed(questions: list[Question]) -> str:
    names = ", ".join(question.file.path for question in questions)
    one = len(questions) == 1
    return (
        f"{names} {'has' if one else 'have'} changed since the session was saved; results of runs "
        "in it belong to the old content."
    )
