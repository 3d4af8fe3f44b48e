"""Recipes: the serialisable description of a registration, and its presets.

`recipe.build` makes the pipeline's objects of them and is imported by itself: reading and
editing recipes needs no torch.
"""

from fireants_engine.recipe.models import Recipe, StageSpec
from fireants_engine.recipe.presets import load_preset, preset_names

__all__ = ["Recipe", "StageSpec", "load_preset", "preset_names"]
