"""The packaged recipes."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

from fireants_engine.errors import RecipeError
from fireants_engine.recipe.models import Recipe

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same reader in C where there is one: ten times as fast."""
ORDER = (
    "brain-mri",
    "brain-mri-fast",
    "multimodal",
    "ct-lung",
    "microscopy",
    "ultrasound-mr",
    "affine",
    "rigid",
)


def preset_names() -> list[str]:
    """Names of the packaged recipes, the most usual first."""
    names = {p.name.removesuffix(".yaml") for p in files(__name__).iterdir()
             if p.name.endswith(".yaml")}  # fmt: skip
    return [n for n in ORDER if n in names] + sorted(names - set(ORDER))


@cache
def load_preset(name: str) -> Recipe:
    """The packaged recipe `name`; raises RecipeError listing the names there are."""
    if name not in preset_names():
        raise RecipeError(f"Unknown preset {name!r}; choose one of: {', '.join(preset_names())}.")
    return _read(f"{name}.yaml", name)


@cache
def workflow_recipe(name: str) -> Recipe:
    """The packaged recipe that a workflow completes with what it has read, such as `epi`.

    It cannot run as it is, so it is no preset.
    """
    return _read(f"workflows/{name}.yaml", name)


def _read(path: str, name: str) -> Recipe:
    text = (files(__name__) / path).read_text(encoding="utf-8")
    return Recipe.from_dict(yaml.load(text, _LOADER), name)
