"""The commands as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fireants_engine.errors import DivergedError, OutOfMemoryError, StoppedError
from fireants_engine.io import load_image, load_points
from fireants_engine.kernels import describe, missing, select
from fireants_engine.recipe import preset_names
from fireants_engine.workflows.rundir import load_run


def test_run_apply_points(cli, files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    marks = tmp_path / "marks.csv"
    marks.write_text("name,x,y,mx,my\na,6.5,17.2,8.0,18.4\nb,0,12,0.5,12.5\n")
    done = cli(
        "run", files["fixed"], files["moving"], "-o", out, "--recipe", files["recipe"],
        "--moving-labels", files["moving_labels"], "--fixed-labels", files["fixed_labels"],
        "--fixed-mask", files["fixed_labels"], "--moving-mask", files["moving"],
        "--landmarks", marks, "--seed", 5, "--threads", 1,
        "--set", "stages.greedy.pyramid.levels.0.max_steps=12",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "Mean Dice of 1 labels" in done.out
    assert "Folded voxels inside the fixed mask: 0" in done.out
    assert str(out / "report.html") in done.out
    assert "greedy (1/1) level 1/1: 12 steps" in done.err or "plateau" in done.err
    run = load_run(out)
    assert run.recipe.seed == 5
    assert run.recipe.stages[0].pyramid.levels[0].max_steps == 12
    assert run.report["quality"]["tre_mm"]["points"] == 2
    assert set(run.report["inputs"]) == {
        "fixed", "fixed_mask", "fixed_labels",
        "moving", "moving_mask", "moving_labels", "landmarks",
    }  # fmt: skip
    dice = run.report["quality"]["dice"]
    assert dice["after"]["mean"] > dice["before"]["mean"]

    # the moving image again gives the image that the run saved; the labels likewise
    again = tmp_path / "again.nii.gz"
    assert cli("apply", out, files["moving"], "-o", again).code == 0
    np.testing.assert_allclose(
        load_image(again).data, load_image(out / "warped.nii.gz").data, atol=1e-2
    )
    labels = tmp_path / "labels.nii.gz"
    assert cli("apply", out, files["moving_labels"], "--labels", "-o", labels).code == 0
    assert torch.equal(load_image(labels).data, load_image(out / "warped_labels.nii.gz").data)
    back = tmp_path / "back.nii.gz"
    assert cli("apply", out, files["fixed"], "--inverse", "-o", back).code == 0
    assert load_image(back).grid.same_space(load_image(files["moving"]).grid)
    picture = tmp_path / "there.png"
    command = ["apply", out, files["fixed_labels"], "--inverse", "--labels", "-o", picture]
    assert cli(*command, "--reference", files["fixed"]).code == 0
    assert set(load_image(picture).data.unique().tolist()) == {0, 4}

    # points there and back, other columns kept
    there, home = tmp_path / "there.csv", tmp_path / "home.csv"
    assert cli("points", out, marks, "-o", there).code == 0
    assert there.read_text().splitlines()[0] == "name,x,y,mx,my"
    assert cli("points", out, there, "--inverse", "-o", home).code == 0
    given, returned = (load_points(path, 2).points_mm for path in (marks, home))
    np.testing.assert_allclose(returned, given, atol=0.05)
    assert not np.allclose(load_points(there, 2).points_mm, given, atol=0.05)

    # a saved run starts another one, with or without its warp
    init = ["--recipe", files["recipe"], "-q", "-o", tmp_path / "more"]
    start = out / "0GenericAffine.mat"
    more = cli("run", files["fixed"], files["moving"], *init, "--init", start)
    assert (more.code, more.out, more.err) == (0, "", "")
    assert load_run(tmp_path / "more").report["start"]["kind"] == "given"
    again = cli("run", files["fixed"], files["moving"], *init, "--init", out)
    assert (again.code, again.out, again.err) == (0, "", "")
    first, second = (load_run(folder).report for folder in (out, tmp_path / "more"))
    assert second["start"]["deformable"] is True
    # it goes on where the first one had stopped
    losses = [report["stages"][-1]["levels"][-1]["losses"][0] for report in (first, second)]
    assert losses[1] < losses[0]
    assert (tmp_path / "more" / "0InitialWarp.nii.gz").is_file()


def test_presets_and_kernels(cli) -> None:
    listed = cli("presets").out.splitlines()
    assert [line.split()[0] for line in listed] == preset_names()
    assert all(len(line.split()) > 4 for line in listed)
    assert cli("presets", "rigid").out.startswith("format: 1\nname: rigid\n")
    found = cli("kernels").out
    assert "cpu " in found
    assert select()[1] in found
    assert all(function in found for function in describe(select()[0]).values())
    for why in missing().values():
        assert why in found


def test_help_and_version(cli) -> None:
    import fireants_engine

    assert cli("--version").out == f"{fireants_engine.__version__}\n"
    assert "COMMAND" in cli().out
    for command in ("run", "apply", "points", "replay", "spaces", "presets", "kernels"):
        helped = cli(command, "--help")
        assert helped.code == 0
        assert f"fireants-engine {command}" in helped.out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["spaces", "make", "--help"], ["presets"]]
)
def test_quick_start(arguments: list[str]) -> None:
    """What only prints does not wait for torch."""
    code = (
        "import sys; from fireants_engine.cli.main import main\n"
        f"code = main({arguments!r})\n"
        "heavy = {'torch', 'SimpleITK', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def interrupt_at(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when the progress has seen its first Iteration; `count` times."""
    from fireants_engine.cli.progress import Progress
    from fireants_engine.pipeline import Iteration

    show = Progress.__call__
    sent: list[int] = []

    def call(self: Progress, event: object) -> None:
        show(self, event)  # pyright: ignore
        if isinstance(event, Iteration) and not sent:
            for _ in range(count):
                sent.append(1)
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "__call__", call)


def test_interrupted_once_saves_the_best(
    cli, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(1, monkeypatch)
    before = signal.getsignal(signal.SIGINT)
    out = tmp_path / "out"
    done = cli("run", files["fixed"], files["moving"], "-o", out, "--recipe", files["recipe"])
    assert done.code == 130
    assert "Stopping" in done.err
    assert json.loads((out / "report.json").read_text())["outcome"] == "STOPPED"
    assert load_run(out).report["stages"][0]["levels"][0]["steps"] == 5
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupted_twice_gives_up(
    cli, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(2, monkeypatch)
    out = tmp_path / "out"
    done = cli("run", files["fixed"], files["moving"], "-o", out, "--recipe", files["recipe"])
    assert done.code == 130
    assert done.err.splitlines()[-1].startswith("fireants-engine: Interrupted")
    assert not out.exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OutOfMemoryError("Out of memory on cpu."), 1),
        (DivergedError("The loss was invalid."), 1),
        (StoppedError("Stopped early."), 130),
        (ValueError("a bug\nin two lines"), 1),
    ],
)
def test_failures_while_running(
    cli,
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("fireants_engine.cli.run.register", fail)
    command = ["run", files["fixed"], files["moving"], "-o", tmp_path / "out", "-q"]
    done = cli(*command, "--recipe", files["recipe"])
    assert done.code == code
    assert len(done.err.splitlines()) == 1
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()
    if isinstance(error, ValueError):
        with pytest.raises(ValueError, match="a bug"):
            cli("--traceback", *command, "--recipe", files["recipe"])


def test_apply_refuses_what_does_not_fit(cli, files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["run", files["fixed"], files["moving"], "-o", out, "--recipe", files["recipe"], "-q"]
    assert cli(*command).code == 0
    target = tmp_path / "x.nii.gz"
    marks = tmp_path / "marks.csv"
    marks.write_text("x,z\n1,2\n")
    for arguments, words in (
        (["apply", out, files["moving3d"], "-o", target], "is 3D but the transform is 2D"),
        (["apply", out, files["moving"], "-o", target, "--labels"], "whole numbers"),
        (["apply", tmp_path, files["moving"], "-o", target], "not a run directory"),
        (["apply", out, files["moving"], "-o", tmp_path / "no" / "x.nii.gz"], "there is no folder"),
        (["apply", out, files["moving"], "-o", tmp_path / "x.doc"], "not a known format"),
        (["points", out, marks, "-o", tmp_path / "y.csv"], "column 'y' is missing"),
        (["points", out, tmp_path / "no.csv", "-o", tmp_path / "y.csv"], "no such file"),
    ):
        done = cli(*arguments)
        assert done.code == 2
        assert words in done.err
        assert len(done.err.splitlines()) == 1
    assert not target.exists()
