"""Acquisition parameters of topup: rows are encodings, and come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding
from fireants_engine.io.acqparams import load_acqparams, save_acqparams

DIRECTIONS = ("i", "i-", "j", "j-", "k", "k-")


def written(folder: Path, text: str) -> Path:
    path = folder / "acqparams.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_of_topups_user_guide(tmp_path: Path) -> None:
    text = "\ufeff# AP, PA\n0 -1 0 0.062\n\n  0\t1.0 0 6.2e-2  # blip up\r\n-1 0 0 0\n"
    found = load_acqparams(written(tmp_path, text))
    assert [(one.direction, one.readout_s) for one in found] == [
        ("j-", 0.062),
        ("j", 0.062),
        ("i-", 0.0),
    ]


def test_encodings_come_back(tmp_path: Path) -> None:
    truth = [Encoding.parse(name, 0.0525111 * k) for k, name in enumerate(DIRECTIONS)]
    path = save_acqparams(truth, tmp_path / "a.txt")
    assert path.read_text().splitlines()[:2] == ["1 0 0 0.000000", "-1 0 0 0.052511"]
    found = load_acqparams(path)
    assert [one.direction for one in found] == list(DIRECTIONS)
    for one, other in zip(found, truth, strict=True):
        assert one.readout_s == pytest.approx(other.readout_s, abs=1e-6)
    assert list(tmp_path.iterdir()) == [path]


REMEDY = r"give x y z and the total readout time in seconds, with one of x, y, z 1 or -1 .*0\.05\.$"


@pytest.mark.parametrize(
    "row",
    [
        "0 -1 0",
        "0 -1 0 0.05 1",
        "0,-1,0,0.05",
        "0 1 0 ten",
        "0 0 0 0.05",
        "1 -1 0 0.05",
        "0 0.9 0 0.05",
        "0 2 0 0.05",
        "0 nan 0 0.05",
    ],
)
def test_rows_that_are_none(tmp_path: Path, row: str) -> None:
    with pytest.raises(InputError, match=rf"acqparams\.txt: line 3: '{row}' is no row; {REMEDY}"):
        load_acqparams(written(tmp_path, f"0 1 0 0.05\n\n{row}  # blip\n"))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ("-0.05", r"A total readout time of -0\.05 s cannot be; give seconds"),
        ("52.5", r"A total readout time of 52\.5 s .* not milliseconds"),
        ("nan", "A total readout time of nan s"),
        ("inf", "A total readout time of inf s"),
    ],
)
def test_times_that_cannot_be(tmp_path: Path, seconds: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"acqparams\.txt: line 2: {words}"):
        load_acqparams(written(tmp_path, f"0 1 0 0.05\n0 1 0 {seconds}\n"))


def test_files_that_cannot_be(tmp_path: Path) -> None:
    remedy = r"give topup's table of acquisition parameters\.$"
    words = rf"a\.txt: cannot be read as text \(No such file or directory\); {remedy}"
    with pytest.raises(InputError, match=words):
        load_acqparams(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match=rf"b\.txt: cannot be read as text; {remedy}"):
        load_acqparams(tmp_path / "b.txt")
    with pytest.raises(InputError, match=rf"acqparams\.txt: has no row; {REMEDY}"):
        load_acqparams(written(tmp_path, "# nothing\n\n"))
    with pytest.raises(
        InputError, match=r"c\.txt: there are no volumes to write rows of; give one"
    ):
        save_acqparams([], tmp_path / "c.txt")
    with pytest.raises(InputError, match=r"c\.txt: there is no folder"):
        save_acqparams([Encoding(0, 1, 0.05)], tmp_path / "none" / "c.txt")
