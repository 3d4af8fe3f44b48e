"""Landmarks in a recipe: the term that makes them pull. No Qt."""

from __future__ import annotations

from fireants_engine.recipe.models import Recipe

KIND = "landmarks"


def has_landmarks(recipe: Recipe) -> bool:
    """A stage that is on looks at landmarks of its own accord."""
    return any(
        term.kind == KIND for stage in recipe.stages if stage.enabled for term in stage.terms
    )


def with_landmarks(recipe: Recipe, weight: float, robust_mm: float = 0.0) -> Recipe:
    """`recipe` with landmarks in every stage that has no such term yet.

    weight: of the term, per mm^2 (see `LandmarkDistance`); a recipe that has the term in some
    stage is returned as it is: whoever wrote it has decided. Raises RecipeError.
    """
    if has_landmarks(recipe):
        return recipe
    data = recipe.to_dict()
    term = {"kind": KIND, "weight": weight, "robust_mm": robust_mm}
    for stage in data["stages"]:
        stage["terms"] = [*stage["terms"], term]
    return Recipe.from_dict(data, recipe.name)
