"""OME-NGFF transformations: the specification's own reading of the files gives our points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.io.ngff import NgffMap, load_ngff, save_ngff
from fireants_engine.transforms import Affine, Displacement
from fireants_engine.transforms.embedding import Embedding

zarr = pytest.importorskip("zarr")

TURN = np.array([[0, -1, 0], [0, 0, 1], [-1, 0, 0.0]])
TILT = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]]) @ TURN
PLAIN = Grid((12, 10, 9), (1.0, 1.5, 0.7), (-6.0, 4.0, 2.0), np.eye(3))
GRIDS = {
    "plain": PLAIN,
    "flipped": Grid(PLAIN.size, PLAIN.spacing_mm, (3.0, 4.0, 5.0), np.diag([-1.0, -1.0, 1.0])),
    "mirrored": Grid(PLAIN.size, PLAIN.spacing_mm, (3.0, 4.0, 5.0), np.diag([-1.0, 1.0, 1.0])),
    "oblique": Grid(PLAIN.size, PLAIN.spacing_mm, (3.0, 4.0, 5.0), TILT),
    "section": Grid.identity((15, 12), 0.004),
}


def warp(grid: Grid, seed: int = 0) -> Displacement:
    values = np.random.default_rng(seed).normal(0, 0.3, (1, grid.dim, *grid.shape))
    return Displacement(torch.from_numpy(values).float(), grid)


def inside(grid: Grid, n: int = 100) -> np.ndarray:
    index = np.random.default_rng(1).uniform(0, 1, (n, grid.dim)) * (np.asarray(grid.size) - 1)
    matrix = grid.matrix("index", "mm")
    return index @ matrix[:-1, :-1].T + matrix[:-1, -1]


def by_the_book(root: Path, item: dict[str, Any], points: np.ndarray) -> np.ndarray:
    """Points (n, d) in z, y, x order through a transformation, read from the JSON alone."""
    kind = item["type"]
    if kind == "sequence":
        for step in item["transformations"]:
            points = by_the_book(root, step, points)
        return points
    if kind == "bijection":
        return by_the_book(root, item["forward"], points)
    if kind == "identity":
        return points
    if kind == "scale":
        return points * item["scale"]
    if kind == "translation":
        return points + item["translation"]
    if kind == "rotation":
        return points @ np.transpose(item["rotation"])
    if kind == "affine":
        matrix = np.asarray(item["affine"])
        return points @ matrix[:, :-1].T + matrix[:, -1]
    assert kind == "displacements"
    meta = json.loads((root / item["path"] / "zarr.json").read_text())["attributes"]["ome"]
    image = meta["multiscales"][0]
    axes = image["coordinateSystems"][0]["axes"]
    assert [a["type"] for a in axes] == ["displacement", *["space"] * points.shape[1]]
    scale, shift = image["datasets"][0]["coordinateTransformations"][0]["transformations"]
    field = zarr.open(root / item["path"] / image["datasets"][0]["path"], mode="r")[...]
    places = (points - shift["translation"][1:]) / scale["scale"][1:]
    step = [map_coordinates(c.astype(float), places.T, order=1, mode="nearest") for c in field]
    return points + np.stack(step, -1)


def scene(path: Path) -> dict[str, Any]:
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]


def types(item: dict[str, Any]) -> list[str]:
    inner = item.get("transformations", [])
    return [item["type"]] if not inner else [kind for step in inner for kind in types(step)]


@pytest.mark.parametrize("name", list(GRIDS))
def test_warp_and_affine_as_the_specification_reads_them(tmp_path: Path, name: str) -> None:
    grid = GRIDS[name]
    linear = np.eye(grid.dim) + np.random.default_rng(2).normal(0, 0.1, (grid.dim, grid.dim))
    affine = Affine.about(linear, np.arange(grid.dim) + 0.5, grid.centre_mm)
    mine = NgffMap("fixed", "moving", (warp(grid), affine))
    path = save_ngff([mine], tmp_path / "a.zarr")
    points = inside(grid)
    wanted = affine(warp(grid)(points))
    np.testing.assert_array_equal(mine(points), wanted)
    found = by_the_book(path, scene(path)["scene"]["coordinateTransformations"][0],
                        points[:, ::-1])  # fmt: skip
    np.testing.assert_allclose(found[:, ::-1], wanted, atol=1e-5)
    (back,) = load_ngff(path)
    assert (back.fixed, back.moving, back.backward) == ("fixed", "moving", None)
    np.testing.assert_allclose(back(points), wanted, atol=1e-5)


def test_metadata(tmp_path: Path) -> None:
    path = save_ngff([NgffMap("mri", "block", (Affine.identity(3),))], tmp_path / "a.zarr")
    ome = scene(path)
    assert ome["version"] == "0.6"
    systems = ome["scene"]["coordinateSystems"]
    assert [item["name"] for item in systems] == ["mri", "block"]
    assert [axis["name"] for axis in systems[0]["axes"]] == ["z", "y", "x"]
    assert {axis["unit"] for axis in systems[0]["axes"]} == {"millimeter"}
    (item,) = ome["scene"]["coordinateTransformations"]
    assert (item["input"], item["output"]) == ({"name": "mri"}, {"name": "block"})


def test_the_least_expressive_type_is_written(tmp_path: Path) -> None:
    shift = np.eye(4)
    shift[:3, 3] = (1, 2, 3)
    turned = np.eye(4)
    turned[:3, :3] = TILT
    cases = {
        "identity": np.eye(4), "translation": shift, "scale": np.diag([2.0, 3.0, 4.0, 1.0]),
        "rotation": turned, "affine": np.diag([-1.0, 1.0, 1.0, 1.0]),
        "rotation translation": shift @ turned,
    }  # fmt: skip
    points = np.random.default_rng(0).normal(size=(10, 3))
    for number, (wanted, matrix) in enumerate(cases.items()):
        affine = Affine(matrix)
        path = save_ngff([NgffMap("a", "b", (affine,))], tmp_path / f"{number}.zarr")
        (item,) = scene(path)["scene"]["coordinateTransformations"]
        assert " ".join(types(item)) == wanted
        np.testing.assert_allclose(load_ngff(path)[0](points), affine(points), atol=1e-12)
        found = by_the_book(path, item, points[:, ::-1])[:, ::-1]
        np.testing.assert_allclose(found, affine(points), atol=1e-12)


@pytest.mark.parametrize("name", ["plain", "oblique"])
def test_inverses_are_bijections(tmp_path: Path, name: str) -> None:
    grid = GRIDS[name]
    smooth = warp(grid)
    smooth = Displacement(smooth.u * 0.2, grid)
    inverse = smooth.inverse()
    maps = [NgffMap("a", "b", (smooth,), (inverse,)), NgffMap("c", "a", (inverse,))]
    path = save_ngff(maps, tmp_path / "a.zarr")
    assert sorted(p.name for p in (path / "coordinateTransformations").iterdir()
                  if p.is_dir()) == ["field0", "field1"]  # fmt: skip
    first, second = load_ngff(path)
    points = inside(grid)
    assert first.backward is not None
    turned = NgffMap("b", "a", first.backward)
    for found, wanted in ((first, smooth), (turned, inverse), (second, inverse)):
        np.testing.assert_allclose(found(points), wanted(points), atol=1e-5)
    item = scene(path)["scene"]["coordinateTransformations"][0]
    assert item["type"] == "bijection"
    sampled = by_the_book(path, item["inverse"], points[:, ::-1])[:, ::-1]
    assert np.abs(sampled - inverse(points)).max() < 0.1  # another reader takes the samples


def test_a_section_in_a_volume(tmp_path: Path) -> None:
    plane = Embedding(TILT[:, :2] * 1.1, np.array([1.0, 2.0, 3.0]))
    maps = [NgffMap("section", "block", (warp(GRIDS["section"]), plane)),
            NgffMap("mri", "section", (plane.inverse(),))]  # fmt: skip
    path = save_ngff(maps, tmp_path / "a.zarr")
    there, back = load_ngff(path)
    points = inside(GRIDS["section"])
    np.testing.assert_allclose(there(points), maps[0](points), atol=1e-5)
    off = plane(points) + 0.3 * plane.normal
    np.testing.assert_allclose(back(off), points, atol=1e-9)
    item = scene(path)["scene"]["coordinateTransformations"][1]
    np.testing.assert_allclose(by_the_book(path, item, off[:, ::-1])[:, ::-1], points, atol=1e-9)


def test_other_programs_scenes(tmp_path: Path) -> None:
    """Micrometres, a permutation, and a matrix in an array."""
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    systems = [{"name": "a", "axes": axes}, {"name": "b", "axes": axes}]
    array = group.create_array("m", shape=(2, 3), dtype="float64")
    array[...] = [[1, 0, 500], [0, 2, 0]]
    steps = [{"type": "mapAxis", "mapAxis": [1, 0]}, {"type": "affine", "path": "m"}]
    item = {"type": "sequence", "transformations": steps,
            "input": {"name": "a"}, "output": {"name": "b"}}  # fmt: skip
    scene = {"coordinateSystems": systems, "coordinateTransformations": [item]}
    group.attrs["ome"] = {"version": "0.6", "scene": scene}
    (found,) = load_ngff(tmp_path / "a.zarr")
    np.testing.assert_allclose(found(np.array([[3.0, 1.0]])), [[2.0, 3.5]])  # x, y in mm
    scene["coordinateTransformations"] = [item | {"type": "coordinates", "path": "m"}]
    group.attrs["ome"] = {"version": "0.6", "scene": scene}
    with pytest.raises(InputError, match="'coordinates' are not known"):
        load_ngff(tmp_path / "a.zarr")


def test_bad_input(tmp_path: Path) -> None:
    one = NgffMap("a", "b", (Affine.identity(3),))
    path = save_ngff([one], tmp_path / "a.zarr")
    with pytest.raises(InputError, match="is there already"):
        save_ngff([one], path)
    with pytest.raises(InputError, match="2D for one map and 3D"):
        save_ngff([one, NgffMap("a", "c", (Affine.identity(2),))], tmp_path / "b.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    zarr.open_group(tmp_path / "c.zarr", mode="w")
    with pytest.raises(InputError, match="no scene of OME-NGFF"):
        load_ngff(tmp_path / "c.zarr")
    with pytest.raises(InputError, match="no such file"):
        load_ngff(tmp_path / "d.zarr")
