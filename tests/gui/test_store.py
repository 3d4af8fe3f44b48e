"""The recipe store: presets, files, edits and their history."""

from __future__ import annotations

from pathlib import Path

import pytest

from fireants_engine.errors import RecipeError
from fireants_engine.recipe.models import Recipe
from napari_fireants._store import RecipeStore


def test_edits_can_be_undone_and_redone() -> None:
    store = RecipeStore("rigid")
    seen: list[str] = []
    store.changed.connect(lambda recipe: seen.append(recipe.name))
    store.load_preset("affine")
    store.edit(store.recipe.with_values({"stages.affine.descent.step": 0.25}))
    assert store.entry.edited
    assert (store.entry.source, store.entry.is_preset) == ("affine", True)
    store.steps.undo()
    assert not store.entry.edited
    store.steps.undo()
    assert store.recipe.name == "rigid"
    assert not store.steps.can_undo
    store.steps.redo()
    store.steps.redo()
    assert store.recipe.stages[1].descent.step == 0.25
    assert not store.steps.can_redo
    store.revert()
    assert store.recipe == Recipe.preset("affine")
    assert seen == ["affine", "affine", "affine", "rigid", "affine", "affine", "affine"]


def test_a_new_edit_ends_the_redo_history_and_no_change_is_no_entry() -> None:
    store = RecipeStore("rigid")
    store.load_preset("rigid")
    assert not store.steps.can_undo
    store.load_preset("affine")
    store.steps.undo()
    store.load_preset("multimodal")
    assert not store.steps.can_redo


def test_equal_recipes_are_held_once() -> None:
    store = RecipeStore("rigid")
    first = store.entry
    step = {"stages.rigid.descent.step": 0.25}
    store.edit(store.recipe.with_values(step))
    edited = store.entry
    store.load_preset("rigid")
    assert store.entry is first
    store.edit(store.recipe.with_values(step))
    assert store.entry is edited
    store.steps.undo()
    assert store.entry is first


def test_files(tmp_path: Path) -> None:
    store = RecipeStore("rigid")
    store.edit(store.recipe.with_values({"seed": 7}))
    store.save(tmp_path / "mine.yaml")
    assert (store.entry.is_preset, store.entry.edited) == (False, False)
    store.load_preset("affine")
    store.load_file(tmp_path / "mine.yaml")
    assert store.recipe.seed == 7
    (tmp_path / "bad.yaml").write_text("nonsense: 1")
    with pytest.raises(RecipeError, match=r"bad\.yaml"):
        store.load_file(tmp_path / "bad.yaml")
    assert store.recipe.seed == 7
