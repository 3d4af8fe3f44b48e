"""`fireants-engine histology slice`: a section and a volume in, a folder out."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fireants_engine.cli.main import main
from fireants_engine.io import load_image, save_affine
from fireants_engine.io.images import save_image
from fireants_engine.transforms import Affine
from fireants_engine.workflows import slices
from fireants_engine.workflows.sheets import middle_of
from tests.engine.workflows.slice_phantom import brain, cut, true_affine

QUICK = (
    "--set", "stages.plane.pyramid.levels=[{shrink: 2, max_steps: 4}]",
    "--set", "stages.in-plane.pyramid.levels=[{shrink: 2, max_steps: 4}]",
)  # fmt: skip


@pytest.fixture
def given(tmp_path: Path) -> tuple[Any, list[Path]]:
    """A section with its slide, its volume and the affine map between them as files."""
    section, image = cut(brain(), seed=2, elastic_px=0.0, tears=0, missing=0.0)
    paths = [tmp_path / name for name in ("slide.png", "brain.nii.gz", "start.mat")]
    save_image(image, paths[0])
    save_image(brain(), paths[1])
    save_affine(Affine(true_affine(section, section.rgb.shape)), paths[2])
    return section, paths


def run(*words: Any) -> int:
    return main(["histology", "slice", *map(str, words)])


def test_the_folder_is_a_run_with_candidates(
    given: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section, (slide, volume, start) = given
    labels = tmp_path / "labels.nii.gz"
    save_image(type(brain())((brain().data > 60).byte(), brain().grid), labels)
    out = tmp_path / "out"
    code = run(
        slide, volume, "-o", out, "--pixel-size", 1.5, "--init", start, "--labels", labels,
        "--threads", 1, *QUICK,
    )  # fmt: skip
    assert code == 0
    assert "The section is coronal, tilted by" in capsys.readouterr().out
    (only,) = json.loads((out / "candidates.json").read_text())["candidates"]
    assert only["plane"] == "coronal"
    assert set(np.unique(load_image(out / "warped_labels.tif").data)) == {0, 1}
    points, moved = tmp_path / "points.csv", tmp_path / "moved.csv"
    chosen = section.points_mm[:20]
    points.write_text("x,y,z\n" + "".join(f"{x},{y},0\n" for x, y in chosen))
    assert main(["points", str(out), str(points), "-o", str(moved)]) == 0
    there = np.loadtxt(moved, delimiter=",", skiprows=1)
    assert np.median(np.linalg.norm(there - section.truth(chosen), axis=1)) < 3  # a voxel


@pytest.mark.parametrize("step", [("slice",), ("stack", "--distance", 6)])
def test_ctrl_c_ends_the_search(
    step: tuple[Any, ...], given: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    _, (slide, volume, _) = given
    coarse = slices.Search.coarse

    def interrupted(*given: Any, **how: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return coarse(*given, **how)

    monkeypatch.setattr(slices.Search, "coarse", interrupted)
    monkeypatch.setattr(slices.Search, "refined", lambda *_: pytest.fail("it went on"))
    many = [slide] if step[0] == "slice" else [slide, slide]
    options = [*step[1:], "--pixel-size", 1.5, "--plane", "coronal"]
    words = ["histology", step[0], *many, volume, "-o", tmp_path / "out", *options]
    assert main([*map(str, words)]) == 130
    assert "there was nothing to save yet" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_done_is_one_sentence(
    given: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, (slide, volume, start) = given
    out = tmp_path / "out"
    for words, sentence in (
        ((slide, volume), "give --pixel-size"),
        ((slide, volume, "--pixel-size", 12), "larger than brain.nii.gz"),
        ((slide, volume, "--pixel-size", 1.5, "--component", 4), "there is no piece 4"),
        ((volume, volume), "brain.nii.gz"),
        ((slide, slide, "--pixel-size", 1.5, "--init", start), "3D volume of one channel"),
    ):
        assert run(*words, "-o", out, "--threads", 1) == 2
        told = capsys.readouterr().err
        assert sentence in told
        assert told.count("\n") <= 2
        assert not out.exists()


def test_a_stack_of_sections_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search of each section is another test's; here the files, the order and the folder."""
    extent = 3.0 * 44  # mm of the phantom along y, between its 1st and 99th percentile about
    options = {"tilt_deg": (0.0, 0.0), "elastic_px": 0.0, "tears": 0, "missing": 0.0}
    cuts = [cut(brain(), seed=k, position=0.45 + 6 * k / extent, flipped=False, **options)
            for k in range(3)]  # fmt: skip
    paths = [tmp_path / f"s{k}.png" for k in range(3)]
    for path, (_, image) in zip(paths, cuts, strict=True):
        save_image(image, path)
    volume = tmp_path / "brain.nii.gz"
    save_image(brain(), volume)
    starts = [Affine(true_affine(section, section.rgb.shape)) for section, _ in cuts]
    turns = iter(starts)

    def found(sheet: Any, *_: Any, **__: Any) -> tuple[slices.Candidate, ...]:
        affine = next(turns)
        return (slices.Candidate(affine, slices.plane_of(affine, middle_of(sheet)), 1.0),)

    monkeypatch.setattr(slices, "search", found)
    monkeypatch.setattr(slices, "compared", lambda _s, _v, given, *_: given)
    out = tmp_path / "out"
    quick = [f"stages.{n}.pyramid.levels=[{{shrink: 2, max_steps: 3}}]"
             for n in ("whole", "sections", "in-plane")]  # fmt: skip
    words = ["histology", "stack", *paths, volume, "-o", out, "--distance", 6.0]
    words += ["--pixel-size", 1.5, "--threads", 1]
    words += [word for value in quick for word in ("--set", value)]
    assert main([*map(str, words)]) == 0
    assert "3 sections, 6 mm apart" in capsys.readouterr().out
    told = json.loads((out / "sections.json").read_text())
    assert [row["name"] for row in told["sections"]] == ["s0.png", "s1.png", "s2.png"]
    section, chosen = cuts[1][0], cuts[1][0].points_mm[:20]
    points, moved = tmp_path / "points.csv", tmp_path / "moved.csv"
    points.write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in chosen))
    through = [str(out / "section-002.mat"), str(out)]
    assert main(["points", *through, str(points), "-o", str(moved)]) == 0
    there = np.loadtxt(moved, delimiter=",", skiprows=1)
    assert np.median(np.linalg.norm(there - section.truth(chosen), axis=1)) < 3  # a voxel
    assert main(["points", str(out), str(points), "-o", str(moved)]) == 2  # the stack is 3D
    assert "column 'z' is missing" in capsys.readouterr().err
    # the same as a graph
    graph = str(tmp_path / "graph")
    joined = [f"s2:stack={out / 'section-002.mat'}", f"stack:brain={out}"]
    assert main(["spaces", "make", "-o", graph, *joined]) == 0
    assert f"s2 is s1.png (2D, a section of the stack {out}); stack is" in capsys.readouterr().out
    assert main(["spaces", "points", graph, "s2", "brain", str(points), "-o", str(moved)]) == 0
    np.testing.assert_allclose(np.loadtxt(moved, delimiter=",", skiprows=1), there, atol=1e-4)
    assert main(["histology", "stack", str(paths[0]), str(volume), "-o", str(tmp_path / "no"),
                 "--distance", "6", "--pixel-size", "1.5"]) == 2  # fmt: skip
    assert "at least two sections" in capsys.readouterr().err
