"""`fireants-engine histology pair`: pictures in, a folder out, one sentence for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fireants_engine.geometry import Grid, Image
from fireants_engine.io import load_points
from fireants_engine.io.images import save_image
from tests.engine.workflows.section_phantom import BROWN, SIDE, points_inside, section, turned

QUICK = (
    "--set", "stages.affine.pyramid.levels=[{shrink: 3, max_steps: 30}]",
    "--set", "stages.greedy.pyramid.levels=[{shrink: 2, max_steps: 10}]",
)  # fmt: skip


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    fixed = save_image(section(), tmp_path / "fixed.png")
    return fixed, save_image(section(turned(75, True), colour=BROWN), tmp_path / "moving.png")


def test_a_pair_and_its_points(cli, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    done = cli("histology", "pair", *pair, "-o", tmp_path / "out", "--pixel-size", 0.01, *QUICK)
    assert done.code == 0, done.err
    assert "and mirrored" in done.out
    report = json.loads((tmp_path / "out" / "candidates.json").read_text())
    assert report["candidates"][0]["mirrored"]
    points = points_inside()
    table = tmp_path / "points.csv"
    table.write_text("x,y\n" + "".join(f"{x * 0.01},{y * 0.01}\n" for x, y in points))
    done = cli("points", tmp_path / "out", table, "-o", tmp_path / "moved.csv")
    assert done.code == 0, done.err
    moved = load_points(tmp_path / "moved.csv", 2).points_mm / 0.01
    assert np.median(np.linalg.norm(moved - turned(75, True)(points), axis=1)) < 1.5


def test_an_unknown_pixel_size_is_said(cli, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    done = cli("histology", "pair", *pair, "-o", tmp_path / "out", "--fixed-component", 4)
    assert done.code == 2
    assert "1 pixel is 1 unit" in done.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--moving-component", 4), "no piece 4"),
        (("--pixel-size", 0), "is no size"),
        (("--flip", "maybe"), "invalid choice"),
        (("--set", "stages.nothing.x=1"), "nothing"),
        (("--compare", "haematoxylin", "--size", 2), "--size 2"),
    ],
)
def test_what_is_wrong(cli, tmp_path: Path, pair, arguments, sentence: str) -> None:
    done = cli("histology", "pair", *pair, "-o", tmp_path / "out", *arguments)
    assert done.code == 2
    assert sentence in done.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_no_tissue_and_no_step(cli, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    empty = Image.from_numpy(np.full((60, 60, 3), 240, np.uint8), channels=True)
    path = save_image(empty, tmp_path / "empty.png")
    done = cli("histology", "pair", pair[0], path, "-o", tmp_path / "out")
    assert (done.code, "empty.png: no tissue was found" in done.err) == (2, True)
    assert cli("histology").code == 2


def test_a_slide_with_two(cli, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    import torch

    one = section().data
    both = Image(torch.cat([one, one], 2), Grid.identity((2 * SIDE, SIDE)))
    done = cli(
        "histology", "pair", save_image(both, tmp_path / "both.png"), pair[1],
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 2
    assert "two sections" in done.err


# ------------------------------------------------------------------ a set
@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, ...]:
    made = (section(), section(turned(75, True), colour=BROWN), section(turned(-40)))
    return tuple(
        save_image(one, tmp_path / f"{name}.png")
        for name, one in zip(("HE", "PAS", "CD3"), made, strict=True)
    )


def test_a_set_its_points_and_images(cli, tmp_path: Path, three: tuple[Path, ...]) -> None:
    out = tmp_path / "out"
    mask = save_image(Image.from_numpy(np.ones((SIDE, SIDE), np.uint8)), tmp_path / "mask.png")
    done = cli(
        "histology", "set", *three, "-o", out, "--pixel-size", 0.01, "--pairs", "chain",
        "--mask", f"PAS={mask}", *QUICK,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "PAS.png: fit" in done.out
    assert "by HE.png - PAS.png - CD3.png." in done.out
    report = json.loads((out / "set.json").read_text())
    assert [(pair["fixed"], pair["moving"]) for pair in report["pairs"]] == [
        ("HE.png", "PAS.png"), ("PAS.png", "CD3.png")
    ]  # fmt: skip
    points = points_inside()
    table = tmp_path / "points.csv"
    table.write_text("x,y\n" + "".join(f"{x * 0.01},{y * 0.01}\n" for x, y in points))
    done = cli("points", out / "CD3", table, "-o", tmp_path / "moved.csv")
    assert done.code == 0, done.err
    moved = load_points(tmp_path / "moved.csv", 2).points_mm / 0.01
    assert np.median(np.linalg.norm(moved - turned(-40)(points), axis=1)) < 2
    done = cli("apply", out / "CD3", out / "warped-PAS.tif", "-o", tmp_path / "any.tif")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--mask", "CD8=m.png"), "NAME one of HE.png, PAS.png"),
        (("--component", "PAS=one"), "give the number of a piece"),
        (("--component", "PAS=4"), "no piece 4"),
        (("--pairs", "ring"), "invalid choice"),
        (("--size", 2), "--size 2"),
    ],
)
def test_what_is_wrong_with_a_set(
    cli, tmp_path: Path, three: tuple[Path, ...], arguments, sentence: str
) -> None:
    done = cli("histology", "set", *three, "-o", tmp_path / "out", *arguments)
    assert done.code == 2
    assert sentence in done.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_two_sections_of_one_name(cli, tmp_path: Path, three: tuple[Path, ...]) -> None:
    done = cli("histology", "set", three[0], three[0], "-o", tmp_path / "out")
    assert (done.code, "Two sections are called HE.png" in done.err) == (2, True)
