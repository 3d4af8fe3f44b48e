"""`fireants-engine epi`: files in, a folder out, and one sentence for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from fireants_engine.cli.main import main
from fireants_engine.geometry import Grid, Image
from fireants_engine.io import load_image, load_transform
from fireants_engine.io.images import save_image
from fireants_engine.recipe import Recipe
from tests.engine.workflows.epi_phantom import READOUT, SHAPE, field_hz, inside, pair, truth

ALWAYS = {
    "corrected.nii.gz", "up_corrected.nii.gz", "down_corrected.nii.gz", "restored.nii.gz",
    "field_hz.nii.gz", "shift_vox.nii.gz", "warp_up.nii.gz", "warp_down.nii.gz",
    "unrecoverable.nii.gz", "acqparams.txt", "recipe.yaml", "report.json", "report.html",
    "events.jsonl",
}  # fmt: skip
TURN = np.array([[0.96, 0.28, 0.0], [-0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
OBLIQUE = Grid(SHAPE[::-1], (2.0, 2.5, 3.0), (-30.0, 12.0, 7.0), TURN * [-1.0, 1.0, 1.0])
"""Left handed and turned: headers that have to be kept."""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """UP and DOWN with sidecars, on an oblique grid."""
    out = []
    for name, one in zip(("up", "down"), pair(), strict=True):
        path = tmp_path / f"{name}.nii.gz"
        save_image(Image(one.image.data, OBLIQUE), path)
        sidecar = {"PhaseEncodingDirection": one.encoding.direction, "TotalReadoutTime": READOUT}
        (tmp_path / f"{name}.json").write_text(json.dumps(sidecar))
        out.append(path)
    return out


def run(*words: Any) -> int:
    return main(["epi", *map(str, words)])


def array(path: Path) -> np.ndarray:
    return load_image(path).data[0].double().numpy()


def test_the_folder_holds_everything(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(*files, "-o", out, "--threads", 1) == 0
    assert {path.name for path in out.iterdir()} == ALWAYS
    told = capsys.readouterr().out
    assert "Correlation of the first two volumes inside the object" in told
    chosen = inside()
    off = np.abs(array(out / "field_hz.nii.gz") - field_hz())[chosen] * READOUT
    assert off.mean() < 0.12
    shift = array(out / "shift_vox.nii.gz")
    np.testing.assert_allclose(shift, array(out / "field_hz.nii.gz") * READOUT, atol=1e-5)
    for name in ("corrected", "up_corrected", "down_corrected", "restored"):
        image = load_image(out / f"{name}.nii.gz")
        assert image.grid.same_space(OBLIQUE)  # E2: the header is kept
        assert np.corrcoef(image.data[0].numpy()[chosen], truth()[chosen])[0, 1] > 0.97
    assert (out / "acqparams.txt").read_text().split() == [
        "0", "1", "0", "0.050000", "0", "-1", "0", "0.050000",
    ]  # fmt: skip
    report = json.loads((out / "report.json").read_text())
    assert (
        report["agreement"]["after"]["correlation"] > report["agreement"]["before"]["correlation"]
    )
    assert report["field"]["folded_voxels"] == 0
    assert [one["direction"] for one in report["volumes"]] == ["j", "j-"]
    assert Recipe.load(out / "recipe.yaml").stages[0].deformation.kind == "phase_encode"
    assert "data:image/png" in (out / "report.html").read_text()


def test_itk_reads_the_warps(files: list[Path], tmp_path: Path) -> None:
    """UP resampled through warp_up by ITK, times the stretch, is up_corrected."""
    out = tmp_path / "out"
    assert run(*files, "-o", out, "-q") == 0
    up = sitk.ReadImage(str(files[0]), sitk.sitkFloat64)
    warp = sitk.ReadImage(str(out / "warp_up.nii.gz"), sitk.sitkVectorFloat64)
    moved = sitk.Resample(up, up, sitk.DisplacementFieldTransform(warp), sitk.sitkLinear)
    shift = array(out / "shift_vox.nii.gz")
    ours = array(out / "up_corrected.nii.gz") / (1 + np.gradient(shift, axis=1))
    off = np.abs(sitk.GetArrayFromImage(moved) - ours)[:, 4:-4]
    assert off.max() < 2e-3
    points = load_transform(out / "warp_up.nii.gz")(OBLIQUE.points_mm())
    back = (points - OBLIQUE.points_mm()) @ TURN[:, 1] / 2.5  # along j, in its voxels
    np.testing.assert_allclose(np.abs(back), np.abs(shift.ravel()), atol=1e-3)


def test_typed_readouts_and_acqparams_say_the_same(files: list[Path], tmp_path: Path) -> None:
    for path in files:
        path.with_name(path.name.replace(".nii.gz", ".json")).unlink()
    typed = ("--pe-up", "j", "--pe-down", "j-", "--readout", READOUT)
    assert run(*files, "-o", tmp_path / "a", "-q", *typed) == 0
    acqparams = tmp_path / "acq.txt"
    acqparams.write_text("0 1 0 .05\n0 -1 0 .05\n")
    assert run(*files, "-o", tmp_path / "b", "-q", "--acqparams", acqparams) == 0
    one, other = (array(tmp_path / name / "field_hz.nii.gz") for name in "ab")
    assert np.array_equal(one, other)


def test_a_series_and_a_field_map(files: list[Path], tmp_path: Path) -> None:
    volumes = [sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (files[0], files[0])]
    series = tmp_path / "bold.nii.gz"
    sitk.WriteImage(sitk.JoinSeries(volumes), str(series))
    rows = tmp_path / "rows.txt"
    rows.write_text("0 1 0 .05\n0 1 0 .05\n")
    out = tmp_path / "out"
    assert run(*files, "-o", out, "-q", "--series", series, "--series-acqparams", rows) == 0
    done = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "series_corrected.nii.gz")))
    assert done.shape == (2, *SHAPE)
    np.testing.assert_allclose(done[1], array(out / "up_corrected.nii.gz"), atol=1e-5)
    again = tmp_path / "again"
    words = ("--field-map", out / "field_hz.nii.gz", "--pe-up", "j", "--readout", READOUT)
    assert run(files[0], "-o", again, "-q", *words) == 0
    one, other = (array(folder / "up_corrected.nii.gz") for folder in (out, again))
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert not (again / "recipe.yaml").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--pe-up", "j-"), "both have the phase encoding j-"),
        (("--pe-up", "i"), "different axes, which is rarely meant"),
        (("--pe-up", "AP"), "'AP' is no phase-encoding direction"),
        (("--readout", "0"), "0 s"),
        (("--readout-down", "0"), "0 s"),
        (("--readout", "50"), "seconds"),
        (("--acqparams", "missing.txt"), "missing.txt"),
        (("--series", "missing.nii.gz"), "missing.nii.gz"),
        (("--method", "half"), "--method"),
        (("--set", "stages.field.descent.stepp=1"), "stepp"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    words: tuple[str, ...],
    told: str,
    files: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert run(*files, "-o", out, "-q", *words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_unequal_grids_and_a_series_of_another_length(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.nii.gz"
    save_image(Image(torch.ones(1, 4, 5, 6), Grid.identity((6, 5, 4))), other)
    typed = ("--pe-up", "j", "--pe-down", "j-", "--readout", READOUT)
    assert run(files[0], other, "-o", tmp_path / "out", "-q", *typed) == 2
    assert "other.nii.gz: lies on another grid than up.nii.gz" in capsys.readouterr().err
    series = tmp_path / "bold.nii.gz"
    image = sitk.ReadImage(str(files[0]), sitk.sitkFloat32)
    sitk.WriteImage(sitk.JoinSeries([image] * 3), str(series))
    rows = tmp_path / "rows.txt"
    rows.write_text("0 1 0 .05\n" * 2)
    words = ("--series", series, "--series-acqparams", rows)
    assert run(*files, "-o", tmp_path / "out", "-q", *words) == 2
    assert "has 3 volumes but 2 readouts" in capsys.readouterr().err
    assert run(series, files[1], "-o", tmp_path / "out", "-q", *typed) == 2
    assert "only 2D and 3D images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
