"""The packaged recipes: each loads, builds, and says what it is for."""

from __future__ import annotations

from importlib.resources import files

import pytest

from fireants_engine.errors import RecipeError
from fireants_engine.pipeline import Plan
from fireants_engine.recipe import Recipe, load_preset, preset_names
from fireants_engine.recipe.build import build

EVERY_PRESET = pytest.mark.parametrize("name", preset_names())


def test_the_names_are_those_of_the_files_the_usual_first() -> None:
    names = preset_names()
    found = [p.name for p in files("fireants_engine.recipe.presets").iterdir()]
    assert sorted(f"{n}.yaml" for n in names) == sorted(f for f in found if f.endswith(".yaml"))
    assert len(set(names)) == len(names)
    assert names[0] == "brain-mri"
    assert {"rigid", "affine", "multimodal"} <= set(names)


@EVERY_PRESET
def test_it_loads_and_names_itself(name: str) -> None:
    recipe = load_preset(name)
    assert recipe.name == name
    assert Recipe.preset(name) == recipe
    assert recipe.description.endswith(".")
    assert len(recipe.description) > 20
    assert "\n" not in recipe.description
    assert Recipe.from_dict(recipe.to_dict()).hash == recipe.hash


@EVERY_PRESET
def test_it_builds_a_plan_of_all_its_stages(name: str) -> None:
    recipe = load_preset(name)
    plan = build(recipe)
    assert isinstance(plan, Plan)
    assert [s.name for s in plan.stages] == [s.name for s in recipe.stages]
    assert len({s.name for s in recipe.stages}) == len(recipe.stages)  # `--set stages.NAME`
    assert plan.start is not None


@EVERY_PRESET
def test_at_most_one_greedy_stage_and_at_the_end(name: str) -> None:
    kinds = [stage.deformation.kind for stage in load_preset(name).stages]
    assert "greedy" not in kinds[:-1]
    assert kinds[0] == "rigid"


@EVERY_PRESET
def test_its_pyramids_go_from_coarse_to_fine(name: str) -> None:
    for stage in load_preset(name).stages:
        shrinks = [level.shrink for level in stage.pyramid.levels]
        assert shrinks == sorted(shrinks, reverse=True)
        assert len(set(shrinks)) == len(shrinks)


def test_descriptions_tell_presets_apart() -> None:
    told = [load_preset(name).description for name in preset_names()]
    assert len(set(told)) == len(told)
    assert len({load_preset(name).hash for name in preset_names()}) == len(told)


@pytest.mark.parametrize("name", ["brian-mri", "", "../presets/rigid", "rigid.yaml"])
def test_an_unknown_preset_is_told_with_those_there_are(name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.preset(name)
    text = str(caught.value)
    assert text.startswith(f"Unknown preset {name!r}; choose one of: ")
    assert all(known in text for known in preset_names())
