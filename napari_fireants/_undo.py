"""What was done in a viewer, step by step, so that each step can be taken back. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psygnal import Signal

DEPTH = 200


@dataclass(frozen=True)
class Step:
    """One thing a person did: its name in a menu, and how it is taken back and done again.

    merge: steps in a row of one `merge` key are one step (a point while it is dragged).
    """

    name: str
    undo: Callable[[], object]
    redo: Callable[[], object]
    merge: object = None


class UndoStack:
    """Steps of recipe, landmarks, nudges and results in the order they were taken.

    `changed` is emitted when what can be undone or redone changes. While a step is being taken
    back, whatever its functions push is left out.
    """

    changed = Signal()

    def __init__(self) -> None:
        self._past: list[Step] = []
        self._future: list[Step] = []
        self._replaying = False

    @property
    def undo_name(self) -> str:
        """What Undo would take back; empty when there is nothing."""
        return self._past[-1].name if self._past else ""

    @property
    def redo_name(self) -> str:
        return self._future[-1].name if self._future else ""

    @property
    def can_undo(self) -> bool:
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        return bool(self._future)

    def push(
        self,
        name: str,
        undo: Callable[[], object],
        redo: Callable[[], object],
        merge: object = None,
    ) -> None:
        """Remember a step that has been taken already."""
        if self._replaying:
            return
        last = self._past[-1] if self._past and not self._future else None
        if last is not None and merge is not None and last.merge == merge:
            self._past[-1] = Step(name, last.undo, redo, merge)
        else:
            self._past = [*self._past, Step(name, undo, redo, merge)][-DEPTH:]
        self._future.clear()
        self.changed.emit()

    def undo(self) -> str:
        """Take the last step back; its name, empty when there was none."""
        return self._move(self._past, self._future, "undo")

    def redo(self) -> str:
        return self._move(self._future, self._past, "redo")

    def clear(self) -> None:
        """Forget everything, for another pair of images."""
        self._past, self._future = [], []
        self.changed.emit()

    def _move(self, source: list[Step], target: list[Step], way: str) -> str:
        if not source or self._replaying:
            return ""
        step = source.pop()
        self._replaying = True
        try:
            getattr(step, way)()
        finally:
            self._replaying = False
            target.append(step)
        self.changed.emit()
        return step.name
