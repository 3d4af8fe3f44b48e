"""A stack of parallel sections in a volume: placed one by one, set in order, then all together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Pair, Views
from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image
from fireants_engine.ops import warp_image
from fireants_engine.pipeline import Control, Event, Extras
from fireants_engine.recipe import Recipe
from fireants_engine.recipe.presets import workflow_recipe
from fireants_engine.similarity import MutualInformation
from fireants_engine.transforms import Affine, Chain, Displacement, Transform
from fireants_engine.workflows import slices
from fireants_engine.workflows.registration import Execution, register
from fireants_engine.workflows.result import Result, at_full_resolution
from fireants_engine.workflows.sheets import Sheet, corners_of, middle_of, without_missing
from fireants_engine.workflows.slices import Candidate, Placement, Plane, Side, plane_of
from fireants_engine.workflows.stack_order import Order, fit_order

_TURNS_DEG = 30.0
"""Between the turns that are tried of a section whose own place is no use."""
_FAR = 3.0
"""Robust standard deviations below the median at which a score is far below the others."""
_SHARE = 0.25
"""The same as a share of the median; both have to hold."""
_PAD = 0.08
"""Of the tissue's size: what is kept around it on every side."""


@dataclass(frozen=True, eq=False)
class Found:
    """Where one section is. number: its place in the stack; sheet: it without lost pieces.

    start: section mm (x, y, 0) -> stack mm, with which it was stacked; transform: section mm ->
    volume mm, and plane, to first order; score: mutual information with the volume on it in
    nats; agreed: its own place had a say in the order; flagged: it fits badly.
    """

    number: int
    sheet: Sheet
    start: Affine
    transform: Transform
    plane: Plane
    score: float
    agreed: bool
    flagged: bool = False
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "score": self.score,
            "agreed": self.agreed,
            "flagged": self.flagged,
            "notes": list(self.notes),
            **self.plane.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Stack:
    """Sections in a volume. result: stack mm -> volume mm, its fixed image the stacked sections.

    sections: one for each that was given, None where it was left out; order: the planes that the
    registration began with.
    """

    sections: tuple[Found | None, ...]
    order: Order
    result: Result
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        return {
            "spacing_mm": self.order.spacing_mm,
            "notes": list(self.notes),
            "sections": [None if one is None else one.to_dict() for one in self.sections],
        }


def stack_recipe() -> Recipe:
    """The packaged recipe: the whole stack, every section in its plane, then the deformation."""
    return workflow_recipe("stack")


# ------------------------------------------------------------------ the whole route
def align_stack(
    sheets: Sequence[Sheet | None],
    volume: Image,
    spacing_mm: float,
    *,
    skip: Collection[int] = (),
    starts: Sequence[Affine | None] | None = None,
    planes: Sequence[str] = slices.PLANES,
    tilt_deg: float = 15.0,
    seen_from: Side | None = None,
    pixel_mm: float | None = None,
    recipe: Recipe | None = None,
    labels: Image | None = None,
    execution: Execution | None = None,
    control: Control | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_section: Callable[[int, int], None] | None = None,
) -> Stack:
    """Find parallel sections, in their order, in a volume.

    Each is placed on its own (`slices.search`, `slices.compared`) unless `starts` (section mm ->
    volume mm) says where it is; one plane, side and distance are fitted to all of them
    (`fit_order`), and what does not agree is put where the order says, at the turn that fits best.
    The sections are then stacked as one image and registered together by `recipe`.

    sheets: in order, `spacing_mm` apart, None for a section that is missing; skip: numbers, from
    0, of those that do not count. pixel_mm: of the stack; default the coarsest of the sections.
    labels: label map of the volume. on_section: told the number of each section that is searched
    and how many there are. Raises InputError, and StoppedError where `control` ends a search; later
    the best state stays.
    """
    used = _checked(sheets, volume, spacing_mm, skip, starts)
    begun: list[Affine | None] = [None] * len(sheets) if starts is None else list(starts)
    for k, sheet in enumerate(used):
        if sheet is not None and begun[k] is None:
            if on_section is not None:
                on_section(k, len(used))
            found = slices.search(
                sheet, volume, planes=planes, tilt_deg=tilt_deg, seen_from=seen_from,
                control=control,
            )  # fmt: skip
            begun[k] = slices.compared(sheet, volume, found, execution, control)[0].affine
    each = zip(used, begun, strict=True)
    order = fit_order(
        [None if s is None or a is None else plane_of(a, middle_of(s)) for s, a in each],
        spacing_mm,
    )
    poses = _ordered(used, begun, volume, order, execution, control)
    brain = Image(slices.brain_of(volume)[None].float(), volume.grid, name=volume.name)
    used = [
        None if sheet is None or pose is None else without_missing(sheet, brain, pose)
        for sheet, pose in zip(used, poses, strict=True)
    ]
    to_stack = [None if pose is None else order.affine.inverse().after(pose) for pose in poses]
    image = stacked(used, to_stack, spacing_mm, pixel_mm)
    result = register(
        image, volume, recipe or stack_recipe(), initial=order.affine,
        extras=Extras(moving_labels=labels), execution=execution, control=control,
        on_event=on_event,
    )  # fmt: skip
    sections = _found(used, to_stack, order, result)
    bad = [str(one.number + 1) for one in sections if one is not None and one.flagged]
    notes = order.notes
    if bad:
        notes = (
            *notes,
            f"Sections that fit far worse than the others: {', '.join(bad)} of {len(used)}; look "
            "at them, and leave them out if they are damaged.",
        )
    return Stack(sections, order, result, notes)


def section_of(stack: Stack, number: int) -> Placement:
    """Section `number` (from 0) by itself, as `slices.place` gives one: an affine map with its
    plane, and the deformation within that on the section's own pixels.

    Recipe, losses and events are those of the stack. Beyond the stack's image the deformation is
    that of its border. Raises InputError for a section that was left out.
    """
    one = stack.sections[number]
    if one is None:
        raise InputError(f"Section {number + 1} was left out of the stack; fit it by itself.")
    sheet, whole = one.sheet, stack.result
    grid, around = sheet.image.grid, whole.grid
    affine = _nearest(one.transform, sheet)
    places = grid.points_mm()
    near = one.start(places)
    last = np.array(around.origin_mm) + (np.array(around.size) - 1) * around.spacing_mm
    inside = np.clip(near, around.origin_mm, last)
    warp = whole.warp_field
    bent = near if warp is None else near + warp(inside) - inside
    moved = affine.inverse()(whole.affine(bent)) - places
    moved[:, 2] = 0.0
    field_mm = moved.reshape(*grid.shape, 3)
    forward = at_full_resolution(Chain([Displacement.from_mm(field_mm, grid), affine]), grid)
    result = replace(
        whole, forward=forward, grid=grid, fixed=sheet.image, initial=None, known_inverse=None,
        output=replace(whole.output, transform=forward),
        extras=Extras(moving_labels=whole.extras.moving_labels),
    )  # fmt: skip
    return Placement(sheet, (Candidate(affine, one.plane, one.score),), result, one.notes)


def _checked(
    sheets: Sequence[Sheet | None], volume: Image, spacing_mm: float, skip: Collection[int],
    starts: Sequence[Affine | None] | None,
) -> list[Sheet | None]:  # fmt: skip
    """The sections that count. Raises InputError for what cannot be a stack."""
    if volume.dim != 3 or volume.channels != 1:
        raise InputError(f"{volume.name}: give a 3D volume of one channel.")
    if not spacing_mm > 0:
        raise InputError(f"Sections {spacing_mm:g} mm apart are no stack; give their distance.")
    if starts is not None and len(starts) != len(sheets):
        raise InputError(
            f"{len(starts)} starts do not fit {len(sheets)} sections; give one for each, or None."
        )
    wrong = [k for k in skip if not 0 <= k < len(sheets)]
    if wrong:
        raise InputError(
            f"There is no section {wrong[0]} to skip: they are 0 to {len(sheets) - 1}."
        )
    used = [None if k in skip else sheet for k, sheet in enumerate(sheets)]
    count = sum(sheet is not None for sheet in used)
    if count < 2:
        raise InputError(f"A stack needs at least two sections that count, not {count}.")
    return used


# ------------------------------------------------------------------ each in its place
def _ordered(
    sheets: Sequence[Sheet | None], begun: Sequence[Affine | None], volume: Image, order: Order,
    execution: Execution | None, control: Control | None,
) -> list[Affine | None]:  # fmt: skip
    """Section mm -> volume mm on the planes of the order."""
    poses: list[Affine | None] = [None] * len(sheets)
    for k in order.agreed:
        sheet, affine = sheets[k], begun[k]
        assert sheet is not None
        assert affine is not None
        poses[k] = order.onto(affine, k, middle_of(sheet))
    for k, sheet in enumerate(sheets):
        if sheet is not None and k not in order.agreed:
            near = min(order.agreed, key=lambda n: abs(n - k))
            poses[k] = _predicted(
                sheet, k, sheets[near], poses[near], volume, order, execution, control
            )
    return poses


def _predicted(
    sheet: Sheet, number: int, near: Sheet | None, pose: Affine | None, volume: Image,
    order: Order, execution: Execution | None, control: Control | None,
) -> Affine:  # fmt: skip
    """A section on its plane of the order with its tissue where that of a near one is, at the
    turn that fits best after a few steps."""
    assert near is not None
    assert pose is not None
    middle, place = middle_of(sheet), pose(middle_of(near)[None])[0]
    candidates = []
    for turn in np.radians(np.arange(0.0, 360.0, _TURNS_DEG)):
        c, s = np.cos(turn), np.sin(turn)
        matrix = pose.matrix.copy()
        matrix[:3, :2] = matrix[:3, :2] @ np.array([[c, -s], [s, c]])
        matrix[:3, 3] = place - matrix[:3, :3] @ middle
        affine = order.onto(Affine(matrix), number, middle)
        candidates.append(Candidate(affine, plane_of(affine, middle), float("nan")))
    best = slices.compared(sheet, volume, candidates, execution, control)[0]
    return order.onto(best.affine, number, middle)


# ------------------------------------------------------------------ one image of all
def stacked(
    sheets: Sequence[Sheet | None], to_stack: Sequence[Affine | None], spacing_mm: float,
    pixel_mm: float | None = None,
) -> Image:  # fmt: skip
    """The sections as slices of one image in stack mm, slice k at `z = k spacing_mm`.

    Densities are in units of the 0.95 quantile of each section's tissue: stains vary. The mask
    leaves out tears, missing sections, and what lies beyond a section's own image. to_stack:
    section mm -> stack mm. pixel_mm: default the coarsest pixel of the sections.
    """
    pairs = [(k, s, a) for k, (s, a) in enumerate(zip(sheets, to_stack, strict=True))
             if s is not None and a is not None]  # fmt: skip
    pixel = max(max(s.pixel_mm) for _, s, _ in pairs) if pixel_mm is None else pixel_mm
    places = np.concatenate([a(corners_of(s))[:, :2] for _, s, a in pairs])
    low, high = places.min(0), places.max(0)
    pad = _PAD * (high - low).max()
    size = np.ceil((high - low + 2 * pad) / pixel).astype(int) + 1
    spacing, origin = (pixel, pixel, spacing_mm), (*(low - pad).tolist(), 0.0)
    grid = Grid((*size.tolist(), len(sheets)), spacing, origin, np.eye(3))
    values = torch.zeros(1, *grid.shape)
    counts = torch.zeros(grid.shape, dtype=torch.bool)
    for k, sheet, affine in pairs:
        own = _slice_grid(grid, k)
        back = affine.inverse()
        assert sheet.image.mask is not None
        mask = Image(sheet.image.mask[None].float(), sheet.image.grid)
        unit = sheet.image.data[0, 0][sheet.tissue].float().quantile(0.95).clamp(min=1e-6)
        values[0, k] = warp_image(sheet.image, back, own).data[0, 0] / unit
        counts[k] = warp_image(mask, back, own).data[0, 0] > 0.5
    return Image(values, grid, counts, name="stack")


def _slice_grid(grid: Grid, number: int) -> Grid:
    origin = np.array(grid.origin_mm, dtype=float)
    origin[2] += number * grid.spacing_mm[2]
    return Grid((*grid.size[:2], 1), grid.spacing_mm, tuple(origin.tolist()), grid.direction)


# ------------------------------------------------------------------ what came out
def _found(
    sheets: Sequence[Sheet | None], to_stack: Sequence[Affine | None], order: Order, result: Result
) -> tuple[Found | None, ...]:
    image, moved = result.fixed, result.moved
    assert image.mask is not None
    scores = _scores(image.data[0], moved.data[0], image.mask)
    limit = _least(scores)
    out: list[Found | None] = []
    for k, (sheet, start) in enumerate(zip(sheets, to_stack, strict=True)):
        if sheet is None or start is None:
            out.append(None)
            continue
        transform = Chain([start, result.forward])
        plane = plane_of(_nearest(transform, sheet), middle_of(sheet))
        score, agreed = scores[k], k in order.agreed
        assert score is not None
        notes = () if agreed else (
            f"Section {k + 1} was not found where its neighbours say; it was put there.",
        )  # fmt: skip
        out.append(Found(k, sheet, start, transform, plane, score, agreed, score < limit, notes))
    return tuple(out)


def _scores(fixed: Tensor, moved: Tensor, counts: Tensor) -> list[float | None]:
    """Mutual information of each slice (Z, Y, X) in nats; None where nothing counts."""
    ctx = ExecutionContext()
    out: list[float | None] = []
    for here, there, own in zip(fixed, moved, counts, strict=True):
        if not bool(own.any()):
            out.append(None)
            continue
        a, b, weight = (x[None, None].float() for x in (here, there, own))
        grid = Grid.identity((here.shape[1], here.shape[0]))
        loss = MutualInformation().bind(Pair(a, b, grid, grid), ctx)
        out.append(-float(loss(Views(a, b, weight, weight))))
    return out


def _least(scores: Sequence[float | None]) -> float:
    """What a score has to reach not to be far below the others."""
    values = np.array([score for score in scores if score is not None])
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    return middle - max(_FAR * spread, _SHARE * middle)


def _nearest(transform: Transform, sheet: Sheet) -> Affine:
    """The affine map that fits `transform` best over the tissue, its normal that of the plane."""
    index = torch.nonzero(sheet.tissue)
    index = index[:: max(1, len(index) // 500)].double().numpy()
    ones = np.ones((len(index), 1))
    pixels = np.column_stack([index[:, ::-1], 0 * ones, ones])
    points = (pixels @ sheet.image.grid.matrix("index", "mm").T)[:, :3]
    design = np.column_stack([points[:, :2], ones])
    fit = np.linalg.lstsq(design, transform(points), rcond=None)[0]
    matrix = np.eye(4)
    matrix[:3, :2], matrix[:3, 3] = fit[:2].T, fit[2]
    normal = np.cross(matrix[:3, 0], matrix[:3, 1])
    matrix[:3, 2] = normal / np.linalg.norm(normal)
    return Affine(matrix, middle_of(sheet))
