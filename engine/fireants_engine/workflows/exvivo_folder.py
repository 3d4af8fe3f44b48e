"""The folder of an ex-vivo alignment: a run directory with its candidates beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fireants_engine.context import ExecutionContext
from fireants_engine.geometry import Image
from fireants_engine.ops import warp_image
from fireants_engine.pipeline.initialise import Candidate
from fireants_engine.pipeline.moments import foreground
from fireants_engine.pipeline.prepare import Prepared, robust_range
from fireants_engine.transforms import Affine
from fireants_engine.workflows.exvivo import Alignment, Fit, Orientation, turned_by
from fireants_engine.workflows.pictures import GREY, planes_of, png
from fireants_engine.workflows.rundir import CANDIDATES_FILE, Made, save_run

_PICTURES = 6
"""Candidates that are drawn, each of another half or orientation."""
_OUTLINE = "#f2a93b"


def sentence(found: Orientation) -> str:
    """What was decided, for the person who waited."""
    fit, one = found.chosen, found.chosen.start.candidates[0]
    what = "the whole brain" if fit.side == "whole" else f"the {fit.side} hemisphere"
    mirrored = ", mirrored" if one.det < 0 else ""
    text = f"It is {what}, turned by {turned_by(one):.0f} degrees{mirrored} (score {one.score:.3f}"
    if found.margin is not None:
        return f"{text}, {found.margin:.3f} above the next part)."
    return f"{text})."


def save_alignment(
    aligned: Alignment, folder: str | Path, *, exvivo_mask: Path | None = None
) -> Path:
    """Write the run directory (`rundir.save_run`) and what the start was chosen from.

    candidates.json: every part and start that was scored, best first, with margins and notes;
    candidate-1.png, ...: three planes of that part of the in-vivo brain with the outline of the
    ex-vivo tissue, of the best candidates that differ; fixed.nii.gz: what was registered to, where
    that is not the in-vivo image itself. Raises InputError when it cannot be written.
    """
    found = aligned.orientation
    shown = _worth_showing(found)
    report = to_dict(found)

    def further(place: Path) -> None:
        tissue = _tissue(found.exvivo)
        for number, k in enumerate(shown, start=1):
            fit, one = found.candidates()[k]
            name = f"candidate-{number}.png"
            (place / name).write_bytes(_picture(fit, one, tissue))
            report["candidates"][k]["picture"] = name
        text = json.dumps(report, indent=1, allow_nan=False) + "\n"
        (place / CANDIDATES_FILE).write_text(text, encoding="utf-8", newline="\n")

    files = {} if exvivo_mask is None else {"moving_mask": exvivo_mask}
    made = {}
    if found.chosen.fixed is not found.invivo:
        labels = None if found.labels is None else found.labels.path
        made["fixed"] = Made((found.invivo.path, labels))
    return save_run(aligned.result, folder, files=files, made=made, further=further)


def to_dict(found: Orientation) -> dict[str, Any]:
    """Plain values of an orientation; margins are null where nothing else was tried."""
    fits = [
        {"hemisphere": fit.side, "score": fit.score, "margin": fit.start.margin}
        for fit in found.fits
    ]
    candidates = [
        {
            "hemisphere": fit.side,
            "name": one.name,
            "score": one.score,
            "det": one.det,
            "turned_deg": turned_by(one),
            "matrix": one.affine.matrix.tolist(),
            "picture": None,
        }
        for fit, one in found.candidates()
    ]
    return {
        "chosen": {"hemisphere": found.chosen.side, "candidate": 0},
        "hemisphere_margin": found.margin,
        "orientation_margin": found.chosen.start.margin,
        "plane": None if found.plane is None else found.plane.to_dict(),
        "notes": list(found.notes),
        "hemispheres": fits,
        "candidates": candidates,
    }


def _worth_showing(found: Orientation) -> list[int]:
    """Numbers of the best start of every part, and of what stands out beside the chosen one."""
    every = found.candidates()
    shown = [0]
    for fit in found.fits[1:]:
        best = fit.start.candidates[0]
        shown.append(next(k for k, (_, one) in enumerate(every) if one is best))
    other = found.chosen.start.runner_up
    shown += [k for k, (_, one) in enumerate(every) if one is other]
    return sorted(set(shown))[:_PICTURES]


# ------------------------------------------------------------------ pictures
def _tissue(exvivo: Image) -> Image:
    """Foreground of the ex-vivo image at low resolution."""
    prepared = Prepared.create(exvivo, exvivo, ExecutionContext())
    shrink = max(1.0, float(max(exvivo.grid.extent_mm)) / 96 / min(exvivo.grid.spacing_mm))
    pair = prepared.level(shrink, 1)
    inside = foreground(pair.fixed, pair.fixed_mask).float()
    return Image(inside[None], pair.fixed_grid, name="tissue")


def _picture(fit: Fit, one: Candidate, tissue: Image) -> bytes:
    """Three planes of the part with the outline of the tissue."""
    planes = planes_of(fit.fixed)
    grey = fit.fixed.data.float().mean(0).cpu().numpy()
    low, high = robust_range(fit.fixed.data)
    figure = Figure(figsize=(2.4 * len(planes), 2.6), dpi=90)
    axes = figure.subplots(1, len(planes), squeeze=False)[0]
    for plane, ax in zip(planes, axes, strict=True):
        shown = np.clip((plane.cut(grey) - low) / max(high - low, 1e-12), 0, 1)
        ax.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect=plane.aspect)
        outline = _cut(tissue, one.affine, plane)
        if outline.min() < 0.5 < outline.max():
            ax.contour(outline, levels=[0.5], colors=_OUTLINE, linewidths=1.2)
        ax.set_axis_off()
        ax.set_title(plane.title, fontsize=8, color=GREY)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.92, wspace=0.03)
    return png(figure)


def _cut(tissue: Image, affine: Affine, plane: Any) -> np.ndarray:
    array = warp_image(tissue, affine, plane.grid).data[0].numpy()
    return plane.show(array if plane.axis is None else array.squeeze(plane.axis))
