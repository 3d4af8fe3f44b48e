"""Sample data for napari's File > Open Sample; no torch."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from napari.layers import Layer

from fireants_engine.geometry import Grid
from napari_fireants._layers import index_to_mm, placed
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
    return _module("phantoms")


def load_sections() -> ModuleType:
    """The generator module `sections.py`."""
    return _module("sections")


def _module(file: str) -> ModuleType:
    name = f"napari_fireants_{file}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, sample_folder() / f"{file}.py")
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


EPI_PART = slice(54, 84, 2), slice(1, None, 2), slice(1, None, 2)
"""Of ICBM152, for the EPI pair: every other voxel of some axial slices."""
EPI_PAD, EPI_READOUT = 8, 0.05


def epi_pair() -> list[LayerData]:
    """Slices of ICBM152, read out along j and against it in a made-up field."""
    ((array, look, kind),), _ = open_image(sample_path("icbm152_t1.nii.gz"))
    image = np.pad(array[EPI_PART].astype(float), ((0, 0), (EPI_PAD,) * 2, (EPI_PAD,) * 2))
    up, down, _ = load_phantoms().epi_pair(image, EPI_READOUT)
    start = [part.start - step for part, step in zip(EPI_PART, (0, 16, 16), strict=True)]
    place = {key: look[key] for key in ("affine", "units", "axis_labels") if key in look}
    place |= {"scale": (2.0,) * 3, "translate": start, "contrast_limits": robust_limits(up)}
    out: list[LayerData] = []
    for name, shown, direction in (("up", up, "j"), ("down", down, "j-")):
        encoding = {"direction": direction, "readout_s": EPI_READOUT}
        own = {"name": f"EPI {name}, {direction}", "metadata": {"fireants": {"encoding": encoding}}}
        out.append((shown, place | own, kind))
    return out


SECTION_SEED, SECTION_PIXEL_MM = 5, 0.3


def section_and_brain() -> list[LayerData]:
    """Colin27, and a stained section of it: oblique, turned, bent, torn."""
    array, look, kind = _brain("colin27_t1.nii.gz", "Colin27", "gray")
    layer = Layer.create(array, dict(look), kind)
    to_mm = index_to_mm(layer)
    voxel_to_mm = to_mm.copy()
    voxel_to_mm[:3, :3] = to_mm[:3, :3][:, ::-1]
    made = load_sections().cut_section(
        array, voxel_to_mm, seed=SECTION_SEED, pixel_mm=SECTION_PIXEL_MM
    )
    place = {"name": "Section", "rgb": True, "scale": (SECTION_PIXEL_MM,) * 2}
    place |= {"units": ("mm", "mm"), "axis_labels": ("y", "x")}
    return [(made.rgb, place, "image"), (array, look | {"visible": False}, kind)]
