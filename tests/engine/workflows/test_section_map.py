"""Maps that begin on a section: 2D in its plane, z the distance from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fireants_engine.cli.main import main
from fireants_engine.geometry import Grid, Image
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Affine, Chain, Displacement
from fireants_engine.workflows.chain import point_map
from fireants_engine.workflows.registration import register
from fireants_engine.workflows.result import Mapping
from fireants_engine.workflows.section_map import OnSection, is_section, section_map
from tests.engine.workflows.conftest import scene

GRID = Grid((30, 26, 1), (1.0, 1.2, 1.0), (0.0, 0.0, 0.0), np.eye(3))
SLANTED = np.array(
    [[0.9, -0.2, 0.3, 4.0], [0.3, 0.8, 0.2, -7.0], [0.2, 0.5, 1.1, 12.0], [0, 0, 0, 1]]
)


def warp(leaves: float = 0.0) -> Displacement:
    coarse = torch.randn(1, 3, 1, 4, 4, generator=torch.manual_seed(1))
    u = torch.nn.functional.interpolate(coarse, GRID.shape, mode="trilinear")
    u[:, 0] *= leaves
    return Displacement(0.8 * u, GRID)


def points(z: float = 0.0) -> np.ndarray:
    share = np.random.default_rng(0).uniform(0.2, 0.8, (50, 2))
    return np.column_stack([share * GRID.extent_mm[:2], np.full(50, z)])


@pytest.mark.parametrize("deformed", [True, False])
def test_on_the_plane_it_is_the_run_s_map(deformed: bool) -> None:
    forward = Chain([warp(), Affine(SLANTED)]) if deformed else Affine(SLANTED)
    found = section_map(Mapping(forward, GRID))
    assert found is not None
    assert (found.warp is not None) == deformed
    np.testing.assert_allclose(OnSection(found)(points()), forward(points()), atol=1e-5)


def test_z_is_the_distance_from_the_plane_there_and_back() -> None:
    """The third column of the affine map is neither of unit length nor normal to the plane."""
    found = section_map(Mapping(Chain([warp(), Affine(SLANTED)]), GRID))
    assert found is not None
    on = OnSection(found)
    for z in (0.3, -8.0):  # a slice is 1 mm thick
        away = on(points(z)) - on(points())
        np.testing.assert_allclose(away @ found.plane.normal, z, atol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(away, axis=1), abs(z), atol=1e-9)
        np.testing.assert_allclose(on.inverse()(on(points(z))), points(z), atol=0.02)
    assert isinstance(on.inverse().inverse(), OnSection)


def test_what_is_no_section(tmp_path: Path) -> None:
    """More slices, another place, a tilt, a warp out of the plane: all three coordinates count."""
    assert is_section(GRID)
    turned = Grid(GRID.size, GRID.spacing_mm, GRID.origin_mm, np.diag([1.0, -1.0, -1.0]))
    assert is_section(turned)
    tilt = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    for other in (
        replace(GRID, size=(30, 26, 2)), replace(GRID, origin_mm=(0.0, 0.0, 5.0)),
        replace(GRID, direction=tilt), Grid.identity((30, 26)),
    ):  # fmt: skip
        assert not is_section(other)
    assert section_map(Mapping(Chain([warp(0.5), Affine(SLANTED)]), GRID)) is None
    assert section_map(Mapping(warp(), GRID)) is None


def test_two_columns_are_never_guessed_for_a_volume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A scan of one slice has its own place in the world: x, y do not tell where."""
    recipe = Recipe.from_dict({
        "start": {"kind": "identity"},
        "stages": [{"name": "a", "deformation": {"kind": "affine"}, "terms": [{"kind": "ssd"}],
                    "pyramid": {"levels": [{"shrink": 2, "max_steps": 2}], "min_size": 6}}],
    })  # fmt: skip
    table = tmp_path / "cells.csv"
    table.write_text("x,y,kind\n12,13,neuron\n")
    for z, code in ((0.0, 0), (5.0, 2)):
        grid = replace(GRID, origin_mm=(0.0, 0.0, z))
        image = Image.from_numpy(scene(grid, 0.0, 1.0), grid)
        out = tmp_path / f"out{z:.0f}"
        register(image, image, recipe).save(out)
        assert main(["points", str(out), str(table), "-o", str(tmp_path / "o.csv")]) == code
        assert point_map([out]).flat == (code == 0)
        assert not point_map([out], inverse=True).flat
        assert not point_map([f"{out}:inverse"]).flat
    assert "column 'z' is missing (found: x, y, kind)" in capsys.readouterr().err
    assert (tmp_path / "o.csv").read_text().splitlines()[0] == "x,y,z,kind"
