"""Writes docs/benchmarks.md from the results in benchmarks/results/. Nothing is typed by hand.

    python benchmarks/page.py [--check]

--check only says (exit code 1) whether the page is out of date.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import _epi_page
import _histology_page
import _studies
from _page import table, where
from _summary import tables

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"

HEAD = """# Benchmarks

Every number on this page was printed by a script in `benchmarks/` and is kept in
`benchmarks/results/`; `python benchmarks/page.py` writes the page. Wall times on a shared machine
vary: compare the programs of one table, by ratio, not the seconds of two tables.
"""


def accuracy(result: dict) -> str:
    text = [
        "## Accuracy against other programs",
        "Whole pipeline from the files, at native resolution, each program with the settings its "
        "documentation recommends; all figures but time and memory are computed by one code from "
        "the files each program wrote. Means over the pairs. *Dice* warps the labels as each "
        "program recommends; *nearest* warps all alike. *Folds*: share of foreground voxels where "
        "any one-sided difference of the warp has a determinant <= 0. *Inverse*: "
        "|T(T^-1(x)) - x| in voxels; empty where none was saved. Seconds of ours are "
        "the whole process with its report and labels; those of the others hold neither their "
        "start nor the labels. Seconds in brackets were measured while other work went first: "
        "compare the processor seconds of those.",
        where(result["machine"]),
    ]
    halves = {"report": "reported pairs", "tune": "pairs that settings were chosen on"}
    for name, half, names, lines in tables(result):
        bold = [
            [f"**{line[0]}**" if line[0].startswith("ours") else line[0], *line[1:]]
            for line in lines
        ]
        text.append(f"### {result['titles'][name]} ({halves[half]})")
        text.append(table(names, bold))
    times = [row["started"] for row in result["rows"] if "started" in row]
    text.append(f"Runs from {min(times)} to {max(times)}.")
    text.append("`benchmarks/peers/setup.sh && python benchmarks/accuracy.py`")
    return "\n\n".join(text)


def recovery(result: dict) -> str:
    rows = [
        [
            row["kind"],
            str(row["seed"]),
            f"{row['start_mean_mm']:.2f}",
            f"{row['error_mean_mm']:.3f}",
            f"{row['error_mean_vox']:.3f}",
            f"{row['error_p99_vox']:.2f}",
            f"{row['inverse_mean_vox']:.4f}",
            f"{row['inverse_max_vox']:.3f}",
            str(row["strict_folds"]),
        ]
        for row in result["rows"]
    ]
    names = ["truth", "seed", "start mm", "error mm", "error voxel", "99% voxel"]
    text = [
        "## Recovery of known transforms",
        "The packaged ICBM152 brain through a random smooth warp (up to 8 voxels), rotation and "
        "shift (30 degrees, 30 mm) or affine, on an oblique grid of 1.0 x 1.2 x 1.6 mm. Means over "
        "the brain. Inverse: |T(T^-1(x)) - x|.",
        where(result["machine"]),
        table([*names, "inverse mean", "inverse max", "folds"], rows),
        "`python benchmarks/recovery.py`",
    ]
    return "\n\n".join(text)


def lung(result: dict) -> str:
    names = ["start", "mean", "median", "95%", "points", "folds in the lung"]
    keys = ["start_mean_mm", "mean_mm", "median_mm", "p95_mm"]

    def figures(row: dict) -> list[str]:
        millimetres = [f"{row[key]:.2f}" for key in keys]
        return [*millimetres, str(row["points"]), str(row["folds_inside"])]

    text = [
        "## Lungs",
        "Errors in mm, with lung masks and the preset `ct-lung`, and with MIND in place of the "
        "intensities in its last stage, or beside them, or with its LNCC on the whole volume, "
        "without masks. The linear stages are shared.",
        where(result["machine"]),
    ]
    if "real" in result:
        rows = [[row["method"], *figures(row)] for row in result["real"]]
        text += ["### A real pair", table(["method", *names], rows)]
    if "breath" in result:
        rows = [[row["method"], str(row["seed"]), *figures(row)] for row in result["breath"]]
        text += [
            "### A synthetic breath",
            "The lung of the same CT (2.7 x 2.7 x 2.5 mm) exhaled through a known map: its base "
            "rises by 30 mm, it slides along the pleura, its density rises as its volume falls, "
            "and both images have noise of 20 HU.",
            table(["method", "seed", *names], rows),
        ]
    if "code" in result:
        rows = [
            [row["set"], str(row["points"])]
            + [f"{row[key]:.2f}" for key in ("start_mm", "shifted_mm", "affine_mm")]
            for row in result["code"]
        ]
        names = ["landmarks", "number", "as stored", "mean shift", "best affine"]
        text += ["### Landmarks alone", table(names, rows)]
    text.append("`python benchmarks/lung.py`")
    return "\n\n".join(text)


def multimodal(result: dict) -> str:
    keys = ("mean_vox", "p95_vox")
    rows = [
        [row["contrast"], row["template"], str(row["seed"]), row["method"]]
        + [f"{row[key]:.2f}" for key in keys]
        + [str(row["folds_inside"])]
        for row in result["rows"]
    ]
    text = [
        "## Between contrasts",
        "A T1 brain (2 mm) through a known smooth warp of up to 4 voxels, a rotation and a shift, "
        "onto the same brain painted as T2, as CT with a skull, or inverted, with noise and "
        "uneven gain. Errors in voxels over the brain in a box of 52 x 60 x 48 voxels, on which "
        "the deformable stage runs: with the preset `multimodal`, and with other terms in its "
        "place. Seed 0 was used to choose settings.",
        where(result["machine"]),
        table(["contrast", "brain", "seed", "method", "mean", "95%", "folds"], rows),
        "`python benchmarks/multimodal.py`",
    ]
    return "\n\n".join(text)


def interop(result: dict) -> str:
    rows = [[r["program"], f"{r['largest']:.1e}", f"{r['mean']:.1e}"] for r in result["rows"]]
    inverse = result["inverse"]
    text = [
        "## Files read by other programs",
        "The packaged pair registered, saved, and the moving image warped again from the saved "
        "transforms; differences as a share of the image's range, away from the border.",
        where(result["machine"]),
        table(["program", "largest difference", "mean difference"], rows),
        f"Inverse of the same run inside the brain: mean {inverse['mean_vox']:.4f}, largest "
        f"{inverse['max_vox']:.3f} voxel.",
        "`python benchmarks/interop.py`",
    ]
    return "\n\n".join(text)


def gui(result: dict) -> str:
    rows = [[row["what"], row["value"], row["limit"]] for row in result["rows"]]
    text = [
        "## The window during a run",
        "The packaged pair in a shown napari window; a timer of 10 ms is the heartbeat.",
        where(result["machine"]),
        table(["what", "measured", "limit"], rows),
        "`python benchmarks/gui.py`",
    ]
    return "\n\n".join(text)


def endurance(result: dict) -> str:
    rows = [
        [row["what"], row["value"], row["limit"]]
        for part in result["parts"].values()
        for row in part["rows"]
    ]
    text = [
        "## The window over time",
        "Every dock open. Random clicks, edits, runs, removed layers and answered dialogs, seeded; "
        "many runs of a tiny pair in one session, with landmarks, previews and history; and each "
        "dock opened in a fresh napari.",
        where(result["machine"]),
        table(["what", "measured", "limit"], rows),
        "`python benchmarks/endurance.py`",
    ]
    return "\n\n".join(text)


def study(blocks: Callable[[dict, str], _studies.Blocks]) -> Callable[[dict], str]:
    """A section whose paragraphs and tables another file makes."""

    def section(result: dict) -> str:
        parts = blocks(result, where(result["machine"]))
        return "\n\n".join(part if isinstance(part, str) else table(*part) for part in parts)

    return section


SECTIONS = {
    "accuracy": accuracy,
    "recovery": recovery,
    "lung": lung,
    "epi": _epi_page.epi,
    "orientation": _histology_page.orientation,
    "exvivo": _histology_page.exvivo,
    "sections": _histology_page.sections,
    "section_set": _histology_page.section_set,
    "slices": _histology_page.slices,
    "slides": _histology_page.slides,
    "multimodal": multimodal,
    "interop": interop,
    "end_to_end": study(_studies.end_to_end),
    "kernels": study(_studies.kernels),
    "memory": study(_studies.memory),
    "gui": gui,
    "endurance": endurance,
    "conditioning": study(_studies.conditioning),
    "regularisers": study(_studies.regularisers),
    "batch": study(_studies.batch),
    "sensitivity": study(_studies.sensitivity),
}


def page() -> str:
    parts = []
    for name, section in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            parts.append(section(json.loads(path.read_text())))
    return HEAD + "\n" + "\n\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    text = page()
    if args.check:
        return int(PAGE.read_text() != text)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
