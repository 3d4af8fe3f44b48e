"""Small pairs with true geometry and recipes that take a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from fireants_engine.geometry import Grid, Image
from fireants_engine.recipe import Recipe

GREEDY = {
    "name": "greedy",
    "deformation": {"kind": "greedy", "sigma_grad_mm": 3.0, "sigma_warp_mm": 1.0},
    "terms": [{"kind": "ssd"}],
    "pyramid": {"levels": [{"shrink": 3, "max_steps": 20}, {"shrink": 2, "max_steps": 10}],
                "min_size": 6},
}  # fmt: skip
AFFINE = {
    "name": "affine",
    "deformation": {"kind": "affine"},
    "terms": [{"kind": "ssd"}],
    "pyramid": {"levels": [{"shrink": 2, "max_steps": 15}], "min_size": 6},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny images are quickest on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def recipe() -> Recipe:
    """Affine, then greedy down to half resolution only."""
    return Recipe.from_dict({"name": "tiny", "start": {"kind": "identity"},
                             "stages": [AFFINE, GREEDY], "seed": 3})  # fmt: skip


@pytest.fixture
def linear_recipe() -> Recipe:
    return Recipe.from_dict({"start": {"kind": "identity"}, "stages": [AFFINE]})


def grid_of(kind: str) -> Grid:
    """An oblique anisotropic, flipped, thin or flat grid."""
    c, s = np.cos(0.35), np.sin(0.35)
    turn_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    turn_x = np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])
    match kind:
        case "oblique":
            return Grid((22, 24, 14), (1.6, 1.4, 2.3), (5.0, -30.0, 12.0), turn_z @ turn_x)
        case "flipped":
            return Grid((22, 20, 18), (1.5, 1.7, 1.6), (30.0, 3.0, 1.0), np.diag([-1.0, 1, 1]))
        case "thin":
            return Grid((24, 22, 1), (1.5, 1.5, 5.0), (5.0, -30.0, 12.0), turn_z)
        case "flat":
            return Grid((26, 22), (1.5, 1.2), (5.0, -30.0), turn_z[:2, :2] @ np.diag([1.0, -1]))
    raise ValueError(kind)


def scene(grid: Grid, shift: float, swell: float) -> np.ndarray:
    """A bright ellipsoid with two spots, smooth edges, in physical coordinates."""
    points = grid.points_mm() - grid.centre_mm
    size = grid.extent_mm / 2
    thick = np.where(np.asarray(grid.size) > 1, 1.0, 0.0)
    r = points / size * thick - shift * np.arange(1, grid.dim + 1) / grid.dim

    def blob(centre: float, radius: float) -> np.ndarray:
        d = np.sqrt((((r - centre * thick) / radius) ** 2).sum(1))
        return 1 / (1 + np.exp(np.clip(8 * (d - 1), -50, 50)))

    values = blob(0.0, 0.6 * swell) + 0.6 * blob(0.2, 0.2) - 0.5 * blob(-0.2, 0.22 * swell)
    return (100 * values).reshape(grid.shape).astype(np.float32)


@pytest.fixture
def make_pair() -> Callable[[str], tuple[Image, Image]]:
    """`make_pair(kind)`: fixed on the grid of that kind, moving on another grid."""

    def make(kind: str) -> tuple[Image, Image]:
        fixed = grid_of(kind)
        size = [n if n == 1 else n + 3 for n in fixed.size]
        moving = fixed.resized(size)
        moving = Grid(
            moving.size,
            moving.spacing_mm,
            tuple(np.asarray(moving.origin_mm) + 0.7),
            moving.direction,
        )
        return (
            Image.from_numpy(scene(fixed, 0.0, 1.0), fixed, name="fixed"),
            Image.from_numpy(scene(moving, 0.1, 1.15), moving, name="moving"),
        )

    return make


@pytest.fixture
def labelled() -> Callable[[Image], Image]:
    """`labelled(image)`: its body as label 7 and its bright spot as label 300."""

    def make(image: Image) -> Image:
        values = image.numpy()
        labels = np.where(values > 120, 300, np.where(values > 40, 7, 0)).astype(np.int16)
        return Image.from_numpy(labels, image.grid, name=f"{image.name} labels")

    return make
