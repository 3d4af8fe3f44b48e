"""Two sections as the worker thread sees them: what `_histo_job` is to a section in a volume."""

from __future__ import annotations

import time

import numpy as np

from fireants_engine import Control, Image
from fireants_engine.geometry import Grid
from fireants_engine.pipeline import Outcome
from fireants_engine.pipeline import events as ev
from fireants_engine.pipeline.pyramid import shrink_image
from fireants_engine.transforms import Affine
from fireants_engine.workflows import sections
from fireants_engine.workflows.result import Result
from fireants_engine.workflows.tissue import at_most, background_of
from napari_fireants._histo_job import (
    SHOWN,
    alone,
    as_shown,
    bent,
    card,
    go_on,
    regions_of,
    section_image,
    teller,
    unsure,
)
from napari_fireants._histo_link import (
    SHOWN_PX,
    Guess,
    Guesses,
    HistoLink,
    Other,
    Prepared,
    Refined,
    SectionJob,
)
from napari_fireants._histo_pose import FLAT, FlatPose, Pose, flat_pose, lifted
from napari_fireants._job import execution_on
from napari_fireants._layers import Snapshot
from napari_fireants._session import Progress


# ------------------------------------------------------------------ reading
def read_other(job: SectionJob) -> Other:
    image = section_image(job.volume, job.other_mm)
    small = at_most(image, SHOWN_PX)
    data = as_shown(small.data, image)
    shown = Image.from_numpy(data, small.grid, channels=data.ndim == 3)
    to_index = lifted(small.grid.matrix("mm", "index"))
    return Other(sections.section_of(image), data, to_index, background_of(shown)[0])


def prepare(job: SectionJob, other: Other | None, link: HistoLink) -> Prepared:
    """Read both and find the tissue. other: the one of `job`, where it was read before."""
    link.progress(Progress(text="Reading the images"))
    image, other = section_image(job.section, job.pixel_mm), other or read_other(job)
    go_on(link)
    link.progress(Progress(text="Finding the tissue"))
    sheet = sections.section_of(image, component=job.piece or None)
    small = at_most(image, SHOWN_PX)
    grid = small.grid
    return Prepared(
        sheet=sheet,
        volume=other,
        picture=as_shown(small.data, image),
        tissue=shrink_image(sheet.tissue.mask[None, None].float(), grid)[0, 0].numpy() > 0.5,
        step=1,
        corner_mm=np.array(grid.origin_mm),
        pixel_mm=np.array(grid.spacing_mm),
        middle_mm=np.array([*sheet.outline.centre, 0.0]),
        slide_mm=job.pixel_mm,
    )


# ------------------------------------------------------------------ how it may lie
def by_hand(job: SectionJob, other: Other | None, link: HistoLink) -> Guesses:
    """One guess for a hand to begin with: where the job says, or as it is stored, middle on middle,
    sizes matched."""
    prepared = prepare(job, other, link)
    if job.start is not None:
        return alone(prepared, FlatPose(job.start, prepared.middle_mm))
    found = sections.starts(prepared.sheet, prepared.volume.image, "no")
    plain = next(one for one in found if one.source == "as stored")
    return alone(prepared, flat_pose(plain.affine.matrix, prepared.middle_mm))


def find(job: SectionJob, other: Other | None, link: HistoLink) -> Guesses:
    """Match the outlines at every turn and both ways up, and compare the best as images."""
    prepared = prepare(job, other, link)
    go_on(link)
    link.progress(Progress(text="Trying every turn, both ways up", fraction=0.3))
    control = Control()
    link.attach(control)
    found = sections.search(
        prepared.sheet, prepared.volume.image, execution=execution_on(job.device), control=control
    )
    go_on(link)
    margin = sections.margin_of(found)
    guesses = tuple(_guess(prepared, one) for one in found[:SHOWN])
    return Guesses(prepared, guesses, margin, unsure(guesses, margin, sections.AMBIGUOUS))


def _guess(prepared: Prepared, one: sections.Candidate) -> Guess:
    pose = flat_pose(one.affine.matrix, prepared.middle_mm)
    return Guess(pose, one.score, one, card(prepared, pose))


# ------------------------------------------------------------------ fitting
def refine(
    job: SectionJob, prepared: Prepared, pose: Pose, labels: Snapshot | None, link: HistoLink
) -> Refined | None:
    """The affine map, then the deformation, from a pose."""
    began, control = time.perf_counter(), Control()
    regions = None if labels is None else regions_of(job, labels)
    sheet, other = prepared.sheet, prepared.volume
    scale, _ = sections.common_scale(sheet, other.image)
    link.places_mm = prepared.places_mm
    link.attach(control)
    link.progress(Progress(text="Comparing the sections"))

    def preview(event: ev.Preview) -> None:
        if event.points_mm is not None:
            link.picture.put(prepared.through(event.points_mm / scale))

    match = sections.match(
        sheet, other.image, start=Affine(pose.matrix[FLAT]),
        execution=execution_on(job.device), control=control,
        on_event=teller(link, "Affine map", preview),
    )  # fmt: skip
    if link.discard:
        return None
    result = match.result
    moved_um, lines = bent(prepared, result)
    return Refined(
        placement=match,
        pose=flat_pose(result.affine.matrix, prepared.middle_mm),
        started=pose,
        picture=prepared.through(result.transform(prepared.places_mm)),
        labels=None if regions is None else _on_shown(prepared, result, regions),
        lines=lines,
        moved_um=moved_um,
        seconds=time.perf_counter() - began,
        stopped=result.output.outcome is Outcome.STOPPED,
        notes=match.notes,
    )


def _on_shown(prepared: Prepared, result: Result, regions: Image) -> np.ndarray:
    """Regions of the other section on the pixels that are shown."""
    high, wide = prepared.shape
    corner, pixel = prepared.corner_mm.tolist(), prepared.pixel_mm.tolist()
    return result.warp_labels(regions, Grid((wide, high), pixel, corner, np.eye(2))).numpy()
