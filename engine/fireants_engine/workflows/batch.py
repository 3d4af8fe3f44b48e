"""Many pairs: a table of files, run in batches of one size, one run directory each."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fireants_engine.errors import DivergedError, FireantsError, InputError
from fireants_engine.io.itk import must_exist, write_whole
from fireants_engine.pipeline import Case, Control, Event, Outcome
from fireants_engine.recipe import Recipe
from fireants_engine.workflows.cases import ROLES, load_case
from fireants_engine.workflows.registration import Execution, register_batch
from fireants_engine.workflows.rundir import read_report, save_run

SUMMARY_FILE = "summary.csv"
COLUMNS: tuple[str, ...] = (
    "name", "status", "outcome", "seconds", "dice_before", "dice_after", "tre_before_mm",
    "tre_after_mm", "folds", "message",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One pair of a table. name: of its run directory; files: role -> path (see `ROLES`)."""

    name: str
    fixed: Path
    moving: Path
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass
class Entry:
    """What has become of a row.

    status: waiting, kept (finished before, with the same recipe and files), done, stopped (the
    best state is saved) or failed (message says why).
    """

    row: Row
    status: str = "waiting"
    message: str = ""
    report: dict[str, Any] | None = None

    def cells(self) -> dict[str, Any]:
        """The row of the summary."""
        out: dict[str, Any] = {
            "name": self.row.name, "status": self.status, "message": self.message
        }  # fmt: skip
        if self.report is None:
            return out
        quality = self.report["quality"]
        dice, tre = quality.get("dice"), quality.get("tre_mm")
        out |= {"outcome": self.report["outcome"], "seconds": f"{self.report['seconds']:.2f}"}
        for when in ("before", "after"):
            if dice and dice[when]["mean"] is not None:
                out[f"dice_{when}"] = f"{dice[when]['mean']:.4f}"
            if tre:
                out[f"tre_{when}_mm"] = f"{tre[when]['mean']:.3f}"
        if quality["deformable"]:
            out["folds"] = quality["folds_inside"]["voxels"]
        return out


# ------------------------------------------------------------------------------ tables
def read_table(path: str | Path) -> list[Row]:
    """Rows of a CSV or TSV with a header: fixed, moving, and if you like name and `ROLES`.

    Paths are relative to the table. Raises InputError naming the table and the line.
    """
    path = Path(path)
    must_exist(path, "table")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: this is not a text file; give a table as CSV.") from None
    first = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in first else ",")
    header = [name.strip() for name in reader.fieldnames or ()]
    unknown = [name for name in header if name not in ("name", "fixed", "moving", *ROLES)]
    if unknown or not {"fixed", "moving"} <= {*header}:
        raise InputError(
            f"{path}: the first line must name the columns fixed and moving, and if you like "
            f"name, {', '.join(ROLES)}" + (f"; {unknown[0]!r} is none of them." if unknown else ".")
        )
    reader.fieldnames = header
    rows = []
    for line in reader:
        cells = {k: (v or "").strip() for k, v in line.items() if k is not None}
        if not any(cells.values()):
            continue
        if not cells["fixed"] or not cells["moving"]:
            where = f"{path}, line {reader.line_num}"
            raise InputError(f"{where}: give both a fixed and a moving image.")
        found = {role: path.parent / cells[role] for role in ROLES if cells.get(role)}
        both = path.parent / cells["fixed"], path.parent / cells["moving"]
        rows.append(Row(cells.get("name", ""), *both, found))
    if not rows:
        raise InputError(f"{path}: the table has no pairs below its header.")
    return _named(rows)


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
    return _named([Row("", *pair) for pair in pairs])


def _stem(path: Path) -> str:
    return re.sub(r"(\.ome)?\.[A-Za-z]+(\.gz)?$", "", path.name) or path.name


def _named(rows: Sequence[Row]) -> list[Row]:
    """The same rows with names that differ; raises InputError for given names that do not."""
    fixed, moving = ({getattr(row, role) for row in rows} for role in ("fixed", "moving"))
    names: list[str] = []
    for row in rows:
        parts = [_stem(row.moving)] if len(moving) > 1 or len(fixed) == 1 else []
        parts += [_stem(row.fixed)] if len(fixed) > 1 else []
        name = row.name or "_to_".join(parts)
        if Path(name).name != name or name in (".", ".."):
            raise InputError(f"{name!r} cannot name a folder; choose another name.")
        if name in names and row.name:
            raise InputError(f"Two pairs are named {name!r}; give each its own name.")
        number, plain = 2, name
        while name in names:
            name, number = f"{plain}_{number}", number + 1
        names.append(name)
    return [
        Row(name, row.fixed, row.moving, row.files) for name, row in zip(names, rows, strict=True)
    ]


# ------------------------------------------------------------------------------- running
@dataclass
class BatchRun:
    """The rows of a table on their way into `folder`, at most `size` pairs at once.

    Only pairs of the same sizes and spacings go together. A pair that fails does not hold up the
    others: a batch that cannot run as one is halved until it can. summary.csv is written anew
    whenever pairs have ended. again: run what is finished already, too.
    on_batch: called with the names of the pairs that start together.
    """

    rows: Sequence[Row]
    recipe: Recipe
    folder: Path
    size: int = 1
    execution: Execution = field(default_factory=Execution)
    control: Control = field(default_factory=Control)
    again: bool = False
    on_event: Callable[[Event], None] | None = None
    on_batch: Callable[[Sequence[Entry]], None] | None = None
    entries: list[Entry] = field(init=False)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"A batch of {self.size} pairs: at least one is needed.")
        self.entries = [Entry(row) for row in self.rows]

    def run(self) -> list[Entry]:
        """Run all rows; what has become of each, in their order."""
        for group in self._groups():
            self._run(group)
            self._write()
        self._write()
        return self.entries

    def _groups(self) -> Iterator[list[tuple[Entry, Case]]]:
        """Rows that go together, in order; images are read only shortly before they run."""
        open_groups: list[list[tuple[Entry, Case]]] = []
        for entry in self.entries:
            if self.control.stopped:
                return
            if self._kept(entry):
                continue
            try:
                row = entry.row
                case = load_case(row.fixed, row.moving, row.files, name=row.name)
            except FireantsError as error:
                entry.status, entry.message = "failed", str(error)
                continue
            group = next((g for g in open_groups if g[0][1].fits(case)), None)
            if group is None:
                group = []
                open_groups.append(group)
            group.append((entry, case))
            if len(group) == self.size:
                open_groups.remove(group)
                yield group
        yield from open_groups

    def _kept(self, entry: Entry) -> bool:
        """True for a row whose run directory is finished, by this recipe, from these files."""
        if self.again:
            return False
        try:
            report = read_report(self.folder / entry.row.name)
        except InputError:
            return False
        inputs, row = report["inputs"], entry.row
        given = {"fixed": row.fixed, "moving": row.moving, **row.files}
        same = report["recipe"]["hash"] == self.recipe.hash and all(
            role in inputs and inputs[role]["path"] == str(path.resolve())
            for role, path in given.items()
        )
        if same and report["outcome"] in (Outcome.CONVERGED.name, Outcome.MAX_STEPS.name):
            entry.status, entry.report = "kept", report
        return entry.status == "kept"

    def _run(self, group: list[tuple[Entry, Case]]) -> None:
        if self.control.stopped:
            return
        entries = [entry for entry, _ in group]
        if self.on_batch is not None:
            self.on_batch(entries)
        try:
            results = register_batch(
                [case for _, case in group],
                self.recipe,
                execution=self.execution,
                control=self.control,
                on_event=self.on_event,
            )
        except FireantsError as error:
            if len(group) == 1:
                entries[0].status, entries[0].message = "failed", str(error)
                return
            half = (len(group) + 1) // 2
            self._run(group[:half])
            self._run(group[half:])
            return
        for entry, result in zip(entries, results, strict=True):
            self._save(entry, result)

    def _save(self, entry: Entry, result: Any) -> None:
        error: DivergedError | None = result.output.error
        if error is not None:
            entry.status, entry.message = "failed", str(error)
            return
        try:
            folder = save_run(result, self.folder / entry.row.name)
        except FireantsError as failure:
            entry.status, entry.message = "failed", str(failure)
            return
        entry.report = read_report(folder)
        entry.status = "stopped" if result.outcome is Outcome.STOPPED else "done"

    def _write(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(entry.cells() for entry in self.entries)
        self.folder.mkdir(parents=True, exist_ok=True)

        def write(path: Path) -> None:
            path.write_text(text.getvalue(), encoding="utf-8")

        write_whole(self.folder / SUMMARY_FILE, write)
