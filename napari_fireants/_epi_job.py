"""An EPI correction as the worker thread sees it. Imports the engine, so only that imports this."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fireants_engine import Control, Image
from fireants_engine.io.bids import check_intended
from fireants_engine.io.series import load_series
from fireants_engine.pipeline import events as ev
from fireants_engine.transforms.distortion import Distortion
from fireants_engine.workflows import epi, epi_images
from fireants_engine.workflows.epi_check import Check, try_directions, try_field, try_series
from fireants_engine.workflows.epi_folder import save_correction
from fireants_engine.workflows.epi_report import inside_object, make_report
from napari_fireants._epi_axes import Axes
from napari_fireants._epi_link import AFTER, BEFORE, EpiJob, EpiLink, Key, Pictures, SeriesJob
from napari_fireants._epi_sides import stored_image, volume_of
from napari_fireants._job import execution_on
from napari_fireants._layers import Snapshot, grid_of
from napari_fireants._session import Progress


@dataclass(eq=False)
class Found:
    """A correction, and what was computed of it: images by name, each once."""

    correction: epi.Correction
    axes: Axes
    seconds: float
    report: dict[str, Any]
    images: dict[str, np.ndarray] = field(default_factory=dict)
    """As the layers show them."""
    stopped: bool = False


# ------------------------------------------------------------------ the correction
def run_correction(job: EpiJob, link: EpiLink) -> tuple[Found, Pictures] | None:
    """Correct the pair, with pictures on the way; None when nobody wants them any more."""
    began, control = time.perf_counter(), Control()
    link.attach(control)
    link.progress(Progress(text="Reading the images"))
    volumes = load_volumes(job)
    if job.field_map is not None:
        found = epi.given_field(volumes, _as_it_is(job.field_map))
    else:
        found = _estimated(volumes, job, link, control)
    if link.discard:
        return None
    link.progress(Progress(text="Preparing the pictures", fraction=1.0))
    return _result(found, job.up.axes, began)


def load_volumes(job: EpiJob) -> list[epi.Volume]:
    """The pair as its files store it."""
    return [
        volume_of(side, source)
        for side, source in ((job.up, job.up_source), (job.down, job.down_source))
        if source is not None
    ]


def _as_it_is(source: Snapshot) -> Image:
    """An image whose place in the world alone counts."""
    return stored_image(Axes.same(source.ndim), source)


def _estimated(
    volumes: Sequence[epi.Volume], job: EpiJob, link: EpiLink, control: Control
) -> epi.Correction:
    structural = None
    if job.structural is not None:
        structural = _as_it_is(job.structural)
    steps = epi.correction(
        volumes, motion=job.motion, structural=structural, execution=execution_on(job.device),
        control=control,
    )  # fmt: skip
    where = ""
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            return end.value
        match event:
            case ev.LevelStarted():
                where = f"Level {event.level + 1} of {event.levels}"
                link.progress(Progress(text=where, fraction=event.fraction))
            case ev.Iteration():
                link.progress(Progress(text=where, fraction=event.fraction))
            case ev.Preview() if isinstance(event.found, Distortion):
                since = time.perf_counter()
                link.pictures.put(_live(volumes, event.found, link.key, job.up.axes))
                link.pace.cost(time.perf_counter() - since)
            case ev.Warning():
                link.note(event.message)


def _live(
    volumes: Sequence[epi.Volume], found: Distortion, key: Key, axes: Axes
) -> tuple[Key, Pictures]:
    """The corrected volumes now, where the canvas looks: one plane, or all."""
    grid = volumes[0].image.grid
    if key is None:
        whole = epi_images.on_grid(found, grid)
        pictures = _three(_corrected(volumes, whole), axes)
        return None, pictures | {"field": axes.shown(whole.field_hz[0, 0].numpy())}
    shown = axes.shown(np.empty(grid.shape, np.uint8)).shape
    axis, index = axes.plane(key, shown)
    box = [slice(0, n) for n in grid.shape]
    box[axis] = slice(max(0, index - 1), min(grid.shape[axis], index + 2))
    slab = epi_images.on_grid(found, grid.part(box))
    images = [*_corrected(volumes, slab), slab.field_hz[0, 0].numpy()]
    planes = [image.take(index - box[axis].start, axis) for image in images]
    *shown, field = (axes.shown_plane(each, key) for each in planes)
    return key, dict(zip((*AFTER, "field"), (*_with_mean(shown), field), strict=True))


def _corrected(volumes: Sequence[epi.Volume], field: Distortion) -> list[np.ndarray]:
    made = epi_images.corrected(epi.Correction(tuple(volumes), field))
    return [image.data[0].numpy() for image in made]


def _with_mean(images: list[np.ndarray]) -> list[np.ndarray]:
    """Up, down (the only one, where there is one) and their mean."""
    return [images[0], images[-1], np.mean(images, axis=0, dtype=np.float32)]


def _three(images: Sequence[np.ndarray], axes: Axes, names: Sequence[str] = AFTER) -> Pictures:
    shown = [axes.shown(np.asarray(image, np.float32)) for image in images]
    return dict(zip(names, map(np.ascontiguousarray, _with_mean(shown)), strict=True))


def _result(found: epi.Correction, axes: Axes, began: float) -> tuple[Found, Pictures]:
    images = epi_images.corrected(found)
    lost = epi_images.unrecoverable(found)
    seconds = time.perf_counter() - began
    report = make_report(found, images, lost, seconds)
    raw = [one.image.data[0].float().numpy() for one in epi_images.balanced(found)]
    pictures = _three(raw, axes, BEFORE)
    pictures |= _three([image.data[0].numpy() for image in images], axes)
    maps = {"field": found.distortion.field_hz[0, 0], "lost": lost.data[0]}
    ends = found.volumes[0], found.volumes[-1]
    for name, one in zip(("stretch up", "stretch down"), ends, strict=True):
        maps[name] = found.distortion.stretch(one.encoding)[0, 0]
    for name, data in maps.items():
        pictures[name] = np.ascontiguousarray(axes.shown(data.float().numpy()))
    inside = inside_object(images).astype(np.float32)
    pictures["inside"] = np.ascontiguousarray(axes.shown(inside))
    stopped = found.result is not None and found.result.outcome is ev.Outcome.STOPPED
    return Found(found, axes, seconds, report, stopped=stopped), pictures


def combined(found: Found, how: epi_images.Combine) -> np.ndarray:
    """The corrected image in another way, as the layer shows it; computed once.

    how: jacobian (mean, signal put back), plain (mean, as bright as recorded), least-squares.
    """
    if how not in found.images:
        made = epi_images.combined(found.correction, how)
        shown = found.axes.shown(made.data[0].float().numpy())
        found.images[how] = np.ascontiguousarray(shown)
    return found.images[how]


# ------------------------------------------------------------------ directions
def run_check(job: EpiJob, link: EpiLink) -> Check:
    """Do the directions fit? A field map decides their sign, a pair its axis."""
    control = Control()
    link.attach(control)
    volumes = load_volumes(job)
    if job.field_map is not None:
        known = epi.given_field(volumes, _as_it_is(job.field_map))
        return try_field(volumes, known.distortion)

    def tell(done: int, count: int) -> None:
        link.progress(Progress(text=f"Direction {done + 1} of {count}", fraction=done / count))

    return try_directions(
        volumes, execution=execution_on(job.device), control=control, on_trial=tell
    )


# ------------------------------------------------------------------ series, files
def check_series(found: Found, job: SeriesJob) -> Check:
    """Its direction, tried on its middle volume."""
    encoding = job.side.encoding
    image = stored_image(job.side.axes, job.sources[len(job.sources) // 2])
    reference = epi_images.mean_of(epi_images.corrected(found.correction), "reference")
    return try_series(image, encoding, found.correction.distortion, reference)


def run_series(found: Found, job: SeriesJob, link: EpiLink) -> np.ndarray:
    """Every volume corrected by the field, as the layer shows it: (t, z, y, x), float32."""
    if job.path is not None and job.pair:
        check_intended(job.path, job.pair)
    axes, count = job.side.axes, len(job.sources)
    images = (stored_image(axes, source) for source in job.sources)
    grid = axes.grid(grid_of(job.sources[0]))
    field = found.correction.distortion
    made = epi_images.corrected_series(images, [job.side.encoding], field, grid)
    out: list[np.ndarray] = []
    for k, image in enumerate(made):
        link.progress(Progress(text=f"Volume {k + 1} of {count}", fraction=(k + 1) / count))
        out.append(axes.shown(image.data[0].numpy()))
        if link.stopping:
            raise InterruptedError
    return np.stack(out)


def save(found: Found, folder: Path, how: epi_images.Combine, series: SeriesJob | None) -> Path:
    """The folder of the correction, as the command line writes it. series: corrected, too."""
    began = time.perf_counter() - found.seconds
    more: dict[str, Any] = {}
    if series is not None and series.path is not None:
        own = [series.side.encoding]
        more = {"series": load_series(series.path), "series_encodings": own}
    return save_correction(found.correction, folder, combine=how, began=began, **more)
