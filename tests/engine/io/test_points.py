"""Points: rows and other columns stay, coordinates return exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fireants_engine.errors import InputError
from fireants_engine.io import load_points, save_points
from fireants_engine.io.points import load_on_section


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_other_columns_and_order_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'name,z,y,x,comment\nb,3,2,1,"one, two"\na,6,5,4.5,\n')
    table = load_points(path)
    np.testing.assert_array_equal(table.points_mm, [[1, 2, 3], [4.5, 5, 6]])
    out = save_points(table.moved(table.points_mm * 0.1), tmp_path / "b.csv")
    lines = out.read_text().splitlines()
    assert lines[0] == "name,z,y,x,comment"
    assert lines[1] == f'b,{3 * 0.1!r},0.2,0.1,"one, two"'
    np.testing.assert_array_equal(load_points(out).points_mm, table.points_mm * 0.1)


def test_two_dimensions_and_plain_arrays(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(5, 2))
    path = save_points(points, tmp_path / "a.csv")
    assert path.read_text().splitlines()[0] == "x,y"
    np.testing.assert_array_equal(load_points(path, 2).points_mm, points)


def test_another_dimension_keeps_the_other_columns(tmp_path: Path) -> None:
    flat = load_points(write(tmp_path / "a.csv", 'name,x,y,kind\nb,1,2,"k, l"\na,3,4\n'), 2)
    deep = save_points(flat.moved(np.array([[1.0, 2, 3], [4, 5, 6]])), tmp_path / "b.csv")
    assert deep.read_text().splitlines() == [
        "name,x,y,z,kind", 'b,1.0,2.0,3.0,"k, l"', "a,4.0,5.0,6.0,",
    ]  # fmt: skip
    again = load_points(deep).moved(np.array([[1.0, 2], [4, 5]])).with_texts("off", ["7", "8"])
    out = save_points(again.with_texts("off", ["9", "8"]), tmp_path / "c.csv")
    assert out.read_text().splitlines() == [
        "name,x,y,kind,off", 'b,1.0,2.0,"k, l",9', "a,4.0,5.0,,8",
    ]  # fmt: skip


def test_points_of_a_section_need_no_z(tmp_path: Path) -> None:
    flat = load_on_section(write(tmp_path / "a.csv", "y,x,n\n1,2,3\n"))
    np.testing.assert_array_equal(flat.points_mm, [[2, 1, 0]])
    deep = load_on_section(write(tmp_path / "b.csv", "x,y,z\n1,2,3\n"))
    np.testing.assert_array_equal(deep.points_mm, [[1, 2, 3]])
    with pytest.raises(InputError, match="column 'y' is missing"):
        load_on_section(write(tmp_path / "c.csv", "x\n1\n"))


def test_byte_order_mark_and_no_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "\ufeffx,y,z\n")
    assert load_points(path).points_mm.shape == (0, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,y\n1,2\n", "column 'z' is missing"),
        ("", "column 'x' is missing .found: nothing"),
        ("x,y,z\n1,2,three\n", "row 2 has no number"),
        ("x,y,z\n1,2,3\n1,2\n", "row 3 has no number"),
        ("x,y,z\n1,2,nan\n", "must be finite"),
    ],
)
def test_mistakes_name_the_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"a\.csv: .*{words}"):
        load_points(write(tmp_path / "a.csv", text))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_points(tmp_path / "a.csv")
