"""One field for all volumes: its state, its map, its steps and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, PhaseEncode
from fireants_engine.deformations.phase_encode import MAX_SLOPE
from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding, Grid
from fireants_engine.kernels import Direction
from fireants_engine.kernels.slopes import steepest
from fireants_engine.transforms import Affine, Displacement

GRID = Grid((10, 12, 9), (2.0, 2.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))
CTX = ExecutionContext(dtype=torch.float64)
STILL = Affine.identity(3)


def ways(*texts: str, readout_s: float = 0.05) -> tuple[Encoding, ...]:
    return tuple(Encoding.parse(text, readout_s) for text in texts)


def image(seed: int, channels: int = 1) -> Tensor:
    made = torch.rand((1, channels, *GRID.shape), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool3d(made.double(), 3, 1, 1)


def pair(channels: int = 1, **more: object) -> Pair:
    given = Pair(image(1, channels), image(2, channels), GRID, GRID,
                 zooms_mm=(GRID.spacing_zyx, GRID.spacing_zyx))  # fmt: skip
    return replace(given, **more)


def model(*texts: str, **more: object) -> PhaseEncode:
    return PhaseEncode(ways(*(texts or ("j", "j-"))), start="zero", **more)  # type: ignore[arg-type]


def with_field(made: PhaseEncode, size: float = 0.8) -> tuple[Pair, object]:
    both = pair(len(made.volumes) if len(made.volumes) > 2 else 1)
    state = made.init(both, STILL, CTX)
    u = torch.randn(state.u.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return both, made.with_variable(state, torch.nn.functional.avg_pool3d(u, 3, 1, 1) * size)


@pytest.mark.parametrize("texts", [("j", "j-"), ("i", "i-"), ("k", "k-"), ("j", "i", "j-")])
def test_nothing_moves_along_other_axes(texts: tuple[str, ...]) -> None:
    both, state = with_field(model(*texts))
    motion = model(*texts)._motion(both, state, CTX)
    for scan, encoding in zip(motion.scans, ways(*texts), strict=True):
        u = motion.displacement(scan)
        others = [k for k in range(3) if k != encoding.array_axis(3)]
        assert not u[:, others].any()
        assert torch.equal(u[:, [encoding.array_axis(3)]], state.u * encoding.sign)


def test_each_volume_has_its_own_readout() -> None:
    made = PhaseEncode((Encoding.parse("j", 0.02), Encoding.parse("j-", 0.05)), start="zero")
    assert made.scales(pair()) == pytest.approx([0.4, -1.0])


def test_views_are_the_volumes_times_their_stretch() -> None:
    made = model()
    both, state = with_field(made)
    seen = made.views(both, state, CTX)
    slope = torch.gradient(state.u, dim=3)[0]
    plain = replace(made, modulate=False).views(both, state, CTX)
    torch.testing.assert_close(seen.fixed, plain.fixed * (1 + slope))
    torch.testing.assert_close(seen.moving, plain.moving * (1 - slope))


@pytest.mark.parametrize("with_motion", [False, True])
def test_the_gradient_is_that_of_the_loss(with_motion: bool) -> None:
    made = model("j", "j-", with_motion=with_motion)
    both, state = with_field(made, 0.3)

    def total(u: Tensor) -> Tensor:  # what lies beyond a field of view decides, it does not pull
        seen = made.views(both, made.with_variable(state, u), CTX)
        return (seen.fixed - seen.moving).square().mean()

    u = state.u.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(total(u), u)
    spots = [(0, 0, 4, 5, 5), (0, 0, 2, 8, 3)]
    spots += [(1, 0, 0, 0, k) for k in range(6)] if with_motion else []
    for spot in spots:
        step = torch.zeros_like(state.u)
        step[spot] = 1e-6
        slope = (total(state.u + step) - total(state.u - step)) / 2e-6
        assert float(grad[spot]) == pytest.approx(float(slope), rel=1e-3, abs=1e-9)


def test_rows_hold_the_field_and_the_motion() -> None:
    made = model("j", "j-", "i", with_motion=True)
    _, state = with_field(made)
    v, params = made._split(state.u, state.heads)
    assert v.shape == (1, 1, *GRID.shape)
    assert params.shape == (1, 2, 6)
    again, same = made._split(made._joined(v, params), state.heads)
    assert torch.equal(again, v)
    assert torch.equal(same, params)


def test_a_batch_is_each_pair_alone() -> None:
    made = model("j", "j-", with_motion=True)
    one, other = pair(), pair(fixed=image(5), moving=image(6))
    both = Pair.stack([one, other])
    state = made.begin(both, [STILL, STILL], CTX)
    noise = torch.randn(state.u.shape, generator=torch.Generator().manual_seed(0))
    moved = made.retract(both, state, Direction.of(noise.double()), 0.5, CTX)
    seen = made.views(both, moved, CTX)
    for k, single in enumerate((one, other)):
        alone = made.init(single, STILL, CTX)
        way = Direction.of(noise.double()[2 * k : 2 * k + 2])
        alone = made.retract(single, alone, way, 0.5, CTX)
        torch.testing.assert_close(moved.u[2 * k : 2 * k + 2], alone.u)
        own = made.views(single, alone, CTX)
        torch.testing.assert_close(seen.moving[k : k + 1], own.moving)


def test_no_step_folds_a_line() -> None:
    made = model()
    both, state = with_field(made, 0.0)
    rough = torch.randn(state.u.shape, generator=torch.Generator().manual_seed(1)).double() * 9
    for _ in range(12):
        state = made.retract(both, state, Direction.of(rough), 1.0, CTX)
    wild = made.with_variable(state, rough)
    settled, folds = made.settle(both, wild)
    assert folds.removed > 0
    assert folds.left == 0
    assert float(steepest(settled.u, 1)) <= MAX_SLOPE * 1.001
    assert torch.equal(wild.u, rough)  # not in place
    _, calm = made.settle(both, settled)
    assert calm.removed == 0


def test_a_shift_along_the_readout_is_left_to_the_field() -> None:
    made = model("j", "j-", with_motion=True)
    both, state = with_field(made, 0.0)
    ones = Direction.of(torch.ones_like(state.u))
    moved = made.retract(both, state, ones, 1.0, CTX)
    params = made._split(moved.u, moved.heads)[1][0, 0]
    assert params[1] == 0  # y, along j
    assert (params[[0, 2, 3, 4, 5]] > 0).all()


def test_levels_keep_hz() -> None:
    made = model("j", "j-", with_motion=True)
    both, state = with_field(made)
    u = state.u.clone()
    u[0] = 1.5  # voxels
    u[1] = 0
    u[1].flatten()[:6] = torch.arange(6.0).double()
    state = made.with_variable(state, u)
    coarse = GRID.resized((5, 4, 9))
    level = replace(both, fixed_grid=coarse, moving_grid=coarse)
    carried = made.carry(state, both, level)
    assert torch.allclose(carried.u[0], torch.tensor(1.5 * 4 / 12).double())
    assert torch.equal(carried.u[1].flatten()[:6], torch.arange(6.0).double())
    hz = [made.distortion(p, s).field_hz for p, s in ((both, state), (level, carried))]
    assert all(torch.allclose(one, torch.tensor(1.5 / 0.05).double()) for one in hz)


def test_the_map_goes_from_volume_to_volume() -> None:
    made = model()
    both, state = with_field(made, 0.0)
    place = torch.linspace(-1, 1, 12, dtype=torch.float64).view(1, 1, 1, 12, 1)
    state = made.with_variable(state, state.u + 0.5 * torch.exp(-6 * place**2))
    found = made.found(both, state)
    points = GRID.points_mm()[200:400]
    between = made.transform(both, state)
    np.testing.assert_allclose(
        between(found.to(0)(points)), found.to(1)(points), atol=0.25
    )  # sampled on the grid
    voxels = torch.as_tensor([[4.0, 5.0, 5.0], [3.0, 6.0, 4.0]]).double().T
    up = (
        voxels
        + made._motion(both, state, CTX).displacement(made._motion(both, state, CTX).scans[0])[0][
            :, [4, 3], [5, 6], [5, 4]
        ]
    )
    there = made.motion(both, state, CTX).points(up)
    mm = found.to(1)((voxels.T.flip(1) * torch.tensor([2.0, 2.0, 3.0])).numpy())
    np.testing.assert_allclose(there.T.flip(1).numpy() * [2, 2, 3], mm, atol=0.02)


def test_a_nudge_moves_the_second_volume() -> None:
    made = model("j", "j-", with_motion=True)
    both, state = with_field(made, 0.0)
    nudge = Affine.about(np.eye(3), np.array([3.0, 0.0, 0.0]), GRID.centre_mm)

    def change(affine: Affine) -> Affine:
        return Affine(nudge.matrix @ affine.matrix)

    poses = made.found(both, made.realigned(state, change)).poses
    assert np.allclose(poses[0].matrix, np.eye(4))
    assert np.allclose(poses[1].matrix, nudge.matrix)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (PhaseEncode(), "needs the direction and readout time of every volume"),
        (PhaseEncode(ways("j", "j-", readout_s=0.0)), "readout time of 0 s"),
        (PhaseEncode(ways("j", "j")), "the same phase encoding"),
    ],
)
def test_volumes_that_tell_no_field(made: PhaseEncode, told: str) -> None:
    with pytest.raises(InputError, match=told):
        made.init(pair(), STILL, CTX)


def test_what_else_is_refused() -> None:
    warp = Displacement(torch.zeros(1, 3, *GRID.shape), GRID)
    with pytest.raises(InputError, match="cannot start from a warp"):
        model().init(pair(), warp, CTX)
    three = model("j", "j-", "i")
    with pytest.raises(InputError, match="3 EPI volumes compares images of 3 channels"):
        three.views(pair(), three.init(pair(3), STILL, CTX), CTX)
    flat = replace(pair(), fixed_grid=Grid.identity((5, 4)), zooms_mm=())
    with pytest.raises(InputError, match="along k does not fit a 2D image"):
        model("k", "k-").init(flat, Affine.identity(2), CTX)
