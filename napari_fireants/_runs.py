"""A run of the history in plain values: names, numbers, a picture, and what makes it another.

No Qt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from fireants_engine.recipe.models import Recipe
from napari_fireants._export import flat
from napari_fireants._store import Entry

THUMBNAIL = 96


@dataclass(frozen=True, eq=False)
class Run:
    """One run. entry: its recipe and where that came from; used: with what else went in, such as
    landmarks; loss: per stage; edits: sentences.

    numbers: what was measured afterwards (folds, dice, tre_mm); kept: where its result is, None
    until it is written.
    """

    number: int
    time: datetime
    fixed: str
    moving: str
    entry: Entry
    used: Recipe
    outcome: str
    sentence: str
    seconds: float
    device: str
    loss: dict[str, float | None] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    edits: tuple[str, ...] = ()
    thumbnail: np.ndarray | None = None
    title: str = ""
    note: str = ""
    kept: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """For people: its title, else the number and the recipe."""
        return self.title or f"Run {self.number}: {recipe_name(self.entry)}"

    @property
    def summary(self) -> str:
        """The numbers of the last stage in a line."""
        parts = []
        losses = [loss for loss in self.loss.values() if loss is not None]
        if losses:
            parts.append(f"loss {losses[-1]:.4f}")
        folds, dice, tre = (self.numbers.get(name) for name in ("folds", "dice", "tre_mm"))
        if folds is not None:
            parts.append(f"{folds} folds" if folds != 1 else "1 fold")
        if dice is not None:
            parts.append(f"Dice {dice:.3f}")
        if tre is not None:
            parts.append(f"TRE {tre:.2f} mm")
        device = {"cpu": "CPU"}.get(self.device, self.device)
        return " · ".join([*parts, f"{max(0.1, self.seconds):.1f} s, {device}"])

    def rows(self) -> dict[str, str]:
        """Name of a number -> its text."""
        out = {f"Loss, {stage}": _text(loss, "{:.4f}") for stage, loss in self.loss.items()}
        if "folds" in self.numbers:
            out["Folded voxels"] = _text(self.numbers["folds"], "{:d}")
        if "dice" in self.numbers:
            out["Dice"] = _text(self.numbers["dice"], "{:.3f}")
        if "tre_mm" in self.numbers:
            out["TRE (mm)"] = _text(self.numbers["tre_mm"], "{:.2f}")
        return out | {"Seconds": f"{self.seconds:.1f}", "Device": self.device}


def _text(value: Any, form: str) -> str:
    return "none" if value is None else form.format(value)


def recipe_name(entry: Entry) -> str:
    """Of a preset or file, and whether it was changed."""
    source = entry.source if entry.is_preset else entry.source.replace("\\", "/").split("/")[-1]
    return f"{source}{' (edited)' * entry.edited}"


def changes(before: Recipe, after: Recipe) -> list[str]:
    """What makes the second recipe of the first, one `stage.path: old → new` each."""
    names = [stage.name for stage in after.stages]
    if names != [stage.name for stage in before.stages]:
        return [f"other stages: {', '.join(names)}"]
    old, new = flat(before.to_dict()), flat(after.to_dict())
    paths = [path for path in {**old, **new} if path not in ("name", "description")]
    kinds = [path for path in paths if path.endswith(".kind") and old.get(path) != new.get(path)]
    inside = [path.removesuffix("kind") for path in kinds]
    out = []
    for path in paths:
        value, was = new.get(path), old.get(path)
        # of a part of another kind only that is told
        if was == value or any(path.startswith(x) and path != f"{x}kind" for x in inside):
            continue
        out.append(f"{_path(path.removesuffix('.kind'), names)}: {_value(was)} → {_value(value)}")
    return out


def _value(value: Any) -> str:
    return "none" if value is None else str(value)


def _path(path: str, stages: list[str]) -> str:
    """`stages.1.stop.tolerance` with the stage's name."""
    first, _, rest = path.partition(".")
    if first != "stages":
        return path
    number, _, rest = rest.partition(".")
    return f"{stages[int(number)]}.{rest}"


def thumbnail(pictures: Any) -> np.ndarray:
    """The middle slices of fixed and moved, bytes of shape (2, THUMBNAIL, THUMBNAIL)."""
    both = [pictures.fixed_bytes, pictures.moved_bytes]
    while both[0].ndim > 2:
        both = [image[len(image) // 2] for image in both]
    shape = both[0].shape
    step = max(shape) / THUMBNAIL
    small = [max(1, round(n / step)) for n in shape]
    where = np.ix_(*(
        np.minimum(((np.arange(m) + 0.5) * n / m).astype(int), n - 1)
        for n, m in zip(shape, small, strict=True)
    ))  # fmt: skip
    out = np.zeros((2, THUMBNAIL, THUMBNAIL), np.uint8)
    top, left = ((THUMBNAIL - n) // 2 for n in small)
    for image, square in zip(both, out, strict=True):
        square[top : top + small[0], left : left + small[1]] = image[where]
    return out


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side: changes of the recipe, and per number (name, first, second)."""

    first: Run
    second: Run
    changes: list[str]
    rows: list[tuple[str, str, str]]


def compare(first: Run, second: Run) -> Comparison:
    a, b = first.rows(), second.rows()
    rows = [(name, a.get(name, "–"), b.get(name, "–")) for name in {**a, **b}]
    return Comparison(first, second, changes(first.used, second.used), rows)
