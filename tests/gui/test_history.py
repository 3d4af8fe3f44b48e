"""The runs of a viewer: kept, let go from memory, shown again, compared, taken back."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fireants_engine.errors import InputError
from fireants_engine.recipe.models import Recipe
from napari_fireants._files import Files
from napari_fireants._history import KEPT_IN_MEMORY, History
from napari_fireants._objects import Objects, content_hash, names_in
from napari_fireants._runs import changes, compare, thumbnail
from napari_fireants._session import Job, Link, Product
from napari_fireants._store import Entry, RecipeStore

Make = Callable[..., Product]


def at_once(work: Callable[[], Any], done: Callable[[Any], None], failed: Any) -> None:
    """As a queue of work, in the same thread."""
    try:
        value = work()
    except InputError as error:
        failed(str(error))
        return
    done(value)


@pytest.fixture
def make(pair_2d: Any, recipe: Callable[..., Recipe]) -> Make:
    """Runs of a few steps on the 2D pair."""
    from napari_fireants._job import run_job
    from napari_fireants._layers import Snapshot

    def snap(array: np.ndarray, name: str, labels: bool = False) -> Snapshot:
        where = {"size": array.shape[::-1], "spacing_mm": (1.0, 1.0), "origin_mm": (0.0, 0.0)}
        return Snapshot(name, array, False, labels, direction=np.eye(2), **where)

    def run(steps: int = 3, kind: str = "rigid", labels: bool = False) -> Product:
        given = {}
        if labels:
            maps = [(image > 40).astype(np.uint8) for image in pair_2d]
            given["fixed_labels"] = snap(maps[0], "fl", labels=True)
            given["moving_labels"] = snap(maps[1], "ml", labels=True)
            given["fixed_mask"] = snap(np.ones_like(maps[0]), "mask", labels=True)
        fixed, moving = (snap(a, n) for a, n in zip(pair_2d, ("fixed", "moving"), strict=True))
        product = run_job(Job(fixed, moving, recipe(steps, kind), "cpu", **given), Link())
        assert product is not None
        return product

    return run


class Shown:
    """A history whose pictures go nowhere, and what they were."""

    def __init__(self, folder: Path) -> None:
        self.now: list[Any] = []
        self.said: list[str] = []
        self.busy = False
        self.history = History(
            Objects(folder / "objects"),
            Files(),
            at_once,
            lambda shown, other: self.now.append((shown, other)),
            blocked=lambda: self.busy,
        )
        self.history.said.connect(lambda text, _: self.said.append(text))

    def add(self, product: Product) -> int:
        entry = RecipeStore("rigid").entry
        before = self.history.shown
        self.history.begin()
        return self.history.add(product, entry, before).number

    @property
    def last(self) -> tuple[int | None, int | None]:
        return tuple(None if item is None else item[0].number for item in self.now[-1])  # type: ignore[return-value]


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    return Shown(tmp_path)


def test_a_run_comes_back_from_its_files_to_the_bit(make: Make, tmp_path: Path) -> None:
    from fireants_engine.pipeline import Edited
    from napari_fireants._kept import again, keep

    product = make(4, "greedy", labels=True)
    result = product.result
    edit = Edited(stage="greedy", what="A mask was drawn.", masks={"fixed": result.fixed})
    product = replace(product, result=replace(result, events=(*result.events, edit)))
    objects, files = Objects(tmp_path / "objects"), Files()
    kept = keep(product, objects, files)
    assert json.loads(json.dumps(kept)) == kept
    found = again(kept, objects, files)
    points = np.array([[20.0, 20.0], [30.5, 25.25]])
    assert np.array_equal(found.result.transform(points), result.transform(points))
    assert np.array_equal(found.result.moved.numpy(), result.moved.numpy())
    assert np.array_equal(found.result.fixed.mask, result.fixed.mask)
    for name in ("moved", "fixed_bytes", "moved_bytes", "before_bytes", "labels"):
        assert np.array_equal(getattr(found.pictures, name), getattr(product.pictures, name))
    assert found.info == product.info
    whole = found.result.result()
    assert [type(event) for event in whole.events] == [type(e) for e in product.result.events]
    assert np.array_equal(whole.events[-1].masks["fixed"].numpy(), result.fixed.numpy())
    reports = []
    for name, item in (("was", product.result), ("is", found.result)):
        item.save(tmp_path / name)
        reports.append(json.loads((tmp_path / name / "report.json").read_text()))
        events = (tmp_path / name / "events.jsonl").read_text()
        assert len(events.splitlines()) == len(product.result.events)
    assert reports[0] == reports[1]


def test_a_damaged_or_missing_part_is_said(make: Make, tmp_path: Path) -> None:
    from napari_fireants._kept import again, keep

    objects = Objects(tmp_path / "objects")
    kept = keep(make(), objects, Files())
    name = kept["pictures"]["moved"]
    path = objects.path(name)
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match="missing or damaged"):
        again(kept, objects, Files())
    path.unlink()
    with pytest.raises(InputError, match=name):
        again(kept, objects, Files())


def test_twenty_runs_do_not_keep_twenty_results(make: Make, shown: Shown) -> None:
    results: list[weakref.ref] = []
    places: list[np.ndarray] = []
    points = np.array([[20.0, 20.0], [30.5, 25.25]])
    for step in range(20):
        product = make(1 + step)
        results.append(weakref.ref(product.result))
        places.append(product.result.transform(points))
        shown.add(product)
        del product
    gc.collect()
    alive = [ref for ref in results if ref() is not None]
    assert len(alive) <= KEPT_IN_MEMORY
    assert shown.history.in_memory <= KEPT_IN_MEMORY
    for number in (1, 11, 20):
        shown.history.restore(number)
        run, product = shown.now[-1][0] if number != 20 else (shown.history.run(20), None)
        assert run.number == number
        if product is not None:
            assert np.array_equal(product.result.transform(points), places[number - 1])
    assert shown.history.in_memory <= KEPT_IN_MEMORY


def test_results_are_steps(make: Make, shown: Shown) -> None:
    history = shown.history
    for steps in (2, 3, 4):
        shown.add(make(steps))
    assert history.steps.undo_name == "run 3"
    history.restore(1)
    assert (shown.last, history.shown) == ((1, None), 1)
    assert history.steps.undo_name == "restoring run 1"
    history.steps.undo()
    assert (shown.last, history.shown) == ((3, None), 3)
    for expected in (2, 1, None):
        history.steps.undo()
        assert history.shown == expected
    assert shown.last == (None, None)
    for expected in (1, 2, 3, 1):
        history.steps.redo()
        assert history.shown == expected
    history.remove(2)
    assert [run.number for run in history.runs] == [1, 3]
    with pytest.raises(InputError, match="no run 2"):
        history.restore(2)
    history.steps.undo()
    assert [run.number for run in history.runs] == [1, 2, 3]
    history.restore(2)
    assert shown.last == (2, None)


def test_nothing_is_exchanged_while_a_run_is_at_work(make: Make, shown: Shown) -> None:
    history = shown.history
    for steps in (2, 3):
        shown.add(make(steps))
    shown.busy = True
    for action in (lambda: history.restore(1), lambda: history.compare(1, 2)):
        with pytest.raises(InputError, match="at work"):
            action()
    history.steps.undo()
    assert shown.now == []
    assert "when it has ended" in shown.said[-1]


def test_two_runs_are_compared(make: Make, shown: Shown) -> None:
    from napari_fireants._kept import distance_mm

    history = shown.history
    for steps in (1, 30):
        shown.add(make(steps, labels=True))
    found = history.compare(1, 2)
    assert shown.last == (2, 1)
    assert (history.shown, history.compared) == (2, 1)
    assert found.changes == ["rigid.pyramid.levels.0.max_steps: 1 → 30"]
    rows = {name: (a, b) for name, a, b in found.rows}
    assert float(rows["Dice"][0]) < float(rows["Dice"][1])
    assert float(rows["Loss, rigid"][1]) < float(rows["Loss, rigid"][0])
    told: list[tuple[float, float]] = []
    history.distance(found, told.append)
    a, b = (item[1] for item in reversed(shown.now[-1]))
    assert told == [distance_mm(a, b)]
    assert 0.3 < told[0][0] <= told[0][1] < 10
    history.leave()
    assert (shown.last, history.compared) == ((2, None), None)


def test_numbers_names_and_notes(make: Make, shown: Shown) -> None:
    number = shown.add(make(3, "greedy", labels=True))
    run = shown.history.run(number)
    assert run.name == "Run 1: rigid"
    assert run.rows()["Folded voxels"] == "0"
    assert run.summary.startswith("loss ")
    assert "0 folds · Dice 0." in run.summary
    assert run.outcome == "MAX_STEPS"
    assert run.thumbnail is not None
    assert run.thumbnail.shape == (2, 96, 96)
    assert run.thumbnail[1].max() > 100
    shown.history.rename(number, "  with labels ", "good ")
    assert (shown.history.run(number).name, shown.history.run(number).note) == (
        "with labels",
        "good",
    )


def test_a_result_that_cannot_be_written_stays_in_memory(make: Make, tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("in the way")
    shown = Shown(tmp_path)
    for steps in (1, 2, 3, 4):
        shown.add(make(steps))
    assert "cannot be written" in shown.said[0]
    assert shown.history.in_memory == 4
    shown.history.restore(1)
    assert shown.last == (1, None)


def test_changes_of_a_recipe_in_words(recipe: Callable[..., Recipe]) -> None:
    one, two = recipe(5), recipe(5, term="lncc")
    assert changes(one, recipe(5)) == []
    assert changes(one, two) == ["rigid.terms.0: ssd → lncc"]
    assert changes(one, recipe(5, "affine")) == ["other stages: affine"]
    data = one.to_dict()
    data["stages"][0]["terms"].append({"kind": "lncc"})
    assert changes(one, Recipe.from_dict(data)) == ["rigid.terms.1: none → lncc"]


def test_thumbnails_of_planes_and_volumes(make: Make) -> None:
    pictures = make(1).pictures
    flat = thumbnail(pictures)
    volume = replace(
        pictures,
        **{
            name: np.stack([np.zeros_like(getattr(pictures, name))] + [getattr(pictures, name)] * 2)
            for name in ("fixed_bytes", "moved_bytes")
        },
    )
    assert np.array_equal(thumbnail(volume), flat)
    tiny = replace(pictures, fixed_bytes=np.ones((3, 400), np.uint8) * 9,
                   moved_bytes=np.ones((3, 400), np.uint8) * 7)  # fmt: skip
    assert [set(np.unique(image)) for image in thumbnail(tiny)] == [{0, 9}, {0, 7}]


def test_objects_are_written_once_and_found_by_content(tmp_path: Path) -> None:
    objects, other = Objects(tmp_path / "a"), Objects(tmp_path / "b")
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    name = objects.put(array)
    written = objects.path(name).stat().st_mtime_ns
    assert objects.put(np.asfortranarray(array)) == name
    assert objects.path(name).stat().st_mtime_ns == written
    assert objects.put(array.T) != name
    assert content_hash(array) != content_hash(array.astype(np.int32))
    other.link(name, objects)
    objects.keep_only([])
    assert objects.names == set()
    assert np.array_equal(other.get(name), array)
    text = other.put_json({"x": [name, {"y": name}]})
    assert names_in(other.get_json(text)) == {name}
    with pytest.raises(InputError, match="no part of a session"):
        other.get("../secret.npy")


def test_entries_are_compared_without_pictures(make: Make, shown: Shown) -> None:
    first, second = (shown.history.run(shown.add(make(steps))) for steps in (1, 2))
    rows = compare(first, second).rows
    assert [name for name, *_ in rows] == ["Loss, rigid", "Seconds", "Device"]
    assert isinstance(first.entry, Entry)
