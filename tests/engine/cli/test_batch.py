"""`batch`: tables of pairs, one image against many, and what a failure or a stop leaves."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fireants_engine import load_run
from fireants_engine.errors import InputError, OutOfMemoryError
from fireants_engine.workflows import batch as workflow
from fireants_engine.workflows.tables import read_table, rows_of


@pytest.fixture
def many(files: dict[str, Path]) -> list[Path]:
    """Four moving images; the last of another size."""
    moving = sitk.ReadImage(str(files["moving"]))
    out = []
    for k in range(3):
        image = sitk.Image(moving)
        image.SetOrigin((-10.0 + 0.6 * k, 4.0))
        out.append(files["moving"].with_name(f"m{k}.nii.gz"))
        sitk.WriteImage(image, str(out[-1]))
    out.append(files["moving"].with_name("big.nii.gz"))
    sitk.WriteImage(sitk.ConstantPad(moving, (0, 0), (3, 0)), str(out[-1]))
    return out


def summary(folder: Path) -> list[dict[str, str]]:
    with open(folder / "summary.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_one_fixed_against_many(cli, files, many, tmp_path) -> None:
    """Sizes are told apart, every pair gets its folder, and is what it would be alone."""
    out = tmp_path / "out"
    how = ("--recipe", files["recipe"])
    done = cli("batch", "--fixed", files["fixed"], "--moving", *many, "-o", out, "--size", 2, *how)
    assert done.code == 0, done.err
    assert "4 pair(s): 4 done" in done.out
    assert "m0, m1 (4 pairs in all)" in done.err
    assert [row["name"] for row in summary(out)] == ["m0", "m1", "m2", "big"]
    reports = [json.loads((out / row["name"] / "report.json").read_text()) for row in summary(out)]
    assert [report["execution"]["pairs"] for report in reports] == [2, 2, 1, 1]
    points = np.array([[-2.0, 12.0], [3.0, 15.0]])
    for path in many:
        alone = tmp_path / f"alone {path.name}"
        assert cli("run", files["fixed"], path, "-o", alone, "-q", *how).code == 0
        both = load_run(out / path.name.removesuffix(".nii.gz")), load_run(alone)
        np.testing.assert_allclose(both[0].transform(points), both[1].transform(points), atol=1e-3)


def test_a_table_with_everything(cli, files, many, tmp_path) -> None:
    table = files["fixed"].with_name("pairs.tsv")
    marks = table.with_name("marks.csv")
    marks.write_text("x,y,mx,my\n0,12,0.5,12\n3,16,3,16.5\n")
    table.write_text(
        "name\tfixed\tmoving\tmoving_labels\tfixed_labels\tlandmarks\n"
        "first\tfixed.nii.gz\tmoving.nii.gz\tmoving_labels.nii.gz\tfixed_labels.nii.gz\tmarks.csv\n"
        "\n"
        "\tfixed.nii.gz\tm1.nii.gz\t\t\t\n"
    )
    out = tmp_path / "out"
    done = cli("batch", table, "-o", out, "--size", 5, "--recipe", files["recipe"], "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    first, second = summary(out)
    assert (first["name"], second["name"]) == ("first", "m1")
    assert float(first["dice_after"]) > float(first["dice_before"]) > 0
    assert float(first["tre_before_mm"]) > 0
    assert first["folds"] == "0"
    assert second["dice_after"] == ""
    assert 0 < float(first["loss"]) < 0.1
    assert (out / "first" / "warped_labels.nii.gz").exists()
    page = (out / "summary.html").read_text(encoding="utf-8")
    assert "2 pairs: 2 done. Recipe" in page
    assert '<a href="first/report.html">first</a>' in page
    assert f"</span> {first['dice_after']}</td>" in page


def test_finished_pairs_are_kept(cli, files, many, tmp_path) -> None:
    out = tmp_path / "out"
    command = ["batch", "--fixed", files["fixed"], "--moving", *many[:2], "-o", out, "-q"]
    how = ["--recipe", files["recipe"]]

    def ran() -> list[tuple[str, int]]:
        assert cli(*command, *how).code == 0
        return [
            (row["status"], (out / row["name"] / "report.json").stat().st_mtime_ns)
            for row in summary(out)
        ]

    first, again = ran(), ran()
    assert [status for status, _ in again] == ["kept", "kept"]
    assert [time for _, time in again] == [time for _, time in first]
    how += ["--set", "stages.greedy.descent.step=0.3"]
    other = ran()
    assert [status for status, _ in other] == ["done", "done"]
    how.append("--again")
    assert [status for status, _ in ran()] == ["done", "done"]


def test_a_failing_pair_does_not_hold_up_the_others(cli, files, many, tmp_path) -> None:
    broken = many[0].with_name("broken.nii.gz")
    broken.write_bytes(b"no image")
    flat = sitk.ReadImage(str(files["moving"])) * 0
    constant = many[0].with_name("constant.nii.gz")
    sitk.WriteImage(flat, str(constant))
    given = [many[0], broken, constant, many[1], many[0].with_name("absent.nii.gz")]
    out = tmp_path / "out"
    how = ("--size", 3, "--recipe", files["recipe"])
    done = cli("batch", "--fixed", files["fixed"], "--moving", *given, "-o", out, *how)
    assert done.code == 1
    rows = summary(out)
    assert [row["status"] for row in rows] == ["done", "failed", "failed", "done", "failed"]
    for row in rows:
        assert (row["message"] != "") == (row["status"] == "failed")
        assert (out / row["name"]).exists() == (row["status"] == "done")
    assert "2 done, 3 failed" in done.out
    page = (out / "summary.html").read_text(encoding="utf-8")
    assert "Look at these first" in page
    assert page.count('<td class="failed">') == 3
    assert 'href="broken' not in page
    assert f"broken: {rows[1]['message']}" in done.out


def test_too_large_a_batch_is_halved(files, many, tmp_path, monkeypatch) -> None:
    from fireants_engine.recipe import Recipe

    sizes, real = [], workflow.register_batch

    def limited(cases, *args, **kwargs):
        sizes.append(len(cases))
        if len(cases) > 1:
            raise OutOfMemoryError("Out of memory on cpu.")
        return real(cases, *args, **kwargs)

    monkeypatch.setattr(workflow, "register_batch", limited)
    rows = rows_of([files["fixed"]], many[:3])
    recipe = Recipe.load(files["recipe"])
    entries = workflow.BatchRun(rows, recipe, tmp_path / "out", size=3).run()
    assert sizes == [3, 2, 1, 1, 1]
    assert [entry.status for entry in entries] == ["done"] * 3


def test_what_is_settled_stays_and_the_rest_is_told(files, many, tmp_path, monkeypatch) -> None:
    """A retry of some pairs leaves the others, but the summary holds all."""
    from fireants_engine.recipe import Recipe

    rows, recipe = rows_of([files["fixed"]], many[:3]), Recipe.load(files["recipe"])
    real = workflow.register_batch

    def fails(cases, *args, **kwargs):
        if cases[0].name == "m1":
            raise RuntimeError("no such luck\nat all")
        return real(cases, *args, **kwargs)

    monkeypatch.setattr(workflow, "register_batch", fails)
    ended: list[tuple[str, str]] = []
    tell = {"on_entry": lambda entry: ended.append((entry.row.name, entry.status))}
    first = workflow.BatchRun(rows, recipe, tmp_path / "out", **tell).run()
    assert ended == [("m0", "done"), ("m1", "failed"), ("m2", "done")]
    assert "RuntimeError: no such luck)" in first[1].message
    monkeypatch.setattr(workflow, "register_batch", real)
    ended.clear()
    settled = [first[0], first[2]]
    again = workflow.BatchRun(rows, recipe, tmp_path / "out", settled=settled, **tell).run()
    assert ended == [("m1", "done")]
    assert again[0] is first[0]
    assert [row["status"] for row in summary(tmp_path / "out")] == ["done"] * 3


def test_a_folder_in_place_of_a_table(cli, files, tmp_path) -> None:
    folder = files["fixed"].parent
    done = cli("batch", folder, "-o", tmp_path / "out", "--recipe", files["recipe"])
    assert done.code == 0, done.err
    assert "By name: 'fixed' and 'moving' images" in done.out.splitlines()[0]
    rows = summary(tmp_path / "out")
    assert [(row["name"], row["status"]) for row in rows] == [
        ("moving_to_fixed", "done"),
        ("3d", "done"),
    ]


def test_interrupted_once_keeps_what_there_is_and_goes_on_later(
    cli, files, many, tmp_path, monkeypatch
) -> None:
    from fireants_engine.cli.progress import Progress
    from fireants_engine.pipeline import Iteration

    show, sent = Progress.__call__, []

    def call(self, event) -> None:
        show(self, event)
        if isinstance(event, Iteration) and not sent:
            sent.append(os.kill(os.getpid(), signal.SIGINT))

    monkeypatch.setattr(Progress, "__call__", call)
    out = tmp_path / "out"
    command = ("batch", "--fixed", files["fixed"], "--moving", *many[:3], "-o", out, "--size", 2)
    command += ("--recipe", files["recipe"])
    assert cli(*command).code == 130
    assert [row["status"] for row in summary(out)] == ["stopped", "stopped", "waiting"]
    assert cli(*command).code == 0
    assert [row["status"] for row in summary(out)] == ["done"] * 3


# ---------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fixed,floating\na,b\n", "'floating' is none of them"),
        ("fixed\na\n", "must name the columns fixed and moving"),
        ("fixed,moving\n", "no pairs below its header"),
        ("fixed,moving\na.nii,b.nii\n,c.nii\n", "line 3, column fixed: is empty; give both"),
        ("name,fixed,moving\nx,a.nii,b.nii\nx,a.nii,c.nii\n", "Two pairs are named 'x'"),
        ("name,fixed,moving\n../x,a.nii,b.nii\n", "cannot name a folder"),
        ("", "must name the columns"),
        ("fixed,moving,fixed\na,b,c\n", "line 1: the column 'fixed' is there twice"),
        ("fixed,moving\na,b,c\n", "line 2: has more cells than the first line"),
    ],
)
def test_bad_tables_are_one_sentence(cli, files, tmp_path, text, said) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(text)
    done = cli("batch", table, "-o", tmp_path / "out", "--recipe", files["recipe"])
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give a TABLE, or"),
        (["t.csv", "--fixed", "a"], "Give a TABLE, or"),
        (["--fixed", "a"], "1 fixed and 0 moving images do not make pairs"),
        (["--fixed", "a", "b", "--moving", "c", "d", "e"], "2 fixed and 3 moving"),
        (["absent.csv"], "absent.csv"),
        (["--fixed", "a", "--moving", "b", "--size", "0"], "at least one is needed"),
    ],
)
def test_bad_calls_are_one_sentence(cli, tmp_path, arguments, said) -> None:
    done = cli("batch", *arguments, "-o", tmp_path / "out")
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_names_tell_the_pairs_apart() -> None:
    def names(fixed: list[str], moving: list[str]) -> list[str]:
        return [row.name for row in rows_of([*map(Path, fixed)], [*map(Path, moving)])]

    assert names(["a.nii.gz"], ["b.nii", "c.ome.tif"]) == ["b", "c"]
    assert names(["a.nii.gz", "x/b.nii"], ["c.nii"]) == ["a", "b"]
    assert names(["a.nii", "b.nii"], ["c.nii", "d.nii"]) == ["c_to_a", "d_to_b"]
    assert names(["f.nii"], ["x/t1.nii", "y/t1.nii"]) == ["t1", "t1_2"]


def test_a_table_reads_paths_beside_itself(tmp_path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("moving,fixed,init\nb.nii,a.nii,/far/t.mat\n")
    (row,) = read_table(table)
    assert (row.fixed, row.moving) == (tmp_path / "a.nii", tmp_path / "b.nii")
    assert row.files == {"init": Path("/far/t.mat")}
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        read_table(table)
