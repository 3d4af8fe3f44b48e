"""Draws docs/images/conditioning.png from benchmarks/results/conditioning.json.

Run from the repository: .venv/bin/python scripts/conditioning_picture.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
COLOURS = {1: "#1b6ca8", 2: "#d1495b", 4: "#3c8d5a"}
STYLES = {"adam": "-", "sgd": ":", "sgd, full step": "--"}
GREY = "0.55"


def condition_numbers(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Share of the foreground above kappa, per level, of the first pair."""
    for row in rows:
        if row["pair"] != rows[0]["pair"]:
            continue
        x = [10 ** float(e) for e in row["share_above"]]
        line = "-" if row["after"] == "affine" else "--"
        label = f"{row['shrink']}x, after {row['after']}"
        y = list(row["share_above"].values())
        axis.semilogx(x, y, line, color=COLOURS[row["shrink"]], lw=1.3, label=label)
    axis.axvline(10, color=GREY, lw=0.8, ls=":")
    axis.set(xlabel="κ", ylabel="share of the foreground above κ", xlim=(1, 1e6), ylim=(0, 1))


def curves(axis: Any, rows: list[dict[str, Any]], loss: str) -> None:
    """The best run of each descent: what is left of the loss, per level."""
    own = [row for row in rows if row["loss"] == loss]
    for shrink in sorted({row["shrink"] for row in own}, reverse=True):
        for name, style in STYLES.items():
            runs = [r["losses"] for r in own if (r["shrink"], r["descent"]) == (shrink, name)]
            if runs:
                values = min(runs, key=min)
                left = [value / values[0] for value in values]
                axis.plot(left, style, color=COLOURS[shrink], lw=1.3, label=f"{shrink}x, {name}")
    axis.set(xlabel="step", ylabel=f"{loss.upper()}, share of its start", ylim=(None, 1.02))


def main() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "conditioning.json").read_text())
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    condition_numbers(left, result["kappa"])
    curves(right, result["descents"], "ssd")
    for axis in (left, right):
        axis.legend(fontsize=8, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(ROOT / "docs" / "images" / "conditioning.png", dpi=110)


if __name__ == "__main__":
    main()
