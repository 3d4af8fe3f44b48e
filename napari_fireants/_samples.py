"""Sample data for napari's File > Open Sample; no torch, no engine.

Layers follow the plugin's convention: data in (z, y, x), layer world = LPS mm reversed.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from napari_fireants._preview import robust_limits

LayerData = tuple[np.ndarray, dict[str, Any], str]


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


def _geometry(spacing: Any, origin: Any, direction: Any) -> dict[str, Any]:
    """Layer arguments for an ITK geometry (x, y(, z), LPS mm)."""
    dim = len(spacing)
    linear = np.reshape(direction, (dim, dim)) * np.asarray(spacing)
    affine = np.eye(dim + 1)
    affine[:dim, :dim] = linear[::-1, ::-1]
    affine[:dim, dim] = np.asarray(origin)[::-1]
    return {
        "affine": affine,
        "units": ("mm",) * dim,
        "axis_labels": ("z", "y", "x")[3 - dim :],
    }


def _look(colormap: str, array: np.ndarray) -> dict[str, Any]:
    limits = robust_limits(array)
    return {"colormap": colormap, "blending": "additive", "contrast_limits": limits}


def _brain(name: str, title: str, colormap: str) -> LayerData:
    import SimpleITK as sitk

    path = sample_path(name)
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    kwargs = _geometry(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    kwargs |= {"name": title, "metadata": {"fireants": {"path": str(path)}}}
    kwargs |= _look(colormap, array)
    return array, kwargs, "image"


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
        kwargs = _geometry(where.spacing, where.origin, where.direction)
        kwargs |= {"name": f"{title} ({what})", **_look(colormap, array)}
        out.append((array, kwargs, "image"))
    kwargs = _geometry(
        phantom.moving_lattice.spacing,
        phantom.moving_lattice.origin,
        phantom.moving_lattice.direction,
    )
    kwargs |= {"name": f"{title} labels (moving)", "visible": False}
    out.append((phantom.moving_labels, kwargs, "labels"))
    return out


def phantom_2d() -> list[LayerData]:
    """Two sections with a known warp."""
    return _phantom(load_phantoms().microscopy_2d(), "section")


def phantom_3d() -> list[LayerData]:
    """Two brain-like bodies with a known warp."""
    return _phantom(load_phantoms().brain(), "phantom")
