"""A change to a running registration, as plain values that a worker turns into an edit. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fireants_engine.recipe.models import Recipe
from napari_fireants._export import differences
from napari_fireants._layers import Snapshot


@dataclass(frozen=True, eq=False)
class Change:
    """What is None, or empty, stays as it is. See the engine's `edit`.

    what: sentences for the log; number: counts the changes of a run; landmarks: complete rows of
    the table; masks: role -> layer (non-zero is matched); nudge: homogeneous matrix fixed mm ->
    fixed mm, how what is seen of the moving image is moved; align: kind of map that first brings
    the landmarks together; level: of the present stage to go on from.
    """

    what: tuple[str, ...] = ()
    number: int = 0
    recipe: Recipe | None = None
    landmarks: Sequence[Any] = ()
    masks: Mapping[str, Snapshot] = field(default_factory=dict)
    nudge: np.ndarray | None = None
    align: str | None = None
    level: int | None = None

    def then(self, later: Change) -> Change:
        """Both as one, for a worker that has taken neither yet."""
        nudge = later.nudge if self.nudge is None else self.nudge
        if self.nudge is not None and later.nudge is not None:
            nudge = later.nudge @ self.nudge
        return Change(
            what=(*self.what, *(text for text in later.what if text not in self.what)),
            number=later.number,
            recipe=later.recipe or self.recipe,
            landmarks=later.landmarks or self.landmarks,
            masks={**self.masks, **later.masks},
            nudge=nudge,
            align=later.align or self.align,
            level=self.level if later.level is None else later.level,
        )


def told(before: Recipe, after: Recipe) -> str:
    """What was changed in a recipe, in a few words; empty when nothing was."""
    if before == after:
        return ""
    changed = differences(before, after)
    if changed is None:
        return "stages changed"
    if not changed:
        return ""
    parts = [f"{_words(before, path)} {_value(value)}" for path, value in changed.items()]
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    return ", ".join(parts[:3]) + more


def _words(recipe: Recipe, path: str) -> str:
    """`stages.2.descent.step` as `greedy: descent step`."""
    parts = path.split(".")
    if parts[0] == "stages" and parts[1].isdecimal():
        return f"{recipe.stages[int(parts[1])].name}: {' '.join(parts[2:])}"
    return " ".join(parts)


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
