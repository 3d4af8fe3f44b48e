"""Mesh files: meshio wrote them and reads ours; what is no vertex stays byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fireants_engine.io.meshes import FORMATS

meshio = pytest.importorskip("meshio")

POINTS = np.array(
    [[0.0, 0, 0], [10.25, 0, 0], [10.5, 9, 0.125], [0, 9, 1], [5, 4, 7.75]], np.float64
)
FACES = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])

VARIANTS = [
    (".vtk", {"binary": True}),
    (".vtk", {"binary": False}),
    (".vtk", {"binary": True, "file_format": "vtk42"}),
    (".ply", {"binary": True}),
    (".ply", {"binary": False}),
    (".stl", {"binary": True}),
    (".stl", {"binary": False}),
    (".obj", {}),
    (".off", {}),
]


def moved(points: np.ndarray) -> np.ndarray:
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    return points @ turn.T + [3.0, -2.0, 0.5]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning:meshio")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("suffix", "options"), VARIANTS)
def test_vertices_move_and_the_rest_stays(
    tmp_path: Path, suffix: str, options: dict, kind: type
) -> None:
    data = {"thickness": np.linspace(1, 5, 5).astype(np.float32)}
    mesh = meshio.Mesh(
        POINTS.astype(kind), [("triangle", FACES)], data if suffix in (".vtk", ".ply") else {}
    )
    before = tmp_path / f"before{suffix}"
    meshio.write(before, mesh, **options)
    truth = meshio.read(before)
    points, put = FORMATS[suffix](before.read_bytes())
    if suffix != ".stl":  # which lists the vertices of every facet
        np.testing.assert_allclose(points, truth.points, atol=1e-6)
    after = tmp_path / f"after{suffix}"
    after.write_bytes(put(moved(points)))
    found = meshio.read(after)
    np.testing.assert_allclose(found.points, moved(truth.points), atol=1e-5)
    assert found.points.dtype == truth.points.dtype
    np.testing.assert_array_equal(found.cells[0].data, truth.cells[0].data)
    for name, values in truth.point_data.items():
        np.testing.assert_array_equal(found.point_data[name], values)


@pytest.mark.parametrize("binary", [True, False])
def test_poly_data_with_scalars(binary: bool) -> None:
    """What 3D Slicer and ITK-SNAP write, and meshio cannot read."""
    start = b"# vtk DataFile Version 3.0\nmade by hand SPACE=RAS\n"
    start += b"BINARY\n" if binary else b"ASCII\n"
    start += b"DATASET POLYDATA\nPOINTS 5 float\n"
    faces = np.hstack([np.full((4, 1), 3), FACES]).astype(">i4")
    scalars = np.arange(5, dtype=">f4")
    head, label = b"POLYGONS 4 16\n", b"POINT_DATA 5\nSCALARS t float\nLOOKUP_TABLE default\n"
    if binary:
        body = [POINTS.astype(">f4").tobytes(), faces.tobytes(), scalars.tobytes()]
    else:
        rows = ["\n".join(" ".join(map(str, row)) for row in a) for a in (POINTS, faces)]
        body = [*(text.encode() for text in rows), b"0 1 2 3 4"]
    end = b"\n" + head + body[1] + b"\n" + label + body[2] + b"\n"
    points, put = FORMATS[".vtk"](start + body[0] + end)
    np.testing.assert_allclose(points, POINTS)
    out = put(moved(points))
    assert out.startswith(start)
    assert out.endswith(end)
    np.testing.assert_allclose(FORMATS[".vtk"](out)[0], moved(POINTS), atol=1e-5)


def test_obj_keeps_colours_textures_groups_and_quads() -> None:
    text = (
        b"# SPACE=LPS\r\nmtllib brain.mtl\r\no cortex\r\nv 0 0 0 0.5 0.25 1\r\nv 1 0 0 1 1 1\r\n"
        b"v 1 1 0 0 0 0\r\nv 0 1 0 0 0 1\r\nvt 0 1\r\nvn 0 0 1\r\ng a\r\n"
        b"f 1/1/1 2/1/1 3/1/1 4/1/1\r\n"
    )
    points, put = FORMATS[".obj"](text)
    assert points.shape == (4, 3)
    out = put(points + np.array([1, 2, 3])).splitlines()
    was = text.splitlines()
    assert out[3] == b"v 1 2 3 0.5 0.25 1"
    assert [o for o in out if not o.startswith(b"v ")] == [
        w for w in was if not w.startswith(b"v ")
    ]


def test_off_keeps_colours_and_comments() -> None:
    start, end = b"COFF\n# hand made\n3 1 0\n", b"3 0 1 2\n"
    text = start + b"0 0 0 255 0 0 255\n1 0 0 0 255 0 255\n\n0 1 0 9 9 9 9\n" + end
    points, put = FORMATS[".off"](text)
    np.testing.assert_array_equal(points, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    moved_text = b"1 1 1 255 0 0 255\n2 1 1 0 255 0 255\n\n1 2 1 9 9 9 9\n"
    assert put(points + 1) == start + moved_text + end
    glued, _ = FORMATS[".off"](b"OFF 3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    np.testing.assert_array_equal(glued, points)


@pytest.mark.parametrize("order", ["<", ">"])
def test_ply_keeps_colours_of_other_types(order: str) -> None:
    kind = np.dtype([("red", "u1"), ("x", order + "f8"), ("z", order + "f4"), ("y", order + "f4")])
    body = np.zeros(2, kind)
    body["red"], body["x"], body["y"], body["z"] = [7, 9], [1, 2], [3, 4], [5, 6]
    name = {"<": "little", ">": "big"}[order]
    head = (
        f"ply\nformat binary_{name}_endian 1.0\ncomment SPACE=RAS\nelement vertex 2\n"
        "property uchar red\nproperty double x\nproperty float z\nproperty float y\n"
        "element face 0\nproperty list uchar int vertex_indices\nend_header\n"
    ).encode()
    points, put = FORMATS[".ply"](head + body.tobytes() + b"faces")
    np.testing.assert_array_equal(points, [[1, 3, 5], [2, 4, 6]])
    body["x"] += 10
    assert put(points + np.array([10, 0, 0])) == head + body.tobytes() + b"faces"


@pytest.mark.parametrize("binary", [True, False])
def test_stl_normals_follow(tmp_path: Path, binary: bool) -> None:
    path = tmp_path / "s.stl"
    meshio.write(path, meshio.Mesh(POINTS, [("triangle", FACES)]), binary=binary)
    points, put = FORMATS[".stl"](path.read_bytes())
    flat = points * [1, 1, 0]  # every facet in the plane z = 0
    out = put(flat)
    if binary:
        normals = np.frombuffer(out, np.dtype([("n", "<f4", 3), ("v", "V38")]), 4, 84)["n"]
    else:
        rows = [line.split()[2:] for line in out.splitlines() if line.startswith(b"facet")]
        normals = np.array(rows, float)
    np.testing.assert_allclose(np.abs(normals), [[0, 0, 1]] * 4, atol=1e-6)


@pytest.mark.parametrize("suffix", list(FORMATS))
@pytest.mark.parametrize("data", [b"", b"hello\n", bytes(range(256))])
def test_what_is_no_mesh(suffix: str, data: bytes) -> None:
    try:
        points, _ = FORMATS[suffix](data)
    except (ValueError, IndexError, KeyError, TypeError):
        return
    assert suffix == ".obj"  # any text is an OBJ of no vertices
    assert len(points) == 0
