"""The runs of a viewer: what each was, how it went, and the way back to it. No Qt.

Results of the newest runs stay in memory; every result is written among `objects` as soon as there
is one, and read again when it is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from psygnal import Signal

from fireants_engine.errors import InputError
from napari_fireants._files import Files
from napari_fireants._objects import Objects
from napari_fireants._runs import Comparison, Run, changes, compare, thumbnail
from napari_fireants._store import Entry
from napari_fireants._undo import UndoStack

KEPT_IN_MEMORY = 2
"""Results, the shown one among them. One of two brains of 1 mm is some 300 MB; to read it again
takes 0.2 s."""

Ask = Callable[[Callable[[], Any], Callable[[Any], None], Callable[[str], None]], None]
"""(work, done, failed): work in a thread, then done(value) or failed(sentence)."""


class History:
    """Runs in the order in which they ended, and which of them is shown.

    ask: has work done in a thread. show(shown, other): puts a run, given with its product, into the
    viewer (None: nothing), with another one its moved image beside that one's. changed: runs came,
    went, were measured, or another is shown; said: (sentence, tone).
    """

    changed = Signal()
    said = Signal(str, str)

    def __init__(
        self,
        objects: Objects,
        files: Files,
        ask: Ask,
        show: Callable[..., None],
        steps: UndoStack | None = None,
        blocked: Callable[[], bool] = lambda: False,
    ) -> None:
        self.objects, self.files = objects, files
        self.steps = UndoStack() if steps is None else steps
        self.runs: list[Run] = []
        self.shown: int | None = None
        self.compared: int | None = None
        self.writing: Callable[[], object] = lambda: None
        """Called, in the thread, before results are written."""
        self._ask, self._show, self._blocked = ask, show, blocked
        self._products: dict[int, Any] = {}
        self._removed: list[Run] = []
        self._next = 1
        self._wish = 0

    # ------------------------------------------------------------ what there is
    def run(self, number: int) -> Run:
        """Raises InputError for a run that is not there."""
        for run in self.runs:
            if run.number == number:
                return run
        raise InputError(f"There is no run {number} in the history.")

    def changes(self, number: int) -> list[str]:
        """The recipe's difference to the run before it; of the first to what it was made from."""
        index = self.runs.index(self.run(number))
        if index == 0:
            return changes(self.runs[0].entry.base, self.runs[0].used)
        return changes(self.runs[index - 1].used, self.runs[index].used)

    @property
    def in_memory(self) -> int:
        """Results that are."""
        return len(self._products)

    @property
    def needed(self) -> list[Run]:
        """Runs whose files must stay: also those that can come back by Undo."""
        return [*self.runs, *self._removed]

    # ------------------------------------------------------------ runs come
    def add(self, product: Any, entry: Entry, before: int | None = None) -> Run:
        """A run has ended and is shown; a step. before: what was shown when it began."""
        info = product.info
        run = Run(
            number=self._next,
            time=datetime.now().astimezone(),
            fixed=info["fixed"]["name"],
            moving=info["moving"]["name"],
            entry=self._known_entry(entry),
            used=self._known_recipe(product.result.recipe),
            outcome=info["outcome"],
            sentence=product.sentence,
            seconds=info["seconds"],
            device=info["device"],
            loss={name: _finite(loss) for name, loss in info["loss"].items()},
            edits=tuple(e.what for e in product.result.events if hasattr(e, "what")),
            thumbnail=thumbnail(product.pictures),
        )
        self._next += 1
        self.runs.append(run)
        self._products[run.number] = product
        self.shown, self.compared = run.number, None
        number = run.number
        self.steps.push(f"run {number}", lambda: self.put(before), lambda: self.put(number))
        self._keep(number, product)
        self.changed.emit()
        return run

    def _known_recipe(self, recipe: Any) -> Any:
        """An equal one that is in memory anyway, where there is one."""
        return next((run.used for run in reversed(self.runs) if run.used == recipe), recipe)

    def _known_entry(self, entry: Entry) -> Entry:
        return next((run.entry for run in reversed(self.runs) if run.entry == entry), entry)

    def _keep(self, number: int, product: Any) -> None:
        """Write the result and measure it, in a thread."""

        def work() -> tuple[dict[str, Any], dict[str, Any]]:
            from napari_fireants._kept import keep, measure

            self.writing()
            return measure(product), keep(product, self.objects, self.files)

        def done(found: tuple[dict[str, Any], dict[str, Any]]) -> None:
            numbers, kept = found
            self._update(number, numbers=numbers, kept=kept)
            self._trim()

        def failed(sentence: str) -> None:
            self.said.emit(f"Run {number} stays in memory only: {sentence}", "error")

        self._ask(work, done, failed)

    def _trim(self) -> None:
        """Let go of results that are written, except for the newest and the shown one."""
        written = {run.number for run in self.needed if run.kept is not None}
        wanted = [n for n in (self.shown, self.compared) if n is not None]
        rest = [n for n in self._products if n not in wanted]
        room = max(0, KEPT_IN_MEMORY - len(wanted))
        for number in rest[: max(0, len(rest) - room)]:
            if number in written:
                del self._products[number]

    def _update(self, number: int, **values: Any) -> None:
        for runs in (self.runs, self._removed):
            for i, run in enumerate(runs):
                if run.number == number:
                    runs[i] = replace(run, **values)
        self.changed.emit()

    def fill(self, runs: Iterable[Run]) -> None:
        """Runs of a session that was opened, in the place of those that are there."""
        self.runs = list(runs)
        self._removed, self._products = [], {}
        self.shown = self.compared = None
        self._next = 1 + max((run.number for run in self.runs), default=0)
        self.changed.emit()

    # ------------------------------------------------------------ commands
    def _free(self) -> None:
        if self._blocked():
            raise InputError("A registration is at work; stop it, or wait until it has ended.")

    def restore(self, number: int) -> None:
        """Show a run again; a step. Raises InputError during a run."""
        self._free()
        self.run(number)
        before = self.shown
        if number == before and self.compared is None:
            return
        if number != before:
            name = f"restoring run {number}"
            self.steps.push(name, lambda: self.put(before), lambda: self.put(number))
        self.put(number)

    def compare(self, first: int, second: int) -> Comparison:
        """Show the moved images of two runs together. Raises InputError during a run."""
        self._free()
        both = self.run(first), self.run(second)
        self.put(second, first)
        return compare(*both)

    def leave(self) -> None:
        """No longer compare."""
        if self.compared is not None and self.shown is not None:
            self.put(self.shown)

    def begin(self) -> None:
        """A run begins: nothing is shown until it ends."""
        self._wish += 1
        self.shown = self.compared = None
        self.changed.emit()

    def put(self, number: int | None, against: int | None = None) -> None:
        """Have a run shown, once it is in memory; the newest wish counts."""
        if self._blocked():
            self.said.emit("A registration is at work; results change when it has ended.", "note")
            return
        self._wish += 1
        wish = self._wish
        numbers = [n for n in (number, against) if n is not None]

        def done(products: dict[int, Any]) -> None:
            if wish != self._wish or self._blocked():
                return
            self._products |= products
            pairs = [
                None if n is None else (self._known(n), products[n]) for n in (number, against)
            ]
            try:
                self._show(*pairs)
            except InputError as error:
                self.said.emit(str(error), "error")
                return
            self.shown, self.compared = number, against
            self._trim()
            self.changed.emit()

        self.fetch(numbers, done)

    def _known(self, number: int) -> Run:
        return next(run for run in self.needed if run.number == number)

    def lost(self, number: int) -> bool:
        """Its result is neither in memory nor among the files."""
        return number not in self._products and self._known(number).kept is None

    def fetch(self, numbers: Iterable[int], done: Callable[[dict[int, Any]], None]) -> None:
        """Call `done(number -> product)`; what is not in memory is read in a thread."""
        numbers = list(numbers)
        there = {n: self._products[n] for n in numbers if n in self._products}
        absent = {n: self._known(n).kept for n in numbers if n not in there}
        if not absent:
            done(there)
            return

        def work() -> dict[int, Any]:
            from napari_fireants._kept import again

            lost = [n for n, kept in absent.items() if kept is None]
            if lost:
                raise InputError(f"The result of run {lost[0]} was not kept; run it again.")
            return {n: again(kept, self.objects, self.files) for n, kept in absent.items() if kept}

        failed = lambda sentence: self.said.emit(sentence, "error")  # noqa: E731
        self._ask(work, lambda read: done(there | read), failed)

    def save(self, number: int, folder: Any, done: Callable[[Any], None]) -> None:
        """Write the run directory in a thread, then call `done(folder)`."""

        def write(products: dict[int, Any]) -> None:
            failed = lambda sentence: self.said.emit(sentence, "error")  # noqa: E731
            self._ask(lambda: products[number].result.save(folder), done, failed)

        self.run(number)
        self.fetch([number], write)

    def distance(self, comparison: Comparison, done: Callable[[tuple[float, float]], None]) -> None:
        """Mean and largest distance in mm of the two maps, in a thread."""
        a, b = comparison.first.number, comparison.second.number

        def measure(products: dict[int, Any]) -> None:
            def work() -> tuple[float, float]:
                from napari_fireants._kept import distance_mm

                return distance_mm(products[a], products[b])

            self._ask(work, done, lambda sentence: self.said.emit(sentence, "error"))

        self.fetch([a, b], measure)

    def rename(self, number: int, title: str, note: str = "") -> None:
        """Call a run by a name of one's own, and note something about it."""
        self.run(number)
        self._update(number, title=title.strip(), note=note.strip())

    def remove(self, number: int) -> None:
        """Take a run out of the list; a step. What is shown stays."""
        run = self.run(number)
        index = self.runs.index(run)

        def back() -> None:
            found = self._known(number)
            self._removed = [r for r in self._removed if r.number != number]
            self.runs.insert(min(index, len(self.runs)), found)
            self.changed.emit()

        def away() -> None:
            found = self._known(number)
            self.runs = [r for r in self.runs if r.number != number]
            self._removed.append(found)
            self.changed.emit()

        away()
        self.steps.push(f"removal of run {number}", back, away)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
