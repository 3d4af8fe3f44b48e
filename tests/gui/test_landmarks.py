"""The table of landmarks: steps, distances, order, the term, files, and what a crash leaves."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from fireants_engine.errors import InputError
from fireants_engine.recipe.models import Recipe
from napari_fireants._autosave import Autosave
from napari_fireants._landmark_files import load, needs_side, save, take
from napari_fireants._landmark_term import has_landmarks, with_landmarks
from napari_fireants._landmarks import Content, LandmarkTable
from napari_fireants._layers import Snapshot


def table_of(*distances: float) -> LandmarkTable:
    """Pairs so far apart along x, named 1, 2, ..."""
    table = LandmarkTable()
    for k, distance in enumerate(distances):
        table.add((10.0 * k, 0.0, 0.0), (10.0 * k + distance, 0.0, 0.0))
    return table


# ------------------------------------------------------------------ steps
def test_every_change_is_a_step() -> None:
    table = LandmarkTable()
    key = table.add((1.0, 2.0, 3.0))
    changes = [
        lambda: table.move(key, "moving", (4.0, 5.0, 6.0)),
        lambda: table.rename(key, "apex"),
        lambda: table.weigh(key, 2.5),
        lambda: table.enable(key, False),
        lambda: table.add(moving_mm=(0.0, 0.0, 0.0)),
        lambda: table.use(True),
        lambda: table.pull(strength=0.5),
        lambda: table.delete([key]),
    ]
    states = [table.content]
    for change in changes:
        change()
        states.append(table.content)
    assert len({repr(state) for state in states}) == len(states)
    for state in states[-2::-1]:
        assert table.steps.undo()
        assert table.content == state
    for state in states[1:]:
        table.steps.redo()
        assert table.content == state


def test_a_drag_is_one_step_and_nothing_new_is_none() -> None:
    table = table_of(5.0)
    (key,) = table.selected
    for x in (1.0, 2.0, 3.0):
        table.move(key, "fixed", (x, 0.0, 0.0), merge=("drag", 1))
    table.move(key, "fixed", (9.0, 0.0, 0.0), merge=("drag", 2))
    table.steps.undo()
    assert table.row(key).fixed_mm == (3.0, 0.0, 0.0)
    table.steps.undo()
    assert table.row(key).fixed_mm == (0.0, 0.0, 0.0)
    name = table.steps.undo_name
    table.rename(key, "1")
    table.weigh(key, 1.0)
    assert table.steps.undo_name == name


def test_keys_stay_when_a_landmark_comes_back() -> None:
    table = table_of(1.0, 2.0)
    first = table.rows[0]
    table.delete([first.key])
    new = table.add((0.0, 0.0, 0.0))
    assert new != first.key
    assert table.row(new).name == "1"  # the free number
    table.steps.undo()
    table.steps.undo()
    assert table.rows[0] == first


def test_places_may_lack_and_rows_without_any_go() -> None:
    table = LandmarkTable()
    first, second = table.add((1.0, 1.0)), table.add((2.0, 2.0))
    assert table.lacking("moving").key == second  # the selected one
    table.select([])
    assert table.lacking("moving").key == first
    assert table.lacking("fixed") is None
    table.move(first, "fixed", None)
    assert not table.has(first)
    with pytest.raises(InputError, match="2D and 3D at once"):
        table.add((1.0, 2.0, 3.0))
    with pytest.raises(InputError, match="at least 0"):
        table.weigh(second, -1)


# ------------------------------------------------------------------ distances
def test_distances_before_now_and_after() -> None:
    table = table_of(3.0, 8.0, 1.0)
    seen: list[int] = []
    table.measured.connect(lambda: seen.append(1))
    keys = [row.key for row in table.rows]
    assert table.distances("before") == dict(zip(keys, (3.0, 8.0, 1.0), strict=True))
    assert table.distances("now") == {}
    assert (table.column, table.worst) == ("before", keys[1])
    table.set_now(np.array([[3.0, 0, 0], [18, 0, 4], [21, 2, 0]]))
    assert table.distances("now") == dict(zip(keys, (0.0, 4.0, 2.0), strict=True))
    assert table.worst == keys[1]
    known = table.statistics("now")
    assert (known.pairs, known.mean, known.median, known.largest) == (3, 2.0, 2.0, 4.0)
    table.move(keys[0], "moving", (3.0, 1.0, 0.0))
    assert table.distance(table.row(keys[0]), "now") == 1.0  # the map has not changed
    table.move(keys[0], "fixed", (0.5, 0.0, 0.0))
    assert table.distance(table.row(keys[0]), "now") is None  # where that goes is not known
    table.set_mapped("after", {keys[2]: ((20.0, 0.0, 0.0), (21.0, 0.0, 0.0))})
    assert (table.column, len(seen)) == ("after", 2)
    table.forget()
    assert table.column == "before"
    assert table.distances("after") == {}


def test_what_counts() -> None:
    table = table_of(3.0, 8.0, 1.0)
    table.enable(table.rows[1].key, False)
    table.add((0.0, 0.0, 0.0))
    assert [row.name for row in table.pairs] == ["1", "3"]
    assert table.statistics("before").largest == 3.0
    pairs = table.for_engine()
    assert pairs.names == ("1", "3")
    np.testing.assert_array_equal(pairs.moving_mm[:, 0], [3.0, 21.0])
    assert LandmarkTable().for_engine() is None
    assert table_of(2.0).worst is None


def test_order_puts_the_unknown_last() -> None:
    table = table_of(3.0, 8.0, 1.0)
    table.add((0.0, 0.0, 0.0), name="10")
    table.rename(table.rows[0].key, "tip")
    for key in (row.key for row in table.rows[:2]):
        table.weigh(key, 1.0 + key)
    names = lambda *by: [row.name for row in table.ordered(*by)]  # noqa: E731
    assert names("before") == ["3", "tip", "2", "10"]
    assert names("before", True) == ["2", "tip", "3", "10"]
    assert names("name") == ["2", "3", "10", "tip"]
    assert names("weight", True)[0] == "2"
    assert names() == ["tip", "2", "3", "10"]


# ------------------------------------------------------------------ the term
def test_landmarks_join_every_stage_unless_the_recipe_has_them() -> None:
    recipe = Recipe.preset("brain-mri")
    more = with_landmarks(recipe, 0.02, 5.0)
    for old, new in zip(recipe.stages, more.stages, strict=True):
        assert new.terms[:-1] == old.terms
        term = new.terms[-1]
        assert (term.kind, term.weight, term.robust_mm) == ("landmarks", 0.02, 5.0)
    assert has_landmarks(more)
    assert not has_landmarks(recipe)
    assert with_landmarks(more, 1.0) == more


# ------------------------------------------------------------------ files
def image(name: str, origin: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Snapshot:
    data = np.zeros((20, 30, 40), np.float32)
    flip = np.diag([-1.0, -1.0, 1.0])
    return Snapshot(name, data, False, False, (40, 30, 20), (1.0, 2.0, 0.5), origin, flip)


FIXED, MOVING = image("brain", (60.0, 70.0, 0.0)), image("other")


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("pairs", ".csv"),
        ("bigwarp", ".csv"),
        ("lists", ".csv"),
        ("lists", ".fcsv"),
        ("lists", ".mrk.json"),
        ("lists", ".txt"),
    ],
)
def test_files_come_back(tmp_path: Path, kind: str, end: str) -> None:
    table = LandmarkTable()
    for k in range(3):
        table.add((30.0 + k, 20.5, 3.0), (-4.0, -9.25 - k, 7.0), name=f"mark {k}")
    table.add((1.0, 1.0, 1.0))  # no pair: left out
    files = save(table.rows, tmp_path / f"set{end}", kind, FIXED, MOVING)
    assert len(files) == (2 if kind == "lists" else 1)
    back = LandmarkTable()
    loaded = load(files[:1], FIXED, MOVING)  # the other list is found beside it
    take(back, loaded)
    for own, told in zip(back.rows, table.rows[:3], strict=True):
        np.testing.assert_allclose(own.fixed_mm, told.fixed_mm, atol=1e-9)
        np.testing.assert_allclose(own.moving_mm, told.moving_mm, atol=1e-9)
    if end != ".txt":  # elastix knows no names
        assert [row.name for row in back.rows] == [f"mark {k}" for k in range(3)]
    assert loaded.note.startswith("3 pairs from")
    assert back.steps.undo() == "landmarks of a file"
    assert back.rows == ()


def test_points_of_one_image_complete_what_is_there(tmp_path: Path) -> None:
    table = table_of(1.0, 2.0)
    lists = save(table.rows, tmp_path / "set.fcsv", "lists", FIXED, MOVING)
    lists[0].unlink()
    half = LandmarkTable()
    half.add((5.0, 0.0, 0.0), name="2")
    half.add((6.0, 0.0, 0.0), name="1")
    loaded = load([lists[1]], FIXED, MOVING)
    assert "points of the moving image" in loaded.note
    take(half, loaded)
    assert [row.moving_mm[0] for row in half.rows] == [12.0, 1.0]  # by name
    plain = lists[1].rename(tmp_path / "points.fcsv")
    assert needs_side([plain])
    take(half, load([plain], FIXED, MOVING, "fixed"))
    assert [row.name for row in half.rows[2:]] == ["1", "2"]
    assert half.rows[2].moving_mm is None


def test_weights_and_rows_that_are_off(tmp_path: Path) -> None:
    table = table_of(1.0, 2.0)
    table.weigh(table.rows[0].key, 3.0)
    table.enable(table.rows[1].key, False)
    (file,) = save(table.rows, tmp_path / "set.csv", "pairs", FIXED, MOVING)
    back = LandmarkTable()
    take(back, load([file], FIXED, MOVING))
    assert [(row.weight, row.enabled) for row in back.rows] == [(3.0, True), (1.0, False)]


def test_files_that_cannot_be_taken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no complete pair"):
        save((), tmp_path / "x.csv", "pairs", FIXED, MOVING)
    with pytest.raises(InputError, match="one file of pairs, or two lists"):
        load(["a.csv", "b.csv", "c.csv"], FIXED, MOVING)
    with pytest.raises(InputError, match=r"gone\.csv"):
        load([tmp_path / "gone.csv"], FIXED, MOVING)
    (tmp_path / "notes.docx").touch()
    with pytest.raises(InputError, match="not a known list of points"):
        load([tmp_path / "notes.docx"], FIXED, MOVING, "fixed")


# ------------------------------------------------------------------ kept safe
@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIREANTS_USER_FOLDER", str(tmp_path / "user"))


def until(what) -> None:
    end = time.monotonic() + 5
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_crash_leaves_the_landmarks() -> None:
    table = LandmarkTable()
    keep = Autosave(table, lambda: ("atlas", "mouse 7"), seconds=0.05)
    key = table.add((1.0, 2.0, 3.0))
    until(lambda: keep.path.exists())
    for k in range(20):
        table.move(key, "moving", (float(k), 0.0, 0.0))
    again = Autosave(LandmarkTable(), seconds=0.05)
    until(lambda: again.found().content.rows[0].moving_mm == (19.0, 0.0, 0.0))
    found = again.found()
    assert found.sentence.startswith("1 landmark of atlas and mouse 7 (")
    again.recover(found)
    assert again._table.rows[0].moving_mm == (19.0, 0.0, 0.0)
    assert again.path.exists()
    assert not found.path.exists()
    assert again.found() is None  # its own does not count
    assert again._table.steps.undo() == "landmarks recovered"


def test_saved_or_deleted_landmarks_leave_nothing() -> None:
    table = LandmarkTable()
    keep = Autosave(table, seconds=0.0)
    key = table.add((1.0, 2.0, 3.0))
    keep.flush()
    keep.saved(table.rows)
    assert not keep.path.exists()
    table.rename(key, "other")
    keep.flush()
    assert keep.path.exists()
    table.delete([key])
    keep.close()
    assert not keep.path.exists()


def test_damaged_files_do_not_count() -> None:
    keep = Autosave(LandmarkTable())
    keep.folder.mkdir(parents=True)
    (keep.folder / "a.json").write_text("{")
    (keep.folder / "b.json").write_text('{"content": {"rows": 3}}')
    assert keep.found() is None


def test_content_as_plain_values() -> None:
    table = table_of(1.0)
    table.use(True)
    table.add(moving_mm=(1.0, 2.0, 3.0))
    assert Content.from_dict(table.content.to_dict()) == table.content


def test_fixed_and_moving_change_places() -> None:
    table = LandmarkTable()
    table.swap()
    assert table.rows == ()
    key = table.add((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "a")
    half = table.add((7.0, 8.0, 9.0))
    table.swap()
    row = table.row(key)
    assert (row.fixed_mm, row.moving_mm) == ((4.0, 5.0, 6.0), (1.0, 2.0, 3.0))
    assert (table.row(half).fixed_mm, table.row(half).moving_mm) == (None, (7.0, 8.0, 9.0))
    table.swap()
    assert table.row(key).fixed_mm == (1.0, 2.0, 3.0)
