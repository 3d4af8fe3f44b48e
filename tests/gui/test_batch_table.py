"""The table of a batch and the run over it, without a window."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fireants_engine.errors import InputError
from napari_fireants._batch import Batch, BatchTable, Board, RowState, find_pairs
from napari_fireants._task import Task

LONG = 100_000


class Errands:
    """Stands in for a Session: one task at a time, done when waited for."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self.busy_with = ""

    @property
    def busy(self) -> bool:
        return bool(self.busy_with)

    def submit(self, function: Any, done: Any, what: str, stop: Any) -> bool:
        self.task, self.done, self.busy_with = Task(function), done, what
        return True

    def wait(self, batch: Batch, until: Any = None) -> None:
        assert self.task is not None
        end = time.monotonic() + 60
        while self.task.alive and not (until is not None and until()):
            assert time.monotonic() < end
            batch.drain()
            time.sleep(0.01)
        if until is None or not until():
            assert self.task.error is None, self.task.details
            self.busy_with = ""
            self.done(self.task.value)


@pytest.fixture(autouse=True)
def _quick_reports(monkeypatch: Any) -> None:
    """The pictures of a report take longer than these runs."""
    monkeypatch.setattr("fireants_engine.workflows.rundir._html", lambda *_: "<html></html>")


@pytest.fixture
def folder(tmp_path: Path, pair_2d: Any) -> Path:
    """A fixed image and three moving ones; the second is no image."""
    import SimpleITK as sitk

    out = tmp_path / "study"
    out.mkdir()

    def write(array: np.ndarray, name: str) -> None:
        sitk.WriteImage(sitk.GetImageFromArray(array), str(out / name))

    fixed, moving = pair_2d
    write(fixed, "fixed.nii")
    write((fixed > 50).astype(np.uint8), "fixed_labels.nii")
    for k in (1, 3):
        write(np.roll(moving, k, 0), f"s{k}_moving.nii")
        write((np.roll(moving, k, 0) > 50).astype(np.uint8), f"s{k}_moving_labels.nii")
    (out / "s2_moving.nii").write_bytes(b"no image")
    return out


@pytest.fixture
def batch(folder: Path) -> Batch:
    made = Batch(Errands())
    made.table.put(find_pairs([folder]))
    return made


def states(batch: Batch) -> list[str]:
    return [row.state.value for row in batch.table.rows]


def summary(batch: Batch) -> list[dict[str, str]]:
    assert batch.folder is not None
    with open(batch.folder / "summary.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------ the table
def test_pairs_of_a_folder_a_table_and_images(folder: Path) -> None:
    found = find_pairs([folder])
    names = ["s1_moving", "s2_moving", "s3_moving"]
    assert [row.name for row in found.pairing.rows] == names
    assert set(found.pairing.rows[0].files) == {"fixed_labels", "moving_labels"}
    assert found.folder == folder / "registrations"
    table = folder / "mine.csv"
    table.write_text("fixed,moving\nfixed.nii,s1_moving.nii\nfixed.nii,gone.nii\n")
    listed = find_pairs([table])
    assert listed.pairing.rule == "As mine.csv says."
    assert "line 3, column moving: there is no file" in listed.missing["gone"]
    assert listed.folder == folder / "registrations"
    images = sorted(folder.glob("s*_moving.nii"))
    onto = find_pairs(images, fixed=images[0])
    assert [row.moving for row in onto.pairing.rows] == images[1:]
    with pytest.raises(InputError, match="Give a folder"):
        find_pairs([])


def test_the_table_tells_what_changes(folder: Path) -> None:
    table = BatchTable()
    news: list[Any] = []
    table.changed.connect(lambda: news.append("rows"))
    table.row_changed.connect(news.append)
    (folder / "pairs.csv").write_text("fixed,moving\nfixed.nii,gone.nii\nfixed.nii,s1_moving.nii\n")
    table.put(find_pairs([folder]))
    assert [row.state for row in table.rows] == [RowState.MISSING, RowState.WAITING]
    table.update("s1_moving", fraction=0.5)
    table.update("s1_moving", fraction=0.5)
    table.update("nobody", fraction=0.5)
    assert news == ["rows", 1]
    assert table.counts == {RowState.MISSING: 1, RowState.WAITING: 1}
    table.remove({"gone"})
    assert table.names() == ["s1_moving"]


def test_a_board_stops_what_comes_later() -> None:
    class Control:
        stopped = False

        def stop(self) -> None:
            self.stopped = True

    board, control = Board(), Control()
    board.post("a", fraction=0.1, message="x")
    board.post("a", fraction=0.2)
    assert board.take() == {"a": {"fraction": 0.2, "message": "x"}}
    assert board.take() == {}
    board.stop()
    board.attach(control)
    assert control.stopped


# ------------------------------------------------------------------ runs
def test_a_failing_pair_does_not_stop_the_others_and_is_retried(
    batch: Batch, folder: Path, recipe: Any
) -> None:
    session, rule = batch._session, recipe(steps=5)
    ends: list[str] = []
    batch.finished.connect(ends.append)
    batch.start(rule, folder / "out")
    with pytest.raises(InputError, match="A batch is still at work"):
        batch.start(rule, folder / "out")
    session.wait(batch)
    assert (states(batch), ends) == (["done", "failed", "done"], [""])
    first, second, _ = batch.table.rows
    assert first.numbers["dice_after"] > first.numbers["dice_before"]
    assert {"loss", "seconds"} <= set(first.numbers)
    assert "s2_moving.nii: this is not an image" in second.message
    assert batch.folder_of(first) == folder / "out" / "s1_moving"
    assert batch.folder_of(second) is None
    assert batch.summary is not None
    assert batch.summary.is_file()
    # mend it, and run only that one
    (folder / "s2_moving.nii").write_bytes((folder / "s1_moving.nii").read_bytes())
    before = (folder / "out" / "s1_moving" / "report.json").stat().st_mtime_ns
    batch.start(rule, folder / "out", names=batch.table.names(RowState.FAILED))
    session.wait(batch)
    assert states(batch) == ["done", "done", "done"]
    assert [row["status"] for row in summary(batch)] == ["done"] * 3
    # all once more: the engine keeps what is finished
    batch.start(rule, folder / "out")
    session.wait(batch)
    assert states(batch) == ["kept", "kept", "kept"]
    assert (folder / "out" / "s1_moving" / "report.json").stat().st_mtime_ns == before
    assert "dice_after" in batch.table.rows[0].numbers
    # one row, finished or not
    batch.start(rule, folder / "out", names=["s1_moving"], again=True)
    session.wait(batch)
    assert states(batch) == ["done", "kept", "kept"]
    assert (folder / "out" / "s1_moving" / "report.json").stat().st_mtime_ns > before


def test_stopping_keeps_what_is_done_and_goes_on_later(
    batch: Batch, folder: Path, recipe: Any
) -> None:
    session = batch._session
    batch.table.remove({"s2_moving"})
    rule = recipe(steps=LONG)
    batch.start(rule, folder / "out")
    row = batch.table.rows
    session.wait(batch, until=lambda: row[0].fraction > 0)
    assert row[0].state is RowState.RUNNING
    assert "Stage 1 of 1, rigid, level 1 of 1" in row[0].message
    assert 0 < batch.fraction < 0.5
    batch.stop()
    assert batch.stopping
    session.wait(batch)
    assert states(batch) == ["stopped", "waiting"]
    assert (folder / "out" / "s1_moving" / "warped.nii.gz").is_file()
    assert not batch.running
    assert [row["status"] for row in summary(batch)] == ["stopped", "waiting"]


def test_what_cannot_begin_is_one_sentence(batch: Batch, folder: Path, recipe: Any) -> None:
    with pytest.raises(InputError, match="is a file; choose a folder"):
        batch.start(recipe(), folder / "fixed.nii")
    with pytest.raises(InputError, match="no pairs to run"):
        batch.start(recipe(), folder / "out", names=[])
    batch.start(recipe(), folder / "fixed.nii" / "out")
    batch._session.wait(batch)
    assert "the output folder cannot be made" in batch.error
    assert states(batch) == ["waiting"] * 3
