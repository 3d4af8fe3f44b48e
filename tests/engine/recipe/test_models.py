"""Recipes: strict, frozen, the same everywhere, and errors that name the key."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from fireants_engine.errors import InputError, RecipeError
from fireants_engine.recipe import Recipe
from fireants_engine.recipe.models import Spec

SMALL = """
name: small
start: {kind: centre}
seed: 7
stages:
  - name: turn
    deformation: {kind: rigid}
    terms: [{kind: ssd, weight: 2}]
  - name: bend
    deformation: {kind: greedy, sigma_grad_mm: 1.5}
    terms: [{kind: lncc, radius_vox: 3}, {kind: mi, bins: 16}]
    descent: {step: 0.25, beta1: 0.8}
    pyramid: {levels: [{shrink: 2, max_steps: 20}, {shrink: 1.5, max_steps: 10}], min_size: 12}
    stop: {tolerance: 0, window: 5}
"""


def small() -> dict[str, Any]:
    return yaml.safe_load(SMALL)


@pytest.fixture
def recipe() -> Recipe:
    return Recipe.from_dict(small())


def changed(path: str, value: Any) -> dict[str, Any]:
    """The small recipe with another value (or key) at a dotted path."""
    data = small()
    node: Any = data
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
    node[int(last) if isinstance(node, list) else last] = value
    return data


def refused(data: Any) -> str:
    """The sentence with which a recipe is refused."""
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(data, "mine.yaml")
    text = str(caught.value)
    assert text.startswith("mine.yaml: ")
    assert text.endswith(".")
    assert "\n" not in text
    return text.removeprefix("mine.yaml: ")


# -------------------------------------------------------------------------- unknown keys
@pytest.mark.parametrize(
    "path",
    [
        "smoothing",
        "start.order",
        "stages.0.term",
        "stages.0.deformation.sigma_grad_mm",
        "stages.1.deformation.sigma_grad",
        "stages.1.terms.0.radius",
        "stages.1.descent.stepp",
        "stages.1.pyramid.level",
        "stages.1.pyramid.levels.1.steps",
        "stages.1.stop.windows",
    ],
)
def test_an_unknown_key_is_refused_by_its_path(path: str) -> None:
    assert refused(changed(path, 1)).startswith(f"unknown key '{path}'")


@pytest.mark.parametrize("path", ["affine", "rigid", "stages.0.greedy", "stages.1.stop.mi"])
def test_an_unknown_key_that_is_the_name_of_a_kind_is_named_too(path: str) -> None:
    """A likely slip: `rigid: {...}` in place of `deformation: {kind: rigid}`."""
    assert refused(changed(path, 1)).startswith(f"unknown key '{path}'")


@pytest.mark.parametrize("path", ["stages", "stages.0.deformation", "stages.1.terms"])
def test_a_missing_key_is_named(path: str) -> None:
    data = small()
    *parents, last = path.split(".")
    node: Any = data
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    del node[last]
    assert refused(data) == f"key '{path}' is missing."


# -------------------------------------------------------------------------------- limits
@pytest.mark.parametrize(
    ("path", "values"),
    {
        "format": (0, 2),
        "name": ("",),
        "seed": (-1, 0.5, "one"),
        "start.kind": ("middle", None),
        "stages.0.name": ("", 3),
        "stages.0.enabled": ("perhaps",),
        "stages.0.terms": ([],),
        "stages.0.terms.0.weight": (0, -1, math.nan),
        "stages.0.terms.0.kind": ("sdd",),
        "stages.0.deformation.kind": ("bspline",),
        "stages.1.deformation.sigma_grad_mm": (-0.1, 101, math.inf, "wide"),
        "stages.1.deformation.sigma_warp_mm": (-0.1, 101),
        "stages.1.deformation.grad_floor_vox": (-0.1, 21),
        "stages.1.deformation.warp_floor_vox": (-0.1, 21),
        "stages.1.terms.0.radius_vox": (0, 21, 1.5),
        "stages.1.terms.1.bins": (7, 257, None),
        "stages.1.descent.step": (0, 1.01, math.nan),
        "stages.1.descent.decay": (0, 1.01),
        "stages.1.descent.beta1": (-0.1, 1),
        "stages.1.descent.beta2": (-0.1, 1),
        "stages.1.descent.eps_rel": (0, 11),
        "stages.1.pyramid.levels": ([],),
        "stages.1.pyramid.levels.0.shrink": (0.5, 65),
        "stages.1.pyramid.levels.0.max_steps": (0, 100001, 2.5),
        "stages.1.pyramid.min_size": (1, 257),
        "stages.1.stop.tolerance": (-0.1, 1),
        "stages.1.stop.window": (1, 1001),
    }.items(),
)
def test_values_beyond_their_limits_are_refused_by_their_path(path: str, values: tuple) -> None:
    place = path.removesuffix(".kind")
    for value in values:
        assert refused(changed(path, value)).startswith(f"{place}: "), value


@pytest.mark.parametrize(
    ("path", "value"), [("stages.0.terms.0.weight", math.inf), ("seed", 2**64)]
)
def test_numbers_that_no_run_can_use_are_refused_at_the_door(path: str, value: float) -> None:
    """An infinite weight diverges at once; torch's generator takes no longer seed."""
    assert refused(changed(path, value)).startswith(f"{path}: ")


def test_a_wrong_kind_is_told_with_the_kinds_there_are() -> None:
    told = refused(changed("stages.0.deformation.kind", "bspline"))
    assert "'bspline'" in told
    for kind in ("rigid", "affine", "greedy"):
        assert f"'{kind}'" in told


def test_kinds_decide_what_else_is_allowed(recipe: Recipe) -> None:
    assert [type(s.deformation).__name__ for s in recipe.stages] == ["RigidSpec", "GreedySpec"]
    assert [type(t).__name__ for t in recipe.stages[1].terms] == ["LNCCSpec", "MISpec"]
    assert type(recipe.start).__name__ == "CentreStart"
    assert "radius_vox" in refused(changed("stages.1.terms.1.radius_vox", 2))  # of mi


# --------------------------------------------------------------------------------- order
def test_stages_come_in_any_order() -> None:
    """A linear stage after a deformable one moves what the warp has brought."""
    data = small()
    data["stages"].reverse()
    assert [s.deformation.kind for s in Recipe.from_dict(data).stages] == ["greedy", "rigid"]


# --------------------------------------------------------------------------- what fits what
@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("stages.0.descent", {"kind": "levenberg_marquardt"}, "a vector per voxel; choose adam"),
        ("stages.0.terms", [{"kind": "ssd"}, {"kind": "bending"}], "rigid stage has no warp"),
        ("stages.1.terms", [{"kind": "inverse_consistency"}], "halves of a symmetric stage"),
        ("stages.1.deformation.axis_weights", [0, 0, 0], "every axis is held"),
        ("stages.1.deformation.axis_weights", [1], "one number per voxel axis"),
        ("stages.1.deformation.axis_weights", [1, -1], "greater than or equal to 0"),
        ("stages.1.terms.0.weight", -1, "greater than 0"),
        ("stages.1.terms.0.level_weights", [1, -2], "greater than or equal to 0"),
        ("stages.0.terms", [{"kind": "stretch_barrier"}], "rigid stage has no warp"),
        ("stages.1.terms", [{"kind": "stretch_barrier"}], "volumes of a phase_encode stage"),
        ("stages.1.terms", [{"kind": "structural"}], "volumes of a phase_encode stage"),
        ("stages.1.terms", [{"kind": "diffusion", "axis_weights": [0, 0, 0]}], "no axis counts"),
        ("stages.1.terms", [{"kind": "diffusion", "axis_weights": [1]}], "one number per voxel"),
    ],
)
def test_what_does_not_fit_is_refused(path: str, value: object, words: str) -> None:
    sentence = refused(changed(path, value))
    assert words in sentence
    assert path.split(".")[1] in sentence


def test_a_slicewise_stage_has_a_warp_and_few_numbers() -> None:
    """Terms that look at the warp fit it; a descent that solves for a vector per voxel does not."""
    terms = [{"kind": "mi"}, {"kind": "diffusion", "axis_weights": [0, 0, 1]}]
    data = changed("stages.1", {"deformation": {"kind": "slicewise"}, "terms": terms})
    assert Recipe.from_dict(data).stages[1].terms[1].axis_weights == (0, 0, 1)
    data["stages"][1]["descent"] = {"kind": "levenberg_marquardt"}
    assert "choose adam for a slicewise stage" in refused(data)


EPI = {"kind": "phase_encode", "volumes": [{"direction": "j", "readout_s": 0.05}]}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("descent", {"kind": "levenberg_marquardt"}, "choose adam for a phase_encode stage"),
        ("terms", [{"kind": "ssd"}, {"kind": "inverse_consistency"}], "halves of a symmetric"),
        ("deformation.volumes", [{"readout_s": 0.05}], "volumes.0.direction"),
        ("deformation.volumes", [{"direction": "j"}], "volumes.0.readout_s"),
        ("deformation.volumes", [{"direction": "AP", "readout_s": 0.05}], "volumes.0.direction"),
        ("deformation.volumes", [{"direction": "j", "readout_s": -0.1}], "greater than or equal"),
        ("deformation.volumes", [{"direction": "j", "readout_s": 50}], "less than 10"),
        ("deformation.start", "middle", "'transport'"),
        ("deformation.axis_weights", [0, 1, 0], "unknown key"),
    ],
)
def test_what_does_not_fit_a_phase_encode_stage(path: str, value: object, words: str) -> None:
    data = changed("stages.1", {"deformation": dict(EPI), "terms": [{"kind": "ssd"}]})
    assert Recipe.from_dict(data).stages[1].deformation.kind == "phase_encode"
    *parents, last = path.split(".")
    (data["stages"][1][parents[0]] if parents else data["stages"][1])[last] = value
    assert words in refused(data)


def test_terms_of_a_phase_encode_stage() -> None:
    terms = [{"kind": k} for k in ("ssd", "stretch_barrier", "diffusion", "structural")]
    data = changed("stages.1", {"deformation": EPI, "terms": terms})
    assert [t.kind for t in Recipe.from_dict(data).stages[1].terms] == [t["kind"] for t in terms]


# --------------------------------------------------------------------------------- edits
def test_values_are_set_by_index_and_by_stage_name(recipe: Recipe) -> None:
    edited = recipe.with_values(
        {
            "stages.1.descent.step": 0.75,
            "stages.bend.terms.0.radius_vox": 4,
            "stages.turn.pyramid.levels.2.max_steps": 3,
            "seed": 11,
        }
    )
    assert edited.stages[1].descent.step == 0.75
    assert edited.stages[1].terms[0].radius_vox == 4
    assert [level.max_steps for level in edited.stages[0].pyramid.levels] == [100, 100, 3]
    assert edited.seed == 11
    assert recipe.stages[1].descent.step == 0.25  # the first is left alone
    assert edited.stages[1].descent.beta1 == 0.8  # and the rest is kept
    assert recipe.with_values({}) == recipe


def test_whole_parts_can_be_set(recipe: Recipe) -> None:
    edited = recipe.with_values({"stages.turn.deformation": {"kind": "affine"}})
    assert edited.stages[0].deformation.kind == "affine"
    with pytest.raises(RecipeError, match=r"unknown key 'stages\.1\.deformation\.sigma_grad_mm'"):
        recipe.with_values({"stages.bend.deformation.kind": "rigid"})


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("stages.fold.enabled", "there is no 'fold' here"),
        ("stages.2.enabled", "there is no '2' here"),
        ("stages.-1.enabled", "there is no '-1' here"),
        ("stages.²", "there is no '²' here"),
        ("stages.bend.descent.stepp", "unknown key 'stepp'; here there is: kind, step, decay"),
        ("sed", "unknown key 'sed'; here there is: format, name, description, start, intensities"),
        ("seed.more", "unknown key 'more'; here there is: nothing"),
        ("", "unknown key ''"),
    ],
)
def test_a_path_that_is_not_there_is_told_with_what_is(path, told, recipe: Recipe) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe.with_values({path: 1})
    assert str(caught.value).startswith(f"--set {path}: {told}")


def test_edits_are_validated(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"stages\.1\.descent\.step: .*greater than 0"):
        recipe.with_values({"stages.bend.descent.step": 0})


def test_recipes_cannot_be_changed_in_place(recipe: Recipe) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        recipe.stages[0].descent.step = 1.0  # type: ignore[misc]
    recipe.to_dict()["stages"][0]["name"] = "other"
    assert recipe.stages[0].name == "turn"


# ---------------------------------------------------------------------------------- hash
def backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(v) for v in value] if isinstance(value, list) else value


def test_the_hash_does_not_depend_on_order_or_spelling(recipe: Recipe) -> None:
    assert list(backwards(small())) != list(small())
    assert Recipe.from_dict(backwards(small())).hash == recipe.hash
    assert Recipe.from_dict(changed("stages.1.stop.tolerance", 0.0)).hash == recipe.hash
    assert Recipe.from_dict(changed("format", 1)).hash == recipe.hash  # a default written out
    assert len(recipe.hash) == 64


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_the_hash_survives_a_file(suffix: str, recipe: Recipe, tmp_path: Path) -> None:
    exact = recipe.with_values({"stages.bend.descent.eps_rel": 1e-7 / 3, "name": "é: #1"})
    path = tmp_path / f"mine{suffix}"
    if suffix == ".yaml":
        exact.save(path)
    else:
        path.write_text(json.dumps(exact.to_dict(), indent=2), encoding="utf-8")
    again = Recipe.load(path)
    assert again == exact
    assert again.hash == exact.hash


@pytest.mark.parametrize(
    "path", ["seed", "stages.1.descent.step", "stages.1.terms.0.radius_vox", "stages.1.stop.window"]
)
def test_the_hash_changes_with_every_value(path: str, recipe: Recipe) -> None:
    values = {"stages.1.descent.step": 0.26}
    assert Recipe.from_dict(changed(path, values.get(path, 9))).hash != recipe.hash


def test_the_hash_is_the_same_in_another_process_without_torch(tmp_path, recipe: Recipe) -> None:
    """Reading, editing and writing recipes imports no torch: forms open at once."""
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL, encoding="utf-8")
    code = f"""
import sys
from fireants_engine import Recipe, preset_names
for name in preset_names():
    Recipe.preset(name).to_yaml()
recipe = Recipe.load({str(path)!r})
recipe.with_values({{"seed": 3}}).model_json_schema()
print(recipe.hash, "torch" in sys.modules)
"""
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [recipe.hash, "False"]


# --------------------------------------------------------------------------------- files
FILES = {
    "not YAML": (b"stages: [1,", "not valid YAML"),
    "a list": (b"- name: turn\n", "a recipe is a mapping of keys, got list"),
    "a word": (b"brain-mri", "a recipe is a mapping of keys, got str"),
    "empty": (b"", "a recipe is a mapping of keys, got NoneType"),
    "an image": (b"\x5c\x01\x00\x00\xff\xfe", "cannot be read"),
    "control characters": (b"\x00\x01\x02", "not valid YAML"),
    "code": (b"seed: !!python/object/apply:os.getcwd []", "not valid YAML"),
    "a typo": (b"stagse: []\nstages: []", "unknown key 'stagse'"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_recipe_is_told_in_one_sentence(kind: str, tmp_path: Path) -> None:
    content, told = FILES[kind]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert told in text
    assert "\n" not in text
    assert isinstance(caught.value, InputError)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["nosuch.yaml", "."])
def test_a_path_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the recipe cannot be read") as caught:
        Recipe.load(tmp_path / name)
    assert str(tmp_path) in str(caught.value)


def test_json_with_tabs_is_json(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(recipe.to_dict(), indent="\t"), encoding="utf-8")
    assert Recipe.load(path) == recipe


def test_a_key_given_twice_is_an_error(tmp_path: Path) -> None:
    """Which of both was meant? A silent choice would run another recipe than the one read."""
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL + "seed: 8\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="seed"):
        Recipe.load(path)


# -------------------------------------------------------------------------------- schema
def test_every_value_has_a_title_a_sentence_and_its_unit() -> None:
    """The form, the command line and the reference page are made of them."""
    leaves = 0
    kinds = [Spec]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        assert kind.__doc__
        for name, field in kind.model_fields.items():
            extra = field.json_schema_extra
            if not isinstance(extra, dict):
                continue
            leaves += 1
            assert field.title, name
            assert str(field.description).endswith("."), name
            for suffix, unit in (("_mm", "mm"), ("_vox", "voxels")):
                assert not name.endswith(suffix) or extra["unit"] == unit, name
    assert leaves > 20
