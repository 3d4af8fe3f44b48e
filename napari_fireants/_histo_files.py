"""The folder of a section in a volume. Imports the engine, so only a worker imports it."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fireants_engine import Image
from fireants_engine.geometry import Grid
from fireants_engine.io.images import save_image
from fireants_engine.io.slides import Slide, is_slide, open_slide
from fireants_engine.transforms.embedding import embed_grid
from fireants_engine.workflows.result import Result
from fireants_engine.workflows.rundir import staged
from fireants_engine.workflows.sections_folder import Given, save_match
from fireants_engine.workflows.slices_folder import flat, save_placement
from fireants_engine.workflows.stack_folder import save_stack, section_file
from napari_fireants._histo_job import places_in_volume, regions_of, with_others
from napari_fireants._histo_link import Export, HistoLink
from napari_fireants._histo_pose import errors_um
from napari_fireants._histo_stack_link import StackExport
from napari_fireants._session import Progress

ON_SLIDE, REGIONS, PICTURE, PAIRS = (
    "mri_on_section.tif",
    "regions_on_section.geojson",
    "regions_on_section.png",
    "landmarks.csv",
)
LARGEST_PX = 4096
"""Longest side of what is written of the slide; larger slides are written smaller."""


def export(given: Export, folder: Path) -> Path:
    """The run folder with candidates.json and report.html, the volume on the slide's pixels (of
    two sections the run's warped.tif), outlines of regions on them (with labels), and the
    landmarks (with pairs), or nothing."""
    placement = with_others(given.refined, given.others)
    with staged(folder) as place:
        if given.job.pair:
            _move(save_match(placement, place / "run", given=_slides(given)), place)
        else:
            _move(save_placement(placement, place / "run"), place)
        _on_slide(given, place, "")
    return folder


def export_stack(given: StackExport, folder: Path, link: HistoLink) -> Path:
    """The stack's run folder with sections.json and section-001.mat, ..., and beside each of the
    latter what `export` writes of a section, as section-001-mri_on_section.tif, ..."""
    with staged(folder) as place:
        link.progress(Progress(text="Writing the stack"))
        _move(save_stack(given.stack, place / "run", given.names), place)
        for done, (number, part) in enumerate(given.parts.items()):
            text = f"Writing {given.names[number]}, {done + 1} of {len(given.parts)}"
            link.progress(Progress(text=text, fraction=done / len(given.parts)))
            _on_slide(part, place, f"{Path(section_file(number)).stem}-")
    return folder


def _move(inside: Path, place: Path) -> None:
    for file in sorted(inside.iterdir()):
        os.replace(file, place / file.name)
    inside.rmdir()


def _on_slide(given: Export, place: Path, prefix: str) -> None:
    """The volume on the slide's pixels, regions and landmarks; prefix: of the files' names."""
    result, grid = given.refined.placement.result, slide_grid(given)
    if not given.job.pair:
        mri = flat(result.warp(given.prepared.volume.image, grid))
        save_image(Image(mri.data.to(torch.float32), mri.grid), place / f"{prefix}{ON_SLIDE}")
    if given.labels is not None:
        _regions(given, result, grid, place, prefix)
    if len(given.points):
        _pairs(given, place / f"{prefix}{PAIRS}")


def _slides(given: Export) -> tuple[Given, Given] | None:
    """Both sections as files, so that of pyramids the whole is warped; None where a layer is no
    slide's file."""
    job, placement = given.job, given.refined.placement
    out = []
    for source, pixel, section in ((job.section, job.pixel_mm, placement.fixed),
                                   (job.volume, job.other_mm, placement.moving)):  # fmt: skip
        if source.path is None or not is_slide(source.path):
            return None
        grid = Grid(source.size, pixel, (0.0, 0.0), np.eye(2))
        out.append(Given(section.original, job.sized, grid=grid,
                         reopened=partial(_reopened, Path(source.path), grid)))  # fmt: skip
    return out[0], out[1]


def _reopened(path: Path, grid: Grid) -> Slide:
    """A slide in mm from the middle of its first pixel, as the dock counts."""
    return replace(open_slide(path, unknown="pixel"), grid=grid)


def slide_grid(given: Export) -> Grid:
    """The slide's pixels, of a section in a volume as a volume of one slice; larger pixels where
    there are too many."""
    size = given.job.section.size
    flat_one = Grid(size, given.job.pixel_mm, (0.0, 0.0), np.eye(2))
    most = max(size) / LARGEST_PX
    if most > 1:
        flat_one = flat_one.resized([max(1, round(n / most)) for n in size])
    return flat_one if given.job.pair else embed_grid(flat_one)


# ------------------------------------------------------------------ regions
def _regions(given: Export, result: Result, grid: Grid, place: Path, prefix: str) -> None:
    assert given.labels is not None
    labels = result.warp_labels(regions_of(given.job, given.labels), grid).numpy()
    labels = labels.reshape(labels.shape[-2:])
    factor = np.array(given.job.section.size) / np.array(grid.size[:2])
    outlines = {int(k): outlines_of(labels == k, factor) for k in np.unique(labels) if k}
    features = [_feature(number, rings) for number, rings in outlines.items() if rings]
    text = json.dumps({"type": "FeatureCollection", "features": features}, indent=1)
    (place / f"{prefix}{REGIONS}").write_text(text + "\n", encoding="utf-8", newline="\n")
    _draw(given, outlines, place / f"{prefix}{PICTURE}")


def outlines_of(inside: np.ndarray, factor: np.ndarray) -> list[np.ndarray]:
    """Closed lines (n, 2) around what is inside, in pixels x, y of the slide; a pixel's middle is
    a whole number. factor: slide pixels per pixel of `inside`."""
    from skimage.measure import approximate_polygon, find_contours

    found = find_contours(np.pad(inside, 1).astype(np.float32), 0.5)
    lines = (approximate_polygon(line, 0.5) for line in found)
    return [(line[:, ::-1] - 0.5) * factor - 0.5 for line in lines if len(line) > 3]


def _feature(number: int, rings: list[np.ndarray]) -> dict[str, Any]:
    """A region as GeoJSON: each line with the holes in it is one polygon."""
    from matplotlib.path import Path as Line

    areas = [_area(ring) for ring in rings]
    order = sorted(range(len(rings)), key=lambda k: -abs(areas[k]))
    polygons: list[list[np.ndarray]] = []
    for k in order:
        around = [one for one in polygons if areas[k] * _area(one[0]) < 0
                  and Line(one[0]).contains_point(rings[k][0])]  # fmt: skip
        if around:
            around[-1].append(rings[k])
        else:
            polygons.append([rings[k]])
    coordinates = [[np.round(ring, 2).tolist() for ring in one] for one in polygons]
    return {
        "type": "Feature",
        "properties": {"label": number, "name": f"Region {number}"},
        "geometry": {"type": "MultiPolygon", "coordinates": coordinates},
    }


def _area(ring: np.ndarray) -> float:
    """Signed by the direction in which it runs."""
    x, y = ring.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _draw(given: Export, outlines: dict[int, list[np.ndarray]], path: Path) -> None:
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = given.prepared.picture
    high, wide = shown.shape[:2]
    figure = Figure(figsize=(8, 8 * high / wide), dpi=120)
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    x, y = np.array(given.job.section.size) - 0.5
    ax.imshow(shown, cmap="gray", extent=(-0.5, x, y, -0.5), aspect="auto")
    for k, rings in enumerate(outlines.values()):
        for ring in rings:
            ax.plot(*ring.T, color=colormaps["tab10"](k % 10), linewidth=1.2)
    ax.set_axis_off()
    figure.savefig(path)


# ------------------------------------------------------------------ landmarks
def _pairs(given: Export, path: Path) -> None:
    section, volume = given.points[:, :2], given.points[:, 2:]
    away = errors_um(volume, places_in_volume(given.refined, section))
    job = given.job
    parts = {"section_{}_px": section / np.array(job.pixel_mm), "section_{}_mm": section}
    if job.pair:
        other = volume[:, :2]
        parts |= {"other_{}_px": other / np.array(job.other_mm), "other_{}_mm": other}
    else:
        parts["volume_{}_mm"] = volume
    if not job.sized:
        parts = {name: values for name, values in parts.items() if name.endswith("px")}
    names = [name.format(axis) for name, values in parts.items()
             for axis in "xyz"[: values.shape[1]]]  # fmt: skip
    last = ("distance_um", away) if job.sized else ("distance_px", away / 1000)
    table = np.column_stack([*parts.values(), last[1]])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*names, last[0]))
        writer.writerows([f"{value:.4f}" for value in row] for row in table)
