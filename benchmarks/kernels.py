"""Time and memory of every kernel beside plain torch, in one run on one machine.

    python benchmarks/kernels.py [--size 160,192,224] [--threads N] [--only lncc,mi] [--rounds N]
        [--compile] [--packages] [--untested]

Forms: `native` (fireants-kernels), `torch` (the engine's reference), `torch-thp` (the same where
torch asks for huge pages), `usual` (grids of coordinates, grouped convolutions, Parzen tables; see
`_forms.py`), with --compile also the last under torch.compile, with --packages also public packages
(`_packages.py`; first `benchmarks/peers/setup.sh packages`). Every form of every operation is a
process of its own, in --rounds turns; the time is the least of all, the memory what is added to the
inputs at its height. A form that fails, or needs more memory than is free, is kept with its reason.
The kernels' tests run first; nothing is reported where one fails.
Writes benchmarks/results/kernels.json; docs/benchmarks.md shows it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _common import RESULTS, ROOT, available_mib, machine, scrub, status_mib, version_of

FORMS = ("native", "torch", "torch-thp", "usual", "compiled")
TABLES = {"native": "native", "torch": "reference", "torch-thp": "reference"}
PACKAGES = ROOT / ".venv-peers-packages" / "bin" / "python"
TINY = 24
"""Voxels per axis of the first call."""
LIMIT_S = 1800


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


def inputs_of(shape: tuple[int, ...], kept: Path | None = None) -> Any:
    """Inputs of this shape, made now or by the process that keeps them for all forms."""
    from _forms import Inputs

    return Inputs.load(kept) if kept else Inputs.make(shape, "cpu")


def prepare(name: str, form: str, shape: tuple[int, ...], kept: Path | None) -> Callable[[], Any]:
    """The form on inputs of a shape, called once on tiny ones (torch.compile: on these)."""
    import torch
    from _forms import OPERATIONS

    from fireants_engine.kernels import load

    table = load(TABLES[form]) if form in TABLES else None
    if form == "compiled":
        run = torch.compile(OPERATIONS[name].make(inputs_of(shape, kept), table))
        run()  # tiny ones would be compiled for other shapes
        return run
    OPERATIONS[name].make(inputs_of((TINY,) * len(shape)), table)()
    return OPERATIONS[name].make(inputs_of(shape, kept), table)


def prepare_package(
    name: str, form: str, shape: tuple[int, ...], kept: Path | None
) -> tuple[Callable[[], Any], float | None]:
    """A package's form, and how far its result on tiny inputs is from ours; ValueError if far."""
    from _packages import PEERS, check

    difference = check(name, form, (TINY,) * len(shape))
    return PEERS[name][form].make(inputs_of(shape, kept)), difference


def measure(
    name: str, form: str, shape: tuple[int, ...], kept: Path | None, repeats: int = 10
) -> dict[str, Any]:
    """In a process of its own: least seconds of a call, MiB above the inputs at its height.

    The form has been called before, on tiny inputs: libraries and code that the very first call
    loads do not count, only what grows with the volume.
    """
    free = int(0.9 * available_mib() * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (free, free))  # it fails alone, not the machine
    about = {}
    if form in FORMS:
        run = prepare(name, form, shape, kept)
    else:
        run, about["difference"] = prepare_package(name, form, shape, kept)
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
    return about | {"seconds": best, "mib": height}


def tests_pass() -> bool:
    """The kernels' own tests."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/engine/kernels"]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def alone(name: str, form: str, size: str, threads: int, kept: Path) -> dict[str, Any]:
    """`measure` in a process of its own, or {"failed": why}."""
    environment = dict(os.environ)
    python = sys.executable
    if form == "torch-thp":
        environment["THP_MEM_ALLOC_ENABLE"] = "1"
    if form not in FORMS:
        python = str(PACKAGES)
        environment["PYTHONPATH"] = str(ROOT / "engine")
        environment["OMP_NUM_THREADS"] = str(threads)
        environment["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
    part = ["--one", f"{name}:{form}", "--size", size, "--threads", str(threads)]
    part += ["--inputs", str(kept)]
    try:
        done = subprocess.run(
            [python, __file__, *part],
            capture_output=True,
            text=True,
            env=environment,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not ready after {LIMIT_S} s"}
    if done.returncode < 0:
        return {"failed": f"killed by signal {-done.returncode}"}
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"failed": reason(done.stderr)}


def reason(text: str) -> str:
    """The last line of an error without this machine's paths."""
    lines = [line for line in text.splitlines() if line.strip()]
    return scrub(lines[-1])[:300] if lines else "no output"


def one(name: str, form: str, shape: tuple[int, ...], kept: Path | None) -> dict[str, Any]:
    """`measure`, or why it failed."""
    try:
        return measure(name, form, shape, kept)
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        return {"failed": scrub(f"{type(error).__name__}: {first}")[:300]}


def each(forms: dict[str, list[str]], size: str, threads: int, rounds: int) -> list[dict]:
    """A row per operation and form, the best of all rounds; SystemExit where `native` fails."""
    with TemporaryDirectory() as folder:
        kept = Path(folder) / "inputs.npz"
        inputs_of(tuple(map(int, size.split(",")))).save(kept)
        return _rounds(forms, rounds, lambda name, form: alone(name, form, size, threads, kept))


def _rounds(
    forms: dict[str, list[str]], rounds: int, measured: Callable[[str, str], dict[str, Any]]
) -> list[dict]:
    rows: dict[tuple[str, str], dict] = {}
    for number in range(rounds):
        for name, form in [(name, form) for name, own in forms.items() for form in own]:
            known = rows.get((name, form), {"seconds": 0.0})
            if number and ("failed" in known or known["seconds"] > 5):
                continue
            row = {"operation": name, "form": form, **measured(name, form)}
            known = rows.setdefault((name, form), row)
            if "failed" in row:
                if form == "native":
                    raise SystemExit(f"{name} as {form} failed: {row['failed']}")
                rows[name, form] = row
                told = f"failed: {row['failed']}"
            else:
                known["seconds"] = min(known["seconds"], row["seconds"])
                told = f"{row['seconds'] * 1e3:9.1f} ms {row['mib']:8.0f} MiB"
            print(f"{name:<10} {form:<14} {told}", flush=True)
    return list(rows.values())


def installed() -> dict[str, str]:
    """Versions in the environment of --packages; SystemExit where it is not ready."""
    from _packages import PEERS

    peers = [peer for own in PEERS.values() for peer in own.values()]
    wanted, done = list(dict.fromkeys(["torch", *(peer.package for peer in peers)])), None
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    if PACKAGES.exists():
        done = subprocess.run([PACKAGES, "-c", code, *wanted], capture_output=True, text=True)
    if done is None or done.returncode:
        raise SystemExit(
            "The public packages are not installed: run `benchmarks/peers/setup.sh packages` first."
        )
    found = dict(zip(wanted, done.stdout.split(), strict=True))
    if found["torch"] != version_of("torch"):
        raise SystemExit(
            f"The packages have torch {found['torch']}, the kernels {version_of('torch')}: they "
            "would not be comparable; install one version in both environments."
        )
    return found


def chosen(names: list[str], compiled: bool, packages: bool) -> dict[str, list[str]]:
    """Operation -> its forms."""
    from _packages import PEERS

    own = [form for form in FORMS if form != "compiled" or compiled]
    return {name: own + list(PEERS.get(name, ()) if packages else ()) for name in names}


def described(row: dict, volume: int, versions: dict[str, str]) -> dict:
    """A row with the words and figures that the page needs; volume: bytes of one channel."""
    from _forms import OPERATIONS
    from _packages import PEERS

    name, form = row["operation"], row["form"]
    operation = OPERATIONS[name]
    row |= {"title": operation.title, "least_gb": operation.least * volume / 1e9}
    if form not in FORMS:
        peer = PEERS[name][form]
        row |= {"package": peer.package, "version": versions[peer.package]}
        row |= {"what": peer.what, "differs": peer.differs}
    return row


def command(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """How to come to these results again."""
    words = ["python", "benchmarks/kernels.py"]
    for name in ("size", "threads", "only", "rounds"):
        value = getattr(args, name)
        if value != parser.get_default(name):
            words += [f"--{name}", str(value)]
    words += [f"--{name}" for name in ("compile", "packages", "untested") if getattr(args, name)]
    return shlex.join(words)


def main() -> int:
    from _forms import OPERATIONS

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="160,192,224")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default=",".join(OPERATIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="also under torch.compile")
    parser.add_argument("--packages", action="store_true", help="also public packages")
    parser.add_argument("--untested", action="store_true", help="try out; writes no results")
    parser.add_argument("--out", type=Path, default=None, help="another file for the results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    shape = tuple(int(n) for n in args.size.split(","))
    if args.one:
        import torch

        torch.set_num_threads(args.threads)
        name, form = args.one.split(":")
        print(json.dumps(one(name, form, shape, args.inputs)))
        return 0
    forms = chosen(args.only.split(","), args.compile, args.packages)
    versions = installed() if args.packages else {}
    if not args.untested and not tests_pass():
        print("The kernels' tests fail: nothing is reported.", file=sys.stderr)
        return 1
    rows = each(forms, args.size, args.threads, args.rounds)
    volume = math.prod(shape) * 4
    rows = [described(row, volume, versions) for row in rows]
    result = {
        "machine": machine(args.threads),
        "command": command(args, parser),
        "size": list(shape),
        "bandwidth_gb_s": bandwidth(),
        "rows": rows,
    }
    out = args.out or (None if args.untested else RESULTS / "kernels.json")
    if out:
        out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
