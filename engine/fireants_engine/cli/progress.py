"""Progress on stderr: a bar in a terminal, one line per level in a log."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from fireants_engine.pipeline import (
    Control,
    Event,
    Iteration,
    LevelFinished,
    LevelStarted,
    RunFinished,
    StageStarted,
    Warning,
)


class Progress:
    """Shows the events of a run; use as a context manager so that the bar is closed."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.stage = ""
        self.levels = 0
        self.names: list[str] = []
        form = "{l_bar}{bar}| {elapsed}<{remaining} {postfix}"
        self.bar = tqdm(
            total=1.0,
            disable=True if quiet else None,
            bar_format=form,
            leave=False,
            file=sys.stderr,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.close()

    def restart(self, names: Sequence[str], total: int) -> None:
        """Begin the pairs with these names, of `total`, from an empty bar."""
        self.names = list(names)
        self.bar.reset()
        self.say(f"{', '.join(names)} ({total} pairs in all)")

    def say(self, line: str) -> None:
        """A line above the bar."""
        if not self.quiet:
            tqdm.write(line, file=sys.stderr)

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                self.stage = f"{event.stage} ({event.index + 1}/{event.stages})"
            case LevelStarted():
                self.levels = event.levels
                size = "x".join(str(n) for n in event.shape[::-1])
                self.bar.set_description(
                    f"{self.stage} level {event.level + 1}/{event.levels} {size}"
                )
            case Iteration():
                self.bar.set_postfix_str(f"loss {event.loss:.5f}", refresh=False)
                self._advance(event.fraction)
            case LevelFinished():
                self._advance(event.fraction)
                if self.bar.disable:
                    name = f"{self.names[event.pair]}: " if len(self.names) > 1 else ""
                    self.say(
                        f"{name}{self.stage} level {event.level + 1}/{self.levels}: "
                        f"{event.steps} steps, loss {event.loss:.5f}, {event.seconds:.0f} s "
                        f"({event.reason})"
                    )
            case Warning():
                name = f" ({self.names[event.pair]})" if len(self.names) > 1 else ""
                self.say(f"note{name}: {event.message}")
            case RunFinished():
                self._advance(1.0)

    def _advance(self, fraction: float) -> None:
        if fraction > self.bar.n and not self.bar.disable:
            self.bar.update(fraction - self.bar.n)


@contextmanager
def stop_on_interrupt(control: Control, progress: Progress) -> Iterator[None]:
    """Ctrl-C once: stop at the next step and keep the best state. Twice: give up at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        control.stop()
        progress.say("Stopping; the best state so far is saved (Ctrl-C again gives up at once).")

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
