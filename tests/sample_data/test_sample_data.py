"""The shipped images are what the manifest says; the phantoms keep their promise."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Layer

from napari_fireants import _samples

phantoms = _samples.load_phantoms()
SAMPLES = [_samples.brain_pair, _samples.epi_pair, _samples.phantom_2d, _samples.phantom_3d]


def test_manifest_lists_every_file_with_its_checksum(repo_root: Path) -> None:
    folder = repo_root / "sample_data"
    rows = json.loads((folder / "MANIFEST.json").read_text())["files"]
    for row in rows:
        digest = hashlib.sha256((folder / row["file"]).read_bytes()).hexdigest()
        assert digest == row["sha256"], row["file"]
        assert row["origin"]
        assert row["licence"]
    texts = {"MANIFEST.json", "NOTICE", "README.md", "phantoms.py", "sections.py"}
    found = {p.name for p in folder.iterdir() if p.is_file()} - texts
    assert found == {row["file"] for row in rows}


@pytest.mark.parametrize("kwargs", [{}, {"oblique": True}, {"other_contrast": True}, {"dim": 2}])
def test_phantom_is_deterministic_and_its_truth_has_no_fold(kwargs: dict) -> None:
    one, two = phantoms.brain(size=32, seed=3, **kwargs), phantoms.brain(size=32, seed=3, **kwargs)
    np.testing.assert_array_equal(one.fixed, two.fixed)
    np.testing.assert_array_equal(one.truth_mm, two.truth_mm)
    assert not np.array_equal(one.truth_mm, phantoms.brain(size=32, seed=4, **kwargs).truth_mm)
    # no displacement grows faster than the distance between two samples
    lattice = one.fixed_lattice
    for axis, spacing in enumerate(lattice.spacing[::-1]):
        steps = np.linalg.norm(np.diff(one.truth_mm, axis=axis), axis=-1)
        assert steps.max() < 0.85 * spacing
    assert np.linalg.norm(one.truth_mm, axis=-1).max() > 1.0


def test_fixed_is_moving_at_the_transformed_points() -> None:
    pair = phantoms.brain(dim=2, size=96, seed=1)
    points = pair.fixed_lattice.points() + pair.truth_mm
    value, labels = phantoms.head(points, 0.42 * 96)
    np.testing.assert_allclose(pair.fixed, value, atol=1e-4)
    np.testing.assert_array_equal(pair.fixed_labels, labels)
    assert set(np.unique(labels)) == {0, 1, 2, 3}


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_open_as_layers_with_units(sample) -> None:
    for data, kwargs, kind in sample():
        layer = Layer.create(data, kwargs, kind)
        assert all(str(unit) == "millimeter" for unit in layer.units)
        assert layer.ndim == data.ndim


def test_brain_pair_lies_where_the_files_say() -> None:
    import SimpleITK as sitk

    data, kwargs, kind = _samples.brain_pair()[1]
    layer = Layer.create(data, kwargs, kind)
    image = sitk.ReadImage(str(_samples.sample_path("icbm152_t1.nii.gz")))
    index = (10, 20, 30)
    world = layer.data_to_world(index)
    np.testing.assert_allclose(world[::-1], image.TransformIndexToPhysicalPoint(index[::-1]))


def test_unknown_sample_names_those_there_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"icbm152_t1\.nii\.gz"):
        _samples.sample_path("nothing.nii.gz")


# ------------------------------------------------------------------ EPI
def test_a_readout_moves_signal_and_keeps_it() -> None:
    image = np.zeros((3, 30))
    image[:, 10:20] = 1.0
    shown = phantoms.read_out(image, np.full(image.shape, 2.0), 1)
    np.testing.assert_allclose(shown[:, 13:21], 1.0, atol=1e-9)
    assert shown.sum() == pytest.approx(image.sum())
    slope = np.broadcast_to(0.2 * (np.arange(30) - 15), image.shape)  # stretched by 1.2 around 15
    assert phantoms.read_out(image, slope, 1).sum() == pytest.approx(image.sum(), rel=1e-6)
    assert phantoms.read_out(image, np.full(image.shape, 25.0), 1).sum() == 0


def test_the_epi_pair_tells_how_it_was_read_out() -> None:
    up, down = (look for _, look, _ in _samples.epi_pair())
    ways = [look["metadata"]["fireants"]["encoding"]["direction"] for look in (up, down)]
    assert ways == ["j", "j-"]
    assert up["name"] == "EPI up, j"


def test_the_epi_pair_lies_where_its_brain_lies() -> None:
    brain = Layer.create(*_samples.brain_pair()[1])
    up = Layer.create(*_samples.epi_pair()[0])
    voxel = np.array([3, 20, 30])
    inside = voxel * 2 + [54, 1 - 16, 1 - 16]
    np.testing.assert_allclose(up.data_to_world(voxel), brain.data_to_world(inside))
