"""A section in a volume as the worker thread sees it. Imports the engine, so only that imports it.

Finding, fitting; what is written is in `_histo_files`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fireants_engine import Control, Image
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid
from fireants_engine.pipeline import Outcome
from fireants_engine.pipeline import events as ev
from fireants_engine.pipeline.pyramid import shrink_image
from fireants_engine.transforms import Affine
from fireants_engine.workflows import slices
from fireants_engine.workflows.result import Result
from fireants_engine.workflows.sheets import flat_grid
from fireants_engine.workflows.tissue import at_most
from napari_fireants._histo_link import (
    SHOWN_PX,
    Guess,
    Guesses,
    HistoLink,
    Prepared,
    Refined,
    SectionJob,
    Volume,
)
from napari_fireants._histo_pose import PLANES, Pose, standard_pose
from napari_fireants._job import execution_on
from napari_fireants._layers import Snapshot, to_image
from napari_fireants._preview import robust_limits, to_bytes
from napari_fireants._session import Progress

SHOWN = 6
"""Candidates that a person is offered."""
APART_MM, APART_DEG = 2.0, 4.0
"""Candidates nearer than both are one."""
SEARCH = 0.85
"""Of the time of a search and a comparison, the share of the search."""
CARD_PX = 72
"""Height of a candidate's pictures."""
LINES = 20
"""Cells of the deformation grid along the longer side."""


# ------------------------------------------------------------------ reading
def section_image(source: Snapshot, pixel_mm: tuple[float, float]) -> Image:
    """A section in mm of its own: x to the right, y down, 0 in the middle of the first pixel (of
    the whole section, where the data are of a coarser level)."""
    array = np.asarray(source.data)
    if source.rgb:
        array = array[..., :3]
    grid = Grid(source.size, pixel_mm, (0.0, 0.0), np.eye(2)).resized(array.shape[1::-1])
    return Image.from_numpy(array, grid, channels=source.rgb, name=source.name, path=source.path)


def read_volume(source: Snapshot) -> Volume:
    image = to_image(source)
    data = np.ascontiguousarray(image.data[0].float().numpy())
    return Volume(image, data, image.grid.matrix("mm", "index"), robust_limits(data))


def going_on(link: HistoLink, told: Callable[[str], object]) -> Callable[[str], None]:
    """`told`, unless the work is to end: InterruptedError."""

    def step(text: str) -> None:
        go_on(link)
        told(text)

    return step


def plainly(link: HistoLink) -> Callable[[str], None]:
    return going_on(link, lambda text: link.progress(Progress(text=text)))


def prepare(job: SectionJob, volume: Volume | None, told: Callable[[str], None]) -> Prepared:
    """Read both and find the tissue. volume: the one of `job`, where it was read before; told:
    what is being done."""
    told("Reading the images")
    section, volume = section_image(job.section, job.pixel_mm), volume or read_volume(job.volume)
    told("Finding the tissue")
    sheet = slices.sheet_for(section, volume.image, component=job.piece or None)
    grid = sheet.image.grid
    step = -(-max(grid.size) // SHOWN_PX)
    return Prepared(
        sheet=sheet,
        volume=volume,
        picture=np.ascontiguousarray(picture_of(section, flat_grid(grid))[::step, ::step]),
        tissue=sheet.tissue.numpy()[::step, ::step],
        step=step,
        corner_mm=np.array(grid.origin_mm[:2]),
        pixel_mm=step * np.array(grid.spacing_mm[:2]),
        middle_mm=slices.middle_of(sheet),
        slide_mm=job.pixel_mm,
    )


def picture_of(section: Image, flat: Grid) -> np.ndarray:
    """The section on pixels, no smaller than its own: (Y, X, 3) or (Y, X) bytes."""
    small = at_most(section, max(flat.size))
    data = shrink_image(small.data[None].float(), flat)[0] if small.grid.size != flat.size else (
        small.data.float()
    )  # fmt: skip
    return as_shown(data, section)


def as_shown(data: torch.Tensor, section: Image) -> np.ndarray:
    """Values (C, Y, X) of a section as (Y, X, 3) or (Y, X) bytes."""
    array = np.moveaxis(data.numpy(), 0, -1)
    if array.shape[-1] == 3 and section.data.dtype == torch.uint8:
        return np.clip(np.rint(array), 0, 255).astype(np.uint8)
    limits = robust_limits(array)
    return to_bytes(array if array.shape[-1] == 3 else array.mean(-1), limits)


def regions_of(job: SectionJob, labels: Snapshot) -> Image:
    """A label map of the volume, or of the other section by its pixels. Raises InputError."""
    if not job.pair:
        return to_image(labels)
    if labels.size != job.volume.size:
        a, b = (" x ".join(map(str, each.size)) for each in (labels, job.volume))
        raise InputError(
            f"{labels.name} has {a} pixels and {job.volume.name} {b}; draw regions on this image."
        )
    return section_image(labels, job.other_mm)


def go_on(link: HistoLink) -> None:
    if link.stopping:
        raise InterruptedError


# ------------------------------------------------------------------ where it may lie
def by_hand(job: SectionJob, volume: Volume | None, link: HistoLink) -> Guesses:
    """One guess for a hand to begin with: where the job says, or the chosen plane through the
    middle of the volume."""
    prepared = prepare(job, volume, plainly(link))
    if job.start is not None:
        return alone(prepared, Pose(job.start, prepared.middle_mm))
    inside = torch.nonzero(slices.brain_of(prepared.volume.image)).double().mean(0).numpy()
    point = (np.linalg.inv(prepared.volume.to_index) @ np.array([*inside[::-1], 1.0]))[:3]
    pose = standard_pose(job.plane or "coronal", job.side or None, point, prepared.middle_mm)
    return alone(prepared, pose)


def alone(prepared: Prepared, pose: Pose) -> Guesses:
    """A section whose place nobody searched for."""
    guess = Guess(pose, float("nan"), None, card(prepared, pose))
    return Guesses(prepared, (guess,), None, "")


def find(job: SectionJob, volume: Volume | None, link: HistoLink) -> Guesses:
    """Search the planes, and compare the best with care."""
    prepared = prepare(job, volume, plainly(link))
    link.attach(Control())

    def told(text: str, done: float) -> None:
        link.progress(Progress(text=text, fraction=0.1 + 0.9 * done))

    return look_for(job, prepared, link, told)


def look_for(
    job: SectionJob, prepared: Prepared, link: HistoLink, told: Callable[[str, float], None]
) -> Guesses:
    """The search of `find` for a section that was read; told: what is done, and how much of it.

    The link has a Control. Raises StoppedError or InterruptedError where that ends it.
    """
    sheet, image, control = prepared.sheet, prepared.volume.image, link.control
    planes = (job.plane,) if job.plane else PLANES
    text = f"Searching {'all' if len(planes) > 1 else planes[0]} planes"
    found = slices.search(
        sheet, image, planes=planes, tilt_deg=job.tilt_deg, seen_from=job.side or None,
        control=control, on_progress=lambda done: told(text, SEARCH * done),
    )  # fmt: skip
    told(f"Comparing the best {len(found)}", SEARCH)
    found = slices.compared(sheet, image, found, execution_on(job.device), control)
    go_on(link)
    if not found:
        raise InputError(f"{job.section.name}: nothing in {job.volume.name} is like it.")
    other = slices.elsewhere(found, prepared.sheet)
    margin = None if other is None else found[0].score - other.score
    guesses = tuple(_guess(prepared, one) for one in _unlike(prepared, found)[:SHOWN])
    return Guesses(prepared, guesses, margin, unsure(guesses, margin, slices.AMBIGUOUS))


def _guess(prepared: Prepared, one: slices.Candidate) -> Guess:
    pose = Pose(one.affine.matrix, prepared.middle_mm)
    return Guess(pose, one.score, one, card(prepared, pose))


def _unlike(prepared: Prepared, found: tuple[slices.Candidate, ...]) -> list[slices.Candidate]:
    """Of those that came to lie in one place only the best."""
    kept: list[slices.Candidate] = []
    poses: list[Pose] = []
    for one in found:
        pose = Pose(one.affine.matrix, prepared.middle_mm)
        if not any(_same(pose, other) for other in poses):
            kept.append(one)
            poses.append(pose)
    return kept


def _same(one: Pose, other: Pose) -> bool:
    """One side, about one plane, and about one way up on it."""
    turned = min(
        float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        for a, b in zip(one.matrix[:3, :3].T[:2], other.matrix[:3, :3].T[:2], strict=True)
    )
    away = float(np.linalg.norm(one.point_mm - other.point_mm))
    return away < APART_MM and turned > np.cos(np.radians(APART_DEG))


def unsure(guesses: tuple[Guess, ...], margin: float | None, least: float) -> str:
    """What a person should know where the best is hardly better, by a share of its score."""
    best = guesses[0]
    if margin is None or margin >= least * abs(best.score):
        return ""
    return (
        f"Unsure how it lies: the best scores {best.score:.3f}, another place "
        f"{best.score - margin:.3f}. Look at both and choose."
    )


def card(prepared: Prepared, pose: Pose) -> np.ndarray:
    """Section and plane beside each other, (CARD_PX, width, 3) bytes."""
    step = max(1, round(prepared.shape[0] / CARD_PX))
    plane = prepared.cut(pose, step)
    plane = plane if plane.dtype == np.uint8 else to_bytes(plane, prepared.volume.limits)
    section = prepared.picture[::step, ::step]
    both = [x if x.ndim == 3 else np.repeat(x[..., None], 3, -1) for x in (section, plane)]
    gap = np.zeros((len(plane), 2, 3), np.uint8)
    return np.ascontiguousarray(np.concatenate([both[0], gap, both[1]], axis=1))


# ------------------------------------------------------------------ fitting
def refine(
    job: SectionJob, prepared: Prepared, pose: Pose, labels: Snapshot | None, link: HistoLink
) -> Refined | None:
    """The affine map with its plane, then the deformation within it, from a pose."""
    began, control = time.perf_counter(), Control()
    link.attach(control)
    link.progress(Progress(text="Comparing with the volume"))
    shape, step = prepared.sheet.tissue.shape, prepared.step
    regions = None if labels is None else regions_of(job, labels)

    def preview(event: ev.Preview) -> None:
        frame = event.frames.get((0, 0))
        if frame is not None and frame.shape[-2:] == shape:
            link.picture.put(frame.reshape(shape)[::step, ::step])

    placement = slices.place(
        prepared.sheet, prepared.volume.image, start=Affine(pose.matrix),
        labels=regions, execution=execution_on(job.device), control=control,
        on_event=teller(link, "Plane", preview),
    )  # fmt: skip
    if link.discard:
        return None
    result = placement.result
    moved_um, lines = bent(prepared, result)
    return Refined(
        placement=placement,
        pose=Pose(result.affine.matrix, prepared.middle_mm),
        started=pose,
        picture=np.ascontiguousarray(result.moved.data[0, 0].float().numpy()[::step, ::step]),
        labels=None if regions is None else result.warp_labels(regions).numpy()[0, ::step, ::step],
        lines=lines,
        moved_um=moved_um,
        seconds=time.perf_counter() - began,
        stopped=result.output.outcome is Outcome.STOPPED,
        notes=placement.notes,
    )


def teller(
    link: HistoLink, first: str, preview: Callable[[ev.Preview], None]
) -> Callable[[ev.Event], None]:
    """Tells a link how far a fit is. first: what its affine stage is called."""
    where, first_stage = "", ""

    def told(event: ev.Event) -> None:
        nonlocal where, first_stage
        match event:
            case ev.LevelStarted():
                first_stage = first_stage or event.stage
                stage = first if event.stage == first_stage else "Deformation"
                where = f"{stage}, level {event.level + 1} of {event.levels}"
                link.progress(Progress(text=where, fraction=event.fraction))
            case ev.Iteration():
                link.progress(Progress(text=where, fraction=event.fraction))
            case ev.Preview():
                preview(event)
            case ev.Warning():
                link.note(event.message)

    return told


def bent(prepared: Prepared, result: Result) -> tuple[tuple[float, float], np.ndarray]:
    """How far tissue is moved on the slide beyond the affine map, in um: median and largest; and
    the bent `lattice`."""
    places = prepared.places_mm
    here = result.affine.inverse()(in_volume(result, places))[:, :2]
    away = 1000 * np.linalg.norm(here - places, axis=1)[prepared.tissue.ravel()]
    lines = lattice(here.reshape(*prepared.shape, 2), prepared.pixel_mm)
    return (float(np.median(away)), float(away.max())), lines


def lattice(places_mm: np.ndarray, pixel_mm: np.ndarray) -> np.ndarray:
    """(n, 2, 2): start and way, in rows and columns, of short lines along which `places_mm`
    (Y, X, 2) are on a line of a square lattice."""
    from skimage.measure import approximate_polygon, find_contours

    step = max(places_mm.shape[:2] * pixel_mm[::-1]) / LINES
    ends: list[np.ndarray] = []
    for values in np.moveaxis(places_mm, -1, 0):
        first, last = np.ceil(values.min() / step), np.floor(values.max() / step)
        for level in np.arange(first, last + 1) * step:
            for line in find_contours(values, level):
                rough = approximate_polygon(line, 0.2)
                ends.append(np.stack([rough[:-1], np.diff(rough, axis=0)], axis=1))
    return np.concatenate(ends) if ends else np.zeros((0, 2, 2))


def in_volume(result: Result, places_mm: np.ndarray) -> np.ndarray:
    """Places of the section (n, 2) mm through all that was fitted, (n, d)."""
    points = np.zeros((len(places_mm), result.affine.dim))
    points[:, :2] = places_mm
    return result.transform(points)


def places_in_volume(refined: Refined, places_mm: np.ndarray) -> np.ndarray:
    """The same as (n, 3): those of another section at z = 0."""
    found = in_volume(refined.placement.result, places_mm)
    return np.pad(found, ((0, 0), (0, 3 - found.shape[1])))


def both_ways(refined: Refined, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (n, 5) of section mm and volume mm: the first in the volume (n, 3), and the second on
    the section (n, 2), through all that was fitted."""
    result = refined.placement.result
    back = result.inverse(pairs[:, 2 : 2 + result.affine.dim])[:, :2]
    near = refined.pose.on_section(pairs[:, 2:])
    return places_in_volume(refined, pairs[:, :2]), np.where(np.isfinite(back), back, near)


def with_others(refined: Refined, others: tuple[Any, ...]) -> Any:
    """The placement with those candidates, too, that a person did not choose."""
    (first, *_), placement = refined.placement.candidates, refined.placement
    return replace(placement, candidates=(first, *others))
