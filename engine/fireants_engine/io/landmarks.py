"""Corresponding points from and to files: our CSV, BigWarp's, or two lists of points."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Landmarks, apply_matrix
from fireants_engine.io.markups import NamedPoints
from fireants_engine.io.points import AXES, point_table, read_text, rows_of, table_text, write_text


def load_landmarks(
    path: str | Path, dim: int, fixed: Grid | None = None, moving: Grid | None = None
) -> Landmarks:
    """Pairs from one CSV: columns x,y,z (fixed) and mx,my,mz (moving) in LPS mm (2D: no z), and
    where they are `weight` and `name`; or BigWarp's, which has no header.

    BigWarp counts in index times spacing of either image: it needs the grids, and of its rows
    those are taken that are active and set in both images. Raises InputError naming the file.
    """
    path = Path(path)
    rows = rows_of(read_text(path))
    if rows and len(rows[0]) in (6, 8) and rows[0][1].strip().lower() in ("true", "false"):
        return _from_bigwarp(path, rows, dim, fixed, moving)
    header, axes = tuple(cell.strip() for row in rows[:1] for cell in row), AXES[:dim]
    own = point_table(path, header, rows[1:], axes)
    other = point_table(path, header, rows[1:], tuple(f"m{name}" for name in axes))
    weights = own.texts("weight")
    try:
        numbers = None if weights is None else np.array([float(cell) for cell in weights])
    except ValueError:
        raise InputError(f"{path}: the column weight holds something that is no number.") from None
    return Landmarks(own.points_mm, other.points_mm, numbers, str(path), own.texts("name"))


def save_landmarks(
    pairs: Landmarks, path: str | Path, fixed: Grid | None = None, moving: Grid | None = None
) -> Path:
    """Write pairs as our CSV; as BigWarp's where both grids are given. See `load_landmarks`.

    Coordinates of our CSV read back exactly. BigWarp has no weights. Raises as `save_image`.
    """
    path, dim = Path(path), pairs.fixed_mm.shape[1]
    names = pairs.names or [f"{k}" for k in range(1, len(pairs.fixed_mm) + 1)]
    if fixed is not None and moving is not None:
        both = np.hstack([_scaled(pairs.moving_mm, moving), _scaled(pairs.fixed_mm, fixed)])
        rows = [[name, "true", *map(str, place)] for name, place in zip(names, both, strict=True)]
        return write_text(path, table_text(rows, quoted=True))
    header = [*AXES[:dim], *(f"m{name}" for name in AXES[:dim]), "weight", "name"]
    assert pairs.weights is not None
    numbers = np.hstack([pairs.fixed_mm, pairs.moving_mm, pairs.weights[:, None]])
    rows = [[*map(str, line), name] for line, name in zip(numbers, names, strict=True)]
    return write_text(path, table_text([header, *rows]))


def paired(fixed: NamedPoints, moving: NamedPoints, name: str = "landmarks") -> Landmarks:
    """Pairs of two lists: by name where both have the same names and none twice, by order
    otherwise. Raises InputError where the counts differ."""
    places = moving.points_mm
    if len(set(fixed.names)) == len(fixed.names) and set(fixed.names) == set(moving.names):
        places = places[[moving.names.index(each) for each in fixed.names]]
    return Landmarks(fixed.points_mm, places, None, name, fixed.names)


def _from_bigwarp(
    path: Path, rows: list[list[str]], dim: int, fixed: Grid | None, moving: Grid | None
) -> Landmarks:
    if fixed is None or moving is None:
        raise InputError(f"{path}: BigWarp's landmarks need both images, in whose frames they are.")
    places, names = [], []
    for number, row in enumerate(rows, start=1):
        try:
            values = [float(cell) for cell in row[2:]]
        except ValueError:
            values = []
        if len(values) != 2 * dim:
            raise InputError(f"{path}: line {number} has no {2 * dim} numbers for {dim}D images.")
        if row[1].strip().lower() == "true" and np.all(np.isfinite(values)):  # Infinity: not set
            places.append(values)
            names.append(row[0].strip())
    both = np.array(places, dtype=np.float64).reshape(-1, 2 * dim)
    own, other = _unscaled(both[:, dim:], fixed), _unscaled(both[:, :dim], moving)
    return Landmarks(own, other, None, str(path), tuple(names))


def _unscaled(points: np.ndarray, grid: Grid) -> np.ndarray:
    """BigWarp's coordinates as LPS mm: it knows of an image its voxels and their size."""
    return apply_matrix(grid.matrix("index", "mm"), points / np.asarray(grid.spacing_mm))


def _scaled(points_mm: np.ndarray, grid: Grid) -> np.ndarray:
    return apply_matrix(grid.matrix("mm", "index"), points_mm) * np.asarray(grid.spacing_mm)
