"""A run as the worker thread sees it. Imports the engine, so only that thread imports this."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fireants_engine import Control, Execution, Extras, Image, PreviewRequest, Result, edit, run
from fireants_engine import __version__ as engine_version
from fireants_engine.context import available_devices, resolve_device
from fireants_engine.errors import BackendUnavailableError, FireantsError
from fireants_engine.kernels import missing, select
from fireants_engine.ops import warp_image
from fireants_engine.pipeline import Edit, Place
from fireants_engine.pipeline import events as ev
from fireants_engine.transforms import Affine, Transform
from napari_fireants._change import Change
from napari_fireants._landmarks import engine_landmarks
from napari_fireants._layers import Snapshot, to_image
from napari_fireants._link import Link
from napari_fireants._preferences import preferences
from napari_fireants._preview import Frames, Pictures, enlarge, grey, robust_limits, to_bytes
from napari_fireants._session import Job, Kernels, Losses, Machine, Product, Progress


class StepControl(Control):
    """A Control that takes the window's changes, and knows when a preview was begun."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self.taken_at, self.change = 0.0, 0

    def take_edits(self, place: Place) -> Sequence[Edit]:
        """The engine asks before every step."""
        change = self._link.take_change()
        if change is not None:
            self.change = change.number
            try:
                self.update(edit_of(change))
            except FireantsError as error:
                self._link.note(f"Not followed: {error}")
        return super().take_edits(place)

    def take_request(self) -> PreviewRequest | None:
        request = super().take_request()
        if request is not None:
            self.taken_at = time.perf_counter()
        return request


def edit_of(change: Change) -> Edit:
    """A change of the window as the engine's Edit; reads the masks."""
    return edit(
        " ".join(change.what),
        recipe=change.recipe,
        landmarks=engine_landmarks(change.landmarks),
        masks={role: to_image(mask) for role, mask in change.masks.items()},
        nudge=None if change.nudge is None else Affine(change.nudge),
        align=change.align,
        level=change.level,
    )


@dataclass
class _Reporter:
    """Turns the engine's events into plain facts for the Link."""

    link: Link
    shape: tuple[int, ...]
    now: Progress = field(default_factory=Progress)

    def __call__(self, event: ev.Event, control: StepControl) -> None:
        match event:
            case ev.RunStarted():
                self._step(event, device=event.device, text="Finding the starting position")
            case ev.StageStarted():
                self._step(
                    event, stage=event.stage, stage_index=event.index, stages=event.stages,
                    level=0, levels=0, step=0, max_steps=0, text=f"Stage {event.stage}",
                )  # fmt: skip
            case ev.LevelStarted():
                self._step(
                    event, level=event.level, levels=event.levels, step=0,
                    max_steps=event.max_steps,
                )  # fmt: skip
            case ev.Iteration():
                self.link.losses(
                    Losses(self.now.stage_index, event.stage, event.level, event.losses)
                )
                self._step(event, step=event.step, max_steps=event.max_steps, loss=event.loss)
            case ev.Preview():
                self._frames(event, control.change)
                self.link.pace.cost(time.perf_counter() - control.taken_at)
            case ev.Edited() if not event.values.get("stop"):
                self.link.edited(event.what)
            case ev.Warning():
                self.link.note(event.message)

    def _step(self, event: ev.Event, **values: Any) -> None:
        seconds, done = event.seconds, event.fraction
        remaining = seconds * (1 - done) / done if done > 0.02 else None
        self.now = replace(self.now, fraction=done, seconds=seconds, remaining=remaining, **values)
        self.link.progress(self.now)

    def _frames(self, event: ev.Preview, change: int) -> None:
        """Grey frames at full size, so that the GUI thread only has to copy them."""
        spatial = len(self.shape)
        frames = {}
        for key, frame in event.frames.items():
            plane = grey(frame, spatial if key is None else spatial - 1)
            frames[key] = enlarge(plane, self.shape) if key is None else plane
        self.link.frames.put(Frames(frames, event.warps, event.points_mm, change))


def _masked(image: Image, mask: Snapshot | None) -> Image:
    return image if mask is None else image.with_mask(to_image(mask))


_WORDS = {"native": "Fused C++ kernels", "cuda": "Fused CUDA kernels"}


def execution_on(device: str) -> Execution:
    """Where a run on `device` (or auto) computes, with the kernels that a person prefers there."""
    return Execution(device, preferences().kernels_on(str(resolve_device(device))))


def kernels_on(device: str) -> Kernels:
    """What a run on `device` computes with, and the remedy where the fast ones are missing."""
    asked = preferences().kernels_on(device)
    try:
        table, why = select(asked, device)
    except BackendUnavailableError as error:
        return Kernels(f"No {asked} kernels, see Preferences", str(error))
    text = _WORDS.get(table.name, "Plain PyTorch kernels")
    if table.name == "reference" and device == "cpu" and "native" in missing():
        text += "; faster: make kernels"
    return Kernels(text, why)


def machine() -> Machine:
    """The devices of this machine, and the kernels of each and of `auto`."""
    devices = available_devices()
    kernels = {name: kernels_on(name) for name in devices}
    return Machine(devices, {"auto": kernels_on(str(resolve_device())), **kernels})


def run_job(job: Job, link: Link) -> Product | None:
    """Run `job` to its end and prepare its pictures; None when nobody wants them any more."""
    link.machine = machine()
    control = StepControl(link)
    link.attach(control)
    link.progress(Progress(text="Reading the images"))
    fixed = _masked(to_image(job.fixed), job.fixed_mask)
    moving = _masked(to_image(job.moving), job.moving_mask)
    both = (job.moving_labels, job.fixed_labels)
    labels, fixed_labels = (None if item is None else to_image(item) for item in both)
    report = _Reporter(link, fixed.grid.shape)
    result: Result | None = None
    steps = run(
        fixed,
        moving,
        job.recipe,
        execution=execution_on(job.device),
        control=control,
        extras=Extras(labels, fixed_labels, engine_landmarks(job.landmarks)),
        initial=_initial(job),
    )
    for event in steps:
        if isinstance(event, ev.RunFinished):
            result = event.result
        report(event, control)
    if link.discard or result is None:
        return None
    link.progress(replace(report.now, text="Preparing the pictures", fraction=1.0, remaining=None))
    pictures = _pictures(job, result, fixed, moving, labels)
    return Product(result, pictures, _facts(job, result), result.outcome.value)


def _initial(job: Job) -> Transform | None:
    """Where the run starts, where it is told."""
    start = job.initial
    return Affine(start) if isinstance(start, np.ndarray) else start


def _pictures(
    job: Job, result: Result, fixed: Image, moving: Image, labels: Image | None
) -> Pictures:
    dim = fixed.dim
    before = warp_image(moving, Affine.identity(dim), fixed.grid)
    fixed_grey, moved_grey = grey(fixed.numpy(), dim), grey(result.moved.numpy(), dim)
    limits = robust_limits(grey(moving.numpy(), dim))
    return Pictures(
        moved=as_layer_data(result.moved.numpy(), job.moving),
        fixed_bytes=to_bytes(fixed_grey, robust_limits(fixed_grey)),
        moved_bytes=to_bytes(moved_grey, limits),
        before_bytes=to_bytes(grey(before.numpy(), dim), limits),
        labels=None if labels is None else result.warp_labels(labels).numpy(),
    )


def as_layer_data(array: np.ndarray, source: Snapshot) -> np.ndarray:
    """float32 for grey images; colour in the type (and range) of its source."""
    if not source.rgb:
        return array
    dtype = np.dtype(source.data.dtype)
    if dtype.kind in "iu":
        return np.clip(np.rint(array), 0, np.iinfo(dtype).max).astype(dtype)
    return np.clip(array, 0, 1)


def apply_to(result: Result, source: Snapshot) -> np.ndarray:
    """The data of a layer of the moving space on the fixed grid."""
    image = to_image(source)
    if source.labels:
        return result.warp_labels(image).numpy()
    return as_layer_data(result.warp(image).numpy(), source)


def _facts(job: Job, result: Result) -> dict[str, Any]:
    """What the result layers carry in metadata['fireants']."""
    output = result.output
    return {
        "version": engine_version,
        "recipe": job.recipe.to_dict(),
        "outcome": output.outcome.name,
        "seconds": output.seconds,
        "preview_seconds": output.preview_seconds,
        "device": result.execution["device"],
        "kernels": result.execution["kernels"],
        "fixed": {"name": job.fixed.name, "path": job.fixed.path},
        "moving": {"name": job.moving.name, "path": job.moving.path},
        "loss": {name: stage.loss for name, stage in output.stages},
    }
