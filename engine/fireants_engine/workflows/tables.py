"""Pairs of image files: from a table, from lists, or guessed from the names in a folder.

Needs no torch.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fireants_engine.errors import InputError

ROLES = ("fixed_mask", "moving_mask", "moving_labels", "fixed_labels", "landmarks", "init")
"""What a pair may be given beside its two images, by file."""

TABLES = ("pairs.csv", "pairs.tsv")
"""A table of one of these names in a folder says which pairs there are."""

SUFFIXES = (
    ".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgh", ".mgz", ".mgh.gz", ".hdr", ".gipl",
    ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp",
)  # fmt: skip
"""What is taken for an image in a folder."""

RESULTS = ("report.json", "summary.csv")
"""What holds one of these files came out of a run or a batch."""

LEFT_OUT = 3
"""So many names of what was left out are told."""

_SIDE = re.compile(r"(?<![a-z])(fixed|moving)(?![a-z])", re.IGNORECASE)
_KIND = re.compile(r"(?<![a-z])(mask|labels?|seg|segmentation)(?![a-z])", re.IGNORECASE)
_FIXED = re.compile(r"(?<![a-z])(fixed|template|atlas|reference)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One pair. name: of its run directory; files: role -> path (see `ROLES`).

    where: the table and line it was read from, for messages.
    """

    name: str
    fixed: Path
    moving: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    where: str = ""

    @property
    def given(self) -> dict[str, Path]:
        """Every file of the pair by its role."""
        return {"fixed": self.fixed, "moving": self.moving, **self.files}

    def missing(self) -> str:
        """A sentence about the first file that is not there; empty when all are."""
        for role, path in self.given.items():
            if not path.exists():
                column = f"{self.where}, column {role}" if self.where else role
                return f"{column}: there is no file {path}; check the path."
        return ""


@dataclass(frozen=True)
class Pairing:
    """Rows and the rule that made them, in a sentence; images: which could be the one fixed image.

    fixed: the image that all others are registered onto, where the rule chose one.
    """

    rows: tuple[Row, ...]
    rule: str
    images: tuple[Path, ...] = ()
    fixed: Path | None = None


# ------------------------------------------------------------------------------ tables
def read_table(path: str | Path) -> list[Row]:
    """Rows of a CSV or TSV with a header: fixed, moving, and if you like name and `ROLES`.

    Paths are relative to the table. Raises InputError naming the table, the line and the column.
    """
    from fireants_engine.io.itk import must_exist

    path = Path(path)
    must_exist(path, "table")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: this is not a text file; give a table as CSV.") from None
    first = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in first else ",")
    header = _header(path, reader.fieldnames or ())
    reader.fieldnames = header
    rows = []
    for line in reader:
        where = f"{path}, line {reader.line_num}"
        if any(cell.strip() for cell in line.get(None) or ()):
            raise InputError(
                f"{where}: has more cells than the first line has columns; put quotes around paths "
                "with commas."
            )
        cells = {k: (v or "").strip() for k, v in line.items() if k is not None}
        if not any(cells.values()):
            continue
        for column in ("fixed", "moving"):
            if not cells[column]:
                raise InputError(
                    f"{where}, column {column}: is empty; give both a fixed and a moving image."
                )
        found = {role: path.parent / cells[role] for role in ROLES if cells.get(role)}
        both = path.parent / cells["fixed"], path.parent / cells["moving"]
        rows.append(Row(cells.get("name", ""), *both, found, where))
    if not rows:
        raise InputError(f"{path}: the table has no pairs below its header.")
    return named(rows)


def _header(path: Path, names: Sequence[str]) -> list[str]:
    header = [name.strip() for name in names]
    unknown = [name for name in header if name not in ("name", "fixed", "moving", *ROLES)]
    if unknown or not {"fixed", "moving"} <= {*header}:
        raise InputError(
            f"{path}: the first line must name the columns fixed and moving, and if you like "
            f"name, {', '.join(ROLES)}" + (f"; {unknown[0]!r} is none of them." if unknown else ".")
        )
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise InputError(f"{path}, line 1: the column {twice[0]!r} is there twice; keep one.")
    return header


# ------------------------------------------------------------------------------ lists
def rows_of(fixed: Sequence[Path], moving: Sequence[Path]) -> list[Row]:
    """One fixed image against many moving ones, the reverse, or as many of both, in order.

    Raises InputError for unlike numbers.
    """
    count = max(len(fixed), len(moving))
    if not fixed or not moving or {len(fixed), len(moving)} - {1, count}:
        raise InputError(
            f"{len(fixed)} fixed and {len(moving)} moving images do not make pairs; give one of "
            "either, or as many of both."
        )
    pairs = zip(
        list(fixed) * (count // len(fixed)), list(moving) * (count // len(moving)), strict=True
    )
    return named([Row("", *pair) for pair in pairs])


def stem(path: Path) -> str:
    """The name of an image file without its extension."""
    return re.sub(r"(\.ome)?\.[A-Za-z]+(\.gz)?$", "", path.name) or path.name


def named(rows: Sequence[Row]) -> list[Row]:
    """The same rows with names that differ; raises InputError for given names that do not."""
    fixed, moving = ({getattr(row, role) for row in rows} for role in ("fixed", "moving"))
    names: list[str] = []
    for row in rows:
        parts = [stem(row.moving)] if len(moving) > 1 or len(fixed) == 1 else []
        parts += [stem(row.fixed)] if len(fixed) > 1 else []
        name = row.name or "_to_".join(parts)
        place = f"{row.where}, column name: " if row.where else ""
        if Path(name).name != name or name in (".", ".."):
            raise InputError(f"{place}{name!r} cannot name a folder; choose another name.")
        if name in names and row.name:
            raise InputError(f"{place}Two pairs are named {name!r}; give each its own name.")
        number, plain = 2, name
        while name in names:
            name, number = f"{plain}_{number}", number + 1
        names.append(name)
    return [replace(row, name=name) for name, row in zip(names, rows, strict=True)]


# ------------------------------------------------------------------------------ folders
def pairs_in(folder: str | Path, fixed: Path | None = None) -> Pairing:
    """The pairs of a folder, by the first rule that finds any.

    1. `pairs.csv` or `pairs.tsv` in it is the table.
    2. Images with `fixed` and `moving` in their names belong together where the rest of the name
       is the same; a single fixed image serves all moving ones, and the reverse.
    3. Each sub-folder with one `fixed` and one `moving` image is a pair of the sub-folder's name.
    4. All images are registered onto one: `fixed`, else the one with fixed, template, atlas or
       reference in its name, else the first.

    Masks and labels are taken along where their name is that of an image with `mask`, `labels`
    or `seg` added; `landmarks.csv` where it lies in the pair's sub-folder.
    Raises InputError when there are no pairs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: this is no folder; give a folder of images or a table.")
    table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if table is not None:
        return Pairing(tuple(read_table(table)), f"As {table.name} in the folder says.")
    files = sorted(path for path in folder.iterdir() if _is_image(path))
    if fixed is None:
        pairing = _by_names(files) or _by_folders(folder)
        if pairing is not None:
            return pairing
    return _onto_one(files, fixed, str(folder))


def pairs_of(files: Sequence[Path], fixed: Path | None = None) -> Pairing:
    """The pairs of a list of image files, by rules 2 and 4 of `pairs_in`; raises InputError."""
    images = [path for path in files if _is_image(path)]
    if fixed is None:
        pairing = _by_names(images)
        if pairing is not None:
            return pairing
    return _onto_one(images, fixed, "These files")


def _is_image(path: Path) -> bool:
    name = path.name.lower()
    return not name.startswith(".") and name.endswith(SUFFIXES) and path.is_file()


def _sort(path: Path) -> tuple[str, str, str]:
    """Side (fixed, moving or none), kind ("", mask or labels) and the rest of a file's name."""
    text = stem(path)
    side, kind = _SIDE.search(text), _KIND.search(text)
    rest = _KIND.sub("", _SIDE.sub("", text))
    rest = re.sub(r"[\s_.-]+", "_", rest).strip("_").lower()
    which = "" if kind is None else "mask" if kind[0].lower() == "mask" else "labels"
    return ("" if side is None else side[0].lower()), which, rest


def _sides(files: Sequence[Path]) -> dict[str, dict[str, Path]]:
    """Role (fixed, moving, fixed_mask, ...) -> rest of the name -> file."""
    out: dict[str, dict[str, Path]] = {}
    for path in files:
        side, kind, rest = _sort(path)
        if not side:
            continue
        role = f"{side}_{kind}" if kind else side
        other = out.setdefault(role, {}).setdefault(rest, path)
        if other != path:
            raise InputError(
                f"{other.name} and {path.name} would both be the {role.replace('_', ' ')} of one "
                "pair; keep one of them, or give a table of pairs."
            )
    return out


def _by_names(files: Sequence[Path]) -> Pairing | None:
    sides = _sides(files)
    fixed, moving = sides.get("fixed", {}), sides.get("moving", {})
    if not fixed or not moving:
        return None
    if len(fixed) == 1 or len(moving) == 1:
        keys = [(f, m) for f in fixed for m in moving]
        rule = "The image with 'fixed' in its name with each one with 'moving' in its name."
        if len(moving) == 1 and len(fixed) > 1:
            rule = "Each image with 'fixed' in its name with the one with 'moving' in its name."
    else:
        keys = [(key, key) for key in fixed if key in moving]
        rule = "By name: 'fixed' and 'moving' images whose names are otherwise the same."
    if not keys:
        raise InputError(
            f"{next(iter(fixed.values())).name}: no image with 'moving' in its name is otherwise "
            "named alike; rename the images, or give a table of pairs."
        )
    used = {key for both in keys for key in both}
    lone = [path.name for side in (fixed, moving) for key, path in side.items() if key not in used]
    rows = [
        Row(_name(moving[m]) if f == m else "", fixed[f], moving[m], _along(sides, f, m))
        for f, m in keys
    ]
    return Pairing(tuple(named(rows)), rule + _left_out(lone, "image"))


def _name(path: Path) -> str:
    """The name of a file without its side, "" where nothing is left."""
    return re.sub(r"([\s_.-])[\s_.-]+", r"\1", _SIDE.sub("", stem(path))).strip(" _.-")


def _along(sides: Mapping[str, Mapping[str, Path]], fixed: str, moving: str) -> dict[str, Path]:
    keys = {"fixed": fixed, "moving": moving}
    roles = [role for role in ROLES if "_" in role]
    found = {role: sides.get(role, {}).get(keys[role.split("_")[0]]) for role in roles}
    return {role: path for role, path in found.items() if path is not None}


def _by_folders(folder: Path) -> Pairing | None:
    rows, lone = [], []
    for inside in sorted(path for path in folder.iterdir() if path.is_dir()):
        if inside.name.startswith(".") or any((inside / name).is_file() for name in RESULTS):
            continue
        sides = _sides([path for path in sorted(inside.iterdir()) if _is_image(path)])
        fixed, moving = sides.get("fixed", {}), sides.get("moving", {})
        if len(fixed) != 1 or len(moving) != 1:
            lone.append(inside.name)
            continue
        (f, m) = next(iter(fixed)), next(iter(moving))
        files = _along(sides, f, m)
        if (inside / "landmarks.csv").is_file():
            files["landmarks"] = inside / "landmarks.csv"
        rows.append(Row(inside.name, fixed[f], moving[m], files))
    if not rows:
        return None
    rule = "Each sub-folder with one 'fixed' and one 'moving' image is a pair."
    return Pairing(tuple(rows), rule + _left_out(lone, "sub-folder"))


def _onto_one(files: Sequence[Path], fixed: Path | None, what: str) -> Pairing:
    images = [path for path in files if not _sort(path)[1]]
    if len(images) < 2:
        raise InputError(
            f"{what}: {len(images)} image{'s' * (len(images) != 1)}, so there are no pairs; choose "
            "a folder with at least two images, or a table (CSV) with the columns fixed and moving."
        )
    if fixed is None:
        likely = [path for path in images if _FIXED.search(stem(path))]
        fixed = likely[0] if len(likely) == 1 else images[0]
    if fixed not in images:
        raise InputError(f"{fixed}: is not among these images; choose one of them.")
    extra = {_sort(path)[1:]: path for path in files if _sort(path)[1]}
    rows = []
    for moving in images:
        if moving == fixed:
            continue
        found = {
            f"{side}_{kind}": extra.get((kind, _sort(path)[2]))
            for side, path in (("fixed", fixed), ("moving", moving))
            for kind in ("mask", "labels")
        }
        files_of = {role: path for role, path in found.items() if path is not None}
        rows.append(Row("", fixed, moving, files_of))
    rule = f"Every image onto {fixed.name}."
    return Pairing(tuple(named(rows)), rule, tuple(images), fixed)


def _left_out(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > LEFT_OUT else ""
    what += "s" * (len(names) > 1)
    return f" {len(names)} {what} left out: {', '.join(names[:LEFT_OUT])}{more}."
