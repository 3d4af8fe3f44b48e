"""Accuracy against other registration software: same pairs, same machine, one judge for all.

    benchmarks/peers/setup.sh
    python benchmarks/accuracy.py --sets oasis --methods greedy,ants-syn,ours
    python benchmarks/accuracy.py --run-only --methods greedy     # only runs; judge later
    python benchmarks/accuracy.py --judge-only                    # judges everything that is kept

Run with the environment of the engine. Each method runs on each pair in a process of its own, one
after the other, at native resolution with the settings its documentation recommends (`peers/`).
Finished peer runs are kept and used again. Everything but time and memory is computed by
`_judge.py` from the files each method wrote. Rows are merged into results/accuracy.json: a row that
is judged anew replaces the old one, the others stay.

`dice`         mean over the labels of the fixed map; labels warped by the method as it recommends
`dice_nn`      the same, labels warped here through the saved transforms, nearest neighbour
`dice_affine`  the same through the affine alone: shows a failed start
`tre`          mean distance of landmarks, mm or pixels
`folds`        share of strictly folded voxels of the warp in the foreground, all one-sided stencils
`inverse_*`    |T(T^-1(x)) - x| in voxels, in the foreground
`seconds`      peers: reading, registering, warping the image, writing; no imports, no labels.
               ours: the whole process, imports and labels included
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _common import RESULTS, data_folder, machine
from _methods import METHODS, WORK, Settings, folder_of, run
from _sets import SETS, DataSet, Pair
from _summary import markdown, summary

RESULT = RESULTS / "accuracy.json"


def main() -> None:
    args = parse_arguments()
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / ".gitignore").write_text("*\n")
    settings = Settings(args.threads, args.device, args.again, args.keep_ours, not args.judge_only)
    rows = []
    for name in args.sets:
        data = SETS[name]
        halves = data.pairs(data_folder(), WORK / "inputs")
        for half in [half for half in halves if args.half in (half, "all")]:
            for pair in halves[half]:
                for method in args.methods:
                    row = one(method, name, half, data, pair, settings, args.run_only)
                    if row:
                        rows.append(row)
                        print(progress_line(row), file=sys.stderr, flush=True)
    if args.run_only:
        return
    result = merged(rows, machine(args.threads), args.fresh)
    RESULTS.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", default="all", help=f"all, or some of: {', '.join(SETS)}")
    parser.add_argument("--half", choices=["tune", "report", "all"], default="report")
    parser.add_argument(
        "--methods",
        default=",".join([*METHODS, "ours"]),
        help=f"comma-separated: {', '.join(METHODS)}, ours (the set's preset), ours:PRESET",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", help="passed to ours; without it the engine chooses")
    parser.add_argument("--again", action="store_true", help="run peers anew, kept runs or not")
    parser.add_argument("--keep-ours", action="store_true", help="take finished runs of ours")
    parser.add_argument("--fresh", action="store_true", help="forget the rows judged before")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--run-only", action="store_true", help="run, do not judge")
    only.add_argument("--judge-only", action="store_true", help="judge kept runs, start none")
    args = parser.parse_args()
    args.sets = list(SETS) if args.sets == "all" else args.sets.split(",")
    args.methods = args.methods.split(",")
    for name in args.sets:
        if name not in SETS:
            parser.error(f"unknown set {name!r}: choose from {', '.join(SETS)}")
    for method in args.methods:
        if method not in METHODS and method.partition(":")[0] != "ours":
            parser.error(f"unknown method {method!r}: choose from {', '.join(METHODS)}, ours")
    return args


def one(
    method: str,
    name: str,
    half: str,
    data: DataSet,
    pair: Pair,
    settings: Settings,
    run_only: bool,
) -> dict:
    """The row of one method on one pair; {} where nothing was run."""
    method = f"ours:{data.preset}" if method == "ours" else method
    row = {"set": name, "half": half, "pair": pair.name, "method": method}
    record = run(method, name, data, pair, settings)
    if not record:
        return {}
    row |= {key: value for key, value in record.items() if key != "key"}
    if "failed" in row or run_only:
        return row
    out = folder_of(method, name, pair)
    try:
        from _judge import judge  # here: runs alone need no engine

        return row | own_report(method, out, row) | judge(out, data, pair)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        return row | {"failed": f"not judged: {type(error).__name__}"}


def own_report(method: str, out: Path, row: dict) -> dict:
    """What the method says of itself; `seconds` and `peak_mib` are the ones of the table."""
    if method in METHODS:
        report = json.loads((out / "peer.json").read_text())
        return {key: report[key] for key in report if key not in ("method", "threads", "finished")}
    report = json.loads((out / "report.json").read_text())
    return {
        "seconds": row["process_seconds"],
        "cpu_seconds": row["process_cpu_seconds"],
        "engine_seconds": report.get("seconds"),
        "peak_mib": row["process_peak_mib"],
        "device": report.get("device"),
    }


def identity(row: dict) -> tuple[str, ...]:
    return tuple(row[key] for key in ("set", "half", "pair", "method"))


def merged(rows: list[dict], here: dict, fresh: bool) -> dict:
    """The results file with `rows` in place of older ones; other machines' rows are not mixed."""
    old = json.loads(RESULT.read_text()) if RESULT.exists() and not fresh else {}
    same = all(old.get("machine", {}).get(key) == here[key] for key in ("cpu", "memory_gib", "gpu"))
    if old and not same:
        raise SystemExit("accuracy.json was measured on another machine; use --fresh")
    table = {identity(row): row for row in [*old.get("rows", []), *rows]}
    order = {name: k for k, name in enumerate(SETS)}
    methods = [*METHODS]

    def place(row: dict) -> tuple:
        rank = methods.index(row["method"]) if row["method"] in methods else len(methods)
        return order.get(row["set"], 99), row["half"], row["pair"], rank, row["method"]

    kept = sorted(table.values(), key=place)
    titles = {name: data.title for name, data in SETS.items()}
    return {
        "benchmark": "accuracy",
        "machine": here,
        "titles": titles,
        "summary": summary(kept),
        "rows": kept,
    }


def progress_line(row: dict) -> str:
    name = f"{row['set']} {row['pair']} {row['method']}"
    if "failed" in row:
        return f"{name}: failed, {row['failed']}"
    shown = ("dice", "tre", "folds", "inverse_mean_vox", "seconds", "process_seconds")
    words = [f"{key} {row[key]:.4g}" for key in shown if row.get(key) is not None]
    return f"{name}: {', '.join(words)}{' (kept)' if row['reused'] else ''}"


if __name__ == "__main__":
    main()
