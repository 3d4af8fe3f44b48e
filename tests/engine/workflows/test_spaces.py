"""One graph from the living brain to the section: any path, one interpolation, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image, apply_matrix
from fireants_engine.io.ngff import load_ngff
from fireants_engine.ops import warp_image
from fireants_engine.transforms import Affine, Chain, Displacement
from fireants_engine.transforms.embedding import Embedding, embed_grid
from fireants_engine.workflows.spaces import SpaceGraph
from fireants_engine.workflows.spaces_file import (
    SPACES_FILE,
    export_ngff,
    load_spaces,
    save_spaces,
)

GRID3 = Grid((20, 24, 18), (1.0, 1.2, 0.9), (-9.0, 4.0, 2.0), np.eye(3))
GRID2 = Grid.identity((40, 30), 0.4)
rng = np.random.default_rng(0)


def rotation(*axis: float) -> np.ndarray:
    """By |axis| radians about it (Rodrigues)."""
    vector = np.asarray(axis)
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def warp(grid: Grid, size: float, seed: int) -> Displacement:
    coarse = torch.from_numpy(
        np.random.default_rng(seed).normal(0, size, (1, grid.dim, *(5,) * grid.dim))
    )
    mode = "trilinear" if grid.dim == 3 else "bilinear"
    u = torch.nn.functional.interpolate(coarse, size=grid.shape, mode=mode, align_corners=True)
    return Displacement(u.float(), grid)


PLANE = Embedding(rotation(0.2, -0.3, 0.1)[:, :2], np.array([-7.0, 8.0, 9.0]), within_mm=0.5)


def graph() -> SpaceGraph:
    """section (2D) - stain (2D); section - block - ex vivo - in vivo (3D)."""
    linear = Affine.about(rotation(0.1, 0.2, 0.3) * 1.05, np.array([1.0, 2, 3]), GRID3.centre_mm)
    flat = Affine.about(np.array([[0.98, -0.1], [0.1, 0.98]]), np.array([0.3, -0.2]),
                        GRID2.centre_mm)  # fmt: skip
    out = SpaceGraph()
    out = out.with_space("stain", 2).with_space("section", 2, GRID2)
    out = out.with_space("block", 3, GRID3).with_space("ex vivo", 3, GRID3)
    out = out.with_space("in vivo", 3, GRID3)
    out = out.with_edge("section", "stain", Chain([warp(GRID2, 0.5, 1), flat]))
    out = out.with_edge("section", "block", [warp(GRID2, 0.5, 2), PLANE])
    out = out.with_edge("block", "ex vivo", linear)
    return out.with_edge("in vivo", "ex vivo", Chain([warp(GRID3, 0.4, 3), linear]))


def inside(grid: Grid, n: int, margin: float = 0.25) -> np.ndarray:
    share = np.random.default_rng(5).uniform(margin, 1 - margin, (n, grid.dim))
    return np.asarray(grid.origin_mm) + share * grid.extent_mm


# ------------------------------------------------------------------ planes
def test_a_plane_and_its_projection() -> None:
    points = inside(GRID2, 50)
    there = PLANE(points)
    np.testing.assert_allclose(PLANE.project(there).points_mm, points, atol=1e-12)
    np.testing.assert_allclose(PLANE.project(there).distance_mm, 0, atol=1e-12)
    off = there + 0.3 * PLANE.normal
    back = PLANE.inverse()(off)
    np.testing.assert_allclose(back, points, atol=1e-12)
    np.testing.assert_allclose(PLANE.project(off).distance_mm, 0.3, atol=1e-12)
    assert np.isnan(PLANE.inverse()(there - 0.6 * PLANE.normal)).all()
    sheared = Embedding(np.array([[1, 0.5], [0, 1], [0, 0]]), np.zeros(3))
    np.testing.assert_allclose(sheared.project(sheared(points)).points_mm, points, atol=1e-12)


def test_a_section_s_grid_in_the_volume() -> None:
    grid = embed_grid(GRID2, PLANE, thickness_mm=0.6)
    assert grid.size == (40, 30, 1)
    np.testing.assert_allclose(grid.points_mm(), PLANE(GRID2.points_mm()), atol=1e-12)
    plane = Embedding.of_plane(grid)
    assert plane.within_mm == 0.3
    np.testing.assert_allclose(plane(GRID2.points_mm()), grid.points_mm(), atol=1e-12)
    turned = Grid((4, 5), (0.5, 0.25), (1, 2), np.array([[0, -1], [1, 0.0]]))
    bigger = Embedding(PLANE.edges * 2, PLANE.origin_mm)
    np.testing.assert_allclose(
        embed_grid(turned, bigger).points_mm(), bigger(turned.points_mm()), atol=1e-12
    )
    with pytest.raises(InputError, match="shears"):
        embed_grid(GRID2, Embedding(np.array([[1, 0.5], [0, 1], [0, 0]]), np.zeros(3)))
    with pytest.raises(InputError, match="parallel"):
        Embedding(np.ones((3, 2)), np.zeros(3))
    with pytest.raises(InputError, match="one slice"):
        Embedding.of_plane(GRID3)


# ------------------------------------------------------------------ paths
def test_points_through_the_whole_path_and_back() -> None:
    spaces = graph()
    points = inside(GRID2, 200, 0.4)  # where no map leaves its grid
    assert spaces.path("stain", "in vivo") == ("stain", "section", "block", "ex vivo", "in vivo")
    there = spaces.points(points, "section", "in vivo")
    by_hand = points
    for part in (*spaces.edges[1].forward, *spaces.edges[2].forward):
        by_hand = part(by_hand)
    by_hand = spaces.transform("ex vivo", "in vivo")(by_hand)
    np.testing.assert_array_equal(there.points_mm, by_hand)
    np.testing.assert_array_equal(there.off_plane_mm, 0)
    back = spaces.points(there.points_mm, "in vivo", "section")
    assert np.abs(back.points_mm - points).max() < 0.02  # inverses to 0.01 voxel of each warp
    assert back.off_plane_mm.max() < 0.02
    twice = spaces.route("section", "stain").inverse()(spaces.route("section", "stain")(points))
    assert np.abs(twice - points).max() < 0.01


def test_points_off_the_plane_have_no_place_in_the_section() -> None:
    spaces = graph()
    near, far = PLANE(inside(GRID2, 5)), PLANE(inside(GRID2, 5)) + 0.7 * PLANE.normal
    found = spaces.points(np.concatenate([near + 0.2 * PLANE.normal, far]), "block", "stain")
    assert np.isfinite(found.points_mm[:5]).all()
    assert np.isnan(found.points_mm[5:]).all()
    np.testing.assert_allclose(found.off_plane_mm, [0.2] * 5 + [0.7] * 5, atol=1e-9)


def test_the_way_of_least_weight_is_taken() -> None:
    spaces = graph().with_edge("block", "in vivo", Affine.identity(3), weight=1.5)
    assert spaces.path("block", "in vivo") == ("block", "in vivo")
    spaces = graph().with_edge("block", "in vivo", Affine.identity(3), weight=2.5)
    assert spaces.path("block", "in vivo") == ("block", "ex vivo", "in vivo")
    assert isinstance(spaces.transform("block", "in vivo"), Chain)
    points = inside(GRID3, 5)
    np.testing.assert_array_equal(spaces.transform("block", "block")(points), points)


def test_a_known_way_back_is_used() -> None:
    shift = Affine(np.array([[1, 0, 5.0], [0, 1, 0], [0, 0, 1]]))
    spaces = SpaceGraph().with_space("a", 2).with_space("b", 2)
    spaces = spaces.with_edge("a", "b", Affine.identity(2), backward=shift)
    np.testing.assert_array_equal(spaces.points([[1, 2]], "b", "a").points_mm, [[6, 2]])


# ------------------------------------------------------------------ images
def test_images_take_one_interpolation_through_every_dimension() -> None:
    """A linear ramp is reproduced by linear interpolation: f(x) = f applied to the points."""
    spaces = graph()
    ramp = np.array([0.3, -0.2, 0.5])
    volume = Image.from_numpy((GRID3.points_mm() @ ramp).reshape(GRID3.shape).astype(np.float32),
                              GRID3)  # fmt: skip
    cut = spaces.warp(volume, "ex vivo", "section", fill=np.nan)
    assert cut.grid is GRID2
    assert tuple(cut.data.shape) == (1, 30, 40)
    wanted = spaces.points(GRID2.points_mm(), "section", "ex vivo").points_mm @ ramp
    places = spaces.points(GRID2.points_mm(), "section", "ex vivo").points_mm
    voxels = apply_matrix(GRID3.matrix("mm", "index"), places)
    inner = ((voxels >= 0) & (voxels <= np.array(GRID3.size) - 1)).all(1)
    assert inner.mean() > 0.3
    assert np.abs(cut.data.flatten().numpy() - wanted)[inner].max() < 1e-4
    same = spaces.warp(volume, "ex vivo", "block")
    direct = warp_image(volume, spaces.transform("block", "ex vivo"), GRID3)
    torch.testing.assert_close(same.data, direct.data, rtol=0, atol=0)


def test_a_section_and_its_labels_in_the_volume() -> None:
    spaces = graph()
    section = Image.from_numpy((GRID2.points_mm() @ [1.0, 2.0]).reshape(GRID2.shape), GRID2)
    fine = Grid((60, 60, 40), (0.3, 0.3, 0.3), (-9.0, 6.0, 5.0), np.eye(3))
    there = spaces.warp(section, "section", "block", fine, fill=np.nan)
    route = spaces.route("block", "section")
    places = route(fine.points_mm())
    known = torch.isfinite(there.data.flatten()).numpy()
    assert known.any()
    assert not known[np.isnan(places).any(1)].any()  # only within 0.5 mm of the plane
    inner = known & ((places > 0.5) & (places < [15, 11])).all(1)
    gap = np.abs(there.data.flatten().numpy() - places @ [1.0, 2.0])[inner]
    assert gap.max() < 0.05  # images take the sampled inverse, good to 0.06 pixel of 0.4 mm
    labels = Image.from_numpy(np.full(GRID2.shape, 700, np.uint16), GRID2)
    kept = spaces.warp_labels(labels, "section", "block", fine)
    assert not kept.data.is_floating_point()
    assert set(kept.data.unique().tolist()) == {0, 700}
    back = spaces.warp_labels(kept, "block", "section")
    assert float((back.data == 700).float().mean()) > 0.5


def test_wrong_images_and_grids() -> None:
    spaces = graph()
    volume = Image.from_numpy(np.zeros(GRID3.shape), GRID3, name="volume.nii")
    with pytest.raises(InputError, match=r"volume\.nii is 3D .* 2D there"):
        spaces.warp(volume, "section", "block")
    with pytest.raises(InputError, match="'stain': has no grid"):
        spaces.warp(volume, "block", "stain")


# ------------------------------------------------------------------ bad graphs
def test_bad_graphs_are_one_sentence() -> None:
    spaces = graph().with_space("atlas", 3).with_space("book", 3)
    spaces = spaces.with_edge("atlas", "book", Affine.identity(3))
    with pytest.raises(InputError, match="connected with block, ex vivo, in vivo, stain;"):
        spaces.path("section", "atlas")
    with pytest.raises(InputError, match="no space 'nissl'; the graph has stain, section"):
        spaces.path("nissl", "atlas")
    with pytest.raises(InputError, match="2D map does not fit points in 3D"):
        spaces.with_edge("atlas", "block", Affine.identity(2))
    with pytest.raises(InputError, match="leads to 2D points but block is 3D"):
        spaces.with_edge("stain", "block", Affine.identity(2))
    with pytest.raises(InputError, match="connected already"):
        spaces.with_edge("stain", "section", Affine.identity(2))
    with pytest.raises(InputError, match="in the graph already"):
        spaces.with_space("stain", 2)
    with pytest.raises(InputError, match="not positive"):
        spaces.with_edge("stain", "atlas", Affine.identity(2), weight=0)
    with pytest.raises(InputError, match="no single transform"):
        spaces.transform("section", "block")
    with pytest.raises(InputError, match="its grid is 3D"):
        spaces.with_space("flat", 2, GRID3)


# ------------------------------------------------------------------ files
def test_saved_and_read_back_to_the_bit(tmp_path: Path) -> None:
    spaces = graph()
    warp2 = spaces.edges[0].forward[0]
    assert isinstance(warp2, Displacement)
    folder = save_spaces(spaces, tmp_path / "spaces")
    found = load_spaces(folder)
    assert list(found.spaces) == list(spaces.spaces)
    for start, end, grid in (("stain", "in vivo", GRID2), ("in vivo", "stain", GRID3)):
        points = inside(grid, 100)
        np.testing.assert_array_equal(
            found.points(points, start, end).points_mm, spaces.points(points, start, end).points_mm
        )
    again = save_spaces(found, tmp_path / "again")
    assert (again / SPACES_FILE).read_text() == (folder / SPACES_FILE).read_text()
    text = (folder / SPACES_FILE).read_text()
    assert str(tmp_path) not in text


def test_inverses_and_images_are_kept(tmp_path: Path) -> None:
    forward = warp(GRID2, 0.5, 4)
    spaces = SpaceGraph().with_space("a", 2, GRID2, tmp_path / "a.tif").with_space("b", 2)
    spaces = spaces.with_edge("a", "b", forward, backward=forward.inverse(), weight=2.0)
    found = load_spaces(save_spaces(spaces, tmp_path / "graph"))
    points = inside(GRID2, 50)
    np.testing.assert_array_equal(
        found.points(points, "b", "a").points_mm, spaces.points(points, "b", "a").points_mm
    )
    image = found.spaces["a"].image
    assert image is not None
    assert image.resolve() == tmp_path / "a.tif"
    assert found.edges[0].weight == 2
    assert len(list((tmp_path / "graph").glob("*Warp.nii.gz"))) == 2  # the warp is written once


def test_itk_reads_the_files(tmp_path: Path) -> None:
    spaces = graph()
    folder = save_spaces(spaces, tmp_path / "spaces")
    data = json.loads((folder / SPACES_FILE).read_text())
    first, second = (data["edges"][3]["forward"][k]["file"] for k in (0, 1))
    field = sitk.ReadImage(str(folder / first), sitk.sitkVectorFloat64)
    itk = sitk.CompositeTransform([sitk.ReadTransform(str(folder / second)),
                                   sitk.DisplacementFieldTransform(field)])  # fmt: skip
    points = inside(GRID3, 20)
    found = np.array([itk.TransformPoint(point.tolist()) for point in points])
    mine = spaces.transform("in vivo", "ex vivo")(points)
    np.testing.assert_allclose(found, mine, atol=1e-5)


def test_exported_as_ome_ngff(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    spaces = graph()
    found = load_ngff(export_ngff(spaces, tmp_path / "spaces.zarr"))
    assert [(item.fixed, item.moving) for item in found] == [
        (edge.fixed, edge.moving) for edge in spaces.edges
    ]
    for item in found:
        points = inside(GRID2 if item.fixed == "section" else GRID3, 50)
        wanted = spaces.points(points, item.fixed, item.moving).points_mm
        np.testing.assert_allclose(item(points), wanted, atol=1e-5)
    with pytest.raises(InputError, match="no maps to write"):
        export_ngff(SpaceGraph(), tmp_path / "none.zarr")


def test_damaged_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"spaces\.json is missing"):
        load_spaces(tmp_path)
    folder = save_spaces(graph(), tmp_path / "spaces")
    path = folder / SPACES_FILE
    text = path.read_text()
    path.write_text(text[:100])
    with pytest.raises(InputError, match="is damaged; save"):
        load_spaces(folder)
    path.write_text(text.replace('"format": 1', '"format": 9'))
    with pytest.raises(InputError, match="another version"):
        load_spaces(folder)
    path.write_text(text.replace("embedding", "magic"))
    with pytest.raises(InputError, match="'magic'"):
        load_spaces(folder)
    path.write_text(text.replace("01Warp.npy", "../01Warp.npy"))
    with pytest.raises(InputError, match="not the name of a file in it"):
        load_spaces(folder)
    path.write_text(text)
    (folder / "01Warp.npy").write_bytes(b"hello")
    with pytest.raises(InputError, match=r"01Warp\.npy: this warp is missing or damaged"):
        load_spaces(folder)
