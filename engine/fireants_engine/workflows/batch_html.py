"""summary.html: one page about a batch, that leads to the report of each pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean, median
from typing import Any
from urllib.parse import quote

from fireants_engine.workflows.report_html import STYLE

_MORE = """
td.failed { color: #c0392b; font-weight: 600; } td.stopped { color: #b9770e; }
.bar { background: #8883; width: 6rem; height: .55rem; display: inline-block; position: relative; }
.bar i { position: absolute; inset: 0 auto 0 0; background: #2374b8; }
.bar b { position: absolute; top: -.2rem; bottom: -.2rem; width: 2px; background: currentColor; }
td.message { max-width: 24rem; }
"""
_READY = ("done", "kept", "stopped")
_HEAD = {
    "status": "Status",
    "dice_after": "Dice",
    "tre_after_mm": "Landmarks, mm",
    "folds": "Folds",
    "loss": "Loss",
    "seconds": "Seconds",
    "message": "",
}

_BARS = "Bars: mean Dice of the labels after the registration, from 0 to 1; the line is before. "

Cells = Mapping[str, Any]


def render_summary(rows: Sequence[Cells], name: str, recipe: str) -> str:
    """The page as HTML text. rows: cells of summary.csv, in the order of the table."""
    columns = [c for c in _HEAD if c == "status" or any(row.get(c) for row in rows)]
    words = ("status", "message", "dice_after")
    head = "".join(
        f"<th>{escape(_HEAD[c])}</th>" if c in words else f'<th class="n">{escape(_HEAD[c])}</th>'
        for c in columns
    )
    bars = _BARS if "dice_after" in columns else ""
    body = "\n".join(_row(row, columns) for row in rows)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(name)}</title><style>{STYLE}{_MORE}</style></head><body>
<h1>{escape(name)}</h1>
<p class="lead">{escape(_counts(rows))} Recipe {escape(recipe)}.</p>
{_numbers(rows)}
{_attention(rows)}
<h2>Pairs</h2>
<table><tr><th>Pair</th>{head}</tr>
{body}
</table>
<p class="small">{bars}The same numbers are in summary.csv.</p>
</body></html>
"""


def _counts(rows: Sequence[Cells]) -> str:
    counts = Counter(row["status"] for row in rows)
    told = ", ".join(f"{number} {status}" for status, number in counts.items())
    return f"{len(rows)} pair{'s' * (len(rows) != 1)}: {told}."


def _values(rows: Sequence[Cells], column: str) -> list[float]:
    return [float(row[column]) for row in rows if row.get(column)]


def _numbers(rows: Sequence[Cells]) -> str:
    """Mean, median and worst of what was measured, before and after."""
    lines = []
    for text, column, worst in (
        ("Dice of the labels", "dice_{}", min),
        ("Landmark distance, mm", "tre_{}_mm", max),
    ):
        after, before = (_values(rows, column.format(w)) for w in ("after", "before"))
        if after and before:
            numbers = [f(v) for f in (fmean, median, worst) for v in (before, after)]
            cells = "".join(f'<td class="n">{n:.3f}</td>' for n in numbers)
            lines.append(f"<tr><td>{text} ({len(after)} pairs)</td>{cells}</tr>")
    if not lines:
        return ""
    kinds = ("mean", "median", "worst")
    head = "".join(f'<th class="n">{k} {w}</th>' for k in kinds for w in ("before", "after"))
    return f"<table><tr><th></th>{head}</tr>{''.join(lines)}</table>"


def _attention(rows: Sequence[Cells]) -> str:
    """What a person should look at first, and why."""
    found = [(row, why) for row in rows if (why := _doubt(row))]
    if not found:
        return ""
    items = "".join(f"<li>{_link(row)}: {escape(why)}</li>" for row, why in found)
    return f"<h2>Look at these first</h2><ul>{items}</ul>"


def _doubt(row: Cells) -> str:
    if row["status"] == "failed":
        return row["message"]
    doubts = []
    for what, column, sign in (("Dice", "dice_{}", 1), ("landmark distance", "tre_{}_mm", -1)):
        before, after = (row.get(column.format(when)) for when in ("before", "after"))
        if before and after and sign * (float(after) - float(before)) < 0:
            doubts.append(f"its {what} went from {before} to {after}")
    if int(row.get("folds") or 0):
        doubts.append(f"the warp folds in {row['folds']} voxels")
    if row["status"] == "stopped":
        doubts.append("it was stopped early")
    return "; ".join(doubts) + "." if doubts else ""


def _link(row: Cells) -> str:
    name = escape(row["name"])
    if row["status"] not in _READY:
        return name
    return f'<a href="{quote(row["name"])}/report.html">{name}</a>'


def _row(row: Cells, columns: Sequence[str]) -> str:
    cells = [f"<td>{_link(row)}</td>"]
    for column in columns:
        text = str(row.get(column) or "")
        match column:
            case "status" | "message":
                kind = text if column == "status" else "message"
                cells.append(f'<td class="{escape(kind)}">{escape(text)}</td>')
            case "dice_after" if text:
                cells.append(f"<td>{_bar(row)} {text}</td>")
            case "tre_after_mm" if text:
                cells.append(f'<td class="n">{escape(row["tre_before_mm"])} → {text}</td>')
            case _:
                cells.append(f'<td class="n">{escape(text)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _bar(row: Cells) -> str:
    after = 100 * float(row["dice_after"])
    before = row.get("dice_before")
    mark = f'<b style="left:{100 * float(before):.1f}%"></b>' if before else ""
    return f'<span class="bar"><i style="width:{after:.1f}%"></i>{mark}</span>'
