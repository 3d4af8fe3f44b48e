"""A section in a volume as the worker thread sees it. Imports the engine, so only that imports it.

Finding, fitting; what is written is in `_histo_files`.
"""

from __future__ import annotations

import time
from dataclasses import replace

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
CARD_PX = 72
"""Height of a candidate's pictures."""


# ------------------------------------------------------------------ reading
def section_image(job: SectionJob) -> Image:
    """The section in mm of its own: x to the right, y down, 0 in the middle of the first pixel."""
    source = job.section
    array = np.asarray(source.data)
    if source.rgb:
        array = array[..., :3]
    grid = Grid(source.size, job.pixel_mm, (0.0, 0.0), np.eye(2))
    return Image.from_numpy(array, grid, channels=source.rgb, name=source.name, path=source.path)


def read_volume(source: Snapshot) -> Volume:
    image = to_image(source)
    data = np.ascontiguousarray(image.data[0].float().numpy())
    return Volume(image, data, image.grid.matrix("mm", "index"), robust_limits(data))


def prepare(job: SectionJob, volume: Volume | None, link: HistoLink) -> Prepared:
    """Read both and find the tissue. volume: the one of `job`, where it was read before."""
    link.progress(Progress(text="Reading the images"))
    section, volume = section_image(job), volume or read_volume(job.volume)
    _go_on(link)
    link.progress(Progress(text="Finding the tissue"))
    sheet = slices.sheet_for(section, volume.image, component=job.piece or None)
    grid = sheet.image.grid
    step = -(-max(grid.size) // SHOWN_PX)
    return Prepared(
        sheet=sheet,
        volume=volume,
        picture=np.ascontiguousarray(_picture(section, grid)[::step, ::step]),
        tissue=sheet.tissue.numpy()[::step, ::step],
        step=step,
        corner_mm=np.array(grid.origin_mm[:2]),
        pixel_mm=step * np.array(grid.spacing_mm[:2]),
        middle_mm=slices.middle_of(sheet),
        slide_mm=job.pixel_mm,
    )


def _picture(section: Image, grid: Grid) -> np.ndarray:
    """The section on the sheet's pixels: (Y, X, 3) or (Y, X) bytes."""
    flat = Grid(grid.size[:2], grid.spacing_mm[:2], grid.origin_mm[:2], grid.direction[:2, :2])
    small = at_most(section, max(flat.size))
    data = shrink_image(small.data[None].float(), flat)[0] if small.grid.size != flat.size else (
        small.data.float()
    )  # fmt: skip
    array = np.moveaxis(data.numpy(), 0, -1)
    if array.shape[-1] == 3 and section.data.dtype == torch.uint8:
        return np.clip(np.rint(array), 0, 255).astype(np.uint8)
    limits = robust_limits(array)
    return to_bytes(array if array.shape[-1] == 3 else array.mean(-1), limits)


def _go_on(link: HistoLink) -> None:
    if link.stopping:
        raise InterruptedError


# ------------------------------------------------------------------ where it may lie
def by_hand(job: SectionJob, volume: Volume | None, link: HistoLink) -> Guesses:
    """One guess for a hand to begin with: the chosen plane through the middle of the volume."""
    prepared = prepare(job, volume, link)
    inside = torch.nonzero(slices.brain_of(prepared.volume.image)).double().mean(0).numpy()
    point = (np.linalg.inv(prepared.volume.to_index) @ np.array([*inside[::-1], 1.0]))[:3]
    pose = standard_pose(job.plane or "coronal", job.side or None, point, prepared.middle_mm)
    guess = Guess(pose, float("nan"), None, _card(prepared, pose))
    return Guesses(prepared, (guess,), None, "")


def find(job: SectionJob, volume: Volume | None, link: HistoLink) -> Guesses:
    """Search the planes, and compare the best with care."""
    prepared = prepare(job, volume, link)
    _go_on(link)
    planes = (job.plane,) if job.plane else PLANES
    text = f"Searching {'all' if len(planes) > 1 else planes[0]} planes"
    link.progress(Progress(text=f"{text}, some seconds", fraction=0.15))
    found = slices.search(
        prepared.sheet, prepared.volume.image, planes=planes, tilt_deg=job.tilt_deg,
        seen_from=job.side or None,
    )  # fmt: skip
    _go_on(link)
    link.progress(Progress(text=f"Comparing the best {len(found)}", fraction=0.8))
    found = slices.compared(prepared.sheet, prepared.volume.image, found, execution_on(job.device))
    _go_on(link)
    if not found:
        raise InputError(f"{job.section.name}: nothing in {job.volume.name} is like it.")
    other = slices.elsewhere(found, prepared.sheet)
    margin = None if other is None else found[0].score - other.score
    guesses = tuple(_guess(prepared, one) for one in _unlike(prepared, found)[:SHOWN])
    return Guesses(prepared, guesses, margin, _unsure(guesses, margin))


def _guess(prepared: Prepared, one: slices.Candidate) -> Guess:
    pose = Pose(one.affine.matrix, prepared.middle_mm)
    return Guess(pose, one.score, one, _card(prepared, pose))


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


def _unsure(guesses: tuple[Guess, ...], margin: float | None) -> str:
    best = guesses[0]
    if margin is None or margin >= slices.AMBIGUOUS * abs(best.score):
        return ""
    return (
        f"Unsure where it lies: the best scores {best.score:.3f}, another place "
        f"{best.score - margin:.3f}. Look at both and choose."
    )


def _card(prepared: Prepared, pose: Pose) -> np.ndarray:
    """Section and plane beside each other, (CARD_PX, width, 3) bytes."""
    step = max(1, round(prepared.shape[0] / CARD_PX))
    plane = to_bytes(prepared.cut(pose, step), prepared.volume.limits)
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
    where = ""

    def told(event: ev.Event) -> None:
        nonlocal where
        match event:
            case ev.LevelStarted():
                stage = "Plane" if event.stage == "plane" else "Deformation"
                where = f"{stage}, level {event.level + 1} of {event.levels}"
                link.progress(Progress(text=where, fraction=event.fraction))
            case ev.Iteration():
                link.progress(Progress(text=where, fraction=event.fraction))
            case ev.Preview():
                frame = event.frames.get((0, 0))
                if frame is not None and frame.shape[-2:] == shape:
                    link.picture.put(frame.reshape(shape)[::step, ::step])
            case ev.Warning():
                link.note(event.message)

    placement = slices.place(
        prepared.sheet, prepared.volume.image, start=Affine(pose.matrix),
        labels=None if labels is None else to_image(labels), execution=execution_on(job.device),
        control=control, on_event=told,
    )  # fmt: skip
    if link.discard:
        return None
    result = placement.result
    regions = result.extras.moving_labels
    return Refined(
        placement=placement,
        pose=Pose(result.affine.matrix, prepared.middle_mm),
        started=pose,
        picture=np.ascontiguousarray(result.moved.data[0, 0].float().numpy()[::step, ::step]),
        labels=None if regions is None else result.warp_labels(regions).numpy()[0, ::step, ::step],
        moved_um=_moved_um(placement),
        seconds=time.perf_counter() - began,
        stopped=result.output.outcome is Outcome.STOPPED,
        notes=placement.notes,
    )


def _moved_um(placement: slices.Placement) -> tuple[float, float]:
    """How far tissue is moved on the slide beyond the affine map: median and largest."""
    sheet, result = placement.sheet, placement.result
    rows, columns = torch.nonzero(sheet.tissue, as_tuple=True)
    every = max(1, len(rows) // 4000)
    index = torch.stack([columns, rows, torch.zeros_like(rows), torch.ones_like(rows)], 1)[::every]
    points = (index.double().numpy() @ sheet.image.grid.matrix("index", "mm").T)[:, :3]
    moved = result.affine.inverse()(result.transform(points)) - points
    away = 1000 * np.linalg.norm(moved[:, :2], axis=1)
    return float(np.median(away)), float(away.max())


def places_in_volume(refined: Refined, points_mm: np.ndarray) -> np.ndarray:
    """Places of the section (n, 2) mm in the volume (n, 3) through all that was fitted."""
    points = np.zeros((len(points_mm), 3))
    points[:, :2] = points_mm
    return refined.placement.result.transform(points)


def both_ways(refined: Refined, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (n, 5) of section mm and volume mm: the first in the volume (n, 3), and the second on
    the section (n, 2), through all that was fitted."""
    back = refined.placement.result.inverse(pairs[:, 2:])[:, :2]
    near = refined.pose.on_section(pairs[:, 2:])
    return places_in_volume(refined, pairs[:, :2]), np.where(np.isfinite(back), back, near)


def with_others(refined: Refined, others: tuple[slices.Candidate, ...]) -> slices.Placement:
    """The placement with those candidates, too, that a person did not choose."""
    (first, *_), placement = refined.placement.candidates, refined.placement
    return replace(placement, candidates=(first, *others))
