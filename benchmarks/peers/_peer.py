"""What the two peer scripts share. Runs in `.venv-peers`: standard library and SimpleITK only."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that every peer script takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--fixed", type=Path, required=True)
    parser.add_argument("--moving", type=Path, required=True)
    parser.add_argument("--moving-labels", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    return parser


class Clock:
    """Wall seconds of named steps, and the processor seconds of the whole."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self._cpu = time.process_time()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.steps[name] = round(time.perf_counter() - start, 3)

    def summary(self) -> dict[str, object]:
        """`seconds` is the sum of all steps: reading, registering, warping and writing, not importing."""
        return {
            "seconds": round(sum(self.steps.values()), 3),
            "seconds_steps": self.steps,
            "seconds_are": "wall time of read + register + warp image and labels + write; Python import excluded",
            "cpu_seconds": round(time.process_time() - self._cpu, 3),
        }


def peak_mib() -> float:
    """Peak resident memory in MiB.

    `VmHWM` counts this program alone; `ru_maxrss`, the fallback, also counts the launching process
    as it was just before `exec`.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_report(out: Path, report: dict[str, object]) -> None:
    """Writes `peer.json` last and whole: its presence says that the run finished."""
    partial = out / "peer.json.partial"
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.rename(out / "peer.json")
