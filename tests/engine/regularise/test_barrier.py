"""The stretch barrier: values in closed form, up to the fold and beyond it, and its door."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Compositive, Pair, Views
from fireants_engine.deformations.motion import Pulled
from fireants_engine.deformations.undistorted import Scan, Undistorted
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.regularise import StretchBarrier
from fireants_engine.transforms import Affine

WIDE = ExecutionContext(dtype=torch.float64)
REVERSED = (Scan(0, 1.0), Scan(0, -1.0))
SHAPE = (9, 6)


def images(shape: tuple[int, ...] = SHAPE) -> Pair:
    grid = Grid.identity(shape[::-1], 2.5)
    image = torch.zeros((1, 1, *shape), dtype=torch.float64)
    return Pair(image, image, grid, grid)


def loss(v: Tensor, scans: tuple[Scan, ...] = REVERSED) -> Tensor:
    both = images(tuple(v.shape[2:]))
    views = Views(both.fixed, both.moving, motion=Undistorted(v, scans))
    return StretchBarrier().bind(both, WIDE)(views)


def ramp(slope: float, axis: int = 0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    line = slope * torch.arange(shape[axis], dtype=torch.float64)
    view = line.view(-1, *(1,) * (len(shape) - axis - 1))
    return view.expand(1, 1, *shape).clone()


def cost(t: float) -> float:
    return t**4 / (1 - t**2)


@pytest.mark.parametrize("slope", [0.1, -0.4, 0.9])
def test_the_value_of_a_ramp(slope: float) -> None:
    assert float(loss(ramp(slope))) == pytest.approx(cost(slope))
    assert float(loss(ramp(slope, 1))) == pytest.approx(0, abs=1e-12)  # across the readout
    assert float(loss(ramp(slope, 0, (3, 9, 4)))) == pytest.approx(cost(slope))
    assert float(loss(torch.full((1, 1, *SHAPE), 3.0, dtype=torch.float64))) == 0


def test_each_volume_by_its_own_stretch() -> None:
    """Equal sizes count once, a volume without readout not at all."""
    unlike = (Scan(0, 1.0), Scan(0, -0.5))
    assert float(loss(ramp(0.6), unlike)) == pytest.approx((cost(0.6) + cost(0.3)) / 2)
    still = (Scan(0, 1.0), Scan(0, 0.0))
    assert float(loss(ramp(0.6), still)) == pytest.approx(cost(0.6))
    crossed = (Scan(0, 1.0), Scan(0, -1.0), Scan(1, 1.0), Scan(1, -1.0))
    assert float(loss(ramp(0.6), crossed)) == pytest.approx(cost(0.6) / 2)


def test_a_moved_volume_stretches_along_its_own_axis() -> None:
    quarter = torch.tensor([[[0.0, -1.0, 5.0], [1.0, 0.0, 0.0]]], dtype=torch.float64)
    scans = (Scan(1, 0.0), Scan(0, 1.0, quarter))
    assert float(loss(ramp(0.6, 1), scans)) == pytest.approx(cost(0.6))
    assert float(loss(ramp(0.6, 0), scans)) == pytest.approx(0, abs=1e-12)


def test_no_bound_towards_a_fold_and_finite_beyond_it() -> None:
    values = [float(loss(ramp(t))) for t in (0.0, 0.3, 0.6, 0.9, 0.95, 0.99, 1.0, 1.2, 3.0, 1e3)]
    assert values[0] == 0
    assert all(a < b for a, b in pairwise(values))
    assert values[1] < 0.01
    assert values[3] > 3
    assert values[6] == pytest.approx(1 / 0.02)
    assert bool(torch.isfinite(torch.tensor(values)).all())
    beyond = ramp(1.3).requires_grad_(True)
    (grad,) = torch.autograd.grad(loss(beyond).sum(), beyond)
    assert bool(torch.isfinite(grad).all())
    assert float((grad * ramp(1.0)).sum()) > 0  # a descent goes back


def test_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    v = 0.3 * torch.randn((2, 1, 4, 3), generator=generator, dtype=torch.float64)
    scans = (Scan(0, 1.0), Scan(1, -0.7))
    assert torch.autograd.gradcheck(lambda x: loss(x, scans), (v.requires_grad_(True),))


def test_one_value_per_pair() -> None:
    both = torch.cat([ramp(0.2), ramp(0.7)])
    torch.testing.assert_close(
        loss(both), torch.tensor([cost(0.2), cost(0.7)], dtype=torch.float64)
    )


def test_another_stage_has_no_stretches() -> None:
    both = images()
    term = StretchBarrier().bind(both, WIDE)
    model = Compositive()
    bent = model.views(both, model.init(both, Affine.identity(2), WIDE), WIDE)
    linear = Views(both.fixed, both.moving, motion=Pulled(torch.eye(2, 3, dtype=torch.float64)))
    for views in (bent, linear, Views(both.fixed, both.moving)):
        with pytest.raises(InputError, match=r"StretchBarrier: only a phase_encode stage"):
            term(views)
    assert StretchBarrier().reach_vox == 1
