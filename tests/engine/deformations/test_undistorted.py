"""What the terms see of EPI volumes: shifts along own axes, stretches, channels and grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, PhaseEncode
from fireants_engine.deformations.phase_encode import FieldState
from fireants_engine.deformations.undistorted import Scan, Undistorted
from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding, Grid
from fireants_engine.kernels import REFERENCE, load, missing
from fireants_engine.transforms import Affine

WIDE = ExecutionContext(dtype=torch.float64)
OBLIQUE = Rotation.from_euler("xyz", [20, -15, 40], degrees=True).as_matrix()
GRID = Grid((9, 12, 7), (2.0, 2.5, 3.0), (5.0, -8.0, 2.0), OBLIQUE)
FLAT = Grid.identity((11, 13), (2.0, 2.5))
SMALL = Rotation.from_euler("xyz", [3, -4, 5], degrees=True).as_matrix()


def ways(*texts: str, readout_s: float = 0.05) -> tuple[Encoding, ...]:
    return tuple(Encoding.parse(text, readout_s) for text in texts)


def noise(grid: Grid, seed: int, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    field = torch.rand((1, channels, *grid.shape), generator=generator, dtype=torch.float64)
    return REFERENCE.smooth(field, [1.0] * grid.dim)


def images(grid: Grid = GRID, channels: int = 1, moving: Grid | None = None) -> Pair:
    other = moving or grid
    zooms = (grid.spacing_zyx, other.spacing_zyx)
    return Pair(noise(grid, 1, channels), noise(other, 2, channels), grid, other, zooms_mm=zooms)


def field(grid: Grid, size: float = 1.0) -> Tensor:
    v = noise(grid, 7) - 0.5
    return v * (size / v.abs().max())


def placed(
    made: PhaseEncode, both: Pair, pose: Sequence[float] = (), size: float = 1.0
) -> FieldState:
    """A state with a smooth field and, for the first further volume, six numbers of motion."""
    state = made.init(both, Affine.identity(both.fixed_grid.dim), WIDE)
    u = state.u.clone()
    u[:1] = field(both.fixed_grid, size)
    if pose:
        u[1].flatten()[: len(pose)] = torch.tensor(pose, dtype=u.dtype)
    return made.with_variable(state, u)


# ------------------------------------------------------------------ one map
@pytest.mark.parametrize("pose", [(), (1.0, 0.5, -2.0, 3.0, -4.0, 2.0)], ids=["still", "moved"])
@pytest.mark.parametrize("texts", [("j", "j-"), ("i-", "i"), ("j", "k")], ids="".join)
@pytest.mark.parametrize("level", [None, (5, 7, 6)], ids=["full", "level"])
def test_the_distortion_is_what_the_terms_saw(texts, pose, level) -> None:
    """E1, E2: voxels of a level -> Hz by the acquisition's zoom -> mm, poses and all."""
    both = images()
    if level:
        coarse = GRID.resized(level)
        both = replace(images(coarse), zooms_mm=both.zooms_mm)
    made = PhaseEncode(ways(*texts), start="zero", with_motion=bool(pose))
    state = placed(made, both, pose)
    motion, found = made._motion(both, state, WIDE), made.found(both, state)
    grid = both.fixed_grid
    at = np.random.default_rng(0).integers(1, np.array(grid.shape) - 1, (20, 3))
    to_mm = grid.matrix("voxel", "mm")
    mm = at @ to_mm[:3, :3].T + to_mm[:3, 3]
    for k, scan in enumerate(motion.scans):
        shown = motion.through(scan).points(torch.as_tensor(at.T).double()).numpy().T
        truth = found.to(k)(mm)
        np.testing.assert_allclose(shown @ to_mm[:3, :3].T + to_mm[:3, 3], truth, atol=2e-4)
    hz = float(found.field_hz[(0, 0, *at[0])])
    one = made.longest
    axis = one.array_axis(3)
    ratio = grid.spacing_zyx[axis] / GRID.spacing_zyx[axis]
    assert hz == pytest.approx(float(state.u[(0, 0, *at[0])]) * ratio / one.readout_s)


def test_the_second_volume_moves_by_its_pose_in_mm() -> None:
    both = images()
    made = PhaseEncode(ways("j", "j-"), start="zero", with_motion=True)
    state = placed(made, both, (4.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0.0)
    pose = made.found(both, state).poses[1]
    np.testing.assert_allclose(pose.matrix[:3, 3], [4.0, 0.0, 0.0], atol=1e-6)
    points = GRID.points_mm()[:50]
    moved = made.transform(both, state)(points)
    np.testing.assert_allclose(moved - points, [[4, 0, 0]] * 50, atol=1e-6)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_level_of_anisotropic_voxels(dim: int) -> None:
    """One voxel of a level that is 3 times as long as the scanner's is 3 voxels of shift."""
    grid = (GRID if dim == 3 else FLAT).resized((4, 4, 7)[:dim])
    own = (GRID if dim == 3 else FLAT).spacing_zyx
    both = replace(images(grid), zooms_mm=(own, own))
    made = PhaseEncode(ways("j", "i"), start="zero")
    u = torch.ones((1, 1, *grid.shape), dtype=torch.float64)
    state = made.with_variable(made.init(both, Affine.identity(dim), WIDE), u)
    found = made.found(both, state)
    long = grid.spacing_mm[1] / own[::-1][1]
    np.testing.assert_allclose(found.field_hz.numpy(), long / 0.05)
    np.testing.assert_allclose(found.shift_voxels(0), long, rtol=1e-6)
    mm = np.linalg.norm(found.warp(made.volumes[0]).field_mm(), axis=-1)
    np.testing.assert_allclose(mm, grid.spacing_mm[1], rtol=1e-5)
    # as many voxels of shift along i, each of its own length
    mm = np.linalg.norm(found.warp(made.volumes[1]).field_mm(), axis=-1)
    np.testing.assert_allclose(mm, long * own[::-1][0], rtol=1e-5)


GRIDS = {
    "another size": GRID.resized((11, 9, 7)),
    "another slab": Grid(GRID.size, GRID.spacing_mm, GRID.origin_mm, SMALL @ OBLIQUE),
    "flipped": Grid(
        GRID.size,
        GRID.spacing_mm,
        tuple(np.array(GRID.origin_mm) + OBLIQUE[:, 1] * 11 * 2.5),
        OBLIQUE @ np.diag([1.0, -1.0, 1.0]),
    ),
}


@pytest.mark.parametrize("case", GRIDS)
def test_the_second_volume_on_a_grid_of_its_own(case: str) -> None:
    """The map that is handed out is the one the terms saw; or the volumes are refused."""
    both, made = images(moving=GRIDS[case]), PhaseEncode(ways("j", "j-"), start="zero")
    try:
        state = placed(made, both)
    except InputError as error:
        assert "grid" in str(error)  # noqa: PT017
        return
    motion, found = made._motion(both, state, WIDE), made.found(both, state)
    at = np.random.default_rng(0).integers(2, np.array(GRID.shape) - 2, (20, 3))
    to_mm, other = GRID.matrix("voxel", "mm"), GRIDS[case].matrix("voxel", "mm")
    mm = at @ to_mm[:3, :3].T + to_mm[:3, 3]
    seen = motion.through(motion.scans[1]).points(torch.as_tensor(at.T).double()).numpy().T
    shown = seen @ other[:3, :3].T + other[:3, 3]
    np.testing.assert_allclose(shown, found.to(1)(mm), atol=0.02)


# ------------------------------------------------------------------ channels
def test_every_channel_through_its_own_volume() -> None:
    texts = ("j", "j-", "i")
    both = images(channels=3)
    both = replace(both, moving=both.fixed.roll(-1, 1))
    made = PhaseEncode(ways(*texts), start="zero")
    state = placed(made, both)
    motion = made._motion(both, state, WIDE)
    views = made.views(both, state, WIDE)
    for k, scan in enumerate(motion.scans):
        alone = motion.restored(both.fixed[:, k : k + 1], scan, both, WIDE)
        torch.testing.assert_close(views.fixed[:, k : k + 1], alone)
        torch.testing.assert_close(views.moving[:, (k - 1) % 3 : (k - 1) % 3 + 1], alone)
    assert views.weight is None


def test_channels_of_two_volumes_go_together() -> None:
    both = images(channels=2)
    made = PhaseEncode(ways("j", "j-"), start="zero")
    state = placed(made, both)
    views = made.views(both, state, WIDE)
    one = replace(both, fixed=both.fixed[:, 1:], moving=both.moving[:, 1:])
    alone = made.views(one, state, WIDE)
    torch.testing.assert_close(views.fixed[:, 1:], alone.fixed)
    torch.testing.assert_close(views.moving[:, 1:], alone.moving)


@pytest.mark.parametrize("start", ["zero", "transport"])
@pytest.mark.parametrize("texts", [("i", "j", "j-"), ("j", "i", "j-")], ids="".join)
def test_the_wrong_number_of_channels_is_told(start: str, texts: tuple[str, ...]) -> None:
    made = PhaseEncode(ways(*texts), start=start)
    for channels in (1, 2, 4):
        both = images(channels=channels)
        with pytest.raises(InputError, match="3 EPI volumes compares images of 3 channels"):
            made.views(both, made.init(both, Affine.identity(3), WIDE), WIDE)


def test_the_gain_of_one_volume_does_not_depend_on_the_others_pose() -> None:
    """Stretch along the turned axis: the Jacobian of `x + s v(x) w`, by finite differences."""
    turn = torch.eye(3, 4, dtype=torch.float64)
    turn[:, :3] = torch.from_numpy(SMALL)
    scan = Scan(1, -0.7, turn[None])
    v = field(GRID, 1.5)
    found = Undistorted(v, (Scan(1, 1.0), scan)).stretch(scan)
    way = torch.from_numpy(np.linalg.inv(SMALL)[:, 1])
    slopes = torch.gradient(v[0, 0])
    truth = -0.7 * sum(s * w for s, w in zip(slopes, way, strict=True))
    torch.testing.assert_close(found[0, 0], truth)
    u = Undistorted(v, (Scan(1, 1.0), scan)).displacement(scan)
    torch.testing.assert_close(torch.from_numpy(SMALL) @ u.flatten(2)[0], torch.stack(
        [0 * v.flatten(), -0.7 * v.flatten(), 0 * v.flatten()]
    ), atol=1e-12, rtol=0)  # fmt: skip


# ------------------------------------------------------------------ masks and edges
def test_masks_are_seen_through_the_field_too() -> None:
    both = images(FLAT)
    mask = torch.zeros_like(both.fixed)
    mask[..., 6:, :] = 1
    made = PhaseEncode(ways("j", "j-"), start="zero")
    state = made.init(both, Affine.identity(2), WIDE)
    state = made.with_variable(state, torch.full_like(state.u, 2.0))
    seen = made.views(replace(both, fixed_mask=mask), state, WIDE).mask
    assert seen is not None
    assert float(seen[..., 4:10, :].min()) > 0.999  # x + 2 lies within
    assert float(seen[..., :4, :].max()) < 0.001
    seen = made.views(replace(both, moving_mask=mask), state, WIDE).mask
    assert seen is not None
    assert float(seen[..., 8:, :].min()) > 0.999  # x - 2
    assert float(seen[..., :8, :].max()) < 0.001


def test_what_a_moved_volume_does_not_show_does_not_count() -> None:
    both = images()
    made = PhaseEncode(ways("j", "j-"), start="zero", with_motion=True)
    away = 4 * 2.0 * OBLIQUE[:, 0]  # four voxels along i
    state = placed(made, both, (*away, 0.0, 0.0, 0.0), 0.0)
    weight = made.views(both, state, WIDE).weight
    assert weight is not None
    assert float(weight[..., :5].min()) > 0.99
    assert float(weight[..., 6:].max()) == 0


def test_the_longest_readout_is_the_warp_that_regularisers_see() -> None:
    v = field(GRID)
    motion = Undistorted(v, (Scan(1, 0.4), Scan(1, -1.0), Scan(2, 0.8)))
    (warp,) = motion.warps
    assert torch.equal(warp[:, 1:2], -v)
    assert not warp[:, [0, 2]].any()


# ------------------------------------------------------------------ the short way
@pytest.mark.parametrize("kernels", ["reference", "native"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_still_volume_is_seen_as_by_the_general_map(axis: int, channels: int, kernels) -> None:
    """Two neighbours along the axis, or eight through a matrix that happens to be 1."""
    if kernels in missing():
        pytest.skip(missing()[kernels])
    ctx = ExecutionContext(dtype=torch.float64, kernels=load(kernels))
    both = images(channels=channels)
    eye = torch.eye(3, 4, dtype=torch.float64)[None]
    weights = noise(GRID, 5)
    seen = []
    for matrix in (None, eye):
        v = (4 * field(GRID)).requires_grad_()
        scans = Scan(axis, 1.0, matrix), Scan(axis, -0.6, matrix)
        views = Undistorted(v, scans, True, ctx.kernels).views(both, ctx)
        loss = ((views.fixed - 2 * views.moving).square() * weights).sum()
        seen.append([views.fixed, views.moving, *torch.autograd.grad(loss, v)])
    for short, general in zip(*seen, strict=True):
        torch.testing.assert_close(short, general, rtol=1e-9, atol=1e-9)


def test_an_image_on_another_grid_goes_the_general_way() -> None:
    both = images(FLAT)
    half = noise(FLAT.resized((6, 7)), 3)
    motion = Undistorted(field(FLAT), (Scan(0, 1.0), Scan(0, -1.0)))
    seen = motion.restored(half, motion.scans[0], both, WIDE)
    assert seen.shape == both.fixed.shape
