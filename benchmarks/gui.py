"""Does the window answer during a run? Heartbeat, previews and stop, on the packaged brains.

    python benchmarks/gui.py [--runs 3]

Each run is tests/e2e/heartbeat.py in a process of its own: napari is shown, the sample pair opened,
Register pressed, and a timer of 10 ms beats on the GUI thread until a second after the end, the
import of torch included. A second registration is stopped in its last stage; a third is edited
while it runs and while it is paused. Without a display the script starts Xvfb itself. Results go to
benchmarks/results/gui.json and, as a table, to the terminal: the median of the runs, and the worst.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from _common import RESULTS, ROOT, in_window, machine

HEARTBEAT = ROOT / "tests" / "e2e" / "heartbeat.py"


def one_run() -> dict:
    return in_window([sys.executable, str(HEARTBEAT), "--edits"], "HEARTBEAT ")


def edit_rows(found: list[dict]) -> list[dict]:
    """From edits to the previews that follow them, and pauses meanwhile."""
    rows = []
    for name in found[0]["effect_ms"]:
        times = [each["effect_ms"][name] for each in found]
        seen = [t for t in times if t is not None]
        lost = f", {len(times) - len(seen)} never" if len(seen) < len(times) else ""
        value = f"{statistics.median(seen):.0f} ms (worst: {max(seen)} ms{lost})" if seen else "-"
        rows.append(
            {"what": f"effect on the overlay: {name}", "value": value, "limit": "< 1000 ms"}
        )
    for how in ("running", "paused"):
        longest = [each[f"gaps_{how}"][0][0] for each in found]
        value = f"{statistics.median(longest):.0f} ms (worst: {max(longest)} ms)"
        what = f"longest pause of the window, edits of a {how} run"
        rows.append({"what": what, "value": value, "limit": "< 100 ms"})
    shares = [
        100 * each["preview_seconds"] / each["seconds"] for each in found if each.get("seconds")
    ]
    if shares:
        value = f"{statistics.median(shares):.3g} % (worst: {max(shares):.3g} %)"
        rows.append({"what": "previews, share of an edited run", "value": value, "limit": "<= 3%"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    runs = [one_run() for _ in range(parser.parse_args().runs)]
    measures = (
        ("longest pause of the window", "< 100 ms", "ms", [r["gaps"][0][0] for r in runs]),
        ("previews, share of the run's time", "<= 3%", "%",
         [100 * r["preview_seconds"] / r["seconds"] for r in runs]),
        ("from Stop to the end of the optimisation", "one step", "ms",
         [r["stop_ms"] for r in runs]),
    )  # fmt: skip
    rows = [
        {
            "what": what,
            "value": f"{statistics.median(values):.3g} {unit} (worst of {len(runs)}: "
            f"{max(values):.3g} {unit})",
            "limit": limit,
        }
        for what, limit, unit, values in measures
    ]
    rows += edit_rows([r["edited"] for r in runs])
    cold = all(r["cold"] for r in runs)
    rows.append(
        {"what": "torch loaded before the first run", "value": "no" if cold else "yes",
         "limit": "no"}
    )  # fmt: skip
    for row in rows:
        print(f"{row['what']}: {row['value']} (limit {row['limit']})")
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": machine(), "rows": rows, "runs": runs}
    (RESULTS / "gui.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
