"""Landmarks from and to files of other programs. No Qt.

Reading and writing imports the engine: call it off the GUI thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fireants_engine.errors import InputError
from napari_fireants._landmarks import LandmarkTable, Row, Side
from napari_fireants._layers import Snapshot, grid_of

if TYPE_CHECKING:
    from fireants_engine import Landmarks
    from fireants_engine.io import NamedPoints

READABLE = "Landmarks (*.csv *.fcsv *.json *.txt *.pts)"
WRITABLE = {
    "Pairs in one table (*.csv)": ("pairs", ".csv"),
    "BigWarp (*.csv)": ("bigwarp", ".csv"),
    "Slicer, two lists (*.mrk.json)": ("lists", ".mrk.json"),
    "Slicer, two lists (*.fcsv)": ("lists", ".fcsv"),
    "elastix, two lists (*.txt)": ("lists", ".txt"),
    "ANTs, two lists (*.csv)": ("lists", ".csv"),
}
"""Filter of a file dialog -> (kind, extension)."""
_OTHER: dict[str, Side] = {"fixed": "moving", "moving": "fixed"}


@dataclass(frozen=True, eq=False)
class Loaded:
    """Landmarks of a file, their keys still to be given; note: a sentence about what was taken."""

    rows: tuple[Row, ...]
    note: str


def side_of(path: Path) -> Side | None:
    """Of which image a list of points is, where its name says so."""
    name = path.name.lower()
    found: list[Side] = [side for side in _OTHER if side in name]
    return found[0] if len(found) == 1 else None


def needs_side(paths: Sequence[Path]) -> bool:
    """Nothing but a person can tell of which image the one list in `paths` is."""
    return len(paths) == 1 and not _holds_pairs(paths[0]) and side_of(paths[0]) is None


def load(
    paths: Sequence[str | Path], fixed: Snapshot, moving: Snapshot, side: Side = "fixed"
) -> Loaded:
    """Pairs from one file, from a list of each image, or points of one image only.

    The frame is that of the program whose extension a file has. Of a list named ...fixed... the
    one named ...moving... beside it is taken too, and the other way. side: of which image a lone
    list is whose name does not say so. Raises InputError naming the file.
    """
    files = [Path(path) for path in paths]
    if len(files) > 2:
        raise InputError("Choose one file of pairs, or two lists: one of either image.")
    if len(files) == 1 and _holds_pairs(files[0]):
        from fireants_engine.io import load_landmarks

        pairs = load_landmarks(files[0], fixed.ndim, grid_of(fixed), grid_of(moving))
        return Loaded(_rows(pairs), f"{len(pairs.fixed_mm)} pairs from {files[0].name}.")
    if len(files) == 1:
        own = side_of(files[0])
        twin = None if own is None else _twin(files[0], own)
        if twin is None:
            return _lone(files[0], own or side, fixed, moving)
        files.append(twin)
    return _two(files, fixed, moving)


def _holds_pairs(path: Path) -> bool:
    """A CSV with moving columns, or one of BigWarp, which has no header."""
    if path.suffix.lower() != ".csv":
        return False
    try:
        with path.open(encoding="utf-8-sig") as file:
            cells = [cell.strip().strip('"').lower() for cell in file.readline().split(",")]
    except (OSError, UnicodeDecodeError):
        return True  # the reader says what is wrong
    return "mx" in cells or (len(cells) in (6, 8) and cells[1] in ("true", "false"))


def _twin(path: Path, side: Side) -> Path | None:
    """The list of the other image beside this one."""
    for own, other in ((side, _OTHER[side]), (side.title(), _OTHER[side].title())):
        twin = path.with_name(path.name.replace(own, other))
        if twin != path and twin.is_file():
            return twin
    return None


def _points(path: Path, image: Snapshot) -> NamedPoints:
    from fireants_engine.io import load_named_points

    return load_named_points(path, image.ndim, grid_of(image))


def _lone(path: Path, side: Side, fixed: Snapshot, moving: Snapshot) -> Loaded:
    points = _points(path, fixed if side == "fixed" else moving)
    rows = [
        Row(0, name, **{f"{side}_mm": tuple(map(float, place))})
        for name, place in zip(points.names, points.points_mm, strict=True)
    ]
    note = f"{len(rows)} points of the {side} image from {path.name}; set their counterparts."
    return Loaded(tuple(rows), note)


def _two(files: list[Path], fixed: Snapshot, moving: Snapshot) -> Loaded:
    from fireants_engine.io import paired

    if side_of(files[0]) == "moving" or side_of(files[1]) == "fixed":
        files = files[::-1]
    pairs = paired(_points(files[0], fixed), _points(files[1], moving), files[0].name)
    names = f"{files[0].name} (fixed) and {files[1].name} (moving)"
    return Loaded(_rows(pairs), f"{len(pairs.fixed_mm)} pairs from {names}.")


def _rows(pairs: Landmarks) -> tuple[Row, ...]:
    assert pairs.weights is not None
    names = pairs.names or ("",) * len(pairs.weights)
    return tuple(
        Row(0, name, tuple(map(float, own)), tuple(map(float, other)), float(w) or 1.0, bool(w))
        for name, own, other, w in zip(
            names, pairs.fixed_mm, pairs.moving_mm, pairs.weights, strict=True
        )
    )


def take(table: LandmarkTable, loaded: Loaded) -> None:
    """The landmarks of a file instead of those in the table, as one step. Points of one image
    complete rows of their name, or else of their order, that lack them."""
    sides = [side for side in _OTHER if any(row.place(side) is None for row in loaded.rows)]
    rows = list(table.rows)
    given = [row for row in loaded.rows if row.complete or not sides]
    if given or not rows:
        new = [replace(row, key=table.fresh(row.name or str(k)).key, name=row.name or str(k))
               for k, row in enumerate(loaded.rows, start=1)]  # fmt: skip
        table.put_rows(new, "landmarks of a file")
        return
    missing, own = sides[0], _OTHER[sides[0]]
    free = [row.key for row in rows if row.place(own) is None]
    named = {row.name: row.key for row in rows if row.key in free}
    by_name = all(row.name in named for row in loaded.rows)
    for row in loaded.rows:
        key = named[row.name] if by_name else next(iter(free), None)
        if key is None:
            rows.append(replace(row, key=table.fresh().key, name=row.name or str(len(rows) + 1)))
            continue
        free.remove(key)
        k = next(i for i, each in enumerate(rows) if each.key == key)
        rows[k] = replace(rows[k], **{f"{own}_mm": row.place(own)})
    table.put_rows(rows, f"points of the {own} image, {missing} ones kept")


def save(
    rows: Sequence[Row], path: str | Path, kind: str, fixed: Snapshot, moving: Snapshot
) -> list[Path]:
    """Write the complete rows; kind: pairs, bigwarp, or lists (one file for either image).

    Rows that are off have weight 0 where a format knows weights. Raises InputError without any
    pair, and for what cannot be written.
    """
    import numpy as np

    from fireants_engine import Landmarks
    from fireants_engine.io import NamedPoints, save_landmarks, save_named_points

    whole = [row for row in rows if row.complete]
    if not whole:
        raise InputError("There is no complete pair yet: set a place in both images first.")
    path = Path(path)
    own, other = (np.array([row.place(side) for row in whole]) for side in _OTHER)
    names = tuple(row.name for row in whole)
    if kind == "lists":
        ends = [end for each, end in WRITABLE.values() if each == kind and path.name.endswith(end)]
        end = ends[0] if ends else path.suffix
        stem = path.name.removesuffix(end)
        files = [path.with_name(f"{stem}_{side}{end}") for side in _OTHER]
        for file, points in zip(files, (own, other), strict=True):
            save_named_points(NamedPoints(points, names), file)
        return files
    weights = np.array([row.weight * row.enabled for row in whole])
    grids = (grid_of(fixed), grid_of(moving)) if kind == "bigwarp" else (None, None)
    return [save_landmarks(Landmarks(own, other, weights, names=names), path, *grids)]
