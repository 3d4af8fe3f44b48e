"""Points from and to CSV: columns x, y(, z) in LPS mm, every other column kept."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import as_points
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
        """The same rows with other coordinates, also in another dimension (then x, y(, z)).

        A coordinate that is new stands after the others; those that there are no more are left
        out.
        """
        if len(points_mm) != len(self.points_mm):
            raise ValueError(f"{points_mm.shape} coordinates for {self.points_mm.shape} rows")
        if points_mm.shape == self.points_mm.shape:
            return PointTable(points_mm, self.columns, self.header, self.rows)
        columns = AXES[: points_mm.shape[1]]
        kept = self
        for name in (*AXES, *self.columns):
            if name not in columns and name in kept.header:
                kept = kept._without(name)
        for name in columns:
            if name not in kept.header:
                after = max((kept.header.index(n) for n in columns if n in kept.header), default=-1)
                kept = kept._with(name, after + 1, ("",) * len(self.rows))
        return PointTable(points_mm, columns, kept.header, kept.rows)

    def with_texts(self, column: str, cells: Sequence[str]) -> PointTable:
        """One more column, the last; in place of one of that name."""
        kept = self._without(column) if column in self.header else self
        return kept._with(column, len(kept.header), cells)

    def _with(self, column: str, place: int, cells: Sequence[str]) -> PointTable:
        header = (*self.header[:place], column, *self.header[place:])
        rows = []
        for row, cell in zip(self.rows, cells, strict=True):
            full = (*row, *("",) * (len(self.header) - len(row)))
            rows.append((*full[:place], cell, *full[place:]))
        return PointTable(self.points_mm, self.columns, header, tuple(rows))

    def _without(self, column: str) -> PointTable:
        place = self.header.index(column)
        header = (*self.header[:place], *self.header[place + 1 :])
        rows = tuple((*row[:place], *row[place + 1 :]) for row in self.rows)
        return PointTable(self.points_mm, self.columns, header, rows)

    def texts(self, column: str) -> tuple[str, ...] | None:
        """The cells of another column, "" where a row ends before it; None without the column."""
        if column not in self.header:
            return None
        where = self.header.index(column)
        return tuple(row[where].strip() if where < len(row) else "" for row in self.rows)


def load_on_section(path: str | Path) -> PointTable:
    """3D points of a section's own space, z = 0 where the file has only x and y.

    Raises InputError as `load_points`.
    """
    lines = rows_of(read_text(Path(path)))
    if lines and "z" in (cell.strip() for cell in lines[0]):
        return load_points(path)
    flat = load_points(path, 2)
    return flat.moved(np.column_stack([flat.points_mm, np.zeros(len(flat.points_mm))]))


def load_points(path: str | Path, dim: int = 3, columns: Sequence[str] | None = None) -> PointTable:
    """Points from a CSV with a header line; `columns`: default x, y(, z).

    Raises InputError naming the file for a missing column or a coordinate that is no number.
    """
    path = Path(path)
    names = tuple(columns) if columns is not None else AXES[:dim]
    lines = rows_of(read_text(path))
    header = tuple(cell.strip() for cell in lines[0]) if lines else ()
    return point_table(path, header, lines[1:], names)


def point_table(
    path: Path, header: tuple[str, ...], rows: list[list[str]], columns: tuple[str, ...]
) -> PointTable:
    """A table whose header is known. Raises as `load_points`."""
    for name in columns:
        if name not in header:
            found = ", ".join(header) or "nothing"
            raise InputError(
                f"{path}: column {name!r} is missing (found: {found}); the first line must name "
                f"the columns {','.join(columns)} in LPS mm."
            )
    where = [header.index(name) for name in columns]
    values = []
    for number, row in enumerate(rows, start=2):
        try:
            values.append([float(row[k]) for k in where])
        except (ValueError, IndexError):
            raise InputError(
                f"{path}: row {number} has no number in one of the columns {','.join(columns)}."
            ) from None
    points = as_points(np.array(values, dtype=np.float64), len(columns), str(path))
    return PointTable(points, columns, header, tuple(tuple(row) for row in rows))


def read_text(path: Path) -> str:
    """The whole of a text file; raises InputError naming it."""
    must_exist(path, "point list")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: this is not a text file; points are read from text.") from None


def rows_of(text: str) -> list[list[str]]:
    """The rows of a CSV that are not empty."""
    return [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]


def table_text(rows: Sequence[Sequence[str]], quoted: bool = False) -> str:
    """Rows as the text of a CSV."""
    text = io.StringIO()
    how = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator="\n", quoting=how).writerows(rows)
    return text.getvalue()


def write_text(path: Path, content: str) -> Path:
    """A whole text file, with the line ends that `content` has; see `write_whole`."""

    def write(temporary: Path) -> None:
        temporary.write_text(content, encoding="utf-8", newline="")

    return write_whole(path, write)


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
    rows = [list(points.header)]
    for row, place in zip(points.rows, points.points_mm, strict=True):
        cells = list(row)
        for k, value in zip(where, place, strict=True):
            cells[k] = repr(float(value))
        rows.append(cells)
    return write_text(path, table_text(rows))
