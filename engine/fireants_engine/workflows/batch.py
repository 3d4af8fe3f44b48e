"""Many pairs: a table of files, run in batches of one size, one run directory each."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fireants_engine.errors import DivergedError, FireantsError, InputError
from fireants_engine.io.itk import write_whole
from fireants_engine.pipeline import Case, Control, Event, Outcome
from fireants_engine.recipe import Recipe
from fireants_engine.workflows.batch_html import render_summary
from fireants_engine.workflows.cases import load_case
from fireants_engine.workflows.registration import Execution, register_batch
from fireants_engine.workflows.rundir import read_report, save_run
from fireants_engine.workflows.tables import Row

SUMMARY_FILE, SUMMARY_PAGE = "summary.csv", "summary.html"
COLUMNS: tuple[str, ...] = (
    "name", "status", "outcome", "seconds", "loss", "dice_before", "dice_after", "tre_before_mm",
    "tre_after_mm", "folds", "message",
)  # fmt: skip


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
        loss = self.report["stages"][-1]["loss"] if self.report["stages"] else None
        if loss is not None:
            out["loss"] = f"{loss:.5g}"
        for when in ("before", "after"):
            if dice and dice[when]["mean"] is not None:
                out[f"dice_{when}"] = f"{dice[when]['mean']:.4f}"
            if tre:
                out[f"tre_{when}_mm"] = f"{tre[when]['mean']:.3f}"
        if quality["deformable"]:
            out["folds"] = quality["folds_inside"]["voxels"]
        return out


# ------------------------------------------------------------------------------- running
@dataclass
class BatchRun:
    """The rows of a table on their way into `folder`, at most `size` pairs at once.

    Only pairs of the same sizes and spacings go together. A pair that fails does not hold up the
    others: a batch that cannot run as one is halved until it can. summary.csv and summary.html are
    written anew whenever pairs have ended. again: run what is finished already, too.
    settled: entries, such as those of an earlier run of this table, that are left as they are but
    stand in the summary. on_batch: called with the entries that start together; on_entry: with
    each that has ended (kept, done, stopped or failed).
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
    on_entry: Callable[[Entry], None] | None = None
    settled: Sequence[Entry] = ()
    entries: list[Entry] = field(init=False)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"A batch of {self.size} pairs: at least one is needed.")
        known = {entry.row.name: entry for entry in self.settled}
        self.entries = [known.get(row.name) or Entry(row) for row in self.rows]

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
        settled = {entry.row.name for entry in self.settled}
        for entry in self.entries:
            if self.control.stopped:
                return
            if entry.row.name in settled:
                continue
            if self._kept(entry):
                self._tell(entry)
                continue
            try:
                row = entry.row
                case = load_case(row.fixed, row.moving, row.files, name=row.name)
            except Exception as error:
                self._fail(entry, error)
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
        except Exception as error:  # whatever it is, it must not hold up the other pairs
            if len(group) == 1:
                self._fail(entries[0], error)
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
            self._fail(entry, error)
            return
        try:
            folder = save_run(result, self.folder / entry.row.name)
            entry.report = read_report(folder)
        except Exception as failure:
            self._fail(entry, failure)
            return
        entry.status = "stopped" if result.outcome is Outcome.STOPPED else "done"
        self._tell(entry)

    def _fail(self, entry: Entry, error: Exception) -> None:
        entry.status, entry.message = "failed", _why(error)
        self._tell(entry)

    def _tell(self, entry: Entry) -> None:
        if self.on_entry is not None:
            self.on_entry(entry)

    def _write(self) -> None:
        text = io.StringIO(newline="")
        cells = [entry.cells() for entry in self.entries]
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(cells)
        self.folder.mkdir(parents=True, exist_ok=True)
        page = render_summary(cells, self.folder.resolve().name, self.recipe.name)
        for name, content in ((SUMMARY_FILE, text.getvalue()), (SUMMARY_PAGE, page)):
            write_whole(self.folder / name, lambda path, c=content: _put(path, c))


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _why(error: Exception) -> str:
    """One sentence for a person, whatever was raised."""
    if isinstance(error, FireantsError):
        return str(error)
    if isinstance(error, MemoryError):
        return "Out of memory: start the finest level at a larger shrink, or crop the images."
    first = (str(error).splitlines() or [""])[0][:160]
    return (
        f"The pair failed unexpectedly ({type(error).__name__}: {first}); check its images, or try "
        "another recipe."
    )
