"""Means per set, half and method of the accuracy benchmark, and the table of them."""

from __future__ import annotations

from collections.abc import Iterable

MEANS = (
    "dice",
    "dice_nn",
    "dice_affine",
    "dice_start",
    "tre",
    "tre_median",
    "tre_affine",
    "tre_start",
    "rtre_median_percent",
    "folds",
    "inverse_mean_vox",
    "seconds",
    "cpu_seconds",
    "peak_mib",
)


def mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def summary(rows: list[dict]) -> list[dict]:
    """One entry per set, half and method, in the order of the rows; failed runs are counted."""
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for row in rows:
        groups.setdefault((row["set"], row["half"], row["method"]), []).append(row)
    entries = []
    for (name, half, method), own in groups.items():
        done = [row for row in own if "failed" not in row]
        entry: dict = {"set": name, "half": half, "method": method, "pairs": len(done)}
        entry["failed"] = sorted({row["failed"] for row in own if "failed" in row})
        entry |= {key: mean(row.get(key) for row in done) for key in MEANS}
        worst = [row["inverse_max_vox"] for row in done if row.get("inverse_max_vox") is not None]
        entry["inverse_max_vox"] = max(worst) if worst else None
        entry["after_others"] = any((row.get("nice") or 0) > 0 for row in done)
        entry["tre_unit"] = next((row["tre_unit"] for row in done if "tre_unit" in row), None)
        entries.append(entry)
    order = list(dict.fromkeys((entry["set"], entry["half"]) for entry in entries))
    return sorted(entries, key=lambda entry: order.index((entry["set"], entry["half"])))


def cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def header(unit: str | None) -> list[str]:
    """Column names of a table whose truth is landmarks (with a unit) or labels (without)."""
    truth = [f"TRE {unit}", "TRE, affine only", "TRE, start", "rTRE median %"]
    if unit is None:
        truth = ["Dice", "Dice, nearest", "Dice, affine only", "Dice, start"]
    cost = ["seconds", "CPU seconds", "peak MiB"]
    return ["method", "n", *truth, "folds", "inverse mean", "inverse max", *cost]


def cells(entry: dict, unit: str | None) -> list[str]:
    """One line of that table; seconds measured after other work are in brackets."""
    width = len(header(unit))
    reasons = "; ".join(entry["failed"])
    if not entry["pairs"]:
        return [entry["method"], "0", f"failed: {reasons}", *[""] * (width - 3)]
    count = f"{entry['pairs']} (failed: {reasons})" if reasons else str(entry["pairs"])
    keys = ("dice", "dice_nn", "dice_affine", "dice_start")
    form = ".4f"
    if unit is not None:
        keys, form = ("tre", "tre_affine", "tre_start", "rtre_median_percent"), ".2f"
    seconds = cell(entry["seconds"], ".0f")
    return [
        entry["method"],
        count,
        *(cell(entry[key], form) for key in keys),
        cell(entry["folds"], ".1e"),
        cell(entry["inverse_mean_vox"], ".4f"),
        cell(entry["inverse_max_vox"], ".3f"),
        f"({seconds})" if entry["after_others"] else seconds,
        cell(entry["cpu_seconds"], ".0f"),
        cell(entry["peak_mib"], ".0f"),
    ]


def tables(result: dict) -> list[tuple[str, str, list[str], list[list[str]]]]:
    """Set, half, column names and lines of each table of a results file."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for entry in result["summary"]:
        groups.setdefault((entry["set"], entry["half"]), []).append(entry)
    out = []
    for (name, half), entries in groups.items():
        unit = next((entry["tre_unit"] for entry in entries if entry["tre_unit"]), None)
        out.append((name, half, header(unit), [cells(entry, unit) for entry in entries]))
    return out


def markdown(result: dict) -> str:
    text = []
    for name, half, names, lines in tables(result):
        text += ["", f"{result['titles'].get(name, name)} ({half})", ""]
        text += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        text += ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([*text, "", "seconds in brackets: measured while other work went first"])
