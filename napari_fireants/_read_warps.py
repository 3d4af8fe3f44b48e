"""Transforms as layers of arrows: thinned to what can be read, where they act, in true length.

An arrow leads from a fixed point to where the transform takes it. Fields are read without torch,
all other transforms by the engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fireants._layers import placed, upright
from napari_fireants._read_images import LayerData, Opened, described, title
from napari_fireants._seen import round_step

if TYPE_CHECKING:
    from fireants_engine import Grid
    from fireants_engine.transforms import Affine, Transform

COUNT = 30
"""Arrows along the longest side of a field, at most; they are a round number of mm apart."""
COUNT_AFFINE = 16
AROUND_MM = 100.0
"""Side of the box an affine is shown in where nothing is open, in mm."""


def lattice(grid: Grid, count: int = COUNT) -> tuple[Grid, tuple[slice, ...], float]:
    """Samples of `grid` about equally far apart: their grid, their place in its array, mm apart."""
    from fireants_engine.geometry.grid import Grid

    step = round_step(float(max(grid.extent_mm)) / count)
    every = [max(1, round(step / s)) for s in grid.spacing_mm]
    first = [(min(k, n) - 1) // 2 for k, n in zip(every, grid.size, strict=True)]
    size = [(n - 1 - f) // k + 1 for n, f, k in zip(grid.size, first, every, strict=True)]
    spacing = [s * k for s, k in zip(grid.spacing_mm, every, strict=True)]
    origin = grid.origin_mm + grid.direction @ (np.multiply(grid.spacing_mm, first))
    box = tuple(slice(f, None, k) for f, k in zip(first, every, strict=True))[::-1]
    return Grid(tuple(size), tuple(spacing), tuple(origin), grid.direction), box, step


def _arrows(ways_mm: np.ndarray, grid: Grid, look: dict[str, Any]) -> LayerData:
    """Vectors at every sample of a coarse grid, in its voxels; ways_mm: (*grid.shape, d), x, y, z.

    In voxels of this grid a slice of the 2D view shows the layer of arrows that is nearest.
    """
    dim = grid.dim
    mm = np.linalg.norm(ways_mm, axis=-1).ravel()
    kept = mm > 1e-3 * max(float(mm.max(initial=0.0)), 1e-9)
    start = np.stack(np.indices(grid.shape), axis=-1).reshape(-1, dim).astype(np.float32)
    turn = grid.matrix("mm", "voxel")[:-1, :-1]
    ways = ways_mm.reshape(-1, dim).astype(np.float64) @ turn.T
    look |= {"vector_style": "arrow", "edge_width": 0.12, "ndim": dim, "opacity": 0.9}
    if kept.any():
        limit = round_step(float(mm[kept].max()))
        look |= {"features": {"mm": mm[kept]}, "edge_color": "mm", "edge_colormap": "turbo"}
        look["edge_contrast_limits"] = (0.0, limit)
    vectors = np.stack([start[kept], ways[kept].astype(np.float32)], axis=1)
    return vectors, look | placed(grid), "vectors"


def _longest(ways_mm: np.ndarray) -> str:
    longest = float(np.linalg.norm(ways_mm, axis=-1).max(initial=0.0))
    return f"the longest is {longest:.3g} mm" if longest else "it moves nothing"


def field_arrows(array: np.ndarray, grid: Grid, path: Path) -> Opened:
    """Arrows of a displacement field (*grid.shape, d) in mm, LPS."""
    array, grid = upright(array, grid)
    coarse, box, step = lattice(grid)
    ways = array[box]
    says = f"{path.name}: displacement field, an arrow every {step:g} mm; {_longest(ways)}."
    look = {"name": title(path), "metadata": described(path, path, kind="displacement", says=says)}
    return [_arrows(ways, coarse, look)], [says]


def open_transform(path: Path) -> Opened:
    """Arrows of a transform file of ITK: an affine, or a chain with a displacement field."""
    from fireants_engine.io.transforms import load_transform
    from fireants_engine.transforms import parts_of

    transform = load_transform(path)
    affine = as_affine(transform)
    if affine is not None:
        grid, step = _around(affine)
        kind, says = "affine", affine_in_words(affine)
    else:
        from fireants_engine.transforms import Displacement

        field = next(part for part in parts_of(transform) if isinstance(part, Displacement))
        grid, step = _upright_lattice(field.grid)
        kind, says = "displacement", f"{len(parts_of(transform))} transforms, one after the other"
    ways = transform.displacement(grid)
    says = f"{path.name}: {says}; an arrow every {step:g} mm, {_longest(ways)}."
    look = {"name": title(path), "metadata": described(path, path, kind=kind, says=says)}
    return [_arrows(ways, grid, look)], [says]


def _upright_lattice(grid: Grid) -> tuple[Grid, float]:
    from fireants_engine.geometry.orientation import nearest_order, reordered

    coarse, _, step = lattice(reordered(grid, nearest_order(grid.direction)))
    return coarse, step


# ------------------------------------------------------------------ affine
def as_affine(transform: Transform) -> Affine | None:
    """A transform without a deformable part as one affine; one alone keeps its centre."""
    from fireants_engine.transforms import Affine, linear_part

    return transform if isinstance(transform, Affine) else linear_part(transform)


def _around(affine: Affine) -> tuple[Grid, float]:
    """A coarse grid over what is open in the present viewer, or around the affine's centre."""
    from fireants_engine.geometry.grid import Grid

    low, high = _open_extent(affine.dim) or (
        affine.centre_mm - AROUND_MM / 2,
        affine.centre_mm + AROUND_MM / 2,
    )
    step = round_step(max(float((high - low).max()) / COUNT_AFFINE, 1e-9))
    size = np.maximum(1, np.floor((high - low) / step).astype(int))
    origin = (low + high) / 2 - (size - 1) * step / 2
    direction = np.eye(affine.dim)
    return Grid(tuple(size), (step,) * affine.dim, tuple(origin), direction), step


def _open_extent(dim: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Least and largest LPS mm of the layers in napari's present viewer."""
    import napari

    viewer = napari.current_viewer()
    if viewer is None or not viewer.layers or viewer.dims.ndim != dim:
        return None
    extent, units = viewer.layers.extent.world, viewer.layers.units
    factors = [1.0] * dim
    if units is not None and all((1.0 * unit).check("[length]") for unit in units):
        factors = [float((1.0 * unit).to("millimeter").magnitude) for unit in units]
    low, high = (np.asarray(extent) * factors)[:, ::-1]
    return low, high


def affine_in_words(affine: Affine) -> str:
    """What an affine map does: how far it turns, scales and shifts."""
    linear = affine.matrix[:-1, :-1]
    left, scales, right = np.linalg.svd(linear)
    turn = left @ right
    cosine = (np.trace(turn) - 1) / 2 if affine.dim == 3 else turn[0, 0]
    angle = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    shift = float(np.linalg.norm(affine(affine.centre_mm[None])[0] - affine.centre_mm))
    words = ["mirrors"] if np.linalg.det(linear) < 0 else [f"turns by {angle:.3g}°"]
    if not np.allclose(scales, 1, atol=1e-6):
        words.append("scales by " + " × ".join(f"{s:.4g}" for s in scales))
    words.append(f"shifts its centre by {shift:.3g} mm")
    return "affine map, " + ", ".join(words)
