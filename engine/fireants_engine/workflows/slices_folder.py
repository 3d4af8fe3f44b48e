"""The folder of a placed section: the run directory, the candidates, and the plane's picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from fireants_engine.geometry import Image
from fireants_engine.io.images import save_image
from fireants_engine.ops import warp_image
from fireants_engine.transforms import Affine
from fireants_engine.workflows.pictures import GREY, png
from fireants_engine.workflows.rundir import CANDIDATES_FILE, Made, save_run
from fireants_engine.workflows.sheets import flat_grid
from fireants_engine.workflows.slices import Candidate, Placement, Sheet

_SHOWN = 4
"""Candidates that get a picture."""


def flat(image: Image) -> Image:
    """A volume of one slice as the 2D image that it is."""
    return Image(image.data[:, 0], flat_grid(image.grid), name=image.name)


def cut(volume: Image, affine: Affine, sheet: Sheet) -> np.ndarray:
    """The volume on the section's pixels through `affine`, (Y, X)."""
    return warp_image(volume, affine, sheet.image.grid).data[0, 0].float().numpy()


def thumbnail(sheet: Sheet, volume: Image, candidate: Candidate) -> bytes:
    """PNG: the section, the volume on its plane, and the tissue's outline on the latter."""
    density = sheet.image.data[0, 0].numpy()
    plane = cut(volume, candidate.affine, sheet)
    figure = Figure(figsize=(6.4, 2.3), dpi=100)
    axes = figure.subplots(1, 3)
    ratio = sheet.pixel_mm[1] / sheet.pixel_mm[0]
    for ax, picture, title in zip(
        axes, (-density, plane, plane), ("section", "volume", "outline on the volume"), strict=True
    ):
        ax.imshow(picture, cmap="gray", aspect=ratio)
        ax.set_axis_off()
        ax.set_title(title, fontsize=8, color=GREY)
    axes[2].contour(sheet.tissue.numpy(), [0.5], colors="#d0762f", linewidths=0.8)
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.9, wspace=0.03)
    return png(figure)


def save_placement(placement: Placement, folder: str | Path) -> Path:
    """Write the run directory (`rundir.save_run`; the fixed image is the section, one slice, kept
    as it was registered) with
    candidates.json, candidate-1.png to candidate-4.png, and warped.tif: the volume on the section's
    pixels, 2D. Points go section (x, y, 0) -> volume, mm. Raises InputError."""
    result, sheet = placement.result, placement.sheet

    def further(place: Path) -> None:
        text = json.dumps(placement.to_dict(), indent=1, allow_nan=False)
        (place / CANDIDATES_FILE).write_text(text + "\n", encoding="utf-8", newline="\n")
        for k, one in enumerate(placement.candidates[:_SHOWN], start=1):
            (place / f"candidate-{k}.png").write_bytes(thumbnail(sheet, result.moving, one))
        moved = flat(result.moved)
        save_image(Image(moved.data.to(torch.float32), moved.grid), place / "warped.tif")
        if result.extras.moving_labels is not None:
            labels = flat(result.warp_labels(result.extras.moving_labels))
            save_image(labels, place / "warped_labels.tif")

    return save_run(result, folder, made={"fixed": Made((sheet.source,))}, further=further)
