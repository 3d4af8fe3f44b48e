"""The current recipe and where it came from. No Qt."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

from psygnal import Signal

from fireants_engine.recipe.models import Recipe
from napari_fireants._undo import UndoStack

RECENT = 16  # recipes that are shared when they come again


@dataclass(frozen=True)
class Entry:
    """A recipe and what it was derived from: `base` as read, from preset or file `source`."""

    recipe: Recipe
    base: Recipe
    source: str
    is_preset: bool

    @property
    def edited(self) -> bool:
        return self.recipe != self.base


class RecipeStore:
    """Holds one Entry; every change is a step of `steps`. `changed` carries the new recipe."""

    changed = Signal(Recipe)

    def __init__(self, preset: str = "brain-mri", undo: UndoStack | None = None) -> None:
        self.steps = UndoStack() if undo is None else undo
        self._entry = _from_preset(preset)
        self._recent = deque([self._entry], RECENT)

    @property
    def entry(self) -> Entry:
        return self._entry

    @property
    def recipe(self) -> Recipe:
        return self._entry.recipe

    def restore(self, entry: Entry) -> None:
        """Put an entry back as it was; no step of its own."""
        if entry != self._entry:
            self._entry = entry
            self.changed.emit(entry.recipe)

    def _put(self, entry: Entry, what: str = "edit of the recipe") -> None:
        before = self._entry
        if entry == before:
            return
        # a session that goes back and forth between recipes holds each of them once
        if entry in self._recent:
            entry = self._recent[self._recent.index(entry)]
        else:
            self._recent.append(entry)
        self.steps.push(what, lambda: self.restore(before), lambda: self.restore(entry))
        self.restore(entry)

    def load_preset(self, name: str) -> None:
        """Raises RecipeError for an unknown name."""
        self._put(_from_preset(name), f"preset {name}")

    def load_file(self, path: str | Path) -> None:
        """Raises RecipeError with one sentence when the file is no recipe."""
        recipe = Recipe.load(path)
        self._put(Entry(recipe, recipe, str(path), is_preset=False), f"recipe {Path(path).name}")

    def use(self, recipe: Recipe) -> None:
        """A recipe made elsewhere."""
        self._put(Entry(recipe, recipe, recipe.name, is_preset=False), f"recipe {recipe.name}")

    def take(self, entry: Entry, what: str) -> None:
        """A recipe of before, with where it came from."""
        self._put(entry, what)

    def edit(self, recipe: Recipe) -> None:
        """The current recipe with changed values; what it was derived from stays."""
        entry = self._entry
        self._put(Entry(recipe, entry.base, entry.source, entry.is_preset))

    def save(self, path: str | Path) -> None:
        """Write YAML; the file becomes the recipe's origin."""
        self.recipe.save(path)
        self._put(Entry(self.recipe, self.recipe, str(path), is_preset=False))

    def revert(self) -> None:
        """Back to the preset or file as read."""
        self.edit(self._entry.base)


def _from_preset(name: str) -> Entry:
    recipe = Recipe.preset(name)
    return Entry(recipe, recipe, name, is_preset=True)
