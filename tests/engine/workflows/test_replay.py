"""Runs of workflows that make their inputs first are repeated from their folders, to the bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fireants_engine.cli.main import main
from fireants_engine.errors import InputError
from fireants_engine.geometry import Image
from fireants_engine.io import load_image, save_affine, save_image
from fireants_engine.transforms import Affine
from fireants_engine.workflows import slices
from fireants_engine.workflows.replay import replay
from fireants_engine.workflows.report import source_of
from fireants_engine.workflows.rundir import load_run
from fireants_engine.workflows.sheets import middle_of
from fireants_engine.workflows.spaces_file import load_spaces
from tests.engine.workflows import exvivo_phantom as exvivo
from tests.engine.workflows.section_phantom import BROWN, section, turned
from tests.engine.workflows.slice_phantom import brain, cut, true_affine


def quick(**levels: Any) -> list[str]:
    """Few steps of every stage: name -> shrink."""
    return [
        word
        for name, shrink in levels.items()
        for word in ("--set", f"stages.{name.replace('_', '-')}.pyramid.levels="
                     f"[{{shrink: {shrink}, max_steps: 4}}]")
    ]  # fmt: skip


def command(*words: Any) -> int:
    return main([str(word) for word in words])


def same(out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The command says that the replay is the same to the bit; the report's inputs."""
    capsys.readouterr()
    assert command("replay", out) == 0
    told = capsys.readouterr()
    assert "same to the bit" in told.out, told.err + told.out
    return load_run(out).report["inputs"]


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("brains")
    images = {
        "invivo": exvivo.invivo(),
        "seg": exvivo.labels(),
        "dead": exvivo.exvivo("left", exvivo.pose(1)),
    }
    return {name: save_image(image, folder / f"{name}.nii.gz") for name, image in images.items()}


AT_THE_MIDDLE = ["--set", "start={kind: centre}", *quick(rigid=4, affine=4, greedy=4)]


@pytest.fixture(scope="module")
def left(brains: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("left") / "out"
    done = command("exvivo", brains["dead"], brains["invivo"], "-o", out, "--hemisphere", "left",
                   "--labels", brains["seg"], "--threads", 1, "-q", *AT_THE_MIDDLE)  # fmt: skip
    assert done == 0
    return out


def test_half_a_brain(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = same(left, capsys)["fixed"]
    assert fixed["path"] is None
    assert [Path(one["path"]).name for one in fixed["made_from"]] == [
        "invivo.nii.gz", "seg.nii.gz",
    ]  # fmt: skip
    half = load_image(left / "fixed.nii.gz")
    assert 0 < float((half.data > 10).sum()) < 0.6 * float((exvivo.invivo().data > 10).sum())


def test_a_half_in_a_graph_is_known_by_the_file_of_the_whole(
    left: Path, brains: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert command("spaces", "make", "-o", tmp_path / "graph", f"in vivo:dead={left}") == 0
    assert "in vivo is invivo.nii.gz, left half (3D, the fixed" in capsys.readouterr().out
    image = load_spaces(tmp_path / "graph").spaces["in vivo"].image
    assert image is not None
    assert image.resolve() == brains["invivo"].resolve()


def test_the_half_that_was_found(
    brains: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    done = command("exvivo", brains["dead"], brains["invivo"], "-o", out, "--threads", 1, "-q",
                   *AT_THE_MIDDLE)  # fmt: skip
    assert done == 0, capsys.readouterr().err
    inputs = same(out, capsys)
    assert [Path(one["path"]).name for one in inputs["fixed"]["made_from"]] == ["invivo.nii.gz"]


def test_a_replay_is_saved_and_replayed(
    left: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    shutil.copytree(left, out)
    assert command("replay", out, "-o", again, "-q") == 0
    assert capsys.readouterr().out == ""
    inputs = same(again, capsys)
    assert inputs["fixed"] == load_run(out).report["inputs"]["fixed"]
    report = json.loads((out / "report.json").read_text())
    report["start"]["matrix"][0][3] += 5.0
    (out / "report.json").write_text(json.dumps(report))
    assert command("replay", out) == 1  # another start, another map
    assert "mm apart" in capsys.readouterr().out
    half = load_image(out / "fixed.nii.gz")
    save_image(Image(half.data + 1, half.grid), out / "fixed.nii.gz")
    with pytest.raises(InputError, match=r"fixed\.nii\.gz: the fixed image has changed"):
        replay(out)


def test_an_input_that_is_not_what_was_registered_is_refused(
    left: Path, brains: dict[str, Path], tmp_path: Path
) -> None:
    """A run of an older version, or of an image that was cut but still named its file."""
    out = tmp_path / "out"
    shutil.copytree(left, out)
    report = json.loads((out / "report.json").read_text())
    whole = load_image(brains["invivo"])
    del report["inputs"]["fixed"]["kept"]
    report["inputs"]["fixed"] |= source_of(whole.path)
    report["inputs"]["fixed"]["grid"]["origin_mm"][0] += 4
    (out / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match="is not what this run registered as its fixed image"):
        replay(out)


@pytest.fixture
def cuts(tmp_path: Path) -> tuple[list[Any], list[Path], Path]:
    """Parallel sections 6 mm apart as pictures, their truths, and their volume."""
    extent = 3.0 * 44
    how = {"tilt_deg": (0.0, 0.0), "elastic_px": 0.0, "tears": 1, "missing": 0.0, "flipped": False}
    both = [cut(brain(), seed=k, position=0.45 + 6 * k / extent, **how) for k in range(3)]
    paths = [save_image(image, tmp_path / f"s{k}.png") for k, (_, image) in enumerate(both)]
    return [one for one, _ in both], paths, save_image(brain(), tmp_path / "brain.nii.gz")


def test_a_section(cuts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (one, *_), (slide, *_), volume = cuts
    start = save_affine(Affine(true_affine(one, one.rgb.shape)), tmp_path / "start.mat")
    out = tmp_path / "out"
    done = command(
        "histology", "slice", slide, volume, "-o", out, "--pixel-size", 1.5, "--init", start,
        "--threads", 1, "-q", *quick(plane=2, in_plane=2),
    )  # fmt: skip
    assert done == 0, capsys.readouterr().err
    inputs = same(out, capsys)
    assert Path(inputs["fixed"]["made_from"][0]["path"]) == slide.resolve()
    assert inputs["fixed"]["path"] is None
    assert (out / "fixed_mask.nii.gz").is_file()  # the tear
    assert load_run(out).source_of("fixed") == slide.resolve()


def test_a_stack(
    cuts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    truths, paths, volume = cuts
    turns = iter([Affine(true_affine(one, one.rgb.shape)) for one in truths])

    def found(sheet: Any, *_: Any, **__: Any) -> tuple[slices.Candidate, ...]:
        affine = next(turns)
        return (slices.Candidate(affine, slices.plane_of(affine, middle_of(sheet)), 1.0),)

    monkeypatch.setattr(slices, "search", found)
    monkeypatch.setattr(slices, "compared", lambda _s, _v, given, *_: given)
    out = tmp_path / "out"
    done = command(
        "histology", "stack", *paths, volume, "-o", out, "--distance", 6, "--pixel-size", 1.5,
        "--threads", 1, "-q", *quick(whole=2, sections=2, in_plane=2),
    )  # fmt: skip
    assert done == 0, capsys.readouterr().err
    inputs = same(out, capsys)
    assert [Path(one["path"]) for one in inputs["fixed"]["made_from"]] == [
        path.resolve() for path in paths
    ]


def test_a_pair_in_unlike_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moving_mm = 0.00123
    fixed = save_image(section(), tmp_path / "fixed.png")
    moving = save_image(section(turned(75, True), colour=BROWN), tmp_path / "moving.png")
    out = tmp_path / "out"
    done = command(
        "histology", "pair", fixed, moving, "-o", out, "--pixel-size", 0.01,
        "--moving-pixel-size", moving_mm, "--flip", "yes", "--threads", 1, "-q",
        *quick(affine=3, greedy=2),
    )  # fmt: skip
    assert done == 0, capsys.readouterr().err
    inputs = same(out, capsys)
    assert inputs["moving"]["scale"] == 8
    run = load_run(out)
    middle = run.transform(run.grid.centre_mm[None])[0]
    np.testing.assert_allclose(middle, 80 * moving_mm, rtol=0.2)  # the middle of the other
