"""Does the window last? Random clicks, hundreds of runs in one session, and how soon docks open.

    python benchmarks/endurance.py [--seeds 5] [--actions 300] [--runs 200] [--only monkey,...]

Three parts, each in processes of its own: `monkey` (tests/gui/monkey.py, one process per seed),
`memory` (so many runs of a tiny pair through the Register dock, every dock open, landmarks,
previews and history on; resident memory after a collection), and `docks` (each opened in a fresh
napari). Without a display the script starts Xvfb itself. Results go to
benchmarks/results/endurance.json and, as a table, to the terminal.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _common import RESULTS, ROOT, in_window, machine, status_mib

sys.path.insert(0, str(ROOT))

PARTS = ("docks", "memory", "monkey")
TENTH = 10
GROWTH_PERCENT, OPEN_MS = 5.0, 300
EVERY = 10
MARK = "ENDURANCE "


# ------------------------------------------------------------------ inside a window
def monkey(seed: int, actions: int) -> dict[str, Any]:
    """So many actions of one seed in a shown window."""
    import napari

    from tests.gui.monkey import play
    from tests.gui.window import open_docks

    viewer = napari.Viewer(show=True)
    panels = open_docks(viewer)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        done, found = play(viewer, panels, Path(folder), seed, actions)
    seconds = round(time.perf_counter() - began, 1)
    viewer.close()
    return {"seed": seed, "actions": len(done), "found": found, "seconds": seconds}


def memory(runs: int) -> dict[str, Any]:
    """Resident memory in MiB after every tenth run, and what is still alive of their results."""
    import napari

    from tests.gui.window import Sequel, open_docks, pump

    viewer = napari.Viewer(show=True)
    panels = open_docks(viewer)
    sequel = Sequel(viewer, panels)
    resident: dict[int, float] = {}
    for number in range(1, runs + 1):
        sequel.run()
        if number % EVERY == 0:
            pump(0.5)
            gc.collect()
            resident[number] = round(status_mib("VmRSS"), 1)
    alive, kept = sequel.alive(), panels["Register"].controller.history.in_memory
    viewer.close()
    return {"runs": runs, "resident_mib": resident, "results_alive": alive, "results_kept": kept}


def dock(name: str) -> dict[str, Any]:
    """Milliseconds until a dock of a fresh napari has been painted, and whether torch came."""
    import napari
    from napari.qt import get_qapp

    viewer = napari.Viewer(show=True)
    for _ in range(20):
        get_qapp().processEvents()
        time.sleep(0.02)
    began = time.perf_counter()
    viewer.window.add_plugin_dock_widget("napari-fireants", name)
    get_qapp().processEvents()
    took = 1000 * (time.perf_counter() - began)
    viewer.close()
    return {"dock": name, "ms": round(took), "torch": "torch" in sys.modules}


# ------------------------------------------------------------------ outside
def inside(*words: object) -> dict[str, Any]:
    """Run a part of this script in a process with a screen of its own."""
    return in_window([sys.executable, __file__, "--inside", *map(str, words)], MARK)


def part_docks(_: argparse.Namespace) -> tuple[Any, list[dict[str, str]]]:
    from tests.gui.window import DOCKS

    for name in DOCKS:
        inside("dock", name)  # leaves compiled modules
    found = {name: [inside("dock", name) for _ in range(3)] for name in DOCKS}
    rows = [
        {
            "what": f"the {name} dock opens",
            "value": f"{statistics.median(x['ms'] for x in tries):.0f} ms"
            + " with torch" * any(x["torch"] for x in tries),
            "limit": f"< {OPEN_MS} ms, without torch",
        }
        for name, tries in found.items()
    ]
    return found, rows


def part_memory(args: argparse.Namespace) -> tuple[Any, list[dict[str, str]]]:
    found = inside("memory", args.runs)
    resident = found["resident_mib"]
    first, last = resident[str(TENTH)], list(resident.values())[-1]
    grown = 100 * (last / first - 1)
    rows = [
        {
            "what": f"resident memory after {args.runs} runs, against that after the tenth",
            "value": f"{last:.0f} MiB against {first:.0f} MiB: {grown:+.1f} %",
            "limit": f"< {GROWTH_PERCENT:g} % more",
        },
        {
            "what": "results of these runs still in memory",
            "value": str(found["results_alive"]),
            "limit": f"{found['results_kept']}, the newest",
        },
    ]
    return found, rows


def part_monkey(args: argparse.Namespace) -> tuple[Any, list[dict[str, str]]]:
    found = [inside("monkey", seed, args.actions) for seed in range(args.seeds)]
    for each in found:
        for text in each["found"]:
            print(f"seed {each['seed']}: {text}")
    row = {
        "what": f"random clicks and edits, {args.seeds} seeds of {args.actions}: what went wrong",
        "value": str(sum(len(each["found"]) for each in found)),
        "limit": "nothing",
    }
    return found, [row]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--actions", type=int, default=300)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        what, *words = args.inside
        given: list[Any] = [int(w) if w.isdigit() else w for w in words]
        parts: dict[str, Callable[..., Any]] = {"monkey": monkey, "memory": memory, "dock": dock}
        print(MARK + json.dumps(parts[what](*given)))
        return
    path = RESULTS / "endurance.json"
    document = json.loads(path.read_text()) if path.is_file() else {"parts": {}}
    parts = {"docks": part_docks, "memory": part_memory, "monkey": part_monkey}
    for name in args.only.split(","):
        found, rows = parts[name](args)
        document["parts"][name] = {"rows": rows, "found": found}
        for row in rows:
            print(f"{row['what']}: {row['value']} (limit {row['limit']})")
    document = {"machine": machine(), "parts": document["parts"]}
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
