"""When to stop: a plateau ends a level, and says why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stop:
    """A level ends when the loss, averaged over the last `window` steps, is better than over the
    window before by less than `tolerance` of the level's whole improvement (LESSONS 1).

    tolerance 0 never stops early.
    """

    tolerance: float = 1e-3
    window: int = 10

    def reached(self, losses: list[float]) -> str | None:
        """The sentence that says why, or None to go on. `losses`: one per step of this level."""
        if self.tolerance <= 0 or len(losses) < 3 * self.window:
            return None
        recent = sum(losses[-self.window :]) / self.window
        before = sum(losses[-2 * self.window : -self.window]) / self.window
        first = max(losses[: self.window])
        span = max(abs(first - min(recent, before)), 1e-12)
        if before - recent < self.tolerance * span:
            return (
                f"plateau: the last {self.window} steps improved the loss by less than "
                f"{self.tolerance:g} of this level's improvement"
            )
        return None
