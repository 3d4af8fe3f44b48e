"""`apply` and `points` with chains, interpolations, series and surfaces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import fireants_engine as fe
from fireants_engine.geometry import Image
from fireants_engine.io import load_image, load_points, load_series, save_affine, save_image
from fireants_engine.transforms import Affine


@pytest.fixture
def chain(cli, files: dict[str, Path], tmp_path: Path) -> list[Path]:
    """A run, and an affine file that goes on from its moving image."""
    out = tmp_path / "out"
    command = ["run", files["fixed"], files["moving"], "-o", out, "--recipe", files["recipe"], "-q"]
    assert cli(*command).code == 0
    turn = np.array([[0.96, -0.28], [0.28, 0.96]])
    more = Affine.about(turn, np.array([0.7, -0.4]), load_image(files["moving"]).grid.centre_mm)
    return [out, save_affine(more, tmp_path / "more.mat")]


def test_a_chain_of_two(cli, files: dict[str, Path], tmp_path: Path, chain: list[Path]) -> None:
    run, more = fe.load_run(chain[0]), fe.load_transform(chain[1])
    marks, there, home = (tmp_path / f"{name}.csv" for name in ("marks", "there", "home"))
    marks.write_text("name,x,y\na,6.5,17.2\nb,0,12\n")
    given = load_points(marks, 2).points_mm
    assert cli("points", *chain, marks, "-o", there).code == 0
    expected = more(run.transform(given))
    np.testing.assert_allclose(load_points(there, 2).points_mm, expected)
    assert cli("points", *chain, there, "--inverse", "-o", home).code == 0
    np.testing.assert_allclose(load_points(home, 2).points_mm, given, atol=0.05)
    back = [f"{chain[1]}:inverse", f"{chain[0]}:inverse"]
    assert cli("points", *back, there, "-o", home).code == 0
    np.testing.assert_allclose(load_points(home, 2).points_mm, given, atol=0.05)

    image = load_image(files["moving"])
    out = tmp_path / "w.nii.gz"
    for name in ("linear", "nearest", "bspline", "sinc"):
        done = cli("apply", *chain, files["moving"], "--interpolation", name, "-o", out)
        assert done.code == 0, done.err
        truth = fe.compose(chain).warp(image, interpolation=name)
        assert load_image(out).grid.same_space(run.grid)
        np.testing.assert_allclose(load_image(out).data, truth.data, atol=1e-4)
    labels = ["apply", *chain, files["moving_labels"], "-o", out]
    assert cli(*labels, "--labels").code == 0
    short = load_image(out).numpy()
    assert cli(*labels, "--interpolation", "label").code == 0
    np.testing.assert_array_equal(load_image(out).numpy(), short)
    assert set(np.unique(short)) == {0, 4}


def test_a_file_has_no_grid(cli, files: dict[str, Path], tmp_path: Path, chain: list[Path]) -> None:
    out = tmp_path / "w.nii.gz"
    first = ["apply", chain[1], chain[0], files["moving"], "-o", out]
    for arguments in (first, ["apply", *chain, files["fixed"], "--inverse", "-o", out]):
        refused = cli(*arguments)
        assert refused.code == 2
        assert "more.mat: has no grid" in refused.err
        assert "--reference" in refused.err
        assert len(refused.err.splitlines()) == 1
        assert cli(*arguments, "--reference", files["fixed"]).code == 0
        assert load_image(out).grid.same_space(load_image(files["fixed"]).grid)


def test_a_series(cli, files: dict[str, Path], tmp_path: Path) -> None:
    deep = load_image(files["moving3d"])
    volumes = [deep.numpy() * k for k in (1, 2, 3)]
    item = sitk.JoinSeries(
        [sitk.GetImageFromArray(v.astype(np.float32)) for v in volumes], 0.0, 1.5
    )
    item.SetSpacing((*deep.grid.spacing_mm, 1.5))
    item.SetOrigin((*deep.grid.origin_mm, 0.0))
    sitk.WriteImage(item, str(tmp_path / "s.nii.gz"))
    shift = save_affine(
        Affine.about(np.eye(3), np.array([0.5, 1.0, -0.7]), np.zeros(3)), tmp_path / "a.mat"
    )
    out = tmp_path / "o.nii.gz"
    command = ["apply", shift, tmp_path / "s.nii.gz", "--reference", files["fixed3d"], "-o", out]
    done = cli(*command)
    assert done.code == 0, done.err
    found = load_series(out)
    assert (len(found), found.step) == (3, 1.5)
    ratio = found[2].numpy().sum() / found[0].numpy().sum()
    assert ratio == pytest.approx(3, rel=1e-5)


def test_zarr(cli, files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    shift = save_affine(Affine.about(np.eye(3), np.ones(3), np.zeros(3)), tmp_path / "a.mat")
    base = ["apply", shift, files["moving3d"], "--reference", files["fixed3d"], "-o"]
    assert cli(*base, tmp_path / "o.nii.gz").code == 0
    assert cli(*base, tmp_path / "o.zarr").code == 0
    again = cli(*base, tmp_path / "o.zarr")
    assert again.code == 2
    assert "is there already" in again.err
    back = ["apply", f"{shift}:inverse", tmp_path / "o.zarr", "--reference", tmp_path / "o.zarr"]
    assert cli(*back, "-o", tmp_path / "back.nii.gz").code == 0
    truth = fe.compose([f"{shift}:inverse"], load_image(tmp_path / "o.nii.gz").grid)
    expected = truth.warp(load_image(tmp_path / "o.nii.gz")).numpy()
    found = load_image(tmp_path / "back.nii.gz")
    assert found.numpy().sum() == pytest.approx(expected.sum(), rel=1e-4)


def test_a_surface(cli, files: dict[str, Path], tmp_path: Path) -> None:
    obj, out = tmp_path / "s.obj", tmp_path / "o.obj"
    obj.write_text("v 0 0 0\nv 10 0 0\nv 0 5 0\nf 1 2 3\n")
    shift = save_affine(
        Affine.about(np.eye(3), np.array([1.0, 2.0, 3.0]), np.zeros(3)), tmp_path / "a.mat"
    )
    assert cli("points", shift, obj, "-o", out).code == 0
    assert out.read_text().splitlines()[1:] == ["v 11 2 3", "v 1 7 3", "f 1 2 3"]
    assert cli("points", shift, obj, "--space", "RAS", "-o", out).code == 0
    assert out.read_text().splitlines()[1] == "v 9 -2 3"
    mirror = save_affine(Affine(np.diag([-1.0, 1, 1, 1])), tmp_path / "m.mat")
    told = cli("points", mirror, obj, "-o", out)
    assert told.code == 0
    assert "reverses orientation; the faces were left" in told.err
    marks = tmp_path / "marks.csv"
    marks.write_text("x,y,z\n1,2,3\n")
    refused = cli("points", shift, marks, "--space", "RAS", "-o", tmp_path / "o.csv")
    assert refused.code == 2
    assert "--space is for surfaces" in refused.err


def test_bad_input_is_one_sentence(
    cli, files: dict[str, Path], tmp_path: Path, chain: list[Path]
) -> None:
    target = tmp_path / "x.nii.gz"
    deep = save_affine(Affine.identity(3), tmp_path / "deep.mat")
    save_image(Image.from_numpy(np.zeros((4, 4), np.uint8)), tmp_path / "flat.png")
    for arguments, words in (
        (["apply", chain[0], files["moving"], "--interpolation", "cubic"], "choose one of linear"),
        (["apply", chain[0], deep, files["moving"]], "deep.mat is a 3D transform but"),
        (["apply", deep, files["moving"]], "deep.mat: has no grid"),
        (["apply", deep, files["moving"], "--reference", files["fixed"]], "grid of the result is"),
        (["apply", deep, files["moving"], "--reference", files["fixed3d"]], "is 2D but the tr"),
        (["apply", chain[0], files["moving"], "--reference", tmp_path / "no.nii"], "no such file"),
        (["apply", tmp_path / "no.mat", files["moving"]], "no such file"),
        (["apply", files["recipe"], files["moving"]], "not an image in a known format"),
        (["points", chain[0], tmp_path / "no.vtk"], "a surface is 3D"),
    ):
        done = cli(*arguments, "-o", target)
        assert done.code == 2, (arguments, done.err)
        assert words in done.err
        assert len(done.err.splitlines()) == 1
    assert not target.exists()
