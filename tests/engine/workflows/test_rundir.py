"""The run directory: complete, whole, and the same when loaded and replayed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fireants_engine as fe
from fireants_engine.errors import InputError, RecipeError
from fireants_engine.geometry import Image, Landmarks
from fireants_engine.io import load_image, save_image
from fireants_engine.kernels import select
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Affine
from fireants_engine.workflows import rundir
from fireants_engine.workflows.replay import replay
from fireants_engine.workflows.rundir import check_output_folder, load_run, save_run

ALWAYS = {
    "warped.nii.gz",
    "0GenericAffine.mat",
    "1Warp.nii.gz",
    "1InverseWarp.nii.gz",
    "jacobian.nii.gz",
    "recipe.yaml",
    "report.json",
    "report.html",
    "events.jsonl",
}


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["oblique", "flipped", "thin", "flat"])
def test_saved_run_acts_like_the_result(make_pair, recipe, kind: str, tmp_path: Path) -> None:
    fixed, moving = make_pair(kind)
    result = fe.register(fixed, moving, recipe)
    assert result.save(tmp_path / "out") == tmp_path / "out"
    assert files(tmp_path) == {"out"}
    assert files(tmp_path / "out") == ALWAYS
    saved = load_run(tmp_path / "out")
    scale = float(moving.data.max() - moving.data.min())
    for moved in (saved.warp(moving), load_image(tmp_path / "out" / "warped.nii.gz")):
        gap = (moved.data - result.moved.data).abs() / scale
        assert float(gap.max()) <= 1e-4
    rng = np.random.default_rng(0)
    index = rng.random((40, fixed.dim)) * (np.array(fixed.grid.size) - 1)
    to_mm = fixed.grid.matrix("index", "mm")
    points = index @ to_mm[:-1, :-1].T + to_mm[:-1, -1]
    there = result.transform(points)
    np.testing.assert_allclose(saved.transform(points), there, atol=1e-4)
    np.testing.assert_allclose(saved.inverse(there), result.inverse(there), atol=1e-4)
    assert saved.recipe == recipe
    assert saved.grid_of("moving").same_space(moving.grid)


def test_warp_at_full_resolution_is_the_warp_of_the_level(make_pair, recipe) -> None:
    """The Result holds the warp on the fixed grid, also where the last level was coarser."""
    from fireants_engine.context import ExecutionContext
    from fireants_engine.pipeline import run_plan
    from fireants_engine.recipe.build import build

    fixed, moving = make_pair("oblique")
    *_, last = run_plan(build(recipe), fixed, moving, ExecutionContext())
    coarse = fe.Mapping(last.result.transform, fixed.grid)
    result = fe.register(fixed, moving, recipe)
    assert coarse.forward.parts[0].grid.size != fixed.grid.size  # pyright: ignore
    assert result.forward.parts[0].grid is fixed.grid  # pyright: ignore
    gap = (coarse.warp(moving).data - result.moved.data).abs()
    assert float(gap.max() / moving.data.max()) <= 1e-4


def test_linear_run_has_warps_of_zeros(make_pair, linear_recipe, tmp_path: Path) -> None:
    fixed, moving = make_pair("oblique")
    result = fe.register(fixed, moving, linear_recipe)
    result.save(tmp_path / "out")
    assert files(tmp_path / "out") == ALWAYS
    saved = load_run(tmp_path / "out")
    assert isinstance(saved.forward, Affine)
    assert saved.report["quality"] == {"deformable": False}
    assert float(load_image(tmp_path / "out" / "1Warp.nii.gz").data.abs().max()) == 0
    assert float((load_image(tmp_path / "out" / "jacobian.nii.gz").data - 1).abs().max()) == 0
    np.testing.assert_allclose(saved.inverse(saved.transform([[1, 2, 3]])), [[1, 2, 3]])


def test_report(make_pair, recipe, labelled, tmp_path: Path) -> None:
    fixed, moving = make_pair("oblique")
    mask = Image.from_numpy((fixed.numpy() > 20).astype(np.uint8), fixed.grid, name="mask")
    fixed = fixed.with_mask(mask)
    result = fe.register(fixed, moving, recipe)
    points = np.array([[5.0, -30.0, 12.0], [20.0, -20.0, 20.0]])
    save_run(
        result,
        tmp_path / "out",
        moving_labels=labelled(moving),
        fixed_labels=labelled(fixed),
        landmarks=Landmarks(points, result.transform(points)),
    )
    assert files(tmp_path / "out") == ALWAYS | {"warped_labels.nii.gz", "fixed_mask.nii.gz"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["outcome"] == result.outcome.name
    assert report["recipe"] == {"name": "tiny", "hash": recipe.hash}
    assert report["seed"] == 3
    assert report["execution"]["device"] == "cpu"
    assert report["execution"]["why"] == select()[1]
    assert report["execution"]["kernels"] == select()[0].name
    assert set(report["versions"]) == {"fireants_engine", "torch", "numpy", "SimpleITK", "python"}
    assert [stage["name"] for stage in report["stages"]] == ["affine", "greedy"]
    level = report["stages"][1]["levels"][0]
    assert level["steps"] == len(level["losses"])
    assert level["losses"][-1] < level["losses"][0]
    assert level["folds"] == 0
    quality = report["quality"]
    assert quality["inside"] == "fixed mask"
    assert quality["folds"] == {"voxels": 0, "fraction": 0.0}
    assert quality["inverse_residual_inside_vox"]["mean"] <= 0.05
    assert quality["inverse_residual_inside_vox"]["max"] <= 0.5
    assert set(quality["dice"]["after"]["labels"]) == {"7", "300"}
    assert quality["dice"]["after"]["mean"] > quality["dice"]["before"]["mean"]
    assert quality["tre_mm"]["after"]["max"] < 1e-6 < quality["tre_mm"]["before"]["mean"]
    labels = load_image(tmp_path / "out" / "warped_labels.nii.gz").data
    assert set(labels.unique().tolist()) == {0, 7, 300}
    for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines():
        assert "event" in json.loads(line)


def test_page_is_self_contained(make_pair, recipe, labelled, tmp_path: Path) -> None:
    for kind, pictures in (("flat", 6), ("thin", 6)):
        fixed, moving = make_pair(kind)
        result = fe.register(fixed, moving, recipe)
        folder = tmp_path / kind
        result.save(folder, moving_labels=labelled(moving), fixed_labels=labelled(fixed))
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert page.count("data:image/png;base64,") == pictures
        assert "://" not in page
        assert result.outcome.value in page


def test_replay_is_identical_to_the_bit(make_pair, recipe, tmp_path: Path) -> None:
    pair = make_pair("oblique")
    paths = [save_image(image, tmp_path / f"{image.name}.nii.gz") for image in pair]
    mask = Image.from_numpy((pair[0].numpy() > 10).astype(np.uint8), pair[0].grid)
    mask_path = save_image(mask, tmp_path / "mask.nii.gz")
    fixed, moving = (load_image(path) for path in paths)
    fixed = fixed.with_mask(load_image(mask_path))
    start = Affine.about(np.eye(3), np.array([1.0, 0.5, 0.0]), fixed.grid.centre_mm)
    result = fe.register(fixed, moving, recipe, initial=start)
    save_run(result, tmp_path / "out", files={"fixed_mask": mask_path})
    again = replay(tmp_path / "out")
    assert result.warp_field is not None
    assert again.warp_field is not None
    assert torch.equal(again.warp_field.u, result.warp_field.u)
    np.testing.assert_array_equal(again.affine.matrix, result.affine.matrix)

    save_image(mask, paths[1])  # another content under the same name
    with pytest.raises(InputError, match=r"moving\.nii\.gz: the moving has changed"):
        replay(tmp_path / "out")
    text = (tmp_path / "out" / "recipe.yaml").read_text()
    (tmp_path / "out" / "recipe.yaml").write_text(text.replace("seed: 3", "seed: 4"))
    with pytest.raises(RecipeError, match="recipe was changed"):
        replay(tmp_path / "out")


def test_replay_of_data_in_memory(make_pair, linear_recipe, tmp_path: Path) -> None:
    fixed, moving = make_pair("flat")
    result = fe.register(fixed, moving, linear_recipe)
    result.save(tmp_path / "out")
    with pytest.raises(InputError, match="did not come from a file"):
        replay(tmp_path / "out")
    with pytest.raises(InputError, match="moving has changed"):
        replay(tmp_path / "out", fixed=fixed, moving=fixed)
    again = replay(tmp_path / "out", fixed=fixed, moving=moving)
    np.testing.assert_array_equal(again.affine.matrix, result.affine.matrix)


@pytest.mark.parametrize("part", ["_html", "save_image"])  # the second runs in a thread
def test_nothing_is_half_written(
    make_pair, linear_recipe, labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    fixed, moving = make_pair("flat")
    result = fe.register(fixed, moving, linear_recipe)
    out = tmp_path / "deep" / "out"

    def fail(*_: object) -> str:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(rundir, part, fail)
        with pytest.raises(OSError, match="disk full"):
            result.save(out)
    assert not out.exists()
    assert files(out.parent) == set()
    result.save(out, moving_labels=labelled(moving))
    (out / "notes.txt").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(rundir, part, fail)
        with pytest.raises(OSError, match="disk full"):
            result.save(out)
    assert files(out) == ALWAYS | {"warped_labels.nii.gz", "notes.txt"}
    result.save(out)  # without labels: those of the run before do not stay
    assert files(out) == ALWAYS | {"notes.txt"}


def test_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_output_folder(tmp_path / "new" / "deep")
    assert files(tmp_path) == set()
    (tmp_path / "file").touch()
    for place in ("file", "file/out"):
        with pytest.raises(InputError, match="is a file"):
            check_output_folder(tmp_path / place)

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(rundir.tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match=r"not writable \(Permission denied"):
        check_output_folder(tmp_path / "out")


def test_labels_that_do_not_fit(make_pair, linear_recipe, labelled, tmp_path: Path) -> None:
    fixed, moving = make_pair("flat")
    result = fe.register(fixed, moving, linear_recipe)
    with pytest.raises(InputError, match="fixed labels lie on another grid"):
        result.save(tmp_path / "out", fixed_labels=labelled(moving))
    with pytest.raises(InputError, match="whole numbers"):
        result.save(tmp_path / "out", moving_labels=moving)
    assert files(tmp_path) == set()


def test_not_a_run_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        load_run(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        load_run(tmp_path)


def test_landmarks_come_back_with_their_names(make_pair, linear_recipe, tmp_path: Path) -> None:
    fixed, moving = make_pair("flat")
    points = fixed.grid.points_mm()[[100, 300]]
    marks = Landmarks(points, points + 1, np.array([1.0, 0.5]), names=("AC", "PC"))
    result = fe.register(fixed, moving, linear_recipe, extras=fe.Extras(landmarks=marks))
    result.save(tmp_path / "out")
    again = replay(tmp_path / "out", fixed=fixed, moving=moving).extras.landmarks
    assert again.names == marks.names
    assert np.array_equal(again.moving_mm, marks.moving_mm)
    assert np.array_equal(again.weights, marks.weights)


def test_a_deformable_start_is_kept_and_replayed(make_pair, recipe, tmp_path: Path) -> None:
    fixed, moving = make_pair("oblique")
    first = fe.register(fixed, moving, recipe)
    second = fe.register(fixed, moving, recipe, initial=first.forward)
    second.save(tmp_path / "out")
    assert files(tmp_path / "out") == ALWAYS | {"0InitialWarp.nii.gz"}
    again = replay(tmp_path / "out", fixed=fixed, moving=moving)
    points = fixed.grid.points_mm()[::7]
    np.testing.assert_allclose(again.transform(points), second.transform(points), atol=1e-3)
    moved = np.abs(second.transform(points) - first.transform(points)).max()
    assert moved > 1e-2  # it went on


def test_a_term_on_labels_replays_with_the_labels(make_pair, recipe, tmp_path: Path) -> None:
    fixed, moving = make_pair("flat")

    def labels(image: Image) -> Image:
        return Image((image.data > image.data.mean()).to(torch.int32), image.grid)

    stages = [stage.model_dump() for stage in recipe.stages]
    stages[-1]["terms"] = [{"kind": "dice"}]
    dice = Recipe.from_dict({**recipe.to_dict(), "stages": stages})
    with pytest.raises(InputError, match="needs label maps of both images"):
        fe.register(fixed, moving, dice)
    extras = fe.Extras(moving_labels=labels(moving), fixed_labels=labels(fixed))
    result = fe.register(fixed, moving, dice, extras=extras)
    result.save(tmp_path / "out")
    report = load_run(tmp_path / "out").report
    assert report["quality"]["dice"]["after"]["mean"] > report["quality"]["dice"]["before"]["mean"]
    again = replay(tmp_path / "out", fixed=fixed, moving=moving, extras=extras)
    torch.testing.assert_close(again.warp_field.u, result.warp_field.u, rtol=0, atol=0)
    with pytest.raises(InputError, match="labels of this run did not come from a file"):
        replay(tmp_path / "out", fixed=fixed, moving=moving)
