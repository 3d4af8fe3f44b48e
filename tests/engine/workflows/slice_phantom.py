"""A small brain without symmetry, and stained sections cut from it with a known map."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from fireants_engine.geometry import Grid, Image

SAMPLES = Path(__file__).resolve().parents[3] / "sample_data"


@cache
def brain() -> Image:
    """46 x 54 x 44 voxels of 3 mm: a bent ellipsoid of textured tissue, 0 outside."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(44, 54, 46)), 2.5)
    z, y, x = np.ogrid[:44, :54, :46]
    radius = ((z - 21) / 17) ** 2 + ((y - 27) / 22) ** 2 + ((x - 22) / 18) ** 2
    radius = radius + 0.25 * np.sin(y / 6) * np.cos(x / 7) + 0.15 * (x - 22) / 18 * (y - 27) / 22
    tissue = np.where(radius < 1, 60 + 22 * np.clip(noise / noise.std(), -2, 2), 0)
    grid = Grid((46, 54, 44), (3.0, 3.0, 3.0), (-66.0, -80.0, -63.0), np.eye(3))
    return Image.from_numpy(tissue.astype(np.float32), grid, name="brain")


@cache
def samples() -> Any:
    """sample_data/sections.py as a module."""
    spec = importlib.util.spec_from_file_location("sections", SAMPLES / "sections.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("sections", module)
    spec.loader.exec_module(module)
    return module


def cut(volume: Image, seed: int = 0, **how: Any) -> tuple[Any, Image]:
    """`sections.cut_section` of `volume` at 1.5 mm, and the slide as an Image."""
    options = {
        "axis": 1, "position": 0.45, "pixel_mm": 1.5, "elastic_px": 2.0, "tears": 2,
        "missing": 0.05, **how,
    }  # fmt: skip
    matrix = volume.grid.matrix("voxel", "mm")
    section = samples().cut_section(volume.numpy(), matrix, seed=seed, **options)
    grid = Grid.identity(section.rgb.shape[1::-1], section.pixel_mm)
    return section, Image.from_numpy(section.rgb, grid, channels=True, name="section")


def errors_mm(transform: Any, section: Any) -> np.ndarray:
    """Distances from the truth at the section's points."""
    points = np.column_stack([section.points_mm, np.zeros(len(section.points_mm))])
    return np.linalg.norm(transform(points) - section.truth(section.points_mm), axis=1)


def true_affine(section: Any, shape: tuple[int, ...]) -> np.ndarray:
    """(4, 4) section mm (x, y, 0) -> volume mm that fits the truth best over the section."""
    rows, columns = np.mgrid[: shape[0] : 8, : shape[1] : 8]
    points = np.stack([columns, rows], -1).reshape(-1, 2) * section.pixel_mm
    design = np.column_stack([points, np.ones(len(points))])
    fit = np.linalg.lstsq(design, section.truth(points), rcond=None)[0]
    matrix = np.eye(4)
    matrix[:3, :2], matrix[:3, 3] = fit[:2].T, fit[2]
    matrix[:3, 2] = section.plane[3]
    return matrix
