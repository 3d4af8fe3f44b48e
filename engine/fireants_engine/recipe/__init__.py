"""Recipes: the serialisable description of a registration, and its presets."""

from fireants_engine.recipe.build import build, build_stage
from fireants_engine.recipe.models import Recipe, StageSpec
from fireants_engine.recipe.presets import load_preset, preset_names

__all__ = ["Recipe", "StageSpec", "build", "build_stage", "load_preset", "preset_names"]
