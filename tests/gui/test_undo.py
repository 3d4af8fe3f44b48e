"""The steps of a viewer: taken back and done again in order."""

from __future__ import annotations

from napari_fireants._undo import DEPTH, UndoStack


class Value:
    """A number whose changes are steps."""

    def __init__(self, steps: UndoStack) -> None:
        self.now, self._steps = 0, steps

    def set(self, value: int, merge: object = None) -> None:
        before, self.now = self.now, value
        self._steps.push(f"{value}", lambda: self.set(before), lambda: self.set(value), merge)


def test_steps_come_back_in_order_and_a_new_one_ends_the_way_forward() -> None:
    steps = UndoStack()
    value = Value(steps)
    assert steps.undo() == ""
    value.set(1)
    value.set(2)
    assert (steps.undo_name, steps.redo_name) == ("2", "")
    assert (steps.undo(), value.now) == ("2", 1)
    assert (steps.undo(), value.now) == ("1", 0)
    assert (steps.redo(), value.now) == ("1", 1)
    value.set(5)
    assert not steps.can_redo
    steps.undo()
    assert value.now == 1


def test_a_drag_is_one_step() -> None:
    steps = UndoStack()
    value = Value(steps)
    for k in (1, 2, 3):
        value.set(k, merge="drag")
    value.set(9)
    steps.undo()
    assert value.now == 3
    steps.undo()
    assert value.now == 0
    steps.redo()
    assert value.now == 3


def test_a_step_that_fails_is_not_lost_and_the_depth_is_bounded() -> None:
    steps = UndoStack()
    value = Value(steps)
    for k in range(DEPTH + 5):
        value.set(k)
    while steps.undo():
        pass
    assert value.now == 4
    seen: list[int] = []
    steps.changed.connect(lambda: seen.append(1))
    steps.clear()
    assert (len(seen), steps.can_redo) == (1, False)
