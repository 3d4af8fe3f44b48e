"""The CUDA kernels on a GPU: their tests, compute-sanitizer, times, a whole registration.

    make gpu-check PYTHON=python3
    python benchmarks/gpu_check.py [--device cuda:0] [--size 256,256,256] [--shapes 160,192,224
        512,512,512] [--only tests,sanitizer,kernels,registration] [--out NAME]

Needs a Python with a CUDA build of torch, numpy and pytest, and no network. Nothing is timed where
a test fails. Writes benchmarks/results/<gpu>.json after every step, so that a run that is cut off
leaves what it had. With --device cpu it tries itself out on the CPU's kernels.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _checkout import ROOT, SOURCES
from _forms import OPERATIONS, Inputs

TESTS = "tests/engine/kernels"
ON_DEVICE = ("warp", "descent", "lncc", "parzen", "jacobian", "labels")
LEVELS = ((4.0, 200), (2.0, 100), (1.0, 50))


def environment(device: str) -> dict[str, str]:
    """For processes that test on `device`."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(SOURCES), "FIREANTS_TEST_DEVICE": device}


def pytest(device: str, *more: str, wrapper: tuple[str, ...] = ()) -> dict[str, Any]:
    """The CUDA kernels' tests on the device; without the project's own plugins and settings."""
    files = [f"{TESTS}/test_cuda_{name}.py" for name in ON_DEVICE]
    options = ["-q", "--noconftest", "-c", os.devnull, "--rootdir", str(ROOT)]
    options += ["--import-mode=importlib", "-p", "no:cacheprovider", *more]
    command = [*wrapper, sys.executable, "-m", "pytest", *options, *files]
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=environment(device), capture_output=True, text=True
    )
    print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
    last = [line for line in done.stdout.splitlines() if re.search(r"\d+ (passed|failed)", line)]
    return {
        "exit_code": done.returncode,
        "summary": last[-1].strip("= ") if last else "no test ran",
        "seconds": round(time.perf_counter() - start, 1),
    }


def sanitizer(device: str) -> dict[str, Any]:
    """compute-sanitizer on the smallest shapes, where it is installed."""
    tool = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )
    if tool is None:
        return {"summary": "compute-sanitizer is not installed here"}
    found = {}
    for check in ("memcheck", "racecheck", "initcheck"):
        wrapper = (tool, "--tool", check, "--error-exitcode", "99", "--target-processes", "all")
        found[check] = pytest(device, "-k", "single or smallest", "-x", wrapper=wrapper)
    return found


class Clock:
    """Seconds and memory of work on a device."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.cuda = self.device.type == "cuda"

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def best(self, run: Any, repeats: int = 20) -> float:
        """Least seconds of a call; several are put on the device before it is waited for."""
        run()
        self.wait()
        best, spent = math.inf, 0.0
        while spent < 2 and repeats:
            start = time.perf_counter()
            for _ in range(5 if self.cuda else 1):
                run()
            self.wait()
            took = time.perf_counter() - start
            best = min(best, took / (5 if self.cuda else 1))
            spent, repeats = spent + took, repeats - 1
        return best

    def once(self, run: Any) -> tuple[float, float | None]:
        """Seconds of a call, and the MiB that it adds at its height by torch's own count."""
        before = 0
        if self.cuda:
            self.wait()
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
        start = time.perf_counter()
        run()
        self.wait()
        seconds = time.perf_counter() - start
        if not self.cuda:
            return seconds, None
        return seconds, round((torch.cuda.max_memory_allocated(self.device) - before) / 2**20, 1)

    def bandwidth(self, size: int) -> float:
        """GB/s that a copy reads and writes."""
        source = torch.ones(size // 4, device=self.device)
        target = torch.empty_like(source)
        return 2 * size / self.best(lambda: target.copy_(source)) / 1e9


def kernels(device: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Every operation as fused kernels, as the engine's torch, and as is usual."""
    from fireants_engine.kernels import load

    clock, rows = Clock(device), []
    speed = clock.bandwidth(1 << (30 if clock.cuda else 26))
    forms = {"fused": load("cuda" if clock.cuda else "native"), "torch": load("reference")}
    forms["usual"] = None
    inputs = Inputs.make(shape, device)
    for name, operation in OPERATIONS.items():
        least = operation.least * math.prod(shape) * 4 / 1e9
        for form, table in forms.items():
            try:
                run = operation.make(inputs, table)
                seconds, mib = clock.best(run), clock.once(run)[1]
            except torch.OutOfMemoryError:
                seconds, mib = math.nan, None
            share = least / seconds / speed
            row = {"operation": name, "form": form, "ms": 1e3 * seconds, "mib": mib}
            rows.append(row | {"share_of_bandwidth": share})
            told = f"{1e3 * seconds:9.3f} ms  {share:5.0%}  {mib} MiB"
            print(f"{name:<10} {form:<6} {told}", flush=True)
    return {"size": list(shape), "bandwidth_gb_s": speed, "rows": rows}


def phantom(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """A smooth textured ball, and itself moved by a smooth warp of a few voxels."""
    from fireants_engine.geometry import Grid, Image
    from fireants_engine.kernels import load

    reference, dim = load("reference"), len(shape)
    generator = torch.Generator().manual_seed(1)
    coarse = [max(4, n // 8) for n in shape]

    def smooth(channels: int) -> torch.Tensor:
        field = torch.randn((1, channels, *coarse), generator=generator)
        field = reference.smooth(field, [2.0] * dim)
        mode = "trilinear" if dim == 3 else "bilinear"
        wide = torch.nn.functional.interpolate(field, shape, mode=mode, align_corners=True)
        return wide / wide.abs().max()

    radius = torch.zeros(shape)
    for axis, n in enumerate(shape):
        place = [-1 if k == axis else 1 for k in range(dim)]
        radius = radius + torch.linspace(-1, 1, n).square().view(place)
    moving = torch.sigmoid((0.6 - radius) * 20)[None, None] * (1 + smooth(1))
    eye = torch.eye(dim, dim + 1)
    fixed = reference.warp(moving, eye, shape, 5 * smooth(dim), border=True)
    grid = Grid(shape[::-1], (1.0,) * dim, (0.0,) * dim, np.eye(dim))
    return Image(fixed[0], grid, name="fixed"), Image(moving[0], grid, name="moving")


def registration(device: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """A greedy LNCC run of three levels, built without recipes, its second time counted."""
    from fireants_engine.context import ExecutionContext
    from fireants_engine.deformations import Compositive
    from fireants_engine.kernels import load
    from fireants_engine.optimise import Adam, Stop
    from fireants_engine.pipeline import Level, Plan, Pyramid, Stage
    from fireants_engine.pipeline.run import run_plan
    from fireants_engine.similarity import LNCC

    clock = Clock(device)
    table = load("cuda" if clock.cuda else "native")
    ctx = ExecutionContext(device=clock.device, kernels=table, why="gpu_check")
    stage = Stage(
        "greedy",
        Compositive(),
        (LNCC(radius_vox=2),),
        Adam(step=0.5),
        Pyramid(tuple(Level(shrink, steps) for shrink, steps in LEVELS)),
        Stop(tolerance=0.0),
    )
    fixed, moving = phantom(shape)
    found: dict[str, Any] = {"size": list(shape), "levels": [list(level) for level in LEVELS]}

    def once() -> None:
        events = list(run_plan(Plan((stage,)), fixed, moving, ctx))
        ends = [e for e in events if type(e).__name__ == "LevelFinished"]
        found["losses"] = [e.loss for e in ends]
        found["folds"] = [e.folds for e in ends]
        found["steps"] = [e.steps for e in ends]

    try:
        once()
        found["seconds"], found["peak_mib"] = clock.once(once)
    except Exception as error:  # told in the result: the next size still runs
        found["error"] = f"{type(error).__name__}: {error}"
    print(found, flush=True)
    return found


def about(device: str) -> dict[str, Any]:
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def sizes(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(","))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--size", type=sizes, default=(256, 256, 256))
    parser.add_argument("--shapes", type=sizes, nargs="+", default=[(160, 192, 224), (512,) * 3])
    parser.add_argument("--only", default="tests,sanitizer,kernels,registration")
    parser.add_argument("--out", type=Path, help="the file to write")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("No CUDA device is here (torch.cuda.is_available() is false).", file=sys.stderr)
        return 2
    head, wanted = about(args.device), args.only.split(",")
    slug = re.sub(r"[^a-z0-9]+", "-", (head["gpu"] or "cpu").lower()).strip("-")
    path = args.out or ROOT / "benchmarks" / "results" / f"{slug}.json"
    result: dict[str, Any] = {"machine": head}

    def keep(name: str, value: Any) -> None:
        result[name] = value
        path.write_text(json.dumps(result, indent=1) + "\n")

    if "tests" in wanted:
        keep("tests", pytest(args.device))
        if result["tests"]["exit_code"]:
            print("The kernels' tests fail: nothing is timed.", file=sys.stderr)
            return 1
    if "sanitizer" in wanted:
        keep("sanitizer", sanitizer(args.device))
    if "kernels" in wanted:
        keep("kernels", kernels(args.device, args.size))
    if "registration" in wanted:
        keep("registration", [])
        for shape in args.shapes:
            keep("registration", [*result["registration"], registration(args.device, shape)])
    print(f"written: {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
