"""One small run per kind of geometry, saved once and read by other programs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import fireants_engine as fe
from fireants_engine.geometry import Grid, Image
from fireants_engine.recipe import Recipe

RECIPE = {
    "name": "interop",
    "start": {"kind": "identity"},
    "stages": [
        {
            "name": kind,
            "deformation": {"kind": kind},
            "terms": [{"kind": "ssd"}],
            "pyramid": {"levels": [{"shrink": 2, "max_steps": 15}], "min_size": 6},
        }
        for kind in ("affine", "greedy")
    ],
}


def _grids(kind: str) -> tuple[Grid, Grid]:
    """Fixed and moving grids that differ in size, spacing, origin and direction."""
    c, s = np.cos(0.35), np.sin(0.35)
    turn_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    turn_x = np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])
    if kind == "flat":
        return (
            Grid((26, 22), (1.5, 1.2), (5.0, -30.0), turn_z[:2, :2] @ np.diag([1.0, -1.0])),
            Grid((30, 32), (1.4, 1.3), (5.0, -50.0), turn_z[:2, :2]),
        )
    first = turn_z @ turn_x if kind == "oblique" else np.diag([-1.0, 1.0, 1.0])
    fixed = Grid((22, 24, 14), (1.6, 1.4, 2.3), (5.0, -30.0, 12.0), first)
    second = turn_x if kind == "oblique" else np.diag([1.0, -1.0, -1.0])
    moving = Grid((24, 22, 26), (1.7, 1.7, 1.5), (0.0, 0.0, 0.0), second)
    shift = fixed.centre_mm - moving.centre_mm
    return fixed, Grid(moving.size, moving.spacing_mm, tuple(shift), second)


def _scene(grid: Grid, centre: np.ndarray, radius: float) -> np.ndarray:
    points = (grid.points_mm() - centre) / radius
    values = np.zeros(len(points))
    places = ((0.0, 1.0, 100.0), (0.3, 0.35, 60.0), (-0.3, 0.3, -50.0))
    for place, size, height in places:
        offset = place * np.arange(1, grid.dim + 1) / grid.dim
        d = np.linalg.norm((points - offset) / size, axis=1)
        values += height / (1 + np.exp(np.clip(8 * (d - 1), -50, 50)))
    return values.reshape(grid.shape).astype(np.float32)


@pytest.fixture(scope="session")
def saved_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`saved_run(kind)`: folder with fixed.nii.gz, moving.nii.gz, and the run in out/."""

    @cache
    def make(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        fixed_grid, moving_grid = _grids(kind)
        centre = fixed_grid.centre_mm
        radius = 0.3 * float(fixed_grid.extent_mm.min())
        images = {
            "fixed": Image.from_numpy(_scene(fixed_grid, centre, radius), fixed_grid),
            "moving": Image.from_numpy(
                _scene(moving_grid, centre + 1.5, 1.15 * radius), moving_grid
            ),
        }
        for name, image in images.items():
            fe.save_image(image, folder / f"{name}.nii.gz")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            result = fe.register(
                fe.load_image(folder / "fixed.nii.gz"),
                fe.load_image(folder / "moving.nii.gz"),
                Recipe.from_dict(RECIPE),
            )
        finally:
            torch.set_num_threads(threads)
        assert result.warp_field is not None
        assert float(result.warp_field.u.abs().max()) > 0.2
        result.save(folder / "out")
        return folder

    return make
