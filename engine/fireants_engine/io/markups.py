"""Named points of one image from and to the files of other programs, in the frame of each.

| file | of | coordinates |
|---|---|---|
| .csv | ANTs (also t, label, comment) | LPS mm |
| .fcsv, .mrk.json | Slicer | LPS or RAS mm, as they say |
| .txt, .pts | elastix | LPS mm (`point`) or voxels (`index`) |
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, apply_matrix, as_points
from fireants_engine.io.points import (
    AXES,
    load_points,
    point_table,
    read_text,
    rows_of,
    table_text,
    write_text,
)

RAS = np.array([-1.0, -1.0, 1.0])
"""LPS times this is RAS, and the other way."""


@dataclass(frozen=True, eq=False)
class NamedPoints:
    """points_mm: (n, d) LPS mm; names: n of them, "" where a file has none.

    Raises InputError for counts that differ.
    """

    points_mm: np.ndarray
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", ("",) * len(self.points_mm))
        if len(self.names) != len(self.points_mm):
            raise InputError(f"{len(self.names)} names for {len(self.points_mm)} points.")

    def rows(self, prefix: str = "") -> list[tuple[int, list[float], str]]:
        """Number from 1, three coordinates and name of every point; with a prefix none is ""."""
        solid = np.pad(self.points_mm, ((0, 0), (0, 3 - self.points_mm.shape[1])))
        numbers = range(1, len(solid) + 1)
        return [
            (k, list(map(float, place)), name or (f"{prefix}-{k}" if prefix else ""))
            for k, place, name in zip(numbers, solid, self.names, strict=True)
        ]


def load_named_points(path: str | Path, dim: int, grid: Grid | None = None) -> NamedPoints:
    """Points of one image from a file of ANTs, Slicer or elastix.

    dim: 2 or 3; files that are always 3D hold 2D points with the third coordinate 0. grid: of the
    image, needed for elastix's `index`. Raises InputError naming the file.
    """
    path = Path(path)
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{path}: not a known list of points; use {_KNOWN}.")
    points = read(path, dim, grid)
    return NamedPoints(as_points(points.points_mm, dim, str(path)), points.names)


def save_named_points(points: NamedPoints, path: str | Path) -> Path:
    """Write points for the program that the extension belongs to: .csv (ANTs), .fcsv or .mrk.json
    (Slicer, LPS), .txt or .pts (elastix, `point`). Coordinates read back exactly."""
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise InputError(f"{path}: points are written as {_KNOWN}.")
    return write_text(path, write(points))


def _numbers(path: Path, place: Any, count: int) -> list[float]:
    try:
        numbers = [float(value) for value in place]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count:
        raise InputError(f"{path}: {place} stands where {count} coordinates should be.")
    return numbers


def _flat(path: Path, points: np.ndarray, dim: int) -> np.ndarray:
    """The first `dim` coordinates of 3D ones; the third of 2D points has to be 0."""
    if dim == 2 and points.size and np.abs(points[:, 2]).max() > 1e-6:
        raise InputError(f"{path}: points of a volume; the images are 2D.")
    return points[:, :dim]


# ------------------------------------------------------------------ Slicer
def _sign(path: Path, system: str) -> np.ndarray:
    if system not in ("RAS", "LPS"):
        raise InputError(
            f"{path}: its coordinate system is {system or 'not told'}; save it as LPS or RAS."
        )
    return RAS if system == "RAS" else np.ones(3)


def _read_fcsv(path: Path, dim: int, grid: Grid | None) -> NamedPoints:
    lines = read_text(path).splitlines()
    told: dict[str, str] = {}
    for line in lines:
        if line.startswith("#"):
            key, _, value = line.lstrip("# ").partition("=")
            told[key.strip()] = value.strip()
    header = tuple(name.strip() for name in told.get("columns", "").split(","))
    rows = rows_of("\n".join(line for line in lines if not line.startswith("#")))
    table = point_table(path, header, rows, AXES)
    system = told.get("CoordinateSystem", "")
    places = table.points_mm * _sign(path, {"0": "RAS", "1": "LPS"}.get(system, system))
    return NamedPoints(_flat(path, places, dim), table.texts("label") or ())


def _fcsv(points: NamedPoints) -> str:
    columns = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
    head = ["Markups fiducial file version = 4.11", "CoordinateSystem = LPS"]
    head.append(f"columns = {columns}")
    rows = [
        [str(k), *map(repr, place), "0", "0", "0", "1", "1", "1", "0", name, "", ""]
        for k, place, name in points.rows("F")
    ]
    return "".join(f"# {line}\n" for line in head) + table_text(rows)


def _read_markups(path: Path, dim: int, _: Grid | None) -> NamedPoints:
    text = read_text(path)
    try:
        lists = json.loads(text)["markups"]
        lists = [each for each in lists if each["type"] == "Fiducial"]
        told: dict[str, Any] = lists[0] if lists else {"controlPoints": []}
        marks = [m for m in told["controlPoints"] if m.get("positionStatus") != "undefined"]
        places = [m["position"] for m in marks]
        names = tuple(str(m.get("label", "")) for m in marks)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: this is no list of fiducials as Slicer writes it.") from None
    if len(lists) != 1:
        raise InputError(f"{path}: has {len(lists)} lists of fiducials; save one alone.")
    if told.get("coordinateUnits", "mm") != "mm":
        raise InputError(f"{path}: its unit is {told['coordinateUnits']}; save it in mm.")
    array = np.array([_numbers(path, place, 3) for place in places]).reshape(-1, 3)
    array = array * _sign(path, told.get("coordinateSystem", ""))
    return NamedPoints(_flat(path, array, dim), names)


def _markups(points: NamedPoints) -> str:
    state = {"selected": True, "locked": False, "visibility": True, "positionStatus": "defined"}
    marks = [
        {"id": str(k), "label": name, "position": place, **state}
        for k, place, name in points.rows("F")
    ]
    frame = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm"}
    schema = (
        "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/"
        "Resources/Schema/markups-schema-v1.0.3.json#"
    )
    whole = {"@schema": schema, "markups": [{**frame, "controlPoints": marks}]}
    return json.dumps(whole, indent=1) + "\n"


# ------------------------------------------------------------------ ANTs and elastix
def _read_ants(path: Path, dim: int, _: Grid | None) -> NamedPoints:
    table = load_points(path, dim)
    found = (table.texts(column) for column in ("comment", "name", "label"))
    return NamedPoints(table.points_mm, next((names for names in found if names), ()))


def _ants(points: NamedPoints) -> str:
    rows = [[*map(repr, place), "0.0", str(k), name] for k, place, name in points.rows()]
    return table_text([["x", "y", "z", "t", "label", "comment"], *rows])


def _read_elastix(path: Path, dim: int, grid: Grid | None) -> NamedPoints:
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    kind, count = (*(line[0] for line in lines[:2]), "", "")[:2]
    if kind not in ("point", "index") or not count.isdigit():
        raise InputError(f"{path}: elastix's points start with 'point' or 'index', then a number.")
    if len(lines) != 2 + int(count):
        raise InputError(f"{path}: says {count} points, holds {len(lines) - 2}.")
    points = np.array([_numbers(path, line, dim) for line in lines[2:]]).reshape(-1, dim)
    if kind == "index":
        if grid is None:
            raise InputError(f"{path}: holds indices of voxels; they need their image.")
        points = apply_matrix(grid.matrix("index", "mm"), points)
    return NamedPoints(points)


def _elastix(points: NamedPoints) -> str:
    lines = [" ".join(map(repr, map(float, place))) for place in points.points_mm]
    return "\n".join(["point", str(len(lines)), *lines]) + "\n"


_READERS: dict[str, Callable[[Path, int, Grid | None], NamedPoints]] = {
    ".fcsv": _read_fcsv,
    ".json": _read_markups,
    ".csv": _read_ants,
    ".txt": _read_elastix,
    ".pts": _read_elastix,
}
_WRITERS: dict[str, Callable[[NamedPoints], str]] = {
    ".fcsv": _fcsv,
    ".json": _markups,
    ".csv": _ants,
    ".txt": _elastix,
    ".pts": _elastix,
}
_KNOWN = ".csv (ANTs), .fcsv or .mrk.json (Slicer), .txt or .pts (elastix)"
