"""Registers labelled brains with the peers and this engine, side by side; judges all alike.

    benchmarks/peers/setup.sh
    python benchmarks/peers/compare_oasis.py --methods greedy,ants-syn,ours --pairs report --reuse

Run with the environment of the engine. Each method runs on each pair in a process of its own, one
after the other. Every number but time is then computed here, by one code for all, from the files
each method wrote: `0GenericAffine.mat` and `1Warp.nii.gz` (ITK, fixed to moving), and
`warped_labels.nii.gz`.

`dice`         mean over the labels of the fixed map; labels warped by the method as it recommends
`dice_nn`      the same, labels warped here through the saved transforms, nearest neighbour
`dice_affine`  the same through the affine alone: shows a failed start
`folds`        share of strictly folded voxels of the warp where fixed > 0 (all one-sided stencils)
`seconds`      peers: reading, registering, warping the image, writing; without imports and labels.
               ours: the whole process, imports and labels included
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _common import RESULTS, ROOT, data_folder, fold_fraction, machine, run_measured

from fireants_engine.evaluation import label_overlap

HERE = Path(__file__).resolve().parent
PEER_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
PEERS = {
    "greedy": ["run_greedy.py"],
    "ants-syn": ["run_ants.py"],
    "ants-syncc": ["run_ants.py", "--cc"],
}
OTHERS = ("1001", "1002", "1006", "1007", "1008")
PAIRS = {
    "tune": [("1000", other) for other in OTHERS],  # (fixed, moving)
    "report": [(other, "1000") for other in OTHERS],
}


def main() -> None:
    args = parse_arguments()
    groups = list(PAIRS) if args.pairs == "all" else [args.pairs]
    args.work.mkdir(parents=True, exist_ok=True)
    (args.work / ".gitignore").write_text("*\n")
    rows = []
    for group in groups:
        for fixed, moving in PAIRS[group]:
            for method in args.methods:
                row = {"set": group, "fixed": fixed, "moving": moving, "method": method}
                row |= run_pair(method, fixed, moving, args)
                rows.append(row)
                print(progress_line(row), file=sys.stderr, flush=True)
    result = {
        "benchmark": "oasis",
        "machine": machine(args.threads),
        "device_of_ours": args.device or "auto",
        "summary": summary(rows, args.methods, groups),
        "rows": rows,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"oasis_{args.tag}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result, args.methods, groups))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--methods",
        default="greedy,ants-syn,ours",
        help=f"comma-separated: {', '.join(PEERS)}, ours, ours:PRESET",
    )
    parser.add_argument("--preset", default="brain-mri", help="the preset of a plain `ours`")
    parser.add_argument("--pairs", choices=[*PAIRS, "all"], default="tune")
    parser.add_argument("--tag", help="name of the results file (default: the pairs)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", help="passed to ours; without it the engine chooses")
    parser.add_argument(
        "--reuse",
        nargs="?",
        const="peers",
        default="none",
        choices=["none", "peers", "all"],
        help="take finished runs from the work folder: of the peers, or of ours too",
    )
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="where runs are kept")
    args = parser.parse_args()
    args.tag = args.tag or args.pairs
    args.methods = [
        f"ours:{args.preset}" if name == "ours" else name for name in args.methods.split(",")
    ]
    unknown = [m for m in args.methods if m not in PEERS and not m.startswith("ours:")]
    if unknown:
        parser.error(f"unknown method {unknown[0]!r}: choose from {', '.join(PEERS)}, ours:PRESET")
    if not PEER_PYTHON.exists() and set(args.methods) & set(PEERS):
        parser.error("the peers are not installed: run benchmarks/peers/setup.sh")
    return args


def run_pair(method: str, fixed: str, moving: str, args: argparse.Namespace) -> dict[str, object]:
    """Runs one method on one pair, or takes its finished run, and judges what it wrote."""
    out = args.work / method.replace(":", "-") / f"{fixed}_{moving}"
    out.mkdir(parents=True, exist_ok=True)
    record = out / "run.json"
    key = run_key(method, args)
    reusable = args.reuse == "all" or (args.reuse == "peers" and method in PEERS)
    reused = reusable and record.exists() and json.loads(record.read_text())["key"] == key
    if not reused:
        record.unlink(missing_ok=True)
        measured = run_measured(
            command(method, fixed, moving, out, args), args.threads, out / "log"
        )
        if measured.exit_code != 0:
            tail = "\n".join((out / "log").read_text().splitlines()[-5:])
            return {"failed": f"exit code {measured.exit_code}", "log_tail": scrub(tail)}
        record.write_text(json.dumps({"key": key} | measured.as_dict()) + "\n")
    run = json.loads(record.read_text())
    del run["key"]
    return {"reused": reused} | own_report(method, out, run) | evaluate(fixed, moving, out) | run


def run_key(method: str, args: argparse.Namespace) -> str:
    """What a kept run depends on: the peer's scripts and pinned versions, threads, the device."""
    parts = [method, str(args.threads)]
    if method in PEERS:
        names = ("setup.sh", "_peer.py", PEERS[method][0])
        parts += [(HERE / name).read_text() for name in names]
    else:
        parts.append(args.device or "auto")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def command(method: str, fixed: str, moving: str, out: Path, args: argparse.Namespace) -> list[str]:
    image, labels = (
        {
            subject: str(data_folder() / "oasis_malf" / f"{subject}_{kind}.nii.gz")
            for subject in (fixed, moving)
        }
        for kind in ("SS", "glm")
    )
    if method in PEERS:
        script, *options = PEERS[method]
        pair = ["--fixed", image[fixed], "--moving", image[moving]]
        pair += ["--moving-labels", labels[moving], "--out", str(out)]
        return [
            str(PEER_PYTHON),
            str(HERE / script),
            *pair,
            "--threads",
            str(args.threads),
            *options,
        ]
    ours = [sys.executable, "-m", "fireants_engine.cli.main", "run", image[fixed], image[moving]]
    ours += ["-o", str(out), "--preset", method.removeprefix("ours:")]
    ours += ["--moving-labels", labels[moving], "--fixed-labels", labels[fixed]]
    return ours + (["--device", args.device] if args.device else [])


def own_report(method: str, out: Path, run: dict[str, object]) -> dict[str, object]:
    """What the method says of itself; `seconds` and `peak_mib` are the ones of the table."""
    if method in PEERS:
        report = json.loads((out / "peer.json").read_text())
        return {
            name: report[name] for name in report if name not in ("method", "threads", "finished")
        }
    report = json.loads((out / "report.json").read_text())
    return {
        "seconds": run["process_seconds"],
        "engine_seconds": report.get("seconds"),
        "peak_mib": run["process_peak_mib"],
        "device": report.get("device"),
    }


def evaluate(fixed: str, moving: str, out: Path) -> dict[str, object]:
    """Dice and folds from the files in `out`."""
    folder = data_folder() / "oasis_malf"
    fixed_labels = sitk.ReadImage(str(folder / f"{fixed}_glm.nii.gz"))
    moving_labels = sitk.ReadImage(str(folder / f"{moving}_glm.nii.gz"))
    truth = integers(fixed_labels)

    def dice(moved: sitk.Image) -> float:
        return label_overlap(truth, integers(moved)).mean_dice()

    def resampled(transform: sitk.Transform) -> sitk.Image:
        return sitk.Resample(moving_labels, fixed_labels, transform, sitk.sitkNearestNeighbor)

    affine = sitk.ReadTransform(str(out / "0GenericAffine.mat"))
    field = sitk.ReadImage(str(out / "1Warp.nii.gz"), sitk.sitkVectorFloat64)
    brain = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{fixed}_SS.nii.gz"))) > 0
    folded, fraction = fold_fraction(field, brain)
    warp = sitk.DisplacementFieldTransform(field)  # empties `field`
    own = label_overlap(truth, integers(sitk.ReadImage(str(out / "warped_labels.nii.gz"))))
    return {
        "dice": own.mean_dice(),
        "dice_nn": dice(resampled(sitk.CompositeTransform([affine, warp]))),  # the last goes first
        "dice_affine": dice(resampled(affine)),
        "target_overlap": own.mean_target_overlap(),
        "labels": int(own.in_fixed.sum()),
        "folds": fraction,
        "folded_voxels": folded,
    }


def integers(labels: sitk.Image) -> np.ndarray:
    return np.rint(sitk.GetArrayFromImage(labels)).astype(np.int32)


def summary(rows: list[dict], methods: list[str], groups: list[str]) -> dict[str, dict]:
    """Means per set and method over the pairs that finished; seconds also relative to greedy."""
    table: dict[str, dict] = {}
    for group in groups:
        table[group] = {}
        for method in methods:
            done = [
                r for r in rows if r["set"] == group and r["method"] == method and "failed" not in r
            ]
            if done:
                names = ("dice", "dice_nn", "dice_affine", "folds", "seconds", "peak_mib")
                means = {name: float(np.mean([row[name] for row in done])) for name in names}
                table[group][method] = {"pairs": len(done)} | means
        reference = table[group].get("greedy")
        for means in table[group].values():
            means["seconds_over_greedy"] = reference and means["seconds"] / reference["seconds"]
    return table


def markdown(result: dict, methods: list[str], groups: list[str]) -> str:
    head = "| fixed | moving | method | Dice | Dice nn | Dice affine | folds | s | s/greedy | MiB |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|---|"]
    for group in groups:
        own = [row for row in result["rows"] if row["set"] == group]
        greedy = {
            (r["fixed"], r["moving"]): r.get("seconds") for r in own if r["method"] == "greedy"
        }
        for row in own:
            first = f"| {row['fixed']} | {row['moving']} | {row['method']}"
            if "failed" in row:
                lines.append(f"{first} | failed: {row['failed']} | | | | | | |")
                continue
            reference = greedy.get((row["fixed"], row["moving"]))
            ratio = row["seconds"] / reference if reference else None
            lines.append(f"{first}{'*' if row['reused'] else ''} {cells(row, ratio)}")
        for method, means in result["summary"][group].items():
            name = f"| **{group}** | mean of {means['pairs']} | **{method}**"
            lines.append(f"{name} {cells(means, means['seconds_over_greedy'])}")
    return "\n".join([*lines, "", "\\* reused from an earlier run on this machine"])


def cells(row: dict, ratio: float | None) -> str:
    dice = " | ".join(f"{row[name]:.4f}" for name in ("dice", "dice_nn", "dice_affine"))
    relative = f"{ratio:.2f}" if ratio else ""
    cost = f"{row['seconds']:.1f} | {relative} | {row['peak_mib']:.0f}"
    return f"| {dice} | {row['folds']:.1e} | {cost} |"


def progress_line(row: dict) -> str:
    name = f"{row['fixed']} <- {row['moving']} {row['method']}"
    return f"{name}: {row['failed']}" if "failed" in row else f"{name} {cells(row, None)}"


def scrub(text: str) -> str:
    """Text without the paths of this machine."""
    for folder in (ROOT, ROOT.parent, Path.home()):
        text = text.replace(str(folder), "...")
    return text


if __name__ == "__main__":
    main()
