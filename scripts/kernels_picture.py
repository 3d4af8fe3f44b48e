"""Draws docs/images/kernels.png from benchmarks/results/kernels.json: how much longer the same
operations take without the fused kernels.

Run from the repository: .venv/bin/python scripts/kernels_picture.py [RESULT OUT]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "kernels.json"
OUT = ROOT / "docs" / "images" / "kernels.png"
FORMS = {  # in the order of benchmarks/kernels.py; a result has those that were measured
    "torch": ("plain PyTorch (reference)", "#1b6ca8"),
    "usual": ("usual style", "#d1495b"),
    "compiled": ("usual style under torch.compile", "#3c8d5a"),
}


def ratios(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Form -> operation -> times the seconds of the native kernels."""
    seconds = {
        (row["operation"], row["form"]): row["seconds"]
        for row in result["rows"]
        if "failed" not in row
    }
    names = dict.fromkeys(operation for operation, _ in seconds)
    return {
        form: {n: seconds[n, form] / seconds[n, "native"] for n in names if (n, form) in seconds}
        for form in FORMS
    }


def draw(result: dict[str, Any]) -> Figure:
    found = {form: values for form, values in ratios(result).items() if values}
    names = list(dict.fromkeys(row["operation"] for row in result["rows"]))
    thick = 0.8 / len(found)
    figure = Figure(figsize=(9, 0.55 * len(names) + 1.3), layout="constrained")
    axis = figure.subplots()
    for k, (form, values) in enumerate(found.items()):
        label, colour = FORMS[form]
        places = [names.index(name) + (k - (len(found) - 1) / 2) * thick for name in values]
        bars = axis.barh(places, list(values.values()), thick * 0.92, color=colour, label=label)
        texts = [f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in values.values()]
        axis.bar_label(bars, texts, padding=3, fontsize=8)
    axis.axvline(1, color="0.4", lw=1)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    every = [value for values in found.values() for value in values.values()]
    axis.set_xlim(min(1, 0.8 * min(every)), 1.4 * max(every))
    titles = {row["operation"]: row["title"] for row in result["rows"]}
    axis.set_yticks(range(len(names)), [titles[name] for name in names])
    axis.invert_yaxis()
    size = " × ".join(map(str, result["size"]))
    threads = result["machine"]["threads"]
    axis.set_xlabel(f"times as long as the native kernels; {size} voxels, {threads} threads")
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def main(result: Path = RESULT, out: Path = OUT) -> None:
    if not result.exists():
        raise SystemExit(f"{result} is missing; python benchmarks/kernels.py writes it.")
    draw(json.loads(result.read_text())).savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
