"""The heavier a regulariser, the less of its energy is left in the warp, over 3.5 decades.

Thesis 4.5.6, Fig. 4.8b; `benchmarks/regularisers.py` does the same on a brain.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Compositive
from fireants_engine.geometry import Image
from fireants_engine.optimise import Adam, Stop
from fireants_engine.pipeline import Level, Plan, Pyramid, RunFinished, Stage, run_plan
from fireants_engine.regularise import (
    Bending,
    Diffusion,
    Elastic,
    JacobianPenalty,
    Laplacian,
    Regulariser,
)
from fireants_engine.similarity import SSD
from fireants_engine.transforms import Chain, Displacement

RELATIVE = (0.01, 0.0316, 0.1, 0.316, 1.0, 3.16, 10.0, 31.6)
"""1: on the warp found without it, the term costs about as much as that warp gained in SSD."""
GAIN = 0.05
FAMILIES = [
    Diffusion(),
    Diffusion(power=1),
    Elastic(),
    Laplacian(),
    Bending(),
    JacobianPenalty(),
]


@pytest.fixture(scope="module")
def discs() -> tuple[Image, Image]:
    y, x = np.mgrid[:36, :40]
    ring = np.hypot(y - 18, x - 20)
    scenes = [1 / (1 + np.exp(2 * (ring - radius))) for radius in (6.0, 9.0)]
    fixed, moving = (Image.from_numpy(scene.astype(np.float32)) for scene in scenes)
    return fixed, moving


def warp_of(images: tuple[Image, Image], terms: tuple) -> Displacement:
    """The warp after all steps of one level, with nothing but the terms to hold it."""
    model = Compositive(sigma_warp_mm=0.0, warp_floor_vox=0.0)
    levels, stop = Pyramid((Level(1, 60),)), Stop(tolerance=0.0)
    stage = Stage("s", model, terms, Adam(0.5, decay=0.05), levels, stop)
    *_, last = run_plan(Plan((stage,)), *images, ExecutionContext())
    assert isinstance(last, RunFinished)
    transform = last.result.transform
    assert isinstance(transform, Chain)
    assert isinstance(transform.parts[0], Displacement)
    return transform.parts[0]


@pytest.mark.parametrize(
    "term",
    FAMILIES,
    ids=["diffusion", "total variation", "elastic", "laplacian", "bending", "jacobian"],
)
def test_energy_falls_as_the_weight_rises(term: Regulariser, discs: tuple[Image, Image]) -> None:
    """Down to 0, where no state beats the identity (total variation and elastic, from 10)."""

    def energy(terms: tuple) -> float:
        warp = warp_of(discs, terms)
        return float(term.energy(warp.u, warp.grid.spacing_zyx))

    free = energy((SSD(),))
    weights = [relative * GAIN / free for relative in RELATIVE]
    energies = [free, *(energy((SSD(), replace(term, weight=weight))) for weight in weights)]
    assert all(b < a or a == b == 0 for a, b in pairwise(energies)), energies
    assert energies[-1] < 0.02 * free
