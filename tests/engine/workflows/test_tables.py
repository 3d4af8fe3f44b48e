"""Pairs guessed from the names in a folder, and what a table that is wrong is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fireants_engine.errors import InputError
from fireants_engine.workflows.tables import Row, pairs_in, pairs_of, read_table


def put(folder: Path, *names: str) -> list[Path]:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return [folder / name for name in names]


def told(rows: tuple[Row, ...]) -> list[tuple[str, str, str]]:
    return [(row.name, row.fixed.name, row.moving.name) for row in rows]


def test_a_table_in_the_folder_counts_first(tmp_path: Path) -> None:
    put(tmp_path, "fixed.nii", "moving.nii", "other.nii")
    (tmp_path / "pairs.csv").write_text("fixed,moving\nother.nii,moving.nii\n")
    pairing = pairs_in(tmp_path)
    assert told(pairing.rows) == [("moving", "other.nii", "moving.nii")]
    assert "pairs.csv" in pairing.rule


def test_names_that_are_otherwise_the_same(tmp_path: Path) -> None:
    put(tmp_path, "Sub-01_fixed.nii.gz", "Sub-01_moving.nii.gz", "Sub-01_moving_labels.nii.gz")
    put(tmp_path, "moving-sub2.tif", "fixed-sub2.tif", "fixed-sub2-mask.tif", "lone_fixed.nii")
    put(tmp_path, "unmoving.nii", "notes.txt", ".hidden_moving.nii")
    pairing = pairs_in(tmp_path)
    assert told(pairing.rows) == [
        ("Sub-01", "Sub-01_fixed.nii.gz", "Sub-01_moving.nii.gz"),
        ("sub2", "fixed-sub2.tif", "moving-sub2.tif"),
    ]
    first, second = pairing.rows
    assert {role: path.name for role, path in first.files.items()} == {
        "moving_labels": "Sub-01_moving_labels.nii.gz"
    }
    assert {role: path.name for role, path in second.files.items()} == {
        "fixed_mask": "fixed-sub2-mask.tif"
    }
    assert "1 image left out: lone_fixed.nii." in pairing.rule


def test_one_fixed_image_serves_all(tmp_path: Path) -> None:
    put(tmp_path, "fixed.nii", "fixed_labels.nii", "b_moving.nii", "c_moving.nii")
    pairing = pairs_in(tmp_path)
    names = [("b_moving", "fixed.nii", "b_moving.nii"), ("c_moving", "fixed.nii", "c_moving.nii")]
    assert told(pairing.rows) == names
    assert all(row.files["fixed_labels"].name == "fixed_labels.nii" for row in pairing.rows)
    assert "left out" not in pairing.rule


def test_sub_folders(tmp_path: Path) -> None:
    put(tmp_path, "s1/fixed.nii", "s1/moving.nii", "s1/moving_seg.nii", "s1/landmarks.csv")
    put(tmp_path, "old/summary.csv", "old/s1/report.json", "run/report.json")
    put(tmp_path, "s2/a_fixed.nii", "s2/b_moving.nii", "notes/readme.txt", ".git/fixed.nii")
    pairing = pairs_in(tmp_path)
    assert told(pairing.rows) == [
        ("s1", "fixed.nii", "moving.nii"),
        ("s2", "a_fixed.nii", "b_moving.nii"),
    ]
    assert set(pairing.rows[0].files) == {"moving_labels", "landmarks"}
    assert "1 sub-folder left out: notes." in pairing.rule


def test_all_onto_one_which_can_be_chosen(tmp_path: Path) -> None:
    files = put(tmp_path, "a.nii", "b.nii", "b_seg.nii", "my_template.nii")
    pairing = pairs_in(tmp_path)
    assert pairing.fixed == files[3]
    assert [row.name for row in pairing.rows] == ["a", "b"]
    assert pairing.rows[1].files == {"moving_labels": files[2]}
    assert pairing.rule == "Every image onto my_template.nii."
    other = pairs_in(tmp_path, fixed=files[1])
    assert [row.moving.name for row in other.rows] == ["a.nii", "my_template.nii"]
    assert other.rows[0].files == {"fixed_labels": files[2]}
    assert other.images == pairing.images == (files[0], files[1], files[3])
    assert told(pairs_of(files[:2]).rows) == [("b", "a.nii", "b.nii")]


def test_what_makes_no_pairs_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 images, so there are no pairs"):
        pairs_in(tmp_path)
    (one,) = put(tmp_path, "a.nii")
    with pytest.raises(InputError, match="1 image, so there are no pairs"):
        pairs_in(tmp_path)
    with pytest.raises(InputError, match="this is no folder"):
        pairs_in(one)
    put(tmp_path, "x/s_fixed.nii", "x/t_fixed.nii", "x/u_moving.nii", "x/v_moving.nii")
    with pytest.raises(InputError, match="no image with 'moving' in its name"):
        pairs_in(tmp_path / "x")
    put(tmp_path, "y/fixed_a.nii", "y/a_fixed.nii", "y/moving.nii")
    with pytest.raises(InputError, match="would both be the fixed of one pair"):
        pairs_in(tmp_path / "y")


def test_messages_of_a_table_name_line_and_column(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    put(tmp_path, "a.nii")
    table.write_text("fixed,moving,init\na.nii,a.nii,\na.nii,b.nii,t.mat\n")
    first, second = read_table(table)
    assert first.missing() == ""
    assert second.missing().startswith(f"{table}, line 3, column moving: there is no file")
    table.write_text("name,fixed,moving\nx,a.nii,b.nii\nx,a.nii,c.nii\n")
    with pytest.raises(InputError, match="line 3, column name: Two pairs are named 'x'"):
        read_table(table)


def test_reading_pairs_needs_no_torch(tmp_path: Path) -> None:
    put(tmp_path, "fixed.nii", "moving.nii")
    (tmp_path / "pairs.csv").write_text("fixed,moving\nfixed.nii,moving.nii\n")
    code = (
        "import sys; from fireants_engine.workflows.tables import pairs_in; "
        f"print(len(pairs_in({str(tmp_path)!r}).rows), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "False"], done.stderr
