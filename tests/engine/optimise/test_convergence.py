"""Stop: a plateau ends a level and says why (LESSONS 1)."""

from __future__ import annotations

import numpy as np
import pytest

from fireants_engine.optimise import Stop


def stops_at(losses: list[float], stop: Stop) -> int | None:
    """The step at which a run that shows `losses` one by one would end."""
    return next((n for n in range(1, len(losses) + 1) if stop.reached(losses[:n])), None)


def falling_to_a_plateau(n: int, floor: float = 0.2) -> list[float]:
    return [floor + np.exp(-i / 8) for i in range(n)]


def test_a_plateau_stops_and_says_why() -> None:
    why = Stop().reached(falling_to_a_plateau(200))
    assert why is not None
    assert "plateau" in why
    assert "10 steps" in why
    assert "0.001" in why


@pytest.mark.parametrize("floor", [-5.0, 0.0, 0.2, 100.0])
def test_the_plateau_is_seen_soon_wherever_the_loss_lies(floor: float) -> None:
    at = stops_at(falling_to_a_plateau(300, floor), Stop())
    assert at is not None
    assert 40 <= at <= 90  # exp(-i/8) has fallen to 1e-3 by step 56


def test_a_flat_loss_stops_at_the_first_look() -> None:
    assert stops_at([0.3] * 100, Stop(window=10)) == 30


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, -3.0])
def test_a_steadily_falling_loss_does_not_stop(scale: float, offset: float) -> None:
    line = [scale * (offset + 1 - 0.001 * i) for i in range(900)]
    assert stops_at(line, Stop()) is None


@pytest.mark.parametrize("seed", range(5))
def test_noise_stops(seed: int) -> None:
    """A loss that only jitters has nothing more to give."""
    jitter = list(0.5 + 0.01 * np.random.default_rng(seed).normal(size=300))
    assert stops_at(jitter, Stop()) is not None


@pytest.mark.parametrize("seed", range(5))
def test_noise_on_a_falling_loss_does_not_stop_it(seed: int) -> None:
    noise = 0.002 * np.random.default_rng(seed).normal(size=200)
    assert stops_at(list(1 - 0.002 * np.arange(200) + noise), Stop()) is None


def test_a_rising_loss_stops() -> None:
    assert stops_at([0.1 + 0.01 * i for i in range(100)], Stop()) is not None


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_the_loss_does_not_matter(scale: float) -> None:
    losses = falling_to_a_plateau(300)
    assert stops_at([scale * x for x in losses], Stop()) == stops_at(losses, Stop())


def test_a_larger_tolerance_stops_earlier_and_none_never() -> None:
    losses = falling_to_a_plateau(300)
    early, late = stops_at(losses, Stop(tolerance=0.05)), stops_at(losses, Stop(tolerance=1e-4))
    assert early is not None
    assert late is not None
    assert early < late
    assert stops_at([0.5] * 500, Stop(tolerance=0)) is None


def test_it_needs_three_windows_before_it_judges() -> None:
    assert Stop(window=20).reached([1.0] * 59) is None
    assert Stop(window=20).reached([1.0] * 60) is not None
