"""The documentation's own term runs as it is printed, and so do a regulariser and features."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Compositive, FeatureExtractor, Source
from fireants_engine.geometry import Grid, Image
from fireants_engine.pipeline import Level, Plan, Pyramid, RunFinished, Stage, run_plan
from fireants_engine.regularise import Regulariser
from fireants_engine.regularise.base import Spacing
from fireants_engine.similarity import SSD


@pytest.fixture
def shifted() -> tuple[Image, Image]:
    """A scene of waves, 2 mm apart along x and -1 along y."""
    y, x = np.mgrid[:64, :72]

    def scene(x: np.ndarray, y: np.ndarray) -> Image:
        blob = np.exp(-((x - 36) ** 2 + 1.7 * (y - 32) ** 2) / 200)
        return Image.from_numpy((blob * (2 + np.sin(x / 5) + np.cos(y / 4))).astype(np.float32))

    return scene(x, y), scene(x - 2, y + 1)


def test_the_documented_term_registers(repo_root: Path, shifted: tuple[Image, Image]) -> None:
    page = (repo_root / "docs" / "how-to" / "terms.md").read_text(encoding="utf-8")
    own = page.partition("## Write your own")[2]
    blocks = re.findall(r"```python\n(.*?)```", own, flags=re.DOTALL)
    assert len(blocks) == 2
    names: dict = {"fixed": shifted[0], "moving": shifted[1], "__name__": "docs"}
    for block in blocks:
        exec(block, names)
    middle = np.array([[36.0, 32.0]])
    np.testing.assert_allclose(names["transform"](middle) - middle, [[2.0, -1.0]], atol=0.1)


@dataclass(frozen=True)
class Length(Regulariser):
    """Mean squared length of the displacement, voxels^2."""

    @property
    def reach_vox(self) -> int:
        return 0

    def energy(self, u: Tensor, spacing: Spacing) -> Tensor:
        return u.square().mean()


@dataclass(frozen=True)
class Inverted(FeatureExtractor):
    """Minus the image."""

    def __call__(self, data: Tensor, grid: Grid, shrink: Callable[[Tensor], Tensor]) -> Tensor:
        return -shrink(data)


@pytest.mark.parametrize("weight", [0.01, 100.0])
def test_a_regulariser_and_features_of_ones_own(weight: float, shifted) -> None:
    terms = (SSD(source=Source(features=Inverted())), Length(weight=weight))
    pyramid = Pyramid((Level(2, 30),))
    plan = Plan((Stage("s", Compositive(), terms, pyramid=pyramid),))
    *_, last = run_plan(plan, *shifted, ExecutionContext())
    assert isinstance(last, RunFinished)
    middle = np.array([[36.0, 32.0]])
    moved = np.linalg.norm(last.result.transform(middle) - middle)
    assert (moved > 1) == (weight < 1)
