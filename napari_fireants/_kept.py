"""A finished run as files, and again as what the docks work on. Imports the engine: worker threads.

The map is kept exactly (float32), what follows from it is computed again when asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fireants_engine import Extras, Grid, Image, Landmarks, Mapping, Outcome, Recipe, Result
from fireants_engine.errors import InputError
from fireants_engine.evaluation.landmarks import target_registration_error
from fireants_engine.evaluation.overlap import dice_per_label
from fireants_engine.pipeline import RunOutput
from fireants_engine.pipeline import events as ev
from fireants_engine.pipeline.initialise import Candidate, InitialAlignment
from fireants_engine.pipeline.member import StageResult
from fireants_engine.transforms import Affine, Chain, Displacement, Transform, parts_of
from napari_fireants._files import ArrayRef, Files
from napari_fireants._objects import Objects
from napari_fireants._preview import Pictures
from napari_fireants._session import Product


# ------------------------------------------------------------------ to files
def keep(product: Product, objects: Objects, files: Files) -> dict[str, Any]:
    """Write a run among `objects`; plain values with which `Again` finds everything."""
    result, pictures = product.result, product.pictures
    store = _Store(objects, files)
    output = result.output
    extras: Extras = result.extras
    again = {
        "recipe": result.recipe.to_dict(),
        "info": product.info,
        "sentence": product.sentence,
        "grid": result.grid.to_dict(),
        "forward": store.transform(result.forward),
        "initial": None if result.initial is None else store.transform(result.initial),
        "fixed": store.image(result.fixed),
        "moving": store.image(result.moving),
        "extras": {
            "moving_labels": store.image(extras.moving_labels),
            "fixed_labels": store.image(extras.fixed_labels),
            "landmarks": None if extras.landmarks is None else extras.landmarks.to_dict(),
            "images": {n: [store.image(i) for i in both] for n, both in extras.images.items()},
            "files": {role: str(path) for role, path in extras.files.items()},
        },
        "output": _output(output),
        "execution": result.execution,
        "peak_memory_mb": result.peak_memory_mb,
        "events": objects.put_json([store.event(event) for event in result.events]),
    }
    arrays = {
        "moved": pictures.moved,
        "fixed_bytes": pictures.fixed_bytes,
        "moved_bytes": pictures.moved_bytes,
        "before_bytes": pictures.before_bytes,
    }
    if pictures.labels is not None:
        arrays["labels"] = pictures.labels
    return {
        "pictures": {name: objects.put(array) for name, array in arrays.items()},
        "result": objects.put_json(_plain(again)),
    }


def _plain(value: Any) -> Any:
    from fireants_engine.workflows.report import plain

    return plain(value)


@dataclass(frozen=True)
class _Store:
    objects: Objects
    files: Files

    def transform(self, transform: Transform) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        for part in parts_of(transform):
            if isinstance(part, Affine):
                affine = {"matrix": part.matrix.tolist(), "centre_mm": part.centre_mm.tolist()}
                parts.append({"affine": affine})
            elif isinstance(part, Displacement):
                u = self.objects.put(part.u.detach().cpu().numpy())
                parts.append({"warp": u, "grid": part.grid.to_dict()})
            else:
                raise InputError(f"A {type(part).__name__} cannot be kept; save the run instead.")
        return parts

    def image(self, image: Image | None) -> dict[str, Any] | None:
        if image is None:
            return None
        ref = self.files.put(image.numpy(), image.path, self.objects)
        mask = None if image.mask is None else np.packbits(image.mask.cpu().numpy())
        return {
            "array": ref.model_dump(),
            "channels": image.channels,
            "grid": image.grid.to_dict(),
            "name": image.name,
            "path": image.path,
            "mask": None if mask is None else self.objects.put(mask),
        }

    def event(self, event: ev.Event) -> dict[str, Any]:
        body = _plain(ev.to_dict(event))
        if isinstance(event, ev.Edited):
            body["masks"] = {role: self.image(mask) for role, mask in event.masks.items()}
        return body


def _output(output: RunOutput) -> dict[str, Any]:
    start = output.initial
    return {
        "outcome": output.outcome.name,
        "seconds": output.seconds,
        "preview_seconds": output.preview_seconds,
        "pairs": output.pairs,
        "stages": [[name, stage.outcome.name, stage.loss] for name, stage in output.stages],
        "start": None
        if start is None
        else [[c.name, c.affine.matrix.tolist(), c.score] for c in start.candidates],
        "chosen": None if start is None else start.affine.matrix.tolist(),
        "notes": [] if start is None else list(start.notes),
    }


# ------------------------------------------------------------------ from files
@dataclass(frozen=True, eq=False)
class Again(Mapping):
    """A run of before: use it like a Result. What only its files need is read when asked for.

    values: what `keep` gave as "result". Raises InputError, when an input is asked for, if its
    file is gone.
    """

    recipe: Recipe = field(kw_only=True)
    values: dict[str, Any] = field(kw_only=True)
    objects: Objects = field(kw_only=True)
    files: Files = field(kw_only=True)

    def _image(self, values: dict[str, Any] | None) -> Image | None:
        if values is None:
            return None
        array = self.files.get(ArrayRef.model_validate(values["array"]), self.objects)
        grid = _grid(values["grid"])
        several = values["channels"] > 1
        name, path = values["name"], values["path"]
        image = Image.from_numpy(array, grid, channels=several, name=name, path=path)
        if values["mask"] is None:
            return image
        bits = np.unpackbits(self.objects.get(values["mask"]), count=int(np.prod(grid.shape)))
        return replace(image, mask=torch.from_numpy(bits.reshape(grid.shape).astype(bool)))

    def _input(self, role: str) -> Image:
        image = self._image(self.values[role])
        assert image is not None
        return image

    @cached_property
    def fixed(self) -> Image:
        return self._input("fixed")

    @cached_property
    def moving(self) -> Image:
        return self._input("moving")

    @cached_property
    def moved(self) -> Image:
        """The moving image on the fixed grid."""
        return self.warp(self.moving)

    @cached_property
    def extras(self) -> Extras:
        values = self.values["extras"]
        marks = values["landmarks"]
        return Extras(
            self._image(values["moving_labels"]),
            self._image(values["fixed_labels"]),
            None if marks is None else Landmarks.from_dict(marks),
            {n: tuple(self._image(i) for i in both) for n, both in values["images"].items()},
            {role: Path(path) for role, path in values["files"].items()},
        )

    @cached_property
    def output(self) -> RunOutput:
        values = self.values["output"]
        stages = tuple(
            (name, StageResult(self.forward, Outcome[outcome], _number(loss), ()))
            for name, outcome, loss in values["stages"]
        )
        start = None
        if values["start"] is not None:
            found = [Candidate(n, Affine(np.array(m)), s) for n, m, s in values["start"]]
            notes = tuple(values["notes"])
            start = InitialAlignment(Affine(np.array(values["chosen"])), tuple(found), notes)
        return RunOutput(
            self.forward, self.outcome, start, stages, values["seconds"],
            values["preview_seconds"], values["pairs"],
        )  # fmt: skip

    @property
    def outcome(self) -> Outcome:
        return Outcome[self.values["output"]["outcome"]]

    @property
    def peak_memory_mb(self) -> float:
        return _number(self.values["peak_memory_mb"])

    @cached_property
    def initial(self) -> Transform | None:
        """The start that was given to the run."""
        given = self.values["initial"]
        return None if given is None else _transform(given, self.objects)

    @property
    def execution(self) -> dict[str, Any]:
        return self.values["execution"]

    @cached_property
    def events(self) -> tuple[ev.Event, ...]:
        return tuple(self._event(dict(e)) for e in self.objects.get_json(self.values["events"]))

    def _event(self, body: dict[str, Any]) -> ev.Event:
        kind = getattr(ev, body.pop("event"))
        if "masks" in body:
            body["masks"] = {role: self._image(mask) for role, mask in body["masks"].items()}
        if "outcome" in body:
            body["outcome"] = Outcome[body["outcome"]]
        for name in ("losses", "shape"):
            if name in body:
                body[name] = tuple(_number(value) for value in body[name])
        if "loss" in body:
            body["loss"] = _number(body["loss"])
        return kind(**body)

    def result(self) -> Result:
        """The run as it was, whole."""
        return Result(
            self.forward,
            self.grid,
            known_inverse=lambda: self.backward,
            recipe=self.recipe,
            fixed=self.fixed,
            moving=self.moving,
            output=self.output,
            execution=self.execution,
            events=self.events,
            initial=self.initial,
            extras=self.extras,
            peak_memory_mb=self.peak_memory_mb,
        )

    def save(self, folder: Any, **given: Any) -> Any:
        """As `Result.save`."""
        return self.result().save(folder, **given)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _grid(values: dict[str, Any]) -> Grid:
    direction = np.array(values["direction"])
    parts = (tuple(values[name]) for name in ("size", "spacing_mm", "origin_mm"))
    return Grid(*parts, direction)


def _transform(parts: list[dict[str, Any]], objects: Objects) -> Transform:
    out: list[Transform] = []
    for part in parts:
        if "affine" in part:
            matrix, centre = part["affine"]["matrix"], part["affine"]["centre_mm"]
            out.append(Affine(np.array(matrix), np.array(centre)))
        else:
            u = torch.from_numpy(objects.get(part["warp"]))
            out.append(Displacement(u, _grid(part["grid"])))
    return out[0] if len(out) == 1 else Chain(out)


def again(kept: dict[str, Any], objects: Objects, files: Files) -> Product:
    """What `keep` wrote, ready to be looked at, applied and saved."""
    values = objects.get_json(kept["result"])
    pictures = {name: objects.get(item) for name, item in kept["pictures"].items()}
    result = Again(
        _transform(values["forward"], objects),
        _grid(values["grid"]),
        recipe=Recipe.from_dict(values["recipe"]),
        values=values,
        objects=objects,
        files=files,
    )
    return Product(result, Pictures(**pictures), values["info"], values["sentence"])


# ------------------------------------------------------------------ numbers
def measure(product: Product) -> dict[str, Any]:
    """What takes a while to find out: folds, Dice and TRE before and after, where there are any."""
    result, out = product.result, dict[str, Any]()
    folds = [e.folds for e in result.events if isinstance(e, ev.LevelFinished)]
    if result.warp_field is not None and folds:
        out["folds"] = folds[-1]
    extras = result.extras
    if extras.fixed_labels is not None and product.pictures.labels is not None:
        fixed = extras.fixed_labels.numpy()
        if fixed.shape == product.pictures.labels.shape:
            values = dice_per_label(fixed, product.pictures.labels)
            out["dice"] = float(np.mean(list(values.values()))) if values else None
    if extras.landmarks is not None:
        marks = extras.landmarks
        mapped = result.transform(marks.fixed_mm)
        out["tre_mm"] = target_registration_error(mapped, marks.moving_mm).mean_mm
    return _plain(out)


def distance_mm(a: Product, b: Product, points: int = 20_000) -> tuple[float, float]:
    """Mean and largest distance of two maps' images of places in the fixed image, in mm.

    Places: evenly spaced among the voxels brighter than a tenth of the range.
    """
    bright = np.flatnonzero(b.pictures.fixed_bytes.reshape(-1) > 25)
    if bright.size == 0:
        return 0.0, 0.0
    chosen = bright[:: max(1, bright.size // points)]
    grid: Grid = b.result.grid
    voxels = np.stack(np.unravel_index(chosen, grid.shape), axis=1).astype(np.float64)
    matrix = grid.matrix("voxel", "mm")
    places = voxels @ matrix[:-1, :-1].T + matrix[:-1, -1]
    away = np.linalg.norm(a.result.transform(places) - b.result.transform(places), axis=1)
    return float(away.mean()), float(away.max())
