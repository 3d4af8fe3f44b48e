"""`exvivo` on the command line: what it says, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fireants_engine.geometry import Image
from fireants_engine.io.images import save_image
from tests.engine.workflows import exvivo_phantom as phantom


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("brains")
    images = {
        "invivo": phantom.invivo(),
        "seg": phantom.labels(),
        "exvivo": phantom.exvivo("left", phantom.pose(1)),
    }
    out = {}
    for name, image in images.items():
        out[name] = folder / f"{name}.nii.gz"
        save_image(image, out[name])
    return out


def test_a_half_is_found_registered_and_points_follow(cli, given, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cli(
        "exvivo", given["exvivo"], given["invivo"], "-o", out, "--labels", given["seg"],
        "--left-labels", "2,3,10", "--right-labels", "41-49",
        "--set", "stages.greedy.enabled=false", "--set", "stages.affine.enabled=false",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "It is the left hemisphere" in done.out
    assert "report.html" in done.out
    plain = json.loads((out / "candidates.json").read_text())
    assert plain["chosen"]["hemisphere"] == "left"
    points = tmp_path / "points.csv"
    points.write_text("x,y,z\n12,5,3\n20,-8,0\n")
    assert cli("points", out, points, "-o", tmp_path / "moved.csv").code == 0
    moved = np.loadtxt(tmp_path / "moved.csv", delimiter=",", skiprows=1)
    truth = phantom.pose(1)(np.array([[12.0, 5, 3], [20, -8, 0]]))
    assert np.linalg.norm(moved - truth, axis=1).max() < 2


def test_bad_input_is_one_sentence_and_leaves_nothing(cli, given, tmp_path: Path) -> None:
    out, flat = tmp_path / "out", tmp_path / "flat.nii.gz"
    save_image(Image.from_numpy(np.eye(20, dtype=np.float32), name="flat"), flat)
    pair = given["exvivo"], given["invivo"]
    for arguments, words in (
        ((*pair, "--improper"), "--hemisphere"),
        ((*pair, "--labels", given["exvivo"]), "another grid"),
        ((*pair, "--labels", given["invivo"]), "SynthSeg or FreeSurfer"),
        ((flat, given["invivo"]), "2D"),
        ((*pair, "--labels", given["invivo"]), "--left-labels and --right-labels"),
        ((*pair, "--labels", given["seg"], "--left-labels", "1"), "give both --left-labels"),
        ((*pair, "--labels", given["seg"], "--left-labels", "3-1"), "'3-1' is no label"),
        ((*pair, "--labels", given["seg"], "--right-labels", "1,,2"), "'nothing' is no label"),
        ((*pair, "--left-labels", "2,3", "--right-labels", "41-60"), "give it with --labels"),
        ((*pair, "--hemisphere", "both"), "invalid choice"),
        ((*pair, "--set", "start.mass=gold"), "start.mass"),
    ):
        done = cli("exvivo", *arguments, "-o", out)
        assert done.code == 2, arguments
        assert words in done.err
        assert done.err.strip().splitlines()[-1].startswith("fireants-engine: ")
    assert not out.exists()
