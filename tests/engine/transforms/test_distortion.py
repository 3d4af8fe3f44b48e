"""Distortion: Hz, voxels and mm; signs and oblique grids (WORKFLOWS E1, E2); poses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding, Grid
from fireants_engine.transforms import Affine, Chain, Displacement
from fireants_engine.transforms.distortion import Distortion

TURN = Rotation.from_euler("xyz", [14, -9, 25], degrees=True).as_matrix()
LAS = TURN @ np.diag([1.0, -1.0, 1.0])  # in LPS: left, anterior, superior
OBLIQUE = Grid((11, 13, 7), (2.0, 2.5, 3.0), (12.0, -40.0, 9.0), LAS)
STRAIGHT = Grid.identity((11, 13, 7), (2.0, 2.5, 3.0))
ALL = ("i", "i-", "j", "j-", "k", "k-")


def encodings(*directions: str, readout: float = 0.05) -> tuple[Encoding, ...]:
    return tuple(Encoding.parse(d, readout) for d in directions)


def made(
    hz: torch.Tensor | float,
    grid: Grid = STRAIGHT,
    volumes: tuple[Encoding, ...] = (),
    poses: tuple[Affine, ...] = (),
    zooms: tuple[float, ...] = (),
) -> Distortion:
    field = hz if isinstance(hz, torch.Tensor) else torch.full((1, 1, *grid.shape), hz)
    volumes = volumes or encodings("j", "j-")
    poses = poses or (Affine.identity(grid.dim),) * len(volumes)
    return Distortion(field, grid, volumes, poses, zooms or grid.spacing_zyx)


def smooth_hz(grid: Grid, peak: float = 40.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    place = np.meshgrid(*(np.linspace(-1, 1, n) for n in grid.shape), indexing="ij")
    bump = np.exp(-sum((x - 0.1) ** 2 for x in place) / 0.5)
    return torch.as_tensor(peak * bump, dtype=dtype)[None, None]


@pytest.mark.parametrize("grid", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("direction", ALL)
def test_sign_and_axis_of_a_shift(direction: str, grid: Grid) -> None:
    """E1: +100 Hz at .05 s is +5 voxels along the voxel axis that is named, whatever the world."""
    (one,) = encodings(direction)
    found = made(100.0, grid, (one, *encodings("j-")))
    expected = 5.0 if one.sign > 0 else -5.0
    np.testing.assert_allclose(found.shift_voxels(0), expected, rtol=1e-6)
    assert found.shift_voxels(0).shape == grid.shape
    u = found.warp(one).u[0]
    channel = one.array_axis(3)
    np.testing.assert_allclose(u[channel].numpy(), expected, rtol=1e-6)
    assert float(u[[k for k in range(3) if k != channel]].abs().max()) == 0
    # the centre voxel goes 5 indices further along i, j or k
    start = np.array([[5.0, 6.0, 3.0]])
    to_mm, to_index = grid.matrix("index", "mm"), grid.matrix("mm", "index")
    mm = start @ to_mm[:3, :3].T + to_mm[:3, 3]
    index = found.to(0)(mm) @ to_index[:3, :3].T + to_index[:3, 3]
    step = np.zeros(3)
    step[one.axis] = expected
    np.testing.assert_allclose(index - start, step[None], atol=1e-5)


@pytest.mark.parametrize("direction", ALL)
def test_hz_to_mm_and_back_on_an_oblique_grid(direction: str) -> None:
    """E2: along the EPI's axis in the world, by the EPI's zoom."""
    hz = smooth_hz(OBLIQUE, 150.0)
    (one,) = encodings(direction)
    mm = made(hz, OBLIQUE, (one, one)).warp(one).field_mm().astype(np.float64)
    axis = LAS[:, one.axis] * OBLIQUE.spacing_mm[one.axis]
    back = (mm @ axis) / (axis @ axis) / one.signed_readout_s
    assert np.abs(back - hz[0, 0].numpy()).max() <= 1e-3
    across = mm - (mm @ axis)[..., None] * axis / (axis @ axis)
    assert np.abs(across).max() < 1e-5
    again = Displacement.from_mm(mm, OBLIQUE).u[0, one.array_axis(3)].numpy()
    assert np.abs(again / one.signed_readout_s - hz[0, 0].numpy()).max() <= 1e-3


@pytest.mark.parametrize("size", [(22, 26, 14), (5, 20, 7)])
def test_another_grid_keeps_hz_and_mm(size: tuple[int, ...]) -> None:
    """A shift is so many voxels of the acquisition, however the field is sampled."""
    one, other = encodings("i", "j-")
    found = made(80.0, OBLIQUE, (one, other))
    moved = found.on(OBLIQUE.resized(size))
    assert moved.zooms_mm == OBLIQUE.spacing_zyx
    assert tuple(moved.field_hz.shape[2:]) == size[::-1]
    np.testing.assert_allclose(moved.field_hz.numpy(), 80.0, rtol=1e-6)
    for k, encoding in enumerate((one, other)):
        np.testing.assert_allclose(moved.shift_voxels(k), encoding.sign * 4.0, rtol=1e-6)
        before = found.warp(encoding).field_mm()[0, 0, 0]
        after = moved.warp(encoding).field_mm()[0, 0, 0]
        np.testing.assert_allclose(after, before, rtol=1e-5)
        length = np.linalg.norm(before)
        assert length == pytest.approx(4 * OBLIQUE.spacing_mm[encoding.axis], rel=1e-5)
        inner = OBLIQUE.centre_mm[None]
        np.testing.assert_allclose(moved.to(k)(inner), found.to(k)(inner), atol=1e-4)


def test_its_own_grid_changes_nothing() -> None:
    found = made(smooth_hz(STRAIGHT, dtype=torch.float64))
    same = found.on(Grid.identity(STRAIGHT.size, STRAIGHT.spacing_mm))
    assert same.field_hz.dtype == torch.float32
    torch.testing.assert_close(same.field_hz, found.field_hz.float())


def test_the_stretch_is_one_plus_the_slope_of_the_shift() -> None:
    one, other = encodings("j", "j-")
    ramp = 6.0 * torch.arange(13.0).view(1, 1, 1, 13, 1).expand(1, 1, *STRAIGHT.shape)
    found = made(ramp, volumes=(one, other))
    for encoding in (one, other):
        value = 1 + encoding.sign * 0.3
        np.testing.assert_allclose(found.stretch(encoding).numpy(), value, rtol=1e-5)
    (across,) = encodings("i")
    np.testing.assert_allclose(found.stretch(across).numpy(), 1.0)
    fine = found.on(STRAIGHT.resized((11, 26, 7)))  # the same map, so the same stretch
    inner = fine.stretch(one)[..., 3:-3, :].numpy()
    np.testing.assert_allclose(inner, 1.3, rtol=1e-4)


@pytest.mark.parametrize("grid", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
def test_there_and_back_between_two_volumes(grid: Grid) -> None:
    found = made(smooth_hz(grid), grid)
    forth, back = found.between(0, 1), found.between(1, 0)
    assert isinstance(forth, Displacement)
    inner = grid.points_mm().reshape(*grid.shape, 3)[1:-1, 4:-4, 2:-2].reshape(-1, 3)
    there = forth(inner)
    assert np.abs(there - inner).max() > 5
    assert np.abs(back(there) - inner).max() < 0.35  # both are samples, of voxels of 2.5 mm
    exact = found.to(1)(found.to(0).inverse()(inner))
    assert np.abs(there - exact).max() < 0.25
    u = forth.u[0]
    assert float(u[[0, 2]].abs().max()) == 0  # nothing moves across


def test_a_volume_and_itself() -> None:
    found = made(smooth_hz(STRAIGHT))
    u = found.between(0, 0)
    assert isinstance(u, Displacement)
    assert float(u.u[..., 3:-3, :].abs().max()) < 0.1


@pytest.mark.parametrize("direction", ["i", "j-", "k"])
def test_a_volume_that_has_moved(direction: str) -> None:
    """y = pose(x) + shift along the voxel axis of that volume."""
    small = Rotation.from_euler("xyz", [4, -3, 6], degrees=True).as_matrix()
    pose = Affine.about(small, np.array([1.0, -2.0, 0.5]), OBLIQUE.centre_mm)
    (other,) = encodings(direction)
    hz = smooth_hz(OBLIQUE)
    found = made(hz, OBLIQUE, (*encodings("j"), other), (Affine.identity(3), pose))
    points = OBLIQUE.points_mm()
    along = LAS[:, other.axis] * OBLIQUE.spacing_mm[other.axis]
    shift = hz.numpy().ravel()[:, None] * other.signed_readout_s * along
    np.testing.assert_allclose(found.to(1)(points), pose(points) + shift, atol=1e-4)
    assert isinstance(found.to(0), Displacement)
    both = found.between(0, 1)
    assert isinstance(both, Chain)
    inner = points.reshape(*OBLIQUE.shape, 3)[2:-2, 4:-4, 3:-3].reshape(-1, 3)
    shown = found.to(0)(inner)
    np.testing.assert_allclose(both(shown), found.to(1)(inner), atol=0.06)


def test_two_dimensions() -> None:
    grid = Grid.identity((9, 12), (1.5, 2.0))
    found = made(40.0, grid, encodings("i", "i-"))
    np.testing.assert_allclose(found.warp(found.volumes[0]).field_mm()[..., 0], 3.0, rtol=1e-6)
    np.testing.assert_allclose(found.warp(found.volumes[1]).field_mm()[..., 0], -3.0, rtol=1e-6)
    assert float(np.abs(found.warp(found.volumes[0]).field_mm()[..., 1]).max()) == 0
    with pytest.raises(InputError, match="does not fit a 2D image"):
        found.warp(Encoding.parse("k", 0.05))
