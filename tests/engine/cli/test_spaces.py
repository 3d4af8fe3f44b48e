"""`spaces`: in vivo <- ex vivo <- block <- section -> stain, from run folders, end to end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fireants_engine.cli.main import main
from fireants_engine.geometry import Image
from fireants_engine.io import load_image, load_points, save_affine, save_image
from fireants_engine.ops import warp_image
from fireants_engine.transforms import Affine
from fireants_engine.workflows.rundir import load_run
from fireants_engine.workflows.spaces_file import load_spaces
from tests.engine.workflows.slice_phantom import brain, cut, true_affine

AFFINE = """
name: affine
start: {kind: identity}
stages:
  - name: affine
    deformation: {kind: affine}
    terms: [{kind: ssd}]
    pyramid: {levels: [{shrink: 4, max_steps: 15}], min_size: 6}
"""


def command(*words: Any) -> int:
    return main([str(word) for word in words])


def quick(*stages: str) -> list[str]:
    return [word for name in stages for word in
            ("--set", f"stages.{name}.pyramid.levels=[{{shrink: 2, max_steps: 4}}]")]  # fmt: skip


def moved(degrees: float, shift: float) -> Image:
    turn = Rotation.from_euler("xyz", [degrees, -degrees / 2, degrees], degrees=True).as_matrix()
    affine = Affine.about(turn, np.array([shift, -shift, shift / 2]), brain().grid.centre_mm)
    return warp_image(brain(), affine, brain().grid)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images and of the run folders between them."""
    here = tmp_path_factory.mktemp("runs")
    section, image = cut(brain(), seed=2, elastic_px=0.0, tears=0, missing=0.0)
    rolled = Image(image.data.roll((6, 4), (1, 2)), image.grid)
    volumes = {"invivo": moved(4, 3), "exvivo": moved(-3, 2), "block": brain()}
    for name, volume in volumes.items():
        save_image(volume, here / f"{name}.nii.gz")
    labels = np.digitize(volumes["invivo"].numpy(), (40, 65)).astype(np.uint8)
    save_image(Image.from_numpy(labels, brain().grid), here / "labels.nii.gz")
    save_image(image, here / "slide.png")
    save_image(rolled, here / "nissl.png")
    save_affine(Affine(true_affine(section, section.rgb.shape)), here / "start.mat")
    (here / "affine.yaml").write_text(AFFINE)
    how = ["--recipe", here / "affine.yaml", "--threads", 1, "-q"]
    for fixed, moving in (("invivo", "exvivo"), ("block", "exvivo")):
        images = [here / f"{name}.nii.gz" for name in (fixed, moving)]
        assert command("run", *images, "-o", here / f"{fixed}_out", *how) == 0
    assert command(
        "histology", "slice", here / "slide.png", here / "block.nii.gz", "-o", here / "slice_out",
        "--pixel-size", 1.5, "--init", here / "start.mat", "--threads", 1, "-q",
        *quick("plane", "in-plane"),
    ) == 0  # fmt: skip
    assert command(
        "histology", "pair", here / "slide.png", here / "nissl.png", "-o", here / "pair_out",
        "--pixel-size", 1.5, "--flip", "no", "--threads", 1, "-q", *quick("affine", "greedy"),
    ) == 0  # fmt: skip
    return here


def connections(here: Path) -> list[str]:
    return [
        f"in vivo:ex vivo={here / 'invivo_out'}", f"block:ex vivo={here / 'block_out'}",
        f"section:block={here / 'slice_out'}", f"section:nissl={here / 'pair_out'}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def graph(runs: Path) -> Path:
    assert command("spaces", "make", "-o", runs / "graph", *connections(runs)) == 0
    return runs / "graph"


def on_section(run: Path, n: int = 40) -> np.ndarray:
    """Points (n, 2) in the middle of the section."""
    grid = load_run(run).grid
    share = np.random.default_rng(3).uniform(0.35, 0.65, (n, 2))
    return np.asarray(grid.origin_mm)[:2] + share * grid.extent_mm[:2]


def csv(path: Path, points: np.ndarray) -> Path:
    names = "x,y,z"[: 2 * points.shape[1] - 1]
    rows = "".join(f"{k},{','.join(map(repr, map(float, p)))}\n" for k, p in enumerate(points))
    path.write_text(f"name,{names}\n{rows}")
    return path


def test_what_is_made_is_said(cli: Callable[..., Any], runs: Path, tmp_path: Path) -> None:
    done = cli("spaces", "make", "-o", tmp_path / "graph", *connections(runs))
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("in vivo is invivo.nii.gz (3D, the fixed image of ")
    assert "; ex vivo is exvivo.nii.gz (3D, the moving image of " in lines[0]
    assert lines[2].startswith("section is slide.png (2D, a section, the fixed image of ")
    assert "; nissl is nissl.png (2D, the moving image of " in lines[3]
    shown = cli("spaces", "show", tmp_path / "graph").out
    assert "  section  2D  " in shown
    assert "  section -> block: deformed, slice_out" in shown
    assert "  block -> ex vivo: affine, block_out" in shown
    assert "  in vivo - ex vivo - block - section - nissl" in shown
    assert load_spaces(tmp_path / "graph").spaces["section"].dim == 2
    again = cli("spaces", "make", "-o", tmp_path / "graph", *connections(runs))
    assert (again.code, "is there already" in again.err) == (2, True)


def test_points_there_and_back_and_step_by_step(
    cli: Callable[..., Any], runs: Path, graph: Path, tmp_path: Path
) -> None:
    there, back = tmp_path / "there.csv", tmp_path / "back.csv"
    start = csv(tmp_path / "start.csv", on_section(runs / "slice_out"))
    assert cli("spaces", "points", graph, "section", "in vivo", start, "-o", there).code == 0
    assert there.read_text().splitlines()[0] == "name,x,y,z"
    steps = [runs / "slice_out", runs / "block_out", f"{runs / 'invivo_out'}:inverse"]
    assert cli("points", *steps, start, "-o", tmp_path / "steps.csv").code == 0
    found = load_points(there).points_mm
    np.testing.assert_allclose(found, load_points(tmp_path / "steps.csv").points_mm, atol=1e-4)
    assert cli("spaces", "points", graph, "in vivo", "section", there, "-o", back).code == 0
    assert back.read_text().splitlines()[0] == "name,x,y,off_plane_mm"
    home = load_points(back, 3, ("x", "y", "off_plane_mm")).points_mm
    np.testing.assert_allclose(home[:, :2], on_section(runs / "slice_out"), atol=0.02)
    np.testing.assert_allclose(home[:, 2], 0, atol=1e-4)
    # affine alone: exact
    assert cli("spaces", "points", graph, "in vivo", "block", there, "-o", back).code == 0
    assert (
        cli("spaces", "points", graph, "block", "in vivo", back, "-o", tmp_path / "x.csv").code == 0
    )
    np.testing.assert_allclose(load_points(tmp_path / "x.csv").points_mm, found, atol=1e-6)
    # on to the other stain, in 2D: the runs one after another
    assert cli("spaces", "points", graph, "section", "nissl", start, "-o", back).code == 0
    nissl = load_run(runs / "pair_out").transform(on_section(runs / "slice_out"))
    np.testing.assert_allclose(load_points(back, 2).points_mm, nissl, atol=1e-6)


def test_points_off_the_plane(
    cli: Callable[..., Any], runs: Path, graph: Path, tmp_path: Path
) -> None:
    """1 mm off a plane through voxels of 3 mm is near, 9 mm are far."""
    run = load_run(runs / "slice_out")
    edges = run.affine.matrix[:3, :2]
    normal = np.cross(edges[:, 0], edges[:, 1])
    normal /= np.linalg.norm(normal)
    flat = on_section(runs / "slice_out", 4)
    on = run.transform(np.column_stack([flat, np.zeros(4)]))
    off = on + normal * np.array([0, 1, -1, 9])[:, None]
    points = csv(tmp_path / "points.csv", off)
    done = cli("spaces", "points", graph, "block", "section", points, "-o", tmp_path / "o.csv")
    assert done.code == 0
    assert "1 of 4 points lie too far off the plane" in done.err
    rows = np.genfromtxt(tmp_path / "o.csv", delimiter=",", skip_header=1)
    np.testing.assert_allclose(rows[:, 3], [0, 1, 1, 9], atol=1e-3)
    np.testing.assert_allclose(rows[:3, 1:3], flat[:3], atol=0.02)
    assert np.isnan(rows[3, 1:3]).all()
    # through the run alone: x, y and the distance with its sign, however far
    assert (
        cli("points", runs / "slice_out", points, "--inverse", "-o", tmp_path / "i.csv").code == 0
    )
    found = load_points(tmp_path / "i.csv").points_mm
    np.testing.assert_allclose(found[:, :2], flat, atol=0.02)
    np.testing.assert_allclose(found[:, 2], [0, 1, -1, 9], atol=1e-4)
    again = tmp_path / "again.csv"
    assert cli("points", runs / "slice_out", tmp_path / "i.csv", "-o", again).code == 0
    np.testing.assert_allclose(load_points(again).points_mm, off, atol=0.02)


def test_images_through_the_whole_path(
    cli: Callable[..., Any], runs: Path, graph: Path, tmp_path: Path
) -> None:
    """One interpolation: the same as the runs' maps one after another, applied once."""
    out, one = tmp_path / "out.nii.gz", tmp_path / "one.nii.gz"
    steps = [runs / "slice_out", runs / "block_out", f"{runs / 'invivo_out'}:inverse"]
    for image, how in (("invivo", ()), ("labels", ("--labels",))):
        file = runs / f"{image}.nii.gz"
        done = cli("spaces", "warp", graph, "in vivo", "section", file, "-o", out, *how)
        assert done.code == 0, done.err
        assert cli("apply", *steps, file, "-o", one, *how).code == 0
        found, wanted = load_image(out).numpy(), load_image(one).numpy().squeeze()
        assert found.shape == wanted.shape
        assert len(np.unique(found)) >= 3
        if how:
            assert (found != wanted).mean() < 1e-3  # ties of labels
        else:
            np.testing.assert_allclose(found, wanted, atol=0.05)
    like = ["--like", runs / "slide.png", "--pixel-size", 1.5, "-o", tmp_path / "fine.tif"]
    assert (
        cli("spaces", "warp", graph, "in vivo", "section", runs / "invivo.nii.gz", *like).code == 0
    )
    assert load_image(tmp_path / "fine.tif").grid.size == load_image(runs / "slide.png").grid.size
    back = ["spaces", "warp", graph, "section", "in vivo", runs / "slide.png", "-o", out]
    assert cli(*back, "--pixel-size", 1.5).code == 0
    volume = load_image(out)
    assert volume.grid.same_space(load_image(runs / "invivo.nii.gz").grid)
    share = float((volume.data.sum(0) > 0).float().mean())
    assert 0.01 < share < 0.06  # a plane of about one voxel of 54
    refused = cli(*back)
    assert (refused.code, "give --pixel-size" in refused.err) == (2, True)


def test_as_ome_ngff(cli: Callable[..., Any], graph: Path, tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    from fireants_engine.io.ngff import load_ngff

    assert cli("spaces", "ngff", graph, "-o", tmp_path / "graph.zarr").code == 0
    ends = {(item.fixed, item.moving) for item in load_ngff(tmp_path / "graph.zarr")}
    assert ("section", "block") in ends
    assert len(ends) == 4


# ------------------------------------------------------------------ mistakes
def test_names_that_are_exchanged_or_unlike_are_refused(
    cli: Callable[..., Any], runs: Path, tmp_path: Path
) -> None:
    small = load_image(runs / "block.nii.gz")
    small = Image(small.data[:, 4:], small.grid.part([slice(4, 44), slice(0, 54), slice(0, 46)]))
    save_image(small, tmp_path / "small.nii.gz")
    how = ["--recipe", runs / "affine.yaml", "--threads", 1, "-q"]
    how += ["--set", "stages.affine.pyramid.levels=[{shrink: 4, max_steps: 1}]"]
    images = tmp_path / "small.nii.gz", runs / "exvivo.nii.gz"
    assert cli("run", *images, "-o", tmp_path / "cut", *how).code == 0
    section, block = f"section:block={runs / 'slice_out'}", f"block:ex vivo={runs / 'block_out'}"
    for given, words in (
        ([section, f"ex vivo:block={tmp_path / 'cut'}"], ""),  # extents that agree are said below
        ([section, f"block:ex vivo={tmp_path / 'cut'}"], "NAME:NAME=identity"),
        ([f"block:section={runs / 'slice_out'}", block], "a section and a volume need two names"),
        ([section, f"section:block={runs / 'pair_out'}"], "a section and a volume need two names"),
        ([section, section], "connected already"),
        (["section=slice_out"], "expected FIXED:MOVING=RUN"),
        (["section:block"], "expected FIXED:MOVING=RUN"),
        ([f"a:b={tmp_path / 'no'}"], "no such file"),
        ([f"a:b={tmp_path}"], "not a run directory"),
        (["a:b=identity"], "space 'a': nothing tells whether it is 2D or 3D"),
    ):
        done = cli("spaces", "make", "-o", tmp_path / "graph", *given)
        if not words:
            assert "note: block is block.nii.gz" in done.out
            assert "taken as one space" in done.out
            shutil.rmtree(tmp_path / "graph")
            continue
        assert done.code == 2, given
        assert words in done.err
        assert len(done.err.splitlines()) == 1
        assert not (tmp_path / "graph").exists()
    joined = [section, f"small:ex vivo={tmp_path / 'cut'}", "small:block=identity"]
    assert cli("spaces", "make", "-o", tmp_path / "graph", *joined).code == 0
    graph = load_spaces(tmp_path / "graph")
    assert graph.path("section", "ex vivo") == ("section", "block", "small", "ex vivo")
    turned = [section, f"ex vivo:block={runs / 'block_out'}:inverse"]
    assert cli("spaces", "make", "-o", tmp_path / "turned", *turned).code == 0
    edge = load_spaces(tmp_path / "turned").edges[1]
    assert (edge.fixed, edge.moving) == ("block", "ex vivo")


def test_a_transform_file_and_what_is_not_there(
    cli: Callable[..., Any], runs: Path, tmp_path: Path
) -> None:
    shift = save_affine(
        Affine.about(np.eye(3), np.array([1.0, 2, 3]), np.zeros(3)), tmp_path / "s.mat"
    )
    graph = tmp_path / "graph"
    done = cli("spaces", "make", "-o", graph, f"block:atlas={shift}",
               f"section:nissl={runs / 'pair_out'}")  # fmt: skip
    assert done.code == 0
    assert "block is where points of s.mat (3D, which names no image) begin" in done.out
    points = csv(tmp_path / "p.csv", np.array([[1.0, 2.0, 3.0]]))
    assert (
        cli("spaces", "points", graph, "atlas", "block", points, "-o", tmp_path / "o.csv").code == 0
    )
    np.testing.assert_allclose(load_points(tmp_path / "o.csv").points_mm, 0, atol=1e-12)
    image, flat = runs / "block.nii.gz", csv(tmp_path / "flat.csv", np.array([[1.0, 2.0]]))
    broken = tmp_path / "broken"
    shutil.copytree(graph, broken)
    data = json.loads((broken / "spaces.json").read_text())
    data["edges"][0]["forward"][0]["matrix"] = "?"
    (broken / "spaces.json").write_text(json.dumps(data))
    to = ["-o", tmp_path / "x.nii.gz"]
    for words, sentence in (
        (["points", graph, "block", "moon", points, *to], "no space 'moon'; the graph has block"),
        (["points", graph, "block", "section", points, *to], "no path from block to section"),
        (["points", graph, "block", "atlas", flat, *to], "column 'z' is missing"),
        (["points", tmp_path, "block", "atlas", points, *to], "holds no graph of spaces"),
        (["warp", graph, "block", "moon", image, *to], "no space 'moon'"),
        (["warp", graph, "block", "atlas", image, *to], "give --like"),
        (["warp", graph, "section", "nissl", image, *to], "is a volume of 44 slices"),
        (["warp", graph, "block", "atlas", runs / "slide.png", "--like", image, *to], "is 2D"),
        (["warp", graph, "block", "atlas", image, "--like", runs / "slide.png", *to], "grid is 2D"),
        (["show", broken], "is damaged"),
        (["ngff", graph, "-o", tmp_path / "x.doc"], "ends so"),
    ):
        done = cli("spaces", *words)
        assert done.code == 2, words
        assert sentence in done.err
        assert len(done.err.splitlines()) == 1
    assert cli("spaces").code == 2
