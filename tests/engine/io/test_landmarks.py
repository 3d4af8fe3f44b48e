"""Points and pairs in the files of other programs: what they wrote is read in the right frame."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Landmarks, apply_matrix
from fireants_engine.io.landmarks import load_landmarks, paired, save_landmarks
from fireants_engine.io.markups import NamedPoints, load_named_points, save_named_points

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
FIXED = Grid((20, 30, 25), (1.5, 2.0, 3.0), (10.0, -20.0, 30.0), TURN)
MOVING = Grid((40, 35, 30), (0.5, 0.75, 1.25), (-5.0, 7.0, 0.0), np.eye(3)[[1, 2, 0]])
PLACES = np.array([[12.3456789, -4.5, 1e-7], [-61.25, 88.0, -1204.5], [0.1, 0.2, 0.3]])
FORMATS = (".csv", ".fcsv", ".mrk.json", ".txt", ".pts")
SLICER_5 = """# Markups fiducial file version = 5.6
# CoordinateSystem = {system}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
1,-27.0935,41.25,19.5,0,0,0,1,1,1,0,AC,"anterior, commissure",vtkMRMLScalarVolumeNode1
2,3.5,-11.75,-2,0,0,0,1,1,1,0,PC,,vtkMRMLScalarVolumeNode1
"""
SLICER_JSON = {
    "@schema": "https://example.org/markups-schema-v1.0.3.json#",
    "markups": [
        {
            "type": "Fiducial",
            "coordinateSystem": "LPS",
            "coordinateUnits": "mm",
            "locked": False,
            "labelFormat": "%N-%d",
            "lastUsedControlPointNumber": 3,
            "controlPoints": [
                {"id": "1", "label": "AC", "position": [27.0, -41.25, 19.5],
                 "orientation": [-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0], "positionStatus": "defined"},
                {"id": "2", "label": "gap", "position": [0.0, 0.0, 0.0],
                 "positionStatus": "undefined"},
                {"id": "3", "label": "PC", "position": [-3.5, 11.75, -2.0],
                 "positionStatus": "defined"},
            ],
            "measurements": [],
        }
    ],
}  # fmt: skip


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("dim", [2, 3])
def test_points_read_back_exactly(tmp_path: Path, suffix: str, dim: int) -> None:
    named = suffix not in (".txt", ".pts")
    points = NamedPoints(PLACES[:, :dim], ('AC, "left"', "PC", "") if named else ())
    again = load_named_points(save_named_points(points, tmp_path / f"points{suffix}"), dim)
    assert np.array_equal(again.points_mm, points.points_mm)
    last = "F-3" if suffix in (".fcsv", ".mrk.json") else ""  # Slicer shows no point without one
    assert again.names == (('AC, "left"', "PC", last) if named else ("",) * 3)
    empty = save_named_points(NamedPoints(PLACES[:0, :dim]), tmp_path / f"none{suffix}")
    assert load_named_points(empty, dim).points_mm.shape == (0, dim)


@pytest.mark.parametrize(("system", "sign"), [("RAS", -1), ("0", -1), ("LPS", 1), ("1", 1)])
def test_slicers_csv_says_its_frame(tmp_path: Path, system: str, sign: int) -> None:
    points = load_named_points(written(tmp_path, "F.fcsv", SLICER_5.replace("{system}", system)), 3)
    truth = np.array([[-27.0935, 41.25, 19.5], [3.5, -11.75, -2.0]]) * [sign, sign, 1]
    assert np.array_equal(points.points_mm, truth)
    assert points.names == ("AC", "PC")


@pytest.mark.parametrize(("system", "sign"), [("RAS", -1), ("LPS", 1)])
def test_slicers_markups_say_their_frame_and_what_is_set(
    tmp_path: Path, system: str, sign: int
) -> None:
    text = json.dumps(SLICER_JSON).replace('"LPS"', f'"{system}"')
    points = load_named_points(written(tmp_path, "F.mrk.json", text), 3)
    truth = np.array([[27.0, -41.25, 19.5], [-3.5, 11.75, -2.0]]) * [sign, sign, 1]
    assert np.array_equal(points.points_mm, truth)
    assert points.names == ("AC", "PC")


def test_elastix_counts_in_mm_or_in_voxels(tmp_path: Path) -> None:
    """Its index is ITK's: i along x first."""
    index = np.array([[3.0, 4.0, 5.0], [0.0, 29.0, 1.5]])
    image = sitk.Image(list(FIXED.size), sitk.sitkUInt8)
    image.SetSpacing(FIXED.spacing_mm)
    image.SetOrigin(FIXED.origin_mm)
    image.SetDirection(FIXED.direction.ravel().tolist())
    truth = [image.TransformContinuousIndexToPhysicalPoint(list(place)) for place in index]
    for kind, places in (("index", index), ("point", np.array(truth))):
        lines = [" ".join(map(str, place)) for place in places]
        path = written(tmp_path, f"{kind}.txt", "\n".join([kind, "2", *lines, ""]))
        np.testing.assert_allclose(load_named_points(path, 3, FIXED).points_mm, truth, atol=1e-9)
    with pytest.raises(InputError, match="need their image"):
        load_named_points(tmp_path / "index.txt", 3)


def test_bigwarp_counts_in_voxels_times_their_size(tmp_path: Path) -> None:
    """Moving first; rows that are off, or set in one image only, are left out."""
    path = written(
        tmp_path,
        "landmarks.csv",
        '"Pt-0","true","2.0","3.0","5.0","3.0","4.0","6.0"\n'
        '"Pt-1","false","1.0","1.0","1.0","1.0","1.0","1.0"\n'
        '"Pt-2","true","Infinity","Infinity","Infinity","1.0","1.0","1.0"\n'
        '"Pt-3","true","0.5","0.0","2.5","0.0","2.0","0.0"\n',
    )
    pairs = load_landmarks(path, 3, FIXED, MOVING)
    assert pairs.names == ("Pt-0", "Pt-3")
    index = [np.array([[2.0, 2.0, 2.0], [0.0, 1.0, 0.0]]), np.array([[4.0, 4, 4], [1, 0, 2]])]
    sides = (pairs.fixed_mm, FIXED, index[0]), (pairs.moving_mm, MOVING, index[1])
    for found, grid, places in sides:
        truth = apply_matrix(grid.matrix("index", "mm"), places)
        np.testing.assert_allclose(found, truth, atol=1e-9)
    saved = save_landmarks(pairs, tmp_path / "again.csv", FIXED, MOVING)
    again = load_landmarks(saved, 3, FIXED, MOVING)
    np.testing.assert_allclose(again.fixed_mm, pairs.fixed_mm, atol=1e-9)
    np.testing.assert_allclose(again.moving_mm, pairs.moving_mm, atol=1e-9)
    assert again.names == pairs.names
    with pytest.raises(InputError, match="need both images"):
        load_landmarks(path, 3)
    with pytest.raises(InputError, match="no 4 numbers for 2D"):
        load_landmarks(path, 2, Grid.identity((4, 4)), Grid.identity((4, 4)))


@pytest.mark.parametrize("dim", [2, 3])
def test_pairs_read_back_exactly(tmp_path: Path, dim: int) -> None:
    pairs = Landmarks(
        PLACES[:, :dim], PLACES[::-1, :dim] / 3, np.array([1, 0.25, 2]), "x", ("a", "b, c", "")
    )
    again = load_landmarks(save_landmarks(pairs, tmp_path / "pairs.csv"), dim)
    assert np.array_equal(again.fixed_mm, pairs.fixed_mm)
    assert np.array_equal(again.moving_mm, pairs.moving_mm)
    assert np.array_equal(again.weights, pairs.weights)
    assert again.names == pairs.names


def test_lists_are_paired_by_name_where_they_can_be() -> None:
    fixed = NamedPoints(PLACES, ("a", "b", "c"))
    by_name = paired(fixed, NamedPoints(PLACES[[2, 0, 1]] + 1, ("c", "a", "b")))
    assert np.array_equal(by_name.moving_mm, PLACES + 1)
    assert by_name.names == ("a", "b", "c")
    for names in (("c", "a", "x"), ("a", "a", "b"), ()):
        by_order = paired(fixed, NamedPoints(PLACES[[2, 0, 1]], names))
        assert np.array_equal(by_order.moving_mm, PLACES[[2, 0, 1]])
    assert np.array_equal(paired(NamedPoints(PLACES), NamedPoints(PLACES)).moving_mm, PLACES)
    with pytest.raises(InputError, match="every landmark needs both"):
        paired(fixed, NamedPoints(PLACES[:2], ("a", "b")))


def test_the_documented_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "terms.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(from fireants_engine.io.*?)```", page, flags=re.DOTALL)
    for name, places in (("fixed.mrk.json", PLACES), ("moving.fcsv", PLACES + 1)):
        save_named_points(NamedPoints(places, ("a", "b", "c")), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    assert np.array_equal(load_landmarks("landmarks.csv", 3).moving_mm, PLACES + 1)


MARKUPS = json.dumps(SLICER_JSON)
BAD = {
    "a.xyz": ("1 2 3", "not a known list"),
    "frame.fcsv": (SLICER_5.replace("{system}", "IJK"), "coordinate system is IJK"),
    "none.fcsv": (SLICER_5.replace("# CoordinateSystem = {system}\n", ""), "not told"),
    "columns.fcsv": ("# CoordinateSystem = LPS\n1,2,3\n", "column 'x' is missing"),
    "word.fcsv": (SLICER_5.replace("{system}", "LPS").replace("41.25", "left"), "no number"),
    "broken.mrk.json": (MARKUPS[:-40], "no list of fiducials"),
    "other.mrk.json": ('{"markups": 3}', "no list of fiducials"),
    "line.mrk.json": (MARKUPS.replace("Fiducial", "Line"), "has 0 lists"),
    "unit.mrk.json": (MARKUPS.replace('"mm"', '"um"'), "unit is um"),
    "two.mrk.json": (MARKUPS.replace("[27.0, -41.25, 19.5]", "[27.0, 1]"), "3 coordinates"),
    "kind.txt": ("points\n1\n1 2 3\n", "start with 'point'"),
    "empty.txt": ("", "start with 'point'"),
    "count.txt": ("point\n3\n1 2 3\n", "says 3 points, holds 1"),
    "flat.txt": ("point\n1\n1 2\n", "3 coordinates"),
    "nan.txt": ("point\n1\n1 2 nan\n", "finite"),
    "header.csv": ("x,y\n1,2\n", "column 'z' is missing"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes_name_the_file(tmp_path: Path, name: str) -> None:
    text, words = BAD[name]
    with pytest.raises(InputError, match=words) as caught:
        load_named_points(written(tmp_path, name, text), 3, FIXED)
    assert str(tmp_path / name) in str(caught.value)


def test_points_of_a_volume_do_not_fit_a_plane(tmp_path: Path) -> None:
    path = save_named_points(NamedPoints(PLACES), tmp_path / "volume.fcsv")
    with pytest.raises(InputError, match="the images are 2D"):
        load_named_points(path, 2)
    with pytest.raises(InputError, match="written as"):
        save_named_points(NamedPoints(PLACES), tmp_path / "points.xlsx")
    with pytest.raises(InputError, match="2 names for 3"):
        NamedPoints(PLACES, ("a", "b"))
    with pytest.raises(InputError, match="1 names for 3"):
        Landmarks(PLACES, PLACES, names=("a",))
