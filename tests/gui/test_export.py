"""Copy as command line and as Python."""

from __future__ import annotations

import shlex
from pathlib import Path

from napari_fireants._export import Files, Source, command_line, python_script
from napari_fireants._store import RecipeStore

PAIR = Files(Source("a", "/data/my scan.nii.gz"), Source("b", "/data/b.nii.gz"))


def words(text: str) -> list[str]:
    return shlex.split(text, comments=True)


def test_preset_with_values() -> None:
    store = RecipeStore("brain-mri")
    store.edit(store.recipe.with_values({"stages.2.descent.step": 0.25, "start.score": "mi"}))
    line = command_line(store.entry, PAIR, "cuda:0")
    assert "'/data/my scan.nii.gz'" in line
    assert words(line) == [
        "fireants-engine", "run", "/data/my scan.nii.gz", "/data/b.nii.gz", "-o", "registration",
        "--preset", "brain-mri", "--set", "start.score=mi", "--set", "stages.2.descent.step=0.25",
        "--device", "cuda:0",
    ]  # fmt: skip


def test_masks_and_layers_without_files() -> None:
    files = Files(Source("a", None), PAIR.moving, fixed_mask=Source("m", "/m.nii"))
    line = command_line(RecipeStore().entry, files)
    assert line.startswith("# Layer 'a' is in no file")
    assert words(line)[2] == "FIXED.nii.gz"
    assert words(line)[-2:] == ["--fixed-mask", "/m.nii"]


def test_changed_stages_need_a_recipe_file(tmp_path: Path) -> None:
    store = RecipeStore("brain-mri")
    store.edit(store.recipe.model_copy(update={"stages": store.recipe.stages[:2]}))
    line = command_line(store.entry, PAIR)
    assert "Save recipe" in line.splitlines()[0]
    assert words(line)[-2:] == ["--recipe", "recipe.yaml"]
    store.save(tmp_path / "mine.yaml")
    line = command_line(store.entry, PAIR)
    assert not line.startswith("#")
    assert words(line)[-1] == str(tmp_path / "mine.yaml")


def test_python_runs_and_says_the_same() -> None:
    store = RecipeStore("rigid")
    store.edit(store.recipe.with_values({"seed": 3}))
    files = Files(PAIR.fixed, PAIR.moving, moving_mask=Source("m", "/m.nii"),
                  moving_labels=Source("l", "/l.nii"))  # fmt: skip
    script = python_script(store.entry, files, "cpu")
    compile(script, "script", "exec")
    for line in (
        "fixed = fe.load_image('/data/my scan.nii.gz')",
        "moving = moving.with_mask(moving_mask)",
        "recipe = fe.Recipe.preset('rigid')",
        "    'seed': 3,",
        "extras = fe.Extras(moving_labels=moving_labels)",
        "result = fe.register(fixed, moving, recipe, extras=extras, "
        "execution=fe.Execution(device='cpu'))",
        "result.save('registration')",
    ):
        assert line in script
