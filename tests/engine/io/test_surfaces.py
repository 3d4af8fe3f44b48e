"""Surfaces: frames, formats and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fireants_engine.errors import InputError
from fireants_engine.io.surfaces import load_surface, save_surface

POINTS = np.array([[0.0, 1, 2], [10, 0, 0], [10, 9, 0]])
VTK = (
    "# vtk DataFile Version 3.0\n{title}\nASCII\nDATASET POLYDATA\nPOINTS 3 float\n"
    "0 1 2\n10 0 0\n10 9 0\nPOLYGONS 1 4\n3 0 1 2\n"
)
MIRRORED = POINTS * [-1, -1, 1]
SHIFT = np.array([1.0, 2.0, 3.0])


def vtk(path: Path, title: str = "by hand") -> Path:
    path.write_text(VTK.format(title=title))
    return path


@pytest.mark.parametrize(
    ("title", "space", "expected"),
    [
        ("by hand", None, POINTS),
        ("3D Slicer output. SPACE=RAS", None, MIRRORED),
        ("3D Slicer output. SPACE=LPS", None, POINTS),
        ("by hand", "RAS", MIRRORED),
        ("3D Slicer output. SPACE=RAS", "LPS", POINTS),
    ],
)
def test_the_frame_of_the_file(
    tmp_path: Path, title: str, space: str | None, expected: np.ndarray
) -> None:
    surface = load_surface(vtk(tmp_path / "s.vtk", title), space)
    np.testing.assert_allclose(surface.points_mm, expected)
    out = save_surface(surface.moved(surface.points_mm + SHIFT), tmp_path / "o.vtk")
    assert out.read_text().splitlines()[1] == title
    back = load_surface(out, space)
    np.testing.assert_allclose(back.points_mm, expected + SHIFT)


def test_gifti(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    from nibabel import gifti

    arrays = [
        gifti.GiftiDataArray(POINTS.astype(np.float32), "NIFTI_INTENT_POINTSET"),
        gifti.GiftiDataArray(np.array([[0, 1, 2]], np.int32), "NIFTI_INTENT_TRIANGLE"),
        gifti.GiftiDataArray(np.array([1, 2, 3], np.float32), "NIFTI_INTENT_SHAPE"),
    ]
    path = tmp_path / "lh.surf.gii"
    nibabel.save(gifti.GiftiImage(darrays=arrays), path)
    surface = load_surface(path)
    np.testing.assert_allclose(surface.points_mm, MIRRORED)
    out = save_surface(surface.moved(surface.points_mm + SHIFT), tmp_path / "o.surf.gii")
    found = nibabel.load(out)
    np.testing.assert_allclose(found.agg_data("pointset"), POINTS + SHIFT * [-1, -1, 1])
    assert found.agg_data("pointset").dtype == np.float32
    np.testing.assert_array_equal(found.agg_data("triangle"), [[0, 1, 2]])
    np.testing.assert_array_equal(found.agg_data("shape"), [1, 2, 3])
    np.testing.assert_allclose(load_surface(path, "LPS").points_mm, POINTS)


def test_gifti_without_nibabel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.gii").write_text("<GIFTI/>")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(InputError, match=r"s\.gii: .* pip install 'napari-fireants\[surfaces\]'"):
        load_surface(tmp_path / "s.gii")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("s.vtp", "<VTKFile/>", r"s\.vtp: .* no known surface format; convert it"),
        ("s.vtk", "hello", "s.vtk: the surface cannot be read"),
        ("s.gii", "hello", "s.gii: the surface cannot be read"),
        ("s.vtk", VTK.format(title="t").replace("9", "nan"), "finite"),
        ("s.vtk", VTK.format(title="t").replace("POINTS 3", "POINTS 300"), "fewer coordinates"),
        ("s.vtk", VTK.format(title="t").replace("float", "int"), "POINTS of type int"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, words: str) -> None:
    if name.endswith("gii"):
        pytest.importorskip("nibabel")
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words):
        load_surface(tmp_path / name)


def test_no_such_file_and_no_such_space(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_surface(tmp_path / "no.vtk")
    with pytest.raises(InputError, match="choose LPS or RAS"):
        load_surface(vtk(tmp_path / "s.vtk"), "MNI")


def test_the_format_stays(tmp_path: Path) -> None:
    surface = load_surface(vtk(tmp_path / "s.vtk"))
    with pytest.raises(InputError, match=r"o\.ply: a \.vtk surface is written as \.vtk again"):
        save_surface(surface, tmp_path / "o.ply")
    assert not (tmp_path / "o.ply").exists()
