"""The current recipe, where it came from, and its history. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from psygnal import Signal

from fireants_engine.recipe.models import Recipe

_DEPTH = 100


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
    """Holds one Entry; every change can be undone. `changed` carries the new recipe."""

    changed = Signal(Recipe)

    def __init__(self, preset: str = "brain-mri") -> None:
        self._past: list[Entry] = []
        self._future: list[Entry] = []
        self._entry = _from_preset(preset)

    @property
    def entry(self) -> Entry:
        return self._entry

    @property
    def recipe(self) -> Recipe:
        return self._entry.recipe

    @property
    def can_undo(self) -> bool:
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        return bool(self._future)

    def _put(self, entry: Entry) -> None:
        if entry == self._entry:
            return
        self._past = [*self._past, self._entry][-_DEPTH:]
        self._future.clear()
        self._entry = entry
        self.changed.emit(entry.recipe)

    def load_preset(self, name: str) -> None:
        """Raises RecipeError for an unknown name."""
        self._put(_from_preset(name))

    def load_file(self, path: str | Path) -> None:
        """Raises RecipeError with one sentence when the file is no recipe."""
        recipe = Recipe.load(path)
        self._put(Entry(recipe, recipe, str(path), is_preset=False))

    def use(self, recipe: Recipe) -> None:
        """A recipe made elsewhere."""
        self._put(Entry(recipe, recipe, recipe.name, is_preset=False))

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

    def undo(self) -> None:
        if self._past:
            self._future.append(self._entry)
            self._entry = self._past.pop()
            self.changed.emit(self.recipe)

    def redo(self) -> None:
        if self._future:
            self._past.append(self._entry)
            self._entry = self._future.pop()
            self.changed.emit(self.recipe)


def _from_preset(name: str) -> Entry:
    recipe = Recipe.preset(name)
    return Entry(recipe, recipe, name, is_preset=True)
