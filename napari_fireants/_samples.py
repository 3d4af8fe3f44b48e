"""Sample data for napari's File > Open Sample; no torch."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fireants_engine.geometry import Grid
from napari_fireants._layers import placed
from napari_fireants._preview import robust_limits
from napari_fireants._read_images import LayerData, open_image


def sample_folder() -> Path:
    """Where the sample data lie: in the installed package, or in the checkout."""
    for folder in (
        Path(__file__).parent / "_sample_data",
        Path(__file__).resolve().parents[1] / "sample_data",
    ):
        if (folder / "MANIFEST.json").is_file():
            return folder
    raise FileNotFoundError(
        "The sample data are not installed; reinstall napari-fireants or open your own images."
    )


def sample_path(name: str) -> Path:
    """Path of a packaged file, for example `icbm152_t1.nii.gz`."""
    path = sample_folder() / name
    if not path.is_file():
        names = [
            row["file"] for row in json.loads((path.parent / "MANIFEST.json").read_text())["files"]
        ]
        raise FileNotFoundError(f"There is no sample {name!r}; there are: {', '.join(names)}.")
    return path


def load_phantoms() -> ModuleType:
    """The generator module `phantoms.py`."""
    name = "napari_fireants_phantoms"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, sample_folder() / "phantoms.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def _look(colormap: str, array: np.ndarray) -> dict[str, Any]:
    limits = robust_limits(array)
    return {"colormap": colormap, "blending": "additive", "contrast_limits": limits}


def _brain(name: str, title: str, colormap: str) -> LayerData:
    ((array, kwargs, kind),), _ = open_image(sample_path(name))
    return array, kwargs | {"name": title} | _look(colormap, array), kind


def brain_pair() -> list[LayerData]:
    """ICBM152 (fixed, green) and Colin27 (moving, magenta)."""
    return [
        _brain("colin27_t1.nii.gz", "Colin27 (moving)", "magenta"),
        _brain("icbm152_t1.nii.gz", "ICBM152 (fixed)", "green"),
    ]


def _phantom(phantom: Any, title: str) -> list[LayerData]:
    out: list[LayerData] = []
    for what, array, where, colormap in (
        ("moving", phantom.moving, phantom.moving_lattice, "magenta"),
        ("fixed", phantom.fixed, phantom.fixed_lattice, "green"),
    ):
        kwargs = _place(array, where) | _look(colormap, array)
        out.append((array, kwargs | {"name": f"{title} ({what})"}, "image"))
    kwargs = _place(phantom.moving_labels, phantom.moving_lattice)
    kwargs |= {"name": f"{title} labels (moving)", "visible": False}
    out.append((phantom.moving_labels, kwargs, "labels"))
    return out


def _place(array: np.ndarray, where: Any) -> dict[str, Any]:
    return placed(Grid(array.shape[::-1], where.spacing, where.origin, where.direction))


def phantom_2d() -> list[LayerData]:
    """Two sections with a known warp."""
    return _phantom(load_phantoms().microscopy_2d(), "section")


def phantom_3d() -> list[LayerData]:
    """Two brain-like bodies with a known warp."""
    return _phantom(load_phantoms().brain(), "phantom")
