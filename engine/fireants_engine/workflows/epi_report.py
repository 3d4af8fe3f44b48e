"""What an EPI correction did, as plain values and as one page for people."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from fireants_engine.geometry import Image
from fireants_engine.pipeline.prepare import robust_range
from fireants_engine.transforms.distortion import Distortion
from fireants_engine.workflows.epi import Correction
from fireants_engine.workflows.pictures import GREY, loss_curves, planes_of, png
from fireants_engine.workflows.report import file_sha256, plain, stages_of, versions
from fireants_engine.workflows.report_html import STYLE, figure, number, stages_table, table

FORMAT = "epi-1"
_OBJECT = 0.15
"""Share of the brightest (99th percentile of the mean) above which a voxel is the object."""


# ------------------------------------------------------------------ numbers
def inside_object(images: Sequence[Image]) -> np.ndarray:
    """Where there is signal in the mean of all volumes, holes filled; bool (*shape)."""
    from scipy import ndimage

    mean = np.mean([image.data[0].float().numpy() for image in images], 0)
    bright = mean > _OBJECT * np.percentile(mean, 99)
    return np.asarray(ndimage.binary_fill_holes(bright), dtype=bool)


def agreement(images: Sequence[Image], inside: np.ndarray) -> dict[str, float]:
    """How alike the first two images are inside, after one gain: correlation, and root mean
    square difference relative to that of their mean."""
    first, second = (image.data[0].double().numpy() for image in images[:2])
    second = second * (first.clip(0).sum() / max(second.clip(0).sum(), 1e-30))
    a, b = first[inside], second[inside]
    if a.size < 2 or not a.std() or not b.std():
        return {"correlation": float("nan"), "rms_difference": float("nan")}
    size = np.sqrt(np.mean(((a + b) / 2) ** 2))
    return {
        "correlation": float(np.corrcoef(a, b)[0, 1]),
        "rms_difference": float(np.sqrt(np.mean((a - b) ** 2)) / size),
    }


def _field(distortion: Distortion, inside: np.ndarray) -> dict[str, Any]:
    hz = distortion.field_hz[0, 0].numpy()[inside]
    shift = np.abs(distortion.shift_voxels())[inside]
    stretch = [distortion.stretch(one).amin().item() for one in distortion.volumes]
    empty = not hz.size
    return {
        "field_hz": {
            "min": None if empty else hz.min(),
            "mean": None if empty else hz.mean(),
            "max": None if empty else hz.max(),
        },
        "shift_voxels": {
            "mean": None if empty else shift.mean(),
            "p95": None if empty else np.percentile(shift, 95),
            "max": None if empty else shift.max(),
        },
        "smallest_stretch": min(stretch),
        "folded_voxels": sum(
            int((distortion.stretch(one) <= 0).sum()) for one in distortion.volumes
        ),
    }


def motion_of(distortion: Distortion) -> list[dict[str, Any]]:
    """How each volume lies to the first: shift of the grid's centre in mm, and degrees."""
    centre = distortion.grid.centre_mm[None]
    out = []
    for pose in distortion.poses:
        turn = pose.matrix[:-1, :-1]
        cosine = (np.trace(turn) - turn.shape[0] + 2) / 2
        out.append(
            {
                "shift_mm": (pose(centre) - centre)[0].tolist(),
                "degrees": float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
                "matrix": pose.matrix.tolist(),
            }
        )
    return out


def make_report(
    correction: Correction, images: Sequence[Image], lost: Image, seconds: float
) -> dict[str, Any]:
    """report.json: plain values only. images: the corrected volumes, in order."""
    before = [one.image for one in correction.volumes]
    inside = inside_object(before)
    result = correction.result
    volumes = []
    for one in correction.volumes:
        path = one.image.path
        volumes.append(
            {
                "name": one.name,
                "path": path,
                "sha256": None if path is None else file_sha256(Path(path)),
                "direction": one.encoding.direction,
                "readout_s": one.encoding.readout_s,
                "size": list(one.image.grid.size),
                "spacing_mm": list(one.image.grid.spacing_mm),
            }
        )
    all_lost = (lost.data[0].numpy() == len(before)) & inside
    report = {
        "format": FORMAT,
        "sentence": "The field was given." if result is None else result.outcome.value,
        "outcome": None if result is None else result.outcome.name,
        "seconds": seconds,
        "volumes": volumes,
        "field": _field(correction.distortion, inside),
        "agreement": {
            "before": agreement(before, inside) if len(before) > 1 else None,
            "after": agreement(images, inside) if len(images) > 1 else None,
        },
        "unrecoverable_fraction": float(all_lost.sum() / max(1, inside.sum())),
        "motion": motion_of(correction.distortion),
        "recipe": None,
        "execution": None,
        "stages": [],
        "versions": versions(),
    }
    if result is not None:
        report |= {
            "recipe": {"name": result.recipe.name, "hash": result.recipe.hash},
            "execution": result.execution,
            "peak_memory_mb": result.peak_memory_mb,
            "stages": stages_of(result),
        }
    return plain(report)


# ------------------------------------------------------------------ pictures
def pictures(correction: Correction, images: Sequence[Image], mean: Image) -> dict[str, bytes]:
    """PNGs by caption: what was recorded, what it became, the field and the stretch."""
    recorded = [one.image for one in correction.volumes]
    names = [f"{one.name} ({one.encoding.direction})" for one in correction.volumes]
    out = {"As recorded.": _rows(recorded, names, mean)}
    out["Corrected: all rows should now show the same."] = _rows(
        [*images, mean], [*names, "mean"], mean
    )
    hz = Image(correction.distortion.field_hz[0], mean.grid, name="field")
    limit = float(torch.quantile(hz.data.abs().flatten()[::7], 0.995).clamp(min=1.0))
    out["Field in Hz: red shows what is there further along the phase encoding."] = _rows(
        [hz], ["field"], mean, "coolwarm", (-limit, limit), "Hz"
    )
    stretch = [correction.distortion.stretch(one.encoding)[0] for one in correction.volumes]
    maps = [Image(one, mean.grid, name="stretch") for one in stretch]
    caption = "Stretch 1 + dshift/dx: below 1 (blue) signal has piled up, above it was spread out."
    out[caption] = _rows(maps, names, mean, "coolwarm", (0.0, 2.0), "stretch")
    return out


def _rows(
    images: Sequence[Image],
    names: Sequence[str],
    where: Image,
    colours: str = "gray",
    limits: tuple[float, float] | None = None,
    unit: str = "",
) -> bytes:
    """One row per image, through the middle of `where`."""
    planes = planes_of(where)
    arrays = [image.data.float().mean(0).numpy() for image in images]
    shapes = [plane.cut(arrays[0]).shape for plane in planes]
    ratios = [n[1] / (n[0] * p.aspect) for n, p in zip(shapes, planes, strict=True)]
    height = min(2.6, 9.5 / max(sum(ratios), 0.1))
    size = (height * sum(ratios) + (1.0 if unit else 0.2), (height + 0.2) * len(images))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots(len(images), len(planes), width_ratios=ratios, squeeze=False)
    for row, array, name in zip(axes, arrays, names, strict=True):
        low, high = limits or robust_range(torch.as_tensor(array))
        for ax, plane in zip(row, planes, strict=True):
            look = {"cmap": colours, "vmin": low, "vmax": high, "aspect": plane.aspect}
            ax.imshow(plane.cut(array), **look)
            ax.set_axis_off()
        row[0].set_title(name, fontsize=8, color=GREY, loc="left")
    if unit:
        bar = figure.colorbar(axes[0, 0].images[0], ax=axes, shrink=0.8)
        bar.set_label(unit, color=GREY, fontsize=8)
        bar.ax.tick_params(labelsize=7, colors=GREY)
    return png(figure)


# ------------------------------------------------------------------ the page
def page(report: dict[str, Any], drawn: dict[str, bytes]) -> str:
    """report.html; pictures by caption."""
    curve = loss_curves(report["stages"])
    shown = {**drawn, **({} if curve is None else {"Loss per step.": curve})}
    figures = "".join(figure(caption, data) for caption, data in shown.items())
    before, after = (report["agreement"][key] or {} for key in ("before", "after"))
    rows = [
        ["Correlation inside the object", number(before.get("correlation")),
         number(after.get("correlation"))],
        ["Difference, root mean square, share of the signal", number(before.get("rms_difference")),
         number(after.get("rms_difference"))],
    ]  # fmt: skip
    field, shift = report["field"]["field_hz"], report["field"]["shift_voxels"]
    facts = [
        ["Field inside (Hz), least, mean, most",
         ", ".join(number(field[key], 1) for key in ("min", "mean", "max"))],
        ["Shift in the first volume (voxels), mean, 95 %, most",
         ", ".join(number(shift[key], 2) for key in ("mean", "p95", "max"))],
        ["Smallest stretch of all volumes", number(report["field"]["smallest_stretch"])],
        ["Voxels of the object that no volume shows",
         f"{100 * report['unrecoverable_fraction']:.2f} %"],
    ]  # fmt: skip
    for one, moved in zip(report["volumes"], report["motion"], strict=True):
        shifted = ", ".join(f"{value:.2f}" for value in moved["shift_mm"])
        facts.append(
            [f"{one['name']}: {one['direction']}, {one['readout_s']:g} s",
             f"moved by {shifted} mm, {moved['degrees']:.2f}°"]
        )  # fmt: skip
    title = "EPI correction: " + ", ".join(one["name"] for one in report["volumes"])
    steps = f"<h2>Course</h2>{stages_table(report['stages'])}" if report["stages"] else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p class="lead">{escape(report["sentence"])} {report["seconds"]:.1f} s.</p>
{table(rows, ["", "before", "after"]) if after else ""}
{table(facts)}
<h2>Pictures</h2>
{figures}
{steps}
</body></html>
"""
