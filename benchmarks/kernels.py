"""Time and memory of every kernel beside plain torch, in one run on one machine.

    python benchmarks/kernels.py [--size 160,192,224] [--threads N] [--device cpu] [--only lncc,mi]
        [--rounds N] [--compile] [--untested]

Forms: `native` (fireants-kernels), `torch` (the engine's reference), `usual` (grids of coordinates,
grouped convolutions, Parzen tables; see `_forms.py`), with --compile also the last under
torch.compile. Every form of every operation is a process of its own, in --rounds turns; the
time is the least of all, the memory what is added to the inputs at its height.
The kernels' tests run first; nothing is reported where one fails.
Writes benchmarks/results/kernels.json (or <gpu>.json); docs/benchmarks.md shows it.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _common import RESULTS, ROOT, machine, status_mib

FORMS = ("native", "torch", "usual", "compiled")


def bandwidth(size: int = 1 << 28) -> float:
    """GB/s that a copy of `size` bytes reads and writes."""
    import torch

    source, target = torch.ones(size // 4), torch.empty(size // 4)
    best = math.inf
    for _ in range(6):
        start = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - start)
    return 2 * size / best / 1e9


def measure(name: str, form: str, shape: tuple[int, ...], repeats: int) -> dict[str, float]:
    """In a process of its own: least seconds of a call, MiB above the inputs at its height."""
    import torch
    from _forms import OPERATIONS, Inputs

    from fireants_engine.kernels import load

    table = {"native": "native", "torch": "reference"}.get(form)
    run = OPERATIONS[name].make(Inputs.make(shape, "cpu"), table and load(table))
    if form == "compiled":
        run = torch.compile(run)
        run()
    before = status_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    run()
    height = status_mib("VmHWM") - before
    best, spent = math.inf, 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        best, spent = min(best, seconds), spent + seconds
        if spent > 20:
            break
    return {"seconds": best, "mib": height}


def tests_pass() -> bool:
    """The kernels' own tests."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/engine/kernels"]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def each(args: argparse.Namespace, names: list[str], forms: list[str]) -> list[dict]:
    """A row per operation and form, the best of all rounds."""
    rows: dict[tuple[str, str], dict] = {}
    for number in range(args.rounds):
        for name in names:
            for form in forms:
                if number and rows[name, form]["seconds"] > 5:
                    continue
                part = ["--one", f"{name}:{form}", "--size", args.size]
                command = [sys.executable, __file__, *part, "--threads", str(args.threads)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"{name} as {form} failed:\n{done.stderr[-2000:]}")
                row = {"operation": name, "form": form, **json.loads(done.stdout)}
                known = rows.setdefault((name, form), row)
                known["seconds"] = min(known["seconds"], row["seconds"])
                print(f"{name:<10} {form:<9} {row['seconds'] * 1e3:9.1f} ms {row['mib']:8.0f} MiB")
    return list(rows.values())


def main() -> int:
    from _forms import OPERATIONS

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="160,192,224")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default=",".join(OPERATIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="also under torch.compile")
    parser.add_argument("--untested", action="store_true", help="try out; writes no results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    shape = tuple(int(n) for n in args.size.split(","))
    if args.one:
        import torch

        torch.set_num_threads(args.threads)
        print(json.dumps(measure(*args.one.split(":"), shape, repeats=10)))
        return 0
    if not args.untested and not tests_pass():
        print("The kernels' tests fail: nothing is reported.", file=sys.stderr)
        return 1
    names = args.only.split(",")
    rows = each(args, names, [f for f in FORMS if f != "compiled" or args.compile])
    volume = math.prod(shape) * 4
    speed = bandwidth()
    for row in rows:
        row["title"] = OPERATIONS[row["operation"]].title
        row["least_gb"] = OPERATIONS[row["operation"]].least * volume / 1e9
    result = {
        "machine": machine(args.threads),
        "size": list(shape),
        "bandwidth_gb_s": speed,
        "rows": rows,
    }
    if not args.untested:
        (RESULTS / "kernels.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
