"""report.html: one self-contained page about a run, for people."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; }
h2 { font-size: 1.1rem; margin-top: 2.2rem; }
p.lead { font-size: 1.05rem; margin-top: 0; }
table { border-collapse: collapse; margin: .6rem 0; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #8884;
  vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; }
figcaption { opacity: .75; font-size: .9rem; }
img { max-width: 100%; height: auto; }
code, .small { font-size: .85rem; overflow-wrap: anywhere; }
details summary { cursor: pointer; }
"""

CAPTIONS = {
    "before": "Before: fixed in green, moving in magenta; grey where they agree.",
    "after": "After: the same, with the moving image carried onto the fixed one.",
    "checkerboard": "Checkerboard of fixed and moved image: edges should run on across squares.",
    "grid": "A regular grid carried along by the warp (affine left out), on the fixed image.",
    "jacobian": "Local change of volume (Jacobian determinant of the warp): red means that the "
    "fixed voxel covers more of the moving image, blue less.",
    "loss": "Loss per step; the colour changes with each level.",
}


def number(value: Any, digits: int = 3) -> str:
    """A number for people; a dash where there is none."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.{digits}g}" if abs(value) < 1e-3 and value else f"{value:.{digits}f}"


def table(rows: list[list[str]], head: list[str] | None = None, left: int = 1) -> str:
    """An HTML table of escaped cells; columns from `left` on are numbers."""

    def line(cells: list[str], tag: str) -> str:
        out = []
        for k, cell in enumerate(cells):
            kind = ' class="n"' if k >= left else ""
            out.append(f"<{tag}{kind}>{escape(cell)}</{tag}>")
        return "<tr>" + "".join(out) + "</tr>"

    lines = [line(head, "th")] if head else []
    return "<table>" + "".join(lines + [line(row, "td") for row in rows]) + "</table>"


def figure(caption: str, data: bytes) -> str:
    """A PNG, inlined, and what it shows below it."""
    inlined, text = base64.b64encode(data).decode("ascii"), escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{inlined}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _quality(quality: dict[str, Any]) -> str:
    rows: list[list[str]] = []
    if dice := quality.get("dice"):
        rows.append(["Mean Dice of the labels", number(dice["before"]["mean"]),
                     number(dice["after"]["mean"])])  # fmt: skip
    if tre := quality.get("tre_mm"):
        for key in ("mean", "median", "p95"):
            name = f"Landmark distance, {key} (mm, {tre['points']} points)"
            rows.append([name, number(tre["before"][key], 2), number(tre["after"][key], 2)])
    out = table(rows, ["", "before", "after"]) if rows else ""
    if not quality.get("deformable"):
        return out + "<p>The transform is linear: it cannot fold.</p>"
    folds, inside = quality["folds"], quality["folds_inside"]
    jacobian, residual = quality["jacobian_inside"], quality["inverse_residual_inside_vox"]
    length = quality["displacement_inside_vox"]
    where = quality["inside"]
    return out + table(
        [
            ["Folded voxels, strict count, whole grid",
             f"{number(folds['voxels'])} ({folds['fraction']:.1e})"],
            [f"Folded voxels inside the {where}",
             f"{number(inside['voxels'])} ({inside['fraction']:.1e})"],
            ["Jacobian determinant inside, smallest and largest",
             f"{number(jacobian['min'])} to {number(jacobian['max'])}"],
            ["Displacement inside, mean and largest (voxels)",
             f"{number(length['mean'], 2)}, {number(length['max'], 2)}"],
            ["T(T⁻¹(x)) - x inside, mean and largest (voxels)",
             f"{number(residual['mean'])}, {number(residual['max'])}"],
        ]
    )  # fmt: skip


def stages_table(stages: list[dict[str, Any]]) -> str:
    rows = []
    for stage in stages:
        for k, level in enumerate(stage["levels"]):
            folds = level.get("folds")
            rows.append(
                [
                    stage["name"] if k == 0 else "",
                    level.get("reason", ""),
                    " × ".join(str(n) for n in level.get("size", [])),
                    f"{level.get('steps', 0)} of {level.get('max_steps', 0)}",
                    number(level.get("loss"), 5),
                    "-" if folds is None else number(folds),
                    "-" if folds is None else number(level.get("unfolded", 0)),
                    number(level.get("seconds"), 1),
                ]
            )
    head = [
        "Stage",
        "The level ended because",
        "Grid",
        "Steps",
        "Loss",
        "Folds",
        "Unfolded",
        "Seconds",
    ]
    return table(rows, head, left=2)


def _labels(quality: dict[str, Any]) -> str:
    if "dice" not in quality:
        return ""
    before, after = (quality["dice"][k]["labels"] for k in ("before", "after"))
    rows = [[str(k), number(before.get(k)), number(after[k])] for k in after]
    return (
        f"<details><summary>Dice of {len(rows)} labels</summary>"
        + table(rows, ["Label", "before", "after"])
        + "</details>"
    )


def _record(report: dict[str, Any]) -> str:
    execution, memory = report["execution"], report["peak_memory_mb"]
    rows = [
        ["Device", f"{execution['device']} ({execution['threads']} CPU threads)"],
        ["Kernels", f"{execution['kernels']}: {execution['why']}"],
        ["Peak memory", "-" if memory is None else f"{memory:,.0f} MiB"],
        ["Recipe", f"{report['recipe']['name']}, sha256 {report['recipe']['hash']}"],
        ["Seed", str(report["seed"])],
        ["Versions", ", ".join(f"{k} {v}" for k, v in report["versions"].items())],
    ]
    for role, item in report["inputs"].items():
        path = item.get("path") or item.get("name") or "given in memory"
        digest = item.get("sha256") or item.get("data_sha256") or ""
        rows.append([role.replace("_", " ").capitalize(), f"{path} (sha256 {digest[:16]}…)"])
    return '<div class="small">' + table(rows, left=9) + "</div>"


def render(report: dict[str, Any], pictures: dict[str, bytes]) -> str:
    """The page as HTML text; pictures are PNG bytes by name (or caption) and are inlined."""
    inputs = report["inputs"]
    title = f"{inputs['moving']['name']} onto {inputs['fixed']['name']}"
    figures = {name: figure(CAPTIONS.get(name, name), data) for name, data in pictures.items()}
    curve = figures.pop("loss", "")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p class="lead">{escape(report["sentence"])} {report["seconds"]:.1f} s on
{escape(report["execution"]["device"])}, recipe {escape(report["recipe"]["name"])}.</p>
{_quality(report["quality"])}
{_labels(report["quality"])}
<h2>Pictures</h2>
{"".join(figures.values())}
<h2>Course</h2>
{curve}
{stages_table(report["stages"])}
<h2>Record</h2>
{_record(report)}
</body></html>
"""
