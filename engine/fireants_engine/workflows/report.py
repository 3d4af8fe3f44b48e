"""What a run did, as plain values: the content of report.json."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping as Dict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fireants_engine.context import ExecutionContext
from fireants_engine.evaluation.landmarks import LandmarkError, target_registration_error
from fireants_engine.evaluation.overlap import dice_per_label
from fireants_engine.geometry import Image, Landmarks
from fireants_engine.kernels import chosen_for, length
from fireants_engine.ops import (
    as_label_values,
    jacobian_determinant,
    strict_fold_mask,
)
from fireants_engine.pipeline import (
    Extras,
    Iteration,
    LevelFinished,
    LevelStarted,
    RunStarted,
    StageStarted,
)
from fireants_engine.pipeline.events import to_dict
from fireants_engine.pipeline.initialise import mass
from fireants_engine.pipeline.prepare import normalise
from fireants_engine.transforms import Affine, affine_factor, linear_part
from fireants_engine.workflows.quality import still_labels
from fireants_engine.workflows.result import Result
from fireants_engine.workflows.steer import edits_of

FORMAT = 1


def plain(value: Any) -> Any:
    """Values that JSON holds: NumPy numbers unwrapped, NaN and infinity as null."""
    if isinstance(value, Dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


# ------------------------------------------------------------------ inputs
def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_sha256(data: torch.Tensor) -> str:
    """sha256 of a tensor's values."""
    return hashlib.sha256(np.ascontiguousarray(data.cpu().numpy()).tobytes()).hexdigest()


def source_of(path: str | Path | None, data: torch.Tensor | None = None) -> dict[str, Any]:
    """Path and file hash, or the hash of the values where they came from no file."""
    if path is not None and Path(path).is_file():
        return {"path": str(Path(path).resolve()), "sha256": file_sha256(Path(path))}
    return {"path": None, "data_sha256": None if data is None else data_sha256(data)}


def _inputs(result: Result, extras: Extras) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for role, image in (("fixed", result.fixed), ("moving", result.moving)):
        out[role] = {
            "name": image.name,
            **source_of(image.path, image.data),
            "channels": image.channels,
            "grid": image.grid.to_dict(),
        }
        if image.mask is not None:
            out[f"{role}_mask"] = source_of(extras.files.get(f"{role}_mask"), image.mask)
    for role, labels in (
        ("moving_labels", extras.moving_labels),
        ("fixed_labels", extras.fixed_labels),
    ):
        if labels is not None:
            out[role] = {"name": labels.name, **source_of(labels.path, labels.data)}
    for name, both in extras.images.items():
        for role, image in zip(("fixed", "moving"), both, strict=True):
            out[f"{name}:{role}"] = {"name": image.name, **source_of(image.path, image.data)}
    for role in ("init", "landmarks"):
        if role in extras.files:
            out[role] = source_of(extras.files[role])
    return out


# ------------------------------------------------------------------ what happened
def stages_of(result: Result) -> list[dict[str, Any]]:
    """Per stage and level: the plan, the steps taken, every loss, why it ended and its folds."""
    plan: list[Any] = []
    taken: list[list[dict[str, Any]]] = []
    started = 0.0
    for event in result.events:
        match event:
            case RunStarted():
                plan = list(event.plan.get("stages", []))
            case StageStarted():
                taken.append([])
            case LevelStarted():
                taken[-1].append({"level": event.level, "losses": []})
                started = event.seconds
            case Iteration():
                taken[-1][-1]["losses"] += event.losses
            case LevelFinished():
                taken[-1][-1].update(
                    steps=event.steps,
                    loss=event.loss,
                    reason=event.reason,
                    folds=event.folds,
                    fold_fraction=event.fold_fraction,
                    unfolded=event.unfolded,
                    seconds=event.seconds - started,
                )
    out = []
    for (name, stage), wanted, levels in zip(result.output.stages, plan, taken, strict=False):
        planned = dict(enumerate(wanted["levels"]))
        merged = [{**planned.get(level.pop("level"), {}), **level} for level in levels]
        out.append(
            {
                "name": name,
                "terms": wanted["terms"],
                "outcome": stage.outcome.name,
                "loss": stage.loss,
                "levels": merged,
            }
        )
    return out


def affine_to_dict(affine: Affine) -> dict[str, Any]:
    """Homogeneous matrix (LPS mm, fixed -> moving) and centre, exactly."""
    return {"matrix": affine.matrix.tolist(), "centre_mm": affine.centre_mm.tolist()}


def _start(result: Result) -> dict[str, Any]:
    if result.initial is not None:
        deformable = linear_part(result.initial) is None
        affine = affine_to_dict(affine_factor(result.initial))
        return {"kind": "given", "deformable": deformable, **affine}
    initial = result.output.initial
    return {"kind": "recipe", **({} if initial is None else initial.to_dict())}


# ------------------------------------------------------------------ quality
def foreground(image: Image) -> tuple[torch.Tensor, str]:
    """Bool tensor (*grid.shape) of what counts, and its name: the mask, or above the background."""
    if image.mask is not None:
        return image.mask.cpu(), "fixed mask"
    inside = mass(normalise(image, ExecutionContext()), None) > 0
    return inside, "foreground of the fixed image"


def _deformation(result: Result) -> dict[str, Any]:
    """Folds (strict), Jacobian and inverse residual of the full-resolution warp."""
    warp, inverse = result.warp_field, result.inverse_warp_field
    if warp is None or inverse is None:
        return {"deformable": False}
    inside, where = foreground(result.fixed)
    folded = strict_fold_mask(warp.u)[0, 0]
    chosen = jacobian_determinant(warp.u)[0, 0][inside]
    residual = length(chosen_for(warp.u).compose(inverse.u, warp.u))[0][inside]
    return {
        "deformable": True,
        "inside": where,
        "folds": _count(folded),
        "folds_inside": _count(folded[inside]),
        "jacobian_inside": _range(chosen),
        "displacement_inside_vox": _range(length(warp.u)[0][inside]),
        "inverse_residual_inside_vox": _range(residual),
    }


def _count(flags: torch.Tensor) -> dict[str, float]:
    number = int(flags.sum())
    return {"voxels": number, "fraction": number / max(1, flags.numel())}


def _range(values: torch.Tensor) -> dict[str, float | None]:
    if values.numel() == 0:
        return {"min": None, "mean": None, "max": None}
    values = values.double()
    return {
        "min": values.min().item(),
        "mean": values.mean().item(),
        "max": values.max().item(),
    }


def _dice(fixed: Image, moved: Image) -> dict[str, Any]:
    truth, found = (as_label_values(item).cpu().numpy() for item in (fixed, moved))
    labels = dice_per_label(truth, found)
    mean = float(np.mean(list(labels.values()))) if labels else None
    return {"mean": mean, "labels": labels}


def _tre(error: LandmarkError) -> dict[str, float]:
    return {
        "mean": error.mean_mm,
        "median": error.median_mm,
        "p95": error.p95_mm,
        "max": float(error.distances_mm.max()),
    }


def _last_landmarks(result: Result, extras: Extras) -> Landmarks | None:
    """The landmarks as they were at the end of the run."""
    for event in reversed(edits_of(result.events)):
        if "landmarks" in event.values:
            return Landmarks.from_dict(event.values["landmarks"])
    return extras.landmarks


def _quality(result: Result, extras: Extras, warped_labels: Image | None) -> dict[str, Any]:
    out = _deformation(result)
    if extras.fixed_labels is not None and extras.moving_labels is not None:
        assert warped_labels is not None
        still = still_labels(extras.moving_labels, result.grid)
        out["dice"] = {
            "before": _dice(extras.fixed_labels, still),
            "after": _dice(extras.fixed_labels, warped_labels),
        }
    marks = _last_landmarks(result, extras)
    if marks is not None:
        fixed, moving = marks.fixed_mm, marks.moving_mm
        out["tre_mm"] = {
            "points": len(fixed),
            "before": _tre(target_registration_error(fixed, moving)),
            "after": _tre(target_registration_error(result.transform(fixed), moving)),
        }
    return out


def versions() -> dict[str, str]:
    """Versions of what computed the result."""
    names = {"fireants_engine": "fireants_engine", "torch": "torch", "numpy": "numpy"}
    out = {name: str(import_module(module).__version__) for name, module in names.items()}
    out["SimpleITK"] = str(import_module("SimpleITK").Version_VersionString())
    return {**out, "python": platform.python_version()}


def make_report(result: Result, extras: Extras, warped_labels: Image | None) -> dict[str, Any]:
    """report.json: plain values only."""
    report = {
        "format": FORMAT,
        "outcome": result.outcome.name,
        "sentence": result.outcome.value,
        "recipe": {"name": result.recipe.name, "hash": result.recipe.hash},
        "seed": result.recipe.seed,
        "seconds": result.output.seconds,
        "preview_seconds": result.output.preview_seconds,
        "peak_memory_mb": result.peak_memory_mb,
        "execution": result.execution,
        "versions": versions(),
        "inputs": _inputs(result, extras),
        "landmarks": None if extras.landmarks is None else extras.landmarks.to_dict(),
        "start": _start(result),
        "stages": stages_of(result),
        "affine": affine_to_dict(result.affine),
        "edits": [to_dict(event) for event in edits_of(result.events)],
        "quality": _quality(result, extras, warped_labels),
    }
    return plain(report)
