"""What the peer scripts share. Runs in the peers' environments; needs the standard library only.

Each script registers one pair and writes in `--out`:

`0GenericAffine.mat`    ITK affine, LPS mm, fixed to moving
`1Warp.nii.gz`          ITK displacement, LPS mm; a fixed point goes through it first, then through
                        the affine
`1InverseWarp.nii.gz`   its inverse (a moving point goes through the inverse affine first), where
                        the program makes one
`warped.nii.gz`, and `warped_labels.nii.gz` with `--moving-labels`
`peer.json`             settings, seconds, memory; written last
"""

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
    parser.add_argument("--fixed-mask", type=Path)
    parser.add_argument("--moving-mask", type=Path)
    parser.add_argument("--multimodal", action="store_true", help="the contrasts differ")
    parser.add_argument("--start", choices=["centres", "header"], default="centres")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    return parser


class Clock:
    """Wall seconds of named steps, and the processor seconds of the whole."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.steps[name] = round(time.perf_counter() - wall, 3)
        self.cpu[name] = round(time.process_time() - cpu, 3)

    def summary(self) -> dict[str, object]:
        """Times for `peer.json`; those of warping labels stand apart."""
        pipeline = [name for name in self.steps if name != "labels"]
        return {
            "seconds": round(sum(self.steps[name] for name in pipeline), 3),
            "cpu_seconds": round(sum(self.cpu[name] for name in pipeline), 3),
            "labels_seconds": self.steps.get("labels"),
            "seconds_are": "read, register, warp the image, write; without imports and labels",
            "steps": {
                name: {"seconds": self.steps[name], "cpu_seconds": self.cpu[name]}
                for name in self.steps
            },
        }


def peak_mib() -> float:
    """Peak resident memory of this program in MiB.

    `VmHWM` counts this program alone; `ru_maxrss`, the fallback, starts from the size of the
    process that launched it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_report(args: argparse.Namespace, clock: Clock, **about: object) -> None:
    """Writes `peer.json` last and whole: its presence says that the run finished.

    about: method, version, parameters and precision; threads, times and peak memory are added.
    """
    report = {
        **about,
        "threads": args.threads,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **clock.summary(),
        "peak_mib": round(peak_mib(), 1),
    }
    partial = args.out / "peer.json.partial"
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.rename(args.out / "peer.json")
