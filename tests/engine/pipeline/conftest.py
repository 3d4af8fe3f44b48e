"""Phantoms with a known truth, and a way to run stages to the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.geometry import Grid, Image
from fireants_engine.pipeline import Event, Iteration, Plan, RunFinished, RunOutput, run_plan
from fireants_engine.similarity import Loss, Term


@dataclass(frozen=True)
class Blobs:
    """An asymmetric intensity over space, in mm: smooth blobs, zero far away; any dimension."""

    dim: int
    radius_mm: float = 16.0
    seed: int = 0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(self.seed)
        shape = np.array([1.0, 0.72, 0.55])[: self.dim]
        inside = ((points / (self.radius_mm * shape)) ** 2).sum(-1)
        out = 0.6 / (1 + np.exp(4 * (inside - 1)))
        for _ in range(9):
            centre = rng.uniform(-0.55, 0.55, self.dim) * self.radius_mm * shape
            width = rng.uniform(0.18, 0.3) * self.radius_mm
            height = rng.uniform(-0.5, 0.8)
            out = out + height * np.exp(-((points - centre) ** 2).sum(-1) / (2 * width**2))
        return out

    def image(self, grid: Grid, inverse: Callable | None = None, name: str = "image") -> Image:
        """The blobs sampled on `grid`, moved by a map whose inverse is given."""
        points = grid.points_mm()
        points = points if inverse is None else inverse(points)
        return Image.from_numpy(
            self(points).reshape(grid.shape).astype(np.float32), grid, name=name
        )

    def inside_mm(self, count: int = 500) -> np.ndarray:
        """Points of the object."""
        rng = np.random.default_rng(1)
        points = rng.uniform(-1, 1, (20 * count, self.dim))
        points = points[(points**2).sum(1) < 0.8][:count]
        return points * self.radius_mm * np.array([1.0, 0.72, 0.55])[: self.dim]


def centred(
    size: Sequence[int], spacing: Sequence[float], direction: np.ndarray | None = None
) -> Grid:
    """A grid whose field of view is centred on the origin of the world."""
    direction = np.eye(len(size)) if direction is None else direction
    middle = direction @ (np.asarray(spacing) * (np.asarray(size) - 1) / 2)
    return Grid(tuple(size), tuple(spacing), tuple(-middle), direction)


@dataclass
class Ran:
    """A run to its end."""

    events: list[Event]
    output: RunOutput

    def of(self, kind: type) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]

    @property
    def losses(self) -> list[float]:
        return [x for e in self.of(Iteration) for x in e.losses]


def run_to_end(plan: Plan, fixed: Image, moving: Image, control: Any = None) -> Ran:
    events = list(run_plan(plan, fixed, moving, ExecutionContext(), control))
    assert isinstance(events[-1], RunFinished)
    return Ran(events, events[-1].result)


@dataclass(frozen=True)
class Scripted(Term):
    """SSD, times what `script(call number, shape)` says: the way to inject faults."""

    script: Callable[[int, tuple[int, ...]], float]

    @property
    def reach_vox(self) -> int:
        return 0

    def bind(self, pair: Pair, ctx: ExecutionContext) -> Loss:
        calls = iter(range(10**9))

        def loss(views: Views) -> Tensor:
            factor = self.script(next(calls), tuple(views.fixed.shape[2:]))
            return factor * ((views.fixed - views.moving) ** 2).mean()

        return loss


@pytest.fixture(scope="session")
def blobs() -> type[Blobs]:
    return Blobs


@pytest.fixture(scope="session")
def centred_grid() -> Callable[..., Grid]:
    return centred


@pytest.fixture(scope="session")
def ran() -> Callable[..., Ran]:
    """`ran(plan, fixed, moving)`: all events of a run and its output."""
    return run_to_end


@pytest.fixture(scope="session")
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture(scope="session")
def ctx() -> ExecutionContext:
    return ExecutionContext()


@pytest.fixture(scope="session")
def small_pair() -> tuple[Image, Image]:
    """A 2D pair, 40 x 36, a few mm and degrees apart."""
    shape, grid = Blobs(2), centred((40, 36), (1.1, 1.0))
    turn = np.array([[np.cos(0.12), -np.sin(0.12)], [np.sin(0.12), np.cos(0.12)]])
    moving = shape.image(grid, lambda y: (y - [1.5, -1.0]) @ turn, name="moving")
    return shape.image(grid, name="fixed"), moving


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)
