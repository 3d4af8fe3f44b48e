"""Sections of the page for conditioning.py, regularisers.py and sensitivity.py: text and tables.

A section is a list of paragraphs and tables (names, lines); `page.py` writes them.
"""

from __future__ import annotations

import math
from itertools import pairwise

Table = tuple[list[str], list[list[str]]]
Blocks = list[str | Table]
AXES = ("sigma_grad", "sigma_warp", "step")
NEAR = 0.01


def conditioning(result: dict, machine: str) -> Blocks:
    text: Blocks = [
        "## Conditioning, descents and deformations",
        "Labelled brains of the tuning half (OASIS, fixed 1000), one deformable stage from an "
        "affine found once; see [Conditioning](explanation/conditioning.md).",
        machine,
    ]
    parts = {"kappa": _kappa, "descents": _descents, "transpose": _transpose, "models": _models}
    for name, part in parts.items():
        if name in result:
            text += part(result[name])
    text.append("`python benchmarks/conditioning.py`")
    return text


def _kappa(rows: list[dict]) -> Blocks:
    """kappa of the per-voxel Hessian of SSD."""
    names = ["pair", "after", "level", "voxels", "undefined", "κ > 10", "κ > 1000", "median κ"]
    lines = [
        [
            *(row["pair"], row["after"], f"{row['shrink']}x"),
            *(str(row["voxels"]), str(row["undefined"])),
            *(f"{row[k]:.1%}" for k in ("above_10", "above_1e3")),
            f"{row['quantiles']['0.5']:.1f}",
        ]
        for row in rows
    ]
    text = (
        "Condition number κ of the Hessian of the squared difference at each foreground voxel; "
        "*undefined*: the Hessian is 0 (the moving brain does not reach there), left out."
    )
    return ["### Condition numbers", text, (names, lines)]


def first_below(losses: list[float], value: float) -> int | None:
    """Steps until the loss is at most `value`."""
    return next((k for k, loss in enumerate(losses) if loss <= value), None)


def _descents(rows: list[dict]) -> Blocks:
    """Of each descent the run that got furthest, held against the others."""
    names = ["loss", "level", "descent", "settings", "gain", "to the gain of sgd", "to 90%"]
    lines = []
    for loss, shrink in dict.fromkeys((row["loss"], row["shrink"]) for row in rows):
        own = [row for row in rows if (row["loss"], row["shrink"]) == (loss, shrink)]
        best: dict[str, dict] = {}
        for row in sorted(own, key=lambda row: min(row["losses"]), reverse=True):
            best[row["descent"]] = row
        if len(best) < 3:
            continue
        start, lowest = own[0]["losses"][0], min(best["adam"]["losses"])
        goals = min(best["sgd"]["losses"]), start - 0.9 * (start - lowest)
        for name in sorted(best):
            losses = best[name]["losses"]
            steps = [first_below(losses, goal) for goal in goals]
            settings = ", ".join(f"{k} {v:g}" for k, v in best[name]["settings"].items())
            lines.append(
                [
                    *(loss, f"{shrink}x", name, settings),
                    f"{(start - min(losses)) / (start - lowest):.1%}",
                    *(f"> {len(losses) - 1}" if k is None else str(k) for k in steps),
                ]
            )
    text = (
        "One level from the affine, no early end. *Gain*: fall of the loss, as a share of Adam's. "
        "*To the gain of sgd*, *to 90%* of Adam's gain: steps needed. *sgd* takes the whole step "
        "once, at its first gradient; *sgd, full step* takes it every time."
    )
    return ["### Adam against steepest descent", text, (names, lines)]


def _transpose(rows: list[dict]) -> Blocks:
    lines = []
    for pair in dict.fromkeys(row["pair"] for row in rows):
        found = {row["transpose"]: row for row in rows if row["pair"] == pair}
        if len(found) == 2:
            off, on = found[False], found[True]
            dice = f"{off['dice']:.4f}", f"{on['dice']:.4f}", f"{on['dice'] - off['dice']:+.4f}"
            ratio = on["cpu_seconds"] / off["cpu_seconds"]
            lines.append([pair, *dice, f"{ratio:.2f}"])
    names = ["pair", "Dice without", "Dice with", "difference", "CPU seconds, ratio"]
    text = "`brain-mri-fast`, greedy stage, without and with `jacobian_transpose`."
    return ["### Jacobian transpose", text, (names, lines)]


def _models(rows: list[dict]) -> Blocks:
    lines, base = [], {r["pair"]: r["cpu_seconds"] for r in rows if r["deformation"] == "greedy"}
    for name in dict.fromkeys(row["deformation"] for row in rows):
        own = [row for row in rows if row["deformation"] == name]
        ratios = [row["cpu_seconds"] / base[row["pair"]] for row in own]
        lines.append(
            [
                *(name, str(len(own)), f"{_mean(own, 'dice'):.4f}"),
                *(f"{_mean(own, key):.0f}" for key in ("folds_before", "folds")),
                "; ".join(", ".join(str(n) for n in row["steps"]) for row in own),
                *(f"{_mean(own, 'cpu_seconds'):.1f}", f"{sum(ratios) / len(ratios):.2f}"),
            ]
        )
    names = [
        "deformation",
        "n",
        "Dice",
        "folds made",
        "folds left",
        "steps",
        "CPU seconds",
        "ratio",
    ]
    text = (
        "`brain-mri-fast`, last stage, same settings for all. *Folds made*: voxels of the 2x grid "
        "that folded before the stage smoothed them away (a velocity field is not smoothed there). "
        "*Steps* at 4x and 2x, of each pair: a level ends at its plateau. *Ratio*: to greedy."
    )
    return ["### Deformations", text, (names, lines)]


def _mean(rows: list[dict], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows)


def regularisers(result: dict, machine: str) -> Blocks:
    rows, lines = result["rows"], []
    for name in dict.fromkeys(row["family"] for row in rows):
        energies = [row["energy"] for row in rows if row["family"] == name]
        falls = all(b < a or a == b == 0 for a, b in pairwise(energies))
        shares = [f"{value / energies[0]:.3g}" for value in energies]
        lines.append([name, f"{energies[0]:.3g}", *shares[1:], "yes" if falls else "**no**"])
    weights = [f"{w:g}" for w in dict.fromkeys(row["relative"] for row in rows)]
    settings = result["settings"]
    text: Blocks = [
        "## Regularisers and their weight",
        f"Energy of the final warp, as a share of the unregularised one (*at 0*), against the "
        f"weight (thesis 4.5.6): greedy, SSD, {settings['shrink']:g}x, {settings['steps']} steps, "
        "no warp smoothing. At weight 1 the term would cost on the unregularised warp what that "
        "warp gained in SSD. 0: no state had a lower loss than the identity.",
        machine,
        (["family", "at 0", *weights[1:], "falls"], lines),
        "`python benchmarks/regularisers.py`",
    ]
    return text


def batch(result: dict, machine: str) -> Blocks:
    rows, settings, lines = result["rows"], result["settings"], []
    for row in rows:
        alone = next(r for r in rows if r["images"] == row["images"] and r["size"] == 1)
        lines.append(
            [
                row["images"],
                str(row["size"]),
                f"{row['seconds_per_pair']:.2f}",
                f"{alone['seconds_per_pair'] / row['seconds_per_pair']:.2f}",
                f"{row['peak_mb']:.0f}",
                f"{row['loss']:.6f}",
            ]
        )
    return [
        "## Batches",
        f"{settings['pairs']} phantom pairs, greedy with LNCC on two levels of {settings['steps']} "
        f"steps, on {settings['device']}: the same pairs in groups of the size given. *Gain*: "
        "seconds of the pairs one by one over seconds in groups. Peak memory of the process. The "
        "loss, a mean over the pairs, shows that they come to the same.",
        machine,
        (["images", "at once", "s per pair", "gain", "peak MB", "loss"], lines),
        "`python benchmarks/batch.py`",
    ]


def sensitivity(result: dict, machine: str) -> Blocks:
    text: Blocks = [
        "## Sensitivity to the settings",
        "Mean Dice over update smoothing x warp smoothing (mm) x step, greedy stage of "
        "`brain-mri` from an affine found once (OASIS, tuning half). Bold: "
        "within 0.01 of the best.",
        machine,
    ]
    cells = means(result["rows"])
    for sweep in sorted({(cell["finest"], cell["floors"]) for cell in cells}, reverse=True):
        own = [cell for cell in cells if (cell["finest"], cell["floors"]) == sweep]
        best, share = near_best(own)
        steps = sorted({cell["step"] for cell in own})
        found = {tuple(cell[k] for k in AXES): cell["dice"] for cell in own}
        lines = []
        for grad, warp in dict.fromkeys((cell["sigma_grad"], cell["sigma_warp"]) for cell in own):
            values = [found.get((grad, warp, step)) for step in steps]
            shown = ["" if v is None else f"{v:.4f}" for v in values]
            bold = [
                f"**{t}**" if v and v >= best - NEAR else t
                for t, v in zip(shown, values, strict=True)
            ]
            lines.append([f"{grad:g}", f"{warp:g}", *bold])
        levels = "4x, 2x and 1x" if sweep[0] == 1 else "4x and 2x only"
        floors = {
            "follow": "the floors in voxels follow the millimetres",
            "kept": "the floors in voxels stay the preset's",
        }
        text.append(
            f"Levels {levels}, {floors[sweep[1]]}; pairs {', '.join(own[0]['pairs'])}. Best "
            f"{best:.4f}; {share:.0%} of {len(own)} cells within {NEAR}."
        )
        text.append((["update", "warp", *(f"step {k:g}" for k in steps)], lines))
    text.append("`python benchmarks/sensitivity.py`")
    return text


def key(row: dict) -> tuple:
    return tuple(row[name] for name in ("finest", "floors", "pair", *AXES))


def means(rows: list[dict]) -> list[dict]:
    """Per sweep and cell: mean Dice over the pairs that every cell has."""
    out = []
    for sweep in sorted({(row["finest"], row["floors"]) for row in rows}):
        own = [row for row in rows if (row["finest"], row["floors"]) == sweep]
        cells = sorted({tuple(row[k] for k in AXES) for row in own})
        found = {key(row): row for row in own}
        pairs = [
            p
            for p in sorted({r["pair"] for r in own})
            if all((*sweep, p, *c) in found for c in cells)
        ]
        for values in cells if pairs else []:
            mine = [found[*sweep, p, *values] for p in pairs]
            out.append(
                {
                    "finest": sweep[0],
                    "floors": sweep[1],
                    "pairs": pairs,
                    **dict(zip(AXES, values, strict=True)),
                    "dice": sum(r["dice"] for r in mine) / len(mine),
                    "folds_before": sum(r["folds_before"] for r in mine) / len(mine),
                }
            )
    return out


def near_best(cells: list[dict]) -> tuple[float, float]:
    """(best mean Dice, share of the cells within NEAR of it)."""
    best = max(c["dice"] for c in cells)
    return best, sum(c["dice"] >= best - NEAR for c in cells) / len(cells)


def kernels(result: dict, machine: str) -> Blocks:
    """One row per operation: the fused kernels, and how much longer the other forms take."""
    rows = {(row["operation"], row["form"]): row for row in result["rows"]}
    forms = {
        "torch": "plain torch",
        "torch-thp": "plain torch, huge pages",
        "usual": "as is usual",
        "compiled": "torch.compile",
    }
    forms = {form: name for form, name in forms.items() if any(form == f for _, f in rows)}
    lines = []
    for name in dict.fromkeys(row["operation"] for row in result["rows"]):
        own, others = rows[name, "native"], [rows.get((name, form)) for form in forms]
        share = own["least_gb"] / own["seconds"] / result["bandwidth_gb_s"]
        cells = [own["title"], f"{1e3 * own['seconds']:.0f}", f"{share:.0%}"]
        cells += [_times(row, own) for row in others]
        known = [row for row in [own, *others] if row]
        lines.append([*cells, " / ".join(_volumes(row, result) for row in known)])
    size = " x ".join(map(str, result["size"]))
    compiled = (
        ["`torch.compile` is given what is usual, once compiled."] if "compiled" in forms else []
    )
    return [
        "## Kernels",
        f"Every operation of a step at {size} voxels, float32, least time of several calls, each "
        "form in a process of its own. *Share*: bytes that have to pass through memory at least, "
        f"over the time and the bandwidth of a copy ({result['bandwidth_gb_s']:.1f} GB/s). Ratios: "
        "how many times as long the form takes as the fused kernels. *Memory*: what is added to "
        "the inputs at the height, in volumes of one channel, in the order of the columns.",
        machine,
        (["operation", "fused, ms", "share", *forms.values(), "memory"], lines),
        *compiled,
        *_packages(result, rows),
        f"`{result['command']}`",
    ]


def _times(row: dict | None, own: dict) -> str:
    """How many times as long as the fused kernels; empty where it was not measured."""
    if row is None or "failed" in row:
        return "failed" if row else ""
    ratio = row["seconds"] / own["seconds"]
    return f"{ratio:.1f}x" if ratio < 100 else f"{ratio:.0f}x"


def _volumes(row: dict, result: dict) -> str:
    volume = math.prod(result["size"]) * 4 / 2**20
    return "-" if "failed" in row else f"{max(0.0, row['mib']) / volume:.1f}"


def _packages(result: dict, rows: dict[tuple[str, str], dict]) -> Blocks:
    """The same operations by public packages, where they were measured."""
    lines = []
    for row in result["rows"]:
        if "package" not in row:
            continue
        own, difference = rows[row["operation"], "native"], row.get("difference")
        lines.append(
            [
                row["title"],
                f"{row['package']} {row['version']}: {row['what']}",
                _times(row, own),
                _volumes(row, result),
                "" if difference is None else f"{difference:.0e}",
                f"failed: {row['failed']}" if "failed" in row else row["differs"],
            ]
        )
    if not lines:
        return []
    text = (
        "The same on the same inputs by public packages, each with the torch of the other columns. "
        "*Difference*, on a small volume: norm of what the result differs by from ours over its "
        "norm, or from our reference by the package's definition where it has that one; directions "
        "only where scales differ. What a package cannot do is left out."
    )
    heads = ["operation", "package", "ratio", "memory", "difference", "how it differs"]
    return ["### Public packages", text, (heads, lines)]


def end_to_end(result: dict, machine: str) -> Blocks:
    """One table per pair, with how many times as long as `brain-mri` each takes."""
    text: Blocks = [
        "## Whole registrations, side by side",
        "Brains at 1 mm (OASIS, report half), every program in a process of its own, one after the "
        "other, its start and all files included. *Ratio*: how many times as long as our "
        "`brain-mri` it takes, by the clock and by processor seconds; seconds in brackets are of a "
        "program that ran for hours while other work went first. `@reference`: on plain torch "
        "instead of the fused kernels.",
        machine,
    ]
    for pair in dict.fromkeys(row["pair"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["pair"] == pair]
        ours = next(row for row in rows if row["method"] == "ours:brain-mri")
        lines = []
        for row in rows:
            if "failed" in row:
                lines.append([row["method"], f"failed: {row['failed']}", *[""] * 6])
                continue
            aside = bool(row["nice"])
            clock, processor = (
                f"{row[kind] / ours[kind]:.1f}x"
                for kind in ("process_seconds", "process_cpu_seconds")
            )
            seconds = f"{row['process_seconds']:.0f}"
            lines.append(
                [
                    row["method"],
                    f"{row['dice']:.4f}",
                    f"{row['folds']:.1e}" if row["folds"] else "0",
                    f"({seconds})" if aside else seconds,
                    f"{row['process_cpu_seconds']:.0f}",
                    f"{row['process_peak_mib']:.0f}",
                    "" if aside else clock,
                    processor,
                ]
            )
        text.append(f"Pair {pair}:")
        heads = ["method", "Dice", "folds", "s", "processor s", "peak MiB", "ratio", "processor"]
        text.append((heads, lines))
    text.append("`python benchmarks/end_to_end.py`")
    return text


def memory(result: dict, machine: str) -> Blocks:
    """Peak memory beside its forecast."""
    text: Blocks = [
        "## Memory and its forecast",
        "Resident memory at the highest, beyond what the process held before the run with both "
        "images loaded, in MiB, and what `fireants-engine forecast` says of it; whole runs, each "
        "in a process of its own. *N*: in images of the fixed grid as float32. The pictures of a "
        "report or a window come later and are not in it.",
        machine,
    ]
    names = ["recipe", "kernels", "measured", "N", "forecast", "off by"]
    for pair, title in result["titles"].items():
        lines = [
            [
                *(row["recipe"], row["kernels"], f"{row['measured_mib']:.0f}"),
                f"{row['measured_mib'] * 2**20 / _image_bytes(row):.1f}",
                *(f"{row['forecast_mib']:.0f}", f"{_off(row):+.0%}"),
            ]
            for row in result["rows"]
            if row["pair"] == pair
        ]
        if lines:
            text += [f"### {pair}: {title}", (names, lines)]
    text.append("`python benchmarks/memory.py`")
    return text


def _image_bytes(row: dict) -> int:
    return 4 * math.prod(row["images"][0]["size"])


def _off(row: dict) -> float:
    return row["forecast_mib"] / row["measured_mib"] - 1
