"""The run directory: everything a run leaves, written whole, loaded and replayed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from collections.abc import Mapping as Dict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image, Landmarks
from fireants_engine.io.images import save_image
from fireants_engine.io.itk import write_whole
from fireants_engine.io.transforms import (
    AFFINE_FILE,
    INVERSE_FILE,
    WARP_FILE,
    load_displacement,
    load_folder,
    save_affine,
    save_displacement,
)
from fireants_engine.pipeline import Extras
from fireants_engine.pipeline.events import to_dict
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Chain, Displacement, Inverse, Transform, warp_factor
from fireants_engine.workflows.report import (
    FORMAT,
    make_report,
    plain,
    source_of,
)
from fireants_engine.workflows.result import Mapping, Result
from fireants_engine.workflows.steer import edits_of, mask_file

REPORT_FILE = "report.json"
LABELS_FILE = "warped_labels.nii.gz"
CANDIDATES_FILE = "candidates.json"
"""Of workflows that look for a start: what was compared, scores and margins."""
INITIAL_FILE = "0InitialWarp.nii.gz"
MASK_FILE = "_mask.nii.gz"
KEPT_FILES = {"fixed": "fixed.nii.gz", "moving": "moving.nii.gz"}
"""Inputs that a workflow made; see `Made`."""


@dataclass(frozen=True)
class Made:
    """An input that a workflow made before it registered: it is kept in the folder of the run, so
    that a replay has it.

    files: what it was made from, the image itself first; scale: 1 mm of it counted as so many.
    """

    files: tuple[str | Path | None, ...] = ()
    scale: float = 1.0


# ------------------------------------------------------------------ where to
def check_output_folder(folder: str | Path) -> Path:
    """Raise InputError unless `folder` can be written or made; nothing is left behind.

    Call it before a long run: the answer comes while nothing is lost yet.
    """
    folder = Path(folder)
    place = folder
    while not place.exists():
        if place.parent == place:
            break
        place = place.parent
    if not place.is_dir():
        raise InputError(
            f"{folder}: the output folder cannot be made because {place} is a file; "
            "choose another folder."
        )
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise InputError(
            f"{folder}: the output folder is not writable ({error.strerror or error}); "
            "choose another folder or change its permissions."
        ) from None
    return folder


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files become those of `folder` when all of them are written.

    A new folder appears at once; in an existing one files are replaced one by one, the report
    last. Nothing of an unfinished run is left.
    """
    check_output_folder(folder)
    fresh = not folder.exists()
    inside = folder.parent if fresh else folder
    inside.mkdir(parents=True, exist_ok=True)
    temporary = inside / f".{folder.name}.{uuid.uuid4().hex[:8]}.partial"
    temporary.mkdir()
    try:
        yield temporary
        if fresh:
            os.replace(temporary, folder)
            return
        files = sorted(temporary.iterdir(), key=lambda f: f.name == REPORT_FILE)
        if (folder / REPORT_FILE).exists():  # of the run that is replaced
            masks = [file.name for file in folder.glob(f"*{MASK_FILE}")]
            for name in (LABELS_FILE, INITIAL_FILE, *KEPT_FILES.values(), *masks):
                if not (temporary / name).exists():
                    (folder / name).unlink(missing_ok=True)
        for file in files:
            if file.is_dir():  # replaced whole
                shutil.rmtree(folder / file.name, ignore_errors=True)
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


Later = Callable[..., None]
"""(function, *arguments): to be called before the folder is finished."""


@contextmanager
def _behind() -> Iterator[Later]:
    """Files are compressed in a thread, one at a time, while what comes next is computed.

    Leaving waits for all of them and raises what the first that failed raised.
    """
    pool, futures = ThreadPoolExecutor(1, thread_name_prefix="fireants-files"), []
    try:
        yield lambda function, *arguments: futures.append(pool.submit(function, *arguments))
        for future in futures:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


# ------------------------------------------------------------------ save
def save_run(
    result: Result,
    folder: str | Path,
    *,
    moving_labels: Image | None = None,
    fixed_labels: Image | None = None,
    landmarks: Landmarks | None = None,
    files: dict[str, Path] | None = None,
    made: Dict[str, Made] | None = None,
    further: Callable[[Path], None] | None = None,
) -> Path:
    """Write the run directory of the contract and return it.

    warped.nii.gz, 0GenericAffine.mat, 1Warp.nii.gz, 1InverseWarp.nii.gz, jacobian.nii.gz,
    warped_labels.nii.gz (with `moving_labels`), *_mask.nii.gz (masks that came from no file, or
    during the run), recipe.yaml (as the run began), report.json, report.html and events.jsonl.
    Points go fixed -> moving through the warp, then the affine. A linear run has warps of zeros,
    so that the same commands apply to every run.

    moving_labels, fixed_labels, landmarks: measured before and after; default those the run was
    given. files: role (fixed_mask, moving_mask, init, landmarks) -> path, for the record and for
    `replay`. A deformable start that came from no file is kept as 0InitialWarp.nii.gz. made: role
    (fixed, moving) -> where an input without a file comes from; it is kept as fixed.nii.gz or
    moving.nii.gz. further: writes more files into the folder before anything of it is seen.
    Raises InputError when the folder cannot be written or the label maps do not fit.
    """
    folder = Path(folder)
    given = result.extras
    extras = Extras(
        moving_labels or given.moving_labels,
        fixed_labels or given.fixed_labels,
        landmarks or given.landmarks,
        given.images,
        {**given.files, **(files or {})},
    )
    extras.check(result.fixed, result.moving)
    with staged(folder) as temporary, _behind() as later:
        save_transforms(result, temporary, later)
        start = None if result.initial is None else warp_factor(result.initial, result.grid)
        init = extras.files.get("init")
        if start is not None and not _on_disk(init):
            later(save_displacement, start, temporary / INITIAL_FILE)
        later(save_image, result.moved, temporary / "warped.nii.gz")
        later(save_image, result.jacobian(), temporary / "jacobian.nii.gz")
        warped_labels = None
        if extras.moving_labels is not None:
            warped_labels = result.warp_labels(extras.moving_labels)
            later(save_image, warped_labels, temporary / LABELS_FILE)
        _write_given(result, extras, made or {}, temporary, later)
        result.recipe.save(temporary / "recipe.yaml")
        lines = [json.dumps(plain(to_dict(event)), allow_nan=False) for event in result.events]
        _write(temporary / "events.jsonl", "\n".join(lines) + "\n")
        if further is not None:
            further(temporary)
        report = make_report(result, extras, warped_labels)
        for role, one in (made or {}).items():
            report["inputs"][role] |= _kept(role, one)
        _write(temporary / "report.html", _html(result, report))
        _write(temporary / REPORT_FILE, json.dumps(report, indent=1, allow_nan=False) + "\n")
    return folder


def _write_given(
    result: Result, extras: Extras, made: Dict[str, Made], folder: Path, later: Later
) -> None:
    """What the run was given and no file holds: masks, images that were made, masks of edits."""
    for role, image in (("fixed", result.fixed), ("moving", result.moving)):
        if image.mask is not None and not _on_disk(extras.files.get(f"{role}_mask")):
            mask = Image(image.mask[None].to(torch.uint8), image.grid, name=f"{role} mask")
            later(save_image, mask, folder / f"{role}{MASK_FILE}")
        if role in made:
            later(save_image, replace(image, mask=None), folder / KEPT_FILES[role])
    for number, change in enumerate(edits_of(result.events), start=1):
        for role, mask in change.masks.items():
            later(save_image, mask, folder / mask_file(number, role))


def _kept(role: str, made: Made) -> dict[str, Any]:
    """What the report says of an input that is kept in the folder."""
    sources = [source_of(path) for path in made.files if path is not None]
    return {"kept": KEPT_FILES[role], "scale": made.scale, "made_from": sources}


def _on_disk(path: Path | None) -> bool:
    return path is not None and path.is_file()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def save_transforms(
    result: Mapping, folder: Path, later: Later = lambda function, *given: function(*given)
) -> None:
    """The affine map, the warp and its inverse as the files of a run."""
    save_affine(result.affine, folder / AFFINE_FILE)
    warp = result.warp_field
    if warp is None:
        warp = Displacement(torch.zeros((1, result.grid.dim, *result.grid.shape)), result.grid)
    later(save_displacement, warp, folder / WARP_FILE)
    later(save_displacement, result.inverse_warp_field or warp, folder / INVERSE_FILE)


def save_page(result: Result, path: str | Path, pictures: dict[str, bytes] | None = None) -> Path:
    """Write report.html alone, whole, and return its path.

    pictures: more PNGs by caption, before those of every report. Raises InputError when the place
    cannot be written.
    """
    labels = result.extras.moving_labels
    moved = None if labels is None else result.warp_labels(labels)
    text = _html(result, make_report(result, result.extras, moved), pictures or {})
    return write_whole(Path(path), lambda place: _write(place, text))


def _html(result: Result, report: dict[str, Any], pictures: dict[str, bytes] | None = None) -> str:
    from fireants_engine.workflows.pictures import Painter, loss_curves
    from fireants_engine.workflows.report_html import render

    drawn = {**(pictures or {}), **Painter(result).all()}
    curve = loss_curves(report["stages"])
    if curve is not None:
        drawn["loss"] = curve
    return render(report, drawn)


# ------------------------------------------------------------------ load
@dataclass(frozen=True, eq=False)
class SavedRun(Mapping):
    """A run read back from its folder: use it like a Result (warp, transform, inverse, ...)."""

    folder: Path = field(kw_only=True)
    recipe: Recipe = field(kw_only=True)
    report: dict[str, Any] = field(kw_only=True)

    def grid_of(self, role: str) -> Grid:
        """The grid of the "fixed" or "moving" image."""
        return _grid(self.report["inputs"][role]["grid"])

    def source_of(self, role: str) -> Path | None:
        """The file of the "fixed" or "moving" image, or what a workflow made it from."""
        item = self.report["inputs"][role]
        found = item["path"] or next((one["path"] for one in item.get("made_from", [])), None)
        return None if found is None else Path(found)


def _grid(data: dict[str, Any]) -> Grid:
    return Grid(
        tuple(data["size"]),
        tuple(data["spacing_mm"]),
        tuple(data["origin_mm"]),
        np.asarray(data["direction"]),
    )


def read_json(folder: str | Path) -> dict[str, Any]:
    """report.json of a folder, as it is."""
    return json.loads((Path(folder) / REPORT_FILE).read_text(encoding="utf-8"))


def read_report(folder: str | Path) -> dict[str, Any]:
    """report.json of a run directory; raises InputError when there is none or it is damaged."""
    path = Path(folder) / REPORT_FILE
    try:
        report = read_json(folder)
        if report["format"] == FORMAT and "grid" in report["inputs"]["fixed"]:
            return report
    except OSError:
        raise InputError(
            f"{folder}: this is not a run directory ({REPORT_FILE} is missing); give a folder that "
            "'fireants-engine run' or 'Result.save' wrote."
        ) from None
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{path}: this report is damaged or of another version; repeat the run.")


def load_run(folder: str | Path) -> SavedRun:
    """The run in `folder`; raises InputError when it is no (whole) run directory."""
    folder = Path(folder)
    report = read_report(folder)
    grid = _grid(report["inputs"]["fixed"]["grid"])
    forward = load_transforms(folder, grid)
    return SavedRun(
        forward,
        grid,
        known_inverse=lambda: _load_inverse(folder, forward, grid),
        folder=folder,
        recipe=Recipe.load(folder / "recipe.yaml"),
        report=report,
    )


def load_transforms(folder: Path, grid: Grid) -> Transform:
    """What `save_transforms` wrote of a map from `grid`; raises InputError."""
    forward = load_folder(folder)
    if forward.dim != grid.dim:
        raise InputError(f"{folder}: transform ({forward.dim}D) and report ({grid.dim}D) disagree.")
    if isinstance(forward, Chain):
        return Chain([_cropped(part, grid) for part in forward.parts])
    return forward


def save_maps(found: Mapping, folder: str | Path) -> Path:
    """Write the transforms of a run directory alone, for `points` and `apply`, and return it."""
    folder = Path(folder)
    with staged(folder) as place, _behind() as later:
        save_transforms(found, place, later)
    return folder


def load_maps(folder: str | Path) -> Mapping:
    """The run in `folder`, or what `save_maps` left there; raises InputError as `load_run`."""
    folder = Path(folder)
    files = (folder / name for name in (AFFINE_FILE, WARP_FILE, INVERSE_FILE))
    if (folder / REPORT_FILE).exists() or not all(file.is_file() for file in files):
        return load_run(folder)
    forward, grid = load_folder(folder), load_displacement(folder / WARP_FILE).grid
    return Mapping(forward, grid, known_inverse=lambda: _load_inverse(folder, forward, grid))


def _cropped(part: Transform, grid: Grid) -> Transform:
    """A warp of one slice without the second one that its file holds (see save_displacement)."""
    if isinstance(part, Displacement) and part.grid.size != grid.size:
        return Displacement(part.u[:, :, : grid.shape[0]], grid)
    return part


def _load_inverse(folder: Path, forward: Transform, grid: Grid) -> Transform:
    """Inverse affine, then the inverse warp of the folder."""
    if not isinstance(forward, Chain) or not (folder / INVERSE_FILE).is_file():
        return forward.inverse()
    warp, affine = forward.parts[0], forward.parts[-1]
    nearly = _cropped(load_displacement(folder / INVERSE_FILE), grid)
    if not isinstance(warp, Displacement) or not isinstance(nearly, Displacement):
        return forward.inverse()
    return Chain([affine.inverse(), Inverse(warp, nearly)])
