"""A whole stack of sections as the worker sees it. Imports the engine, so only that imports it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fireants_engine import Control
from fireants_engine.errors import StoppedError
from fireants_engine.pipeline import Event, Outcome
from fireants_engine.pipeline import events as ev
from fireants_engine.transforms import Affine
from fireants_engine.workflows import stack
from napari_fireants._histo_job import alone, bent, going_on, look_for, prepare, read_volume
from napari_fireants._histo_link import Guesses, HistoLink, OfStack, Prepared, Refined, Volume
from napari_fireants._histo_pose import Pose
from napari_fireants._histo_stack_link import Member, Part, StackFit, StackJob
from napari_fireants._job import execution_on
from napari_fireants._layers import to_image
from napari_fireants._session import Progress

READ, SEARCH, FIT, FIT_EACH = 1.0, 8.0, 4.0, 2.0
"""About how long they take, beside each other: of a section, and of the whole stack."""
STAGES = {"whole": "Whole stack", "sections": "Each section", "in-plane": "Deformation"}
FAR_WORSE = "It fits far worse than the others."
MOVED = "It was not found where its neighbours say, and was put there."


class _Pace:
    """How far the whole is; `told` is handed to one piece of it at a time."""

    def __init__(self, link: HistoLink, whole: float) -> None:
        self._link, self._whole, self._done = link, whole, 0.0

    def tell(self, text: str, done: float = 0.0) -> None:
        """done: of the present piece."""
        fraction = (self._done + done) / self._whole
        self._link.progress(Progress(text=text, fraction=fraction))

    def piece(self, name: str, work: float) -> Callable[[str, float], None]:
        def told(text: str, share: float) -> None:
            self.tell(f"{name}: {text[0].lower()}{text[1:]}", work * share)

        return told

    def did(self, work: float) -> None:
        self._done += work


@dataclass(eq=False)
class _Seat:
    """One section on its way. pose: section mm -> volume mm, None while it is not known."""

    member: Member
    found: Guesses | None
    pose: np.ndarray | None
    read: Prepared | None = None

    @property
    def name(self) -> str:
        return self.member.job.section.name

    @property
    def prepared(self) -> Prepared:
        ready = self.read if self.found is None else self.found.prepared
        assert ready is not None
        return ready


def fit_stack(job: StackJob, volume: Volume | None, link: HistoLink) -> StackFit | None:
    """Read, search for and fit all sections together; see `stack.align_stack`.

    A section of one colour alone is missing. A stop during the searches leaves what was found by
    then; later, the best state. volume: where it was read before. None: nobody wants it any more.
    """
    began = time.perf_counter()
    link.attach(Control())
    seats = [None if one is None else _Seat(one, one.found, one.start) for one in job.members]
    pace, notes = _Pace(link, _work(seats)), list[str]()
    pace.tell("Reading the volume")
    volume = volume or read_volume(next(one.job.volume for one in job.members if one is not None))
    try:
        _read(seats, volume, link, pace, notes)
        _search(seats, link, pace)
    except (StoppedError, InterruptedError):
        return None if link.discard else StackFit(_placed(seats), tuple(notes), True)
    whole = _aligned(job, seats, volume, link, pace)
    if link.discard:
        return None
    parts = _parts(seats, whole, began)
    stopped = whole.result.output.outcome is Outcome.STOPPED
    return StackFit(parts, (*notes, *whole.order.notes, *_flagged(seats, whole)), stopped)


def _work(seats: Sequence[_Seat | None]) -> float:
    there = [seat for seat in seats if seat is not None]
    read = READ * sum(seat.found is None for seat in there)
    search = SEARCH * sum(seat.pose is None for seat in there)
    return read + search + FIT + FIT_EACH * len(there)


def _read(
    seats: list[_Seat | None], volume: Volume, link: HistoLink, pace: _Pace, notes: list[str]
) -> None:
    """Prepare those that were not; empty ones leave their seat, and a sentence among `notes`."""
    for number, seat in enumerate(seats):
        if seat is None or seat.found is not None:
            continue
        section = seat.member.job.section
        array = np.asarray(section.data)
        if array.min() == array.max():
            seats[number] = None
            notes.append(f"{seat.name} is empty and counts as missing.")
        else:
            job = replace(seat.member.job, section=replace(section, data=array))
            told = pace.piece(seat.name, READ)
            seat.read = prepare(job, volume, going_on(link, lambda text, told=told: told(text, 0)))
            if seat.pose is not None:
                seat.found = alone(seat.read, Pose(seat.pose, seat.read.middle_mm))
        pace.did(READ)


def _search(seats: Sequence[_Seat | None], link: HistoLink, pace: _Pace) -> None:
    """Look for those without a place, one by one."""
    wanted = [seat for seat in seats if seat is not None and seat.pose is None]
    for number, seat in enumerate(wanted, start=1):
        told = pace.piece(f"{seat.name}, {number} of {len(wanted)}", SEARCH)
        seat.found = look_for(seat.member.job, seat.prepared, link, told)
        seat.pose = seat.found.guesses[0].pose.matrix
        pace.did(SEARCH)


def _placed(seats: Sequence[_Seat | None]) -> tuple[Part | None, ...]:
    """Of those alone whose place was searched for."""
    return tuple(
        None if seat is None or seat.found is None or seat.found is seat.member.found
        else Part(seat.found)
        for seat in seats
    )  # fmt: skip


def _aligned(
    job: StackJob, seats: Sequence[_Seat | None], volume: Volume, link: HistoLink, pace: _Pace
) -> stack.Stack:
    work = FIT + FIT_EACH * sum(seat is not None for seat in seats)
    where = "Putting the sections in order"
    pace.tell(where)

    def told(event: Event) -> None:
        nonlocal where
        match event:
            case ev.LevelStarted():
                name = STAGES.get(event.stage, event.stage)
                where = f"{name}, level {event.level + 1} of {event.levels}"
                pace.tell(where, work * event.fraction)
            case ev.Iteration():
                pace.tell(where, work * event.fraction)
            case ev.Warning():
                link.note(event.message)

    sheets = [None if s is None else s.prepared.sheet for s in seats]
    starts = [None if s is None or s.pose is None else Affine(s.pose) for s in seats]
    return stack.align_stack(
        sheets, volume.image, job.spacing_mm, starts=starts,
        labels=None if job.labels is None else to_image(job.labels),
        execution=execution_on(job.device), control=link.control, on_event=told,
    )  # fmt: skip


# ------------------------------------------------------------------ section by section
def _parts(
    seats: Sequence[_Seat | None], whole: stack.Stack, began: float
) -> tuple[Part | None, ...]:
    out: list[Part | None] = []
    for number, seat in enumerate(seats):
        if seat is None or whole.sections[number] is None:
            out.append(None)
        else:
            out.append(_part(seat, whole, number, began))
    return tuple(out)


def _flagged(seats: Sequence[_Seat | None], whole: stack.Stack) -> list[str]:
    """By the names of the list, which count as the layer does."""
    both = zip(seats, whole.sections, strict=True)
    names = [
        seat.name for seat, one in both if seat is not None and one is not None and one.flagged
    ]
    if not names:
        return []
    one = len(names) == 1
    return [
        f"{', '.join(names)} {'fits' if one else 'fit'} far worse than the others; look at "
        f"{'it, and skip it if it is' if one else 'them, and skip them if they are'} damaged."
    ]


def _part(seat: _Seat, whole: stack.Stack, number: int, when: float) -> Part:
    one, prepared, found = whole.sections[number], seat.prepared, seat.found
    assert one is not None
    assert found is not None
    assert seat.pose is not None
    placement = stack.section_of(whole, number)
    result, step = placement.result, prepared.step
    regions = result.extras.moving_labels
    picture = result.warp(prepared.volume.image).data[0, 0, ::step, ::step]
    pose = Pose(result.affine.matrix, prepared.middle_mm)
    moved_um, lines = bent(prepared, result)
    notes = [text for text, so in ((MOVED, not one.agreed), (FAR_WORSE, one.flagged)) if so]
    refined = Refined(
        placement=placement,
        pose=pose,
        started=Pose(seat.pose, prepared.middle_mm),
        picture=np.ascontiguousarray(picture.float().numpy()),
        labels=None if regions is None else result.warp_labels(regions).numpy()[0, ::step, ::step],
        lines=lines,
        moved_um=moved_um,
        seconds=time.perf_counter() - when,
        stopped=result.output.outcome is Outcome.STOPPED,
        notes=tuple(notes),
        of_stack=OfStack(whole, number, one.score, one.flagged, when),
    )
    return Part(found, refined)
