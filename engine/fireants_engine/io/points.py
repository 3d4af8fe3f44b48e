"""Points from and to CSV: columns x, y(, z) in LPS mm, every other column kept."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Landmarks, as_points
from fireants_engine.io.itk import must_exist, write_whole

AXES = ("x", "y", "z")


@dataclass(frozen=True)
class PointTable:
    """points_mm: (n, d) float64, LPS mm; header and rows: the file as text, row order kept.

    columns: the names under which the coordinates stand in `header`.
    """

    points_mm: np.ndarray
    columns: tuple[str, ...] = AXES
    header: tuple[str, ...] = field(default=AXES)
    rows: tuple[tuple[str, ...], ...] = ()

    def moved(self, points_mm: np.ndarray) -> PointTable:
        """The same rows with other coordinates."""
        if points_mm.shape != self.points_mm.shape:
            raise ValueError(f"{points_mm.shape} coordinates for {self.points_mm.shape} rows")
        return PointTable(points_mm, self.columns, self.header, self.rows)


def load_points(path: str | Path, dim: int = 3, columns: Sequence[str] | None = None) -> PointTable:
    """Points from a CSV with a header line; `columns`: default x, y(, z).

    Raises InputError naming the file for a missing column or a coordinate that is no number.
    """
    path = Path(path)
    names = tuple(columns) if columns is not None else AXES[:dim]
    must_exist(path, "point list")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: this is not a text file; points are read from CSV.") from None
    lines = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    header = tuple(cell.strip() for cell in lines[0]) if lines else ()
    for name in names:
        if name not in header:
            found = ", ".join(header) or "nothing"
            raise InputError(
                f"{path}: column {name!r} is missing (found: {found}); the first line must name "
                f"the columns {','.join(names)} in LPS mm."
            )
    where = [header.index(name) for name in names]
    values = []
    for number, row in enumerate(lines[1:], start=2):
        try:
            values.append([float(row[k]) for k in where])
        except (ValueError, IndexError):
            raise InputError(
                f"{path}: row {number} has no number in one of the columns {','.join(names)}."
            ) from None
    points = as_points(np.array(values, dtype=np.float64), dim, str(path))
    return PointTable(points, names, header, tuple(tuple(row) for row in lines[1:]))


def load_landmarks(path: str | Path, dim: int = 3) -> Landmarks:
    """Corresponding points from a CSV: columns x,y,z (fixed), mx,my,mz (moving), LPS mm (2D: no z).

    A column `weight` weighs them, otherwise all count alike. Raises InputError naming the file.
    """
    path = Path(path)
    fixed = load_points(path, dim)
    moving = load_points(path, dim, [f"m{name}" for name in AXES[:dim]])
    weights = None
    if "weight" in fixed.header:
        column = fixed.header.index("weight")
        try:
            weights = np.array([float(row[column]) for row in fixed.rows])
        except (ValueError, IndexError):
            raise InputError(
                f"{path}: the column weight holds something that is no number."
            ) from None
    return Landmarks(fixed.points_mm, moving.points_mm, weights, str(path))


def save_points(points: PointTable | np.ndarray, path: str | Path) -> Path:
    """Write a table, or an (n, d) array of LPS mm, as CSV; rows keep their order.

    Coordinates are written so that they read back exactly. Raises InputError as `save_image`.
    """
    path = Path(path)
    if not isinstance(points, PointTable):
        array = np.atleast_2d(np.asarray(points, dtype=np.float64))
        names = AXES[: array.shape[1]]
        rows = tuple(("",) * len(names) for _ in array)
        points = PointTable(array, names, names, rows)
    where = [points.header.index(name) for name in points.columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(points.header)
    for row, place in zip(points.rows, points.points_mm, strict=True):
        cells = list(row)
        for k, value in zip(where, place, strict=True):
            cells[k] = repr(float(value))
        writer.writerow(cells)
    content = text.getvalue()
    write_whole(path, lambda temporary: _write_text(temporary, content))
    return path


def _write_text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="")
