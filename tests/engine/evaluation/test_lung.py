"""Lungs: known distances of landmarks, and a synthetic breath that the preset undoes."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fireants_engine.evaluation import target_registration_error


@pytest.fixture(scope="module")
def lung(repo_root: Path, shared_data: Path) -> ModuleType:
    """benchmarks/lung.py, which makes the breath."""
    folder = str(repo_root / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("lung")
    finally:
        sys.path.remove(folder)


def distances(lung: ModuleType, points: np.ndarray, targets: np.ndarray) -> list[float]:
    pairs = (points, lung.best_affine(points, targets))
    return [target_registration_error(moved, targets).mean_mm for moved in pairs]


def test_distances_of_the_elastix_lung(lung: ModuleType, shared_data: Path) -> None:
    pair = lung.lung(shared_data, Path())["report"][0]
    points, targets = pair.landmarks
    assert len(points) == 51
    assert distances(lung, points, targets) == pytest.approx([35.3, 2.5], abs=0.05)
    shifted = points + (targets - points).mean(axis=0)
    assert target_registration_error(shifted, targets).mean_mm == pytest.approx(4.2, abs=0.05)


@pytest.mark.parametrize("number", ["0001", "0002", "0003"])
def test_distances_of_learn2reg(lung: ModuleType, number: str) -> None:
    folder = os.environ.get("FIREANTS_L2R")
    if folder is None:
        pytest.skip("FIREANTS_L2R names no folder with LungCT_CT_*.csv")
    points, targets = lung.learn2reg(Path(folder), number)
    assert distances(lung, points, targets) == pytest.approx(lung.L2R_KNOWN[number], abs=0.01)


def test_a_breath_is_undone_to_the_millimetre(lung: ModuleType) -> None:
    """The preset as it is, on voxels of 4.1 x 4.1 x 5 mm: the base of the lung moves by 30 mm."""
    after = lung.breath(0, {"preset": {}}, (3, 3, 2))[-1]
    assert after["points"] == 300
    assert after["mean_mm"] <= 1.5
    assert after["p95_mm"] <= 3.0
    assert after["folds_inside"] == 0
