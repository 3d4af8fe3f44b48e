"""What a user gets from the wheel: our two packages with their data, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

PRESETS = {
    "affine",
    "brain-mri",
    "brain-mri-fast",
    "ct-lung",
    "ultrasound-mr",
    "microscopy",
    "multimodal",
    "rigid",
}
PRESET_FOLDER = "fireants_engine/recipe/presets/"
SAMPLE_FOLDER = "napari_fireants/_sample_data/"


@pytest.fixture(scope="module")
def wheel(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout with the installed hatchling (no network)."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(build, cwd=repo_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The paths of the files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_top_level_names(names: set[str], repo_root: Path) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]
    dist_info = f"napari_fireants-{project['version']}.dist-info"
    top_level = {name.split("/")[0] for name in names}
    assert top_level == {"napari_fireants", "fireants_engine", dist_info}


def test_no_leftovers(names: set[str]) -> None:
    leftovers = [name for name in names if "__pycache__" in name or name.endswith((".pyc", "~"))]
    assert leftovers == []


def test_manifest_and_presets_are_in(names: set[str]) -> None:
    assert "napari_fireants/napari.yaml" in names
    presets = {
        Path(name).stem
        for name in names
        if name.startswith(PRESET_FOLDER) and name.endswith(".yaml")
    }
    assert presets >= PRESETS


def test_a_picture_of_every_preset_is_in(names: set[str]) -> None:
    assert {f"napari_fireants/pictures/{name}.png" for name in PRESETS} <= names


def test_sample_data_is_in(names: set[str], repo_root: Path) -> None:
    folder = repo_root / "sample_data"
    files = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert any(name.startswith("MANIFEST") for name in files)
    assert any(name.endswith(".nii.gz") for name in files)
    assert {SAMPLE_FOLDER + name for name in files} <= names


def test_size_fits_a_registry(wheel: Path) -> None:
    assert wheel.stat().st_size < 100e6


def test_unpacked_wheel_works_by_itself(wheel: Path, tmp_path: Path) -> None:
    """Outside the checkout, both packages and the manifest come from the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import importlib.metadata, json, fireants_engine, napari_fireants\n"
        "found = importlib.metadata.distribution('napari-fireants')\n"
        "points = {e.group: e.value for e in found.entry_points}\n"
        "files = [fireants_engine.__file__, napari_fireants.__file__]\n"
        "print(json.dumps([files, points]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    files, points = json.loads(done.stdout.splitlines()[-1])
    assert all(Path(file).is_relative_to(tmp_path) for file in files)
    assert points == {
        "console_scripts": "fireants_engine.cli.main:main",
        "napari.manifest": "napari_fireants:napari.yaml",
    }
