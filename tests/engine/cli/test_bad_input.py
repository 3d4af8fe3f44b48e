"""Bad input: exit code 2, one sentence that names the thing and the remedy, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fireants_engine.workflows import rundir

Files = dict[str, Path]
Case = Callable[[Files, Path], list[object]]


def _write(array: np.ndarray, path: Path, vector: bool = False) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=vector), str(path))
    return path


def _pair(files: Files, fixed: object = None, moving: object = None) -> list[object]:
    return [fixed or files["fixed"], moving or files["moving"]]


def four_dimensional(files: Files, tmp: Path) -> list[object]:
    path = tmp / "series.nii.gz"
    sitk.WriteImage(sitk.Image([8, 8, 8, 3], sitk.sitkFloat32), str(path))
    return _pair(files, moving=path)


def flat_with_deep(files: Files, tmp: Path) -> list[object]:
    return _pair(files, moving=files["moving3d"])


def empty_file(files: Files, tmp: Path) -> list[object]:
    (tmp / "empty.nii.gz").touch()
    return _pair(files, tmp / "empty.nii.gz")


def empty_image(files: Files, tmp: Path) -> list[object]:
    path = tmp / "hollow.mha"
    path.write_text(
        "ObjectType = Image\nNDims = 2\nBinaryData = True\nDimSize = 0 4\n"
        "ElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
    )
    return _pair(files, path)


def constant(files: Files, tmp: Path) -> list[object]:
    return _pair(files, _write(np.full((24, 22), 7, np.float32), tmp / "flat.nii.gz"))


def with_value(value: float) -> Case:
    def make(files: Files, tmp: Path) -> list[object]:
        array = np.random.default_rng(0).random((24, 22)).astype(np.float32)
        array[3, 4] = value
        return _pair(files, moving=_write(array, tmp / "holes.nii.gz"))

    return make


def zero_mask(files: Files, tmp: Path) -> list[object]:
    item = sitk.ReadImage(str(files["fixed"])) * 0
    sitk.WriteImage(item, str(tmp / "mask.nii.gz"))
    return [*_pair(files), "--fixed-mask", tmp / "mask.nii.gz"]


def shifted_mask(files: Files, tmp: Path) -> list[object]:
    item = sitk.ReadImage(str(files["moving_labels"]))
    item.SetOrigin((3.0, 3.0))
    sitk.WriteImage(item, str(tmp / "mask.nii.gz"))
    return [*_pair(files), "--moving-mask", tmp / "mask.nii.gz"]


def sheared(files: Files, tmp: Path) -> list[object]:
    item = sitk.ReadImage(str(files["fixed"]))
    item.SetDirection((1.0, 0.4, 0.0, 1.0))
    sitk.WriteImage(item, str(tmp / "sheared.mha"))
    return _pair(files, tmp / "sheared.mha")


def colour(files: Files, tmp: Path) -> list[object]:
    array = np.random.default_rng(0).integers(0, 255, (24, 22, 3)).astype(np.uint8)
    return _pair(files, moving=_write(array, tmp / "colour.png", vector=True))


def colour_mask(files: Files, tmp: Path) -> list[object]:
    array = np.full((24, 22, 3), 255, np.uint8)
    path = _write(array, tmp / "colour.png", vector=True)
    return [*_pair(files), "--fixed-mask", path]


def cut(suffix: str) -> Case:
    def make(files: Files, tmp: Path) -> list[object]:
        values = (np.random.default_rng(0).random((24, 22)) * 255).astype(np.uint8)
        path = _write(values, tmp / f"cut{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return _pair(files, path)

    return make


def no_image(files: Files, tmp: Path) -> list[object]:
    (tmp / "notes.txt").write_text("not an image")
    return _pair(files, tmp / "notes.txt")


def fractional_labels(files: Files, tmp: Path) -> list[object]:
    return [*_pair(files), "--moving-labels", files["moving"]]


def labels_elsewhere(files: Files, tmp: Path) -> list[object]:
    path = _write(np.ones((5, 5), np.uint8), tmp / "seg.nii.gz")
    return [*_pair(files), "--fixed-labels", path]


def misspelt_recipe(files: Files, tmp: Path) -> list[object]:
    path = tmp / "mine.yaml"
    path.write_text(files["recipe"].read_text().replace("sigma_grad_mm", "sigma_grd_mm"))
    return [*_pair(files), "--recipe", path]


def broken_recipe(files: Files, tmp: Path) -> list[object]:
    (tmp / "mine.yaml").write_text("stages: [")
    return [*_pair(files), "--recipe", tmp / "mine.yaml"]


def deep_init(files: Files, tmp: Path) -> list[object]:
    sitk.WriteTransform(sitk.AffineTransform(3), str(tmp / "deep.mat"))
    return [*_pair(files), "--init", tmp / "deep.mat"]


def odd_init(files: Files, tmp: Path) -> list[object]:
    sitk.WriteTransform(sitk.BSplineTransform(2), str(tmp / "spline.tfm"))
    return [*_pair(files), "--init", tmp / "spline.tfm"]


def landmarks(text: str) -> Case:
    def make(files: Files, tmp: Path) -> list[object]:
        (tmp / "marks.csv").write_text(text)
        return [*_pair(files), "--landmarks", tmp / "marks.csv"]

    return make


def option(*arguments: object) -> Case:
    return lambda files, tmp: [*_pair(files), *arguments]


CASES: dict[str, tuple[Case, str]] = {
    "wrong dimensions": (four_dimensional, "series.nii.gz: is 4D"),
    "2D with 3D": (flat_with_deep, "fixed.nii.gz is 2D and moving3d.nii.gz is 3D"),
    "empty file": (empty_file, "empty.nii.gz: the file is truncated"),
    "empty image": (empty_image, "hollow.mha: the image is empty"),
    "constant image": (constant, "flat.nii.gz: every value is 7"),
    "NaN": (with_value(np.nan), "holes.nii.gz: contains NaN or infinite"),
    "infinity": (with_value(np.inf), "holes.nii.gz: contains NaN or infinite"),
    "all-zero mask": (zero_mask, "mask.nii.gz: the mask is zero everywhere"),
    "mask on another grid": (shifted_mask, "mask.nii.gz: the mask lies on another grid"),
    "direction not orthonormal": (sheared, "sheared.mha: The direction matrix is not orthonormal"),
    "colour instead of grey": (colour, "colour.png 3; convert colour images to grey"),
    "colour mask": (colour_mask, "colour.png: a mask has one channel"),
    "truncated .nii.gz": (cut(".nii.gz"), "cut.nii.gz: the file is truncated"),
    "truncated .nii": (cut(".nii"), "cut.nii: the file is truncated"),
    "truncated .tif": (cut(".tif"), "cut.tif: the file is truncated"),
    "truncated .jpg": (cut(".jpg"), "cut.jpg: the file is truncated"),
    "truncated .mha": (cut(".mha"), "cut.mha: the file is truncated"),
    "truncated .png": (cut(".png"), "cut.png: the image cannot be read"),
    "truncated .nrrd": (cut(".nrrd"), "cut.nrrd: the image cannot be read"),
    "not an image": (no_image, "notes.txt: this is not an image in a known format"),
    "missing file": (
        lambda files, tmp: _pair(files, tmp / "none.nii.gz"),
        "none.nii.gz: there is no such file",
    ),
    "folder as image": (lambda files, tmp: _pair(files, tmp), "this is a folder"),
    "fractional labels": (fractional_labels, "moving.nii.gz: label values must be whole numbers"),
    "fixed labels on another grid": (labels_elsewhere, "seg.nii.gz: the fixed labels lie on"),
    "unknown preset": (option("--preset", "brain"), "Unknown preset 'brain'; choose one of"),
    "misspelt recipe key": (misspelt_recipe, "unknown key 'stages.0.deformation.sigma_grd_mm'"),
    "recipe is not YAML": (broken_recipe, "mine.yaml: this is not valid YAML"),
    "missing recipe": (option("--recipe", "none.yaml"), "none.yaml: the recipe cannot be read"),
    "bad --set path": (option("--set", "stages.greedy.speed=1"), "unknown key 'speed'"),
    "bad --set value": (option("--set", "seed=fast"), "seed: input should be a valid integer"),
    "--set without value": (option("--set", "seed"), "expected PATH=VALUE"),
    "negative seed": (option("--seed", "-1"), "seed: input should be greater"),
    "unavailable device": (option("--device", "cuda:7"), "Device 'cuda:7' is not available"),
    "unknown device": (option("--device", "tpu"), "Device 'tpu' is not available"),
    "unknown kernels": (option("--kernels", "warp9"), "Kernels 'warp9' are not installed"),
    "no threads": (option("--threads", "0"), "--threads 0: at least one"),
    "wrong --init dimension": (deep_init, "deep.mat: the initial transform is 3D but"),
    "unsupported --init": (odd_init, "spline.tfm: holds a BSplineTransform"),
    "landmarks without column": (landmarks("x,y\n1,2\n"), "marks.csv: column 'mx' is missing"),
    "no landmarks": (landmarks("x,y,mx,my\n"), "marks.csv: holds no landmarks"),
    "unknown option": (option("--fast"), "unrecognized arguments: --fast"),
}


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_one_sentence_and_nothing_written(cli, files: Files, tmp_path: Path, name: str) -> None:
    make, words = CASES[name]
    arguments = make(files, tmp_path)
    before = snapshot(tmp_path)
    done = cli("run", *arguments, "-o", tmp_path / "out")
    assert done.code == 2, done.err
    assert done.out == ""
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.startswith("fireants-engine: ")
    assert done.err.rstrip().endswith((".", "'."))
    assert words in done.err
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["occupied", "occupied/out", "locked/out"])
def test_output_not_writable(
    cli, files: Files, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found before the registration starts."""
    (tmp_path / "occupied").write_text("a file")
    if place.startswith("locked"):

        def refuse(**_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(rundir.tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr("fireants_engine.cli.run.register", pytest.fail)
    before = snapshot(tmp_path)
    done = cli("run", files["fixed"], files["moving"], "-o", tmp_path / place)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert f"{tmp_path / place}: the output folder" in done.err
    assert snapshot(tmp_path) == before
