"""Whole registrations of brains by us and by others, one after the other on one machine: ratios.

    benchmarks/peers/setup.sh
    python benchmarks/end_to_end.py [--pairs 1001_1000] [--methods greedy,fireants] [--more]

Ours are `brain-mri`, `brain-mri-fast`, and `brain-mri` on plain torch. Everything is run anew in
this call, but for what --kept names (runs of accuracy.py that took hours: compare their processor
seconds). --more adds to the results of an earlier call on this machine. Seconds of all are those of
the whole process: start, reading and writing included.
Writes benchmarks/results/end_to_end.json, the machine named; docs/benchmarks.md shows it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _common import RESULTS, data_folder, machine
from _methods import METHODS, WORK, Settings
from _sets import SETS
from accuracy import one, progress_line

OURS = ("ours:brain-mri", "ours:brain-mri-fast", "ours:brain-mri@reference")
KEPT = ("dice", "folds", "process_seconds", "process_cpu_seconds", "process_peak_mib", "nice")


def earlier(args: argparse.Namespace) -> list[dict]:
    """The rows of other pairs; SystemExit where another machine made them."""
    result = json.loads((RESULTS / "end_to_end.json").read_text())
    if result["machine"] != machine(args.threads):
        raise SystemExit("The results are of another machine: ratios go by one; leave out --more.")
    return [row for row in result["rows"] if row["pair"] not in args.pairs.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", default="1001_1000", help="of the OASIS set's report half")
    parser.add_argument("--methods", default="greedy,fireants", help=", ".join(METHODS))
    parser.add_argument("--kept", default="", help="methods whose finished run is taken")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--more", action="store_true", help="keep the pairs of an earlier call")
    args = parser.parse_args()
    data, rows = SETS["oasis"], earlier(args) if args.more else []
    kept = [name for name in args.kept.split(",") if name]
    for pair in data.pairs(data_folder(), WORK / "inputs")["report"]:
        if pair.name not in args.pairs.split(","):
            continue
        for method in [*OURS, *args.methods.split(","), *kept]:
            threads = 1 if method in kept else args.threads
            settings = Settings(threads, again=method not in kept, run=method not in kept)
            row = one(method, "oasis", "report", data, pair, settings, run_only=False)
            if not row:
                continue
            print(progress_line(row), file=sys.stderr, flush=True)
            about = {"pair": pair.name, "method": method, "threads": threads}
            failed = {"failed": row["failed"]} if "failed" in row else {}
            rows.append(about | {key: row.get(key) for key in KEPT} | failed)
            result = {"machine": machine(args.threads), "rows": rows}
            (RESULTS / "end_to_end.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
