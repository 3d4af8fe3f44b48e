"""The fit of two sections: less for what is moved; lost pieces do not count."""

from __future__ import annotations

import numpy as np
import pytest

from fireants_engine.transforms import Affine
from fireants_engine.workflows.section_fit import local_fit
from fireants_engine.workflows.sections import section_of
from tests.engine.workflows.section_phantom import BROWN, section


def shifted(x: float) -> Affine:
    return Affine.about(np.eye(2), np.array([x, 0.0]), np.zeros(2))


def test_fits() -> None:
    one, other = section_of(section()), section_of(section(colour=BROWN))
    right, near, off = (local_fit(one, other, shifted(x)) for x in (0, 3, 12))
    assert 1 > right > near > off > 0
    assert local_fit(one, other, shifted(300)) == 0


def test_lost_tissue_does_not_count() -> None:
    whole, torn = section_of(section()), section_of(section(bite=0.3))
    same = local_fit(whole, whole, shifted(0))
    assert local_fit(whole, torn, shifted(0)) == pytest.approx(same, rel=0.1)
