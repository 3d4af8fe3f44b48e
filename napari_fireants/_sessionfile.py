"""A session as a folder NAME.fireants: session.json, and beside it what is in no file. No Qt.

session.json refers to files by path and sha256; arrays that are in no file lie in `layers` (NIfTI,
for other programs too) or in `objects` (see `_objects`), where the results of runs are as well.
Reading and writing are slow: call them off the GUI thread.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from fireants_engine.errors import FireantsError, InputError
from fireants_engine.recipe.models import Recipe
from napari_fireants._files import ArrayRef, FileRef, Files, Question, checked
from napari_fireants._objects import FOLDER, Objects, content_hash, names_in, write_whole
from napari_fireants._recovery import FILE, SUFFIX
from napari_fireants._runs import Run
from napari_fireants._sessionschema import (
    VERSION,
    Draft,
    LayerDraft,
    LayerState,
    RecipeState,
    RunState,
    SessionState,
    StartState,
)
from napari_fireants._store import Entry

NIFTI = ("<f4", "<f8", "|u1", "|i1", "<i2", "<u2", "<i4", "<u4")
"""Types that NIfTI gives back as they were."""


# ------------------------------------------------------------------ recipes and runs
def _recipe_state(entry: Entry) -> RecipeState:
    parts = entry.recipe.to_dict(), entry.base.to_dict()
    return RecipeState(
        recipe=parts[0], base=parts[1], source=entry.source, is_preset=entry.is_preset
    )


def entry_of(state: RecipeState) -> Entry:
    """Raises RecipeError for a recipe of another version."""
    recipe, base = (Recipe.from_dict(item) for item in (state.recipe, state.base))
    return Entry(recipe, base, state.source, state.is_preset)


RUN_FIELDS = ("number", "time", "fixed", "moving", "outcome", "sentence", "seconds", "device",
              "loss", "numbers", "edits", "title", "note", "kept")  # fmt: skip


def _run_state(run: Run, layers: dict[str, int], objects: Objects) -> RunState:
    thumbnail = None if run.thumbnail is None else objects.put(run.thumbnail)
    values = {name: getattr(run, name) for name in RUN_FIELDS}
    entry = _recipe_state(run.entry)
    used = run.used.to_dict()
    return RunState(**values, entry=entry, used=used, thumbnail=thumbnail, layers=layers)


def _run_of(state: RunState, objects: Objects) -> Run:
    values = {name: getattr(state, name) for name in RUN_FIELDS}
    thumbnail = None if state.thumbnail is None else objects.get(state.thumbnail)
    recipes = {"entry": entry_of(state.entry), "used": Recipe.from_dict(state.used)}
    return Run(**values, **recipes, thumbnail=thumbnail)


# ------------------------------------------------------------------ write
Refs = list[dict[str, ArrayRef]]


def write_into(draft: Draft, folder: Path, objects: Objects, files: Files) -> Refs:
    """Write session.json beside `objects`, and what is not there yet; the refs of each layer.

    The folder keeps what it had until the new session.json takes its place.
    """
    refs = [_layer_refs(layer, objects, files) for layer in draft.layers]
    _write_json(_state(draft, refs, objects, folder), folder)
    return refs


def _layer_refs(layer: LayerDraft, objects: Objects, files: Files) -> dict[str, ArrayRef]:
    if layer.known is not None:
        return layer.known
    # a copy: somebody may be painting
    arrays = {name: np.array(array, order="C") for name, array in layer.arrays.items()}
    paths = {"data": layer.path}
    return {name: files.put(array, paths.get(name), objects) for name, array in arrays.items()}


def _state(draft: Draft, refs: Refs, objects: Objects, folder: Path) -> SessionState:
    from napari_fireants import __version__

    layers = [
        LayerState(kind=layer.kind, state=layer.state, arrays=arrays)  # type: ignore[arg-type]
        for layer, arrays in zip(draft.layers, refs, strict=True)
    ]
    runs = [_run_state(run, draft.run_layers.get(run.number, {}), objects) for run in draft.runs]
    return SessionState(
        saved=datetime.now().astimezone(),
        program=f"napari-fireants {__version__}",
        place=str(folder.resolve().parent),
        layers=layers,
        roles=draft.roles,
        recipe=_recipe_state(draft.entry),
        device=draft.device,
        start=_start(draft),
        landmarks=draft.landmarks,
        runs=runs,
        shown=draft.shown,
        compared=draft.compared,
        view=draft.view,
        histology=draft.histology,
    )


def _start(draft: Draft) -> StartState | None:
    if draft.start is None:
        return None
    matrix, origin = draft.start
    return StartState(matrix=matrix.tolist(), origin=origin)


def _write_json(state: SessionState, folder: Path) -> None:
    text = json.dumps(state.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
    write_whole(folder / FILE, lambda path: path.write_text(text, encoding="utf-8"))


def save(draft: Draft, folder: str | Path, objects: Objects, files: Files) -> Path:
    """Write the session whole, in the place of one of that name; the folder.

    objects: where the results of its runs are. Raises InputError when the folder cannot be
    written, or is there and is no session.
    """
    folder = Path(folder)
    folder = folder if folder.suffix == SUFFIX else folder.with_name(folder.name + SUFFIX)
    if folder.exists() and not (folder / FILE).is_file():
        raise InputError(f"{folder}: is there already and is no session; choose another name.")
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        temporary.mkdir(parents=True)
        inside = Objects(temporary / FOLDER)
        refs = [_saved_refs(layer, temporary, objects, inside, files) for layer in draft.layers]
        state = _state(draft, refs, inside, folder)
        _write_json(state, temporary)
        for name in closure(names_in([run.model_dump() for run in state.runs]), objects):
            inside.link(name, objects)
        _swap(temporary, folder)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); free some space or choose "
            "another folder."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _saved_refs(
    layer: LayerDraft, folder: Path, objects: Objects, inside: Objects, files: Files
) -> dict[str, ArrayRef]:
    out = {}
    for name, array in layer.arrays.items():
        array = np.array(array, order="C")
        ref = ArrayRef(dtype=array.dtype.str, content=content_hash(array))
        path = layer.path if name == "data" else None
        axes = files.holds(path, array, ref.content)
        if path is not None and axes is not None:
            ref = ref.model_copy(update={"file": files.refer(path), "axes": axes})
        elif objects.path(f"{ref.content}.npy").exists():
            inside.link(f"{ref.content}.npy", objects)
            ref = ref.model_copy(update={"object": f"{ref.content}.npy"})
        elif name == "data" and _fits_nifti(array, layer):
            file = _write_nifti(array, layer, folder / "layers")
            ref = ref.model_copy(update={"inside": f"layers/{file}"})
        else:
            ref = ref.model_copy(update={"object": inside.put(array)})
        out[name] = ref
    return out


def _fits_nifti(array: np.ndarray, layer: LayerDraft) -> bool:
    where = layer.where
    if where is None or where.rgb or array.dtype.str not in NIFTI or array.size == 0:
        return False
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _write_nifti(array: np.ndarray, layer: LayerDraft, folder: Path) -> str:
    from fireants_engine import Grid
    from fireants_engine.io.images import save_array

    where = layer.where
    assert where is not None
    stem = re.sub(r"[^\w.-]+", "_", str(layer.state["name"])).strip("._") or "layer"
    names = (f"{stem}{'' if n == 1 else f'_{n}'}.nii.gz" for n in range(1, 10_000))
    name = next(name for name in names if not (folder / name).exists())
    folder.mkdir(exist_ok=True)
    grid = Grid(where.size, where.spacing_mm, where.origin_mm, where.direction)
    save_array(array, grid, folder / name)
    return name


def closure(names: Iterable[str], objects: Objects) -> set[str]:
    """Objects and all that they refer to."""
    out, new = set[str](), set(names)
    while new:
        out |= new
        texts = [name for name in new if name.endswith(".json")]
        new = set().union(*(objects.inside(name) for name in texts)) - out
    return out


def _swap(temporary: Path, folder: Path) -> None:
    """The new folder takes the old one's place; a failure leaves the old one."""
    old = None
    if folder.exists():
        old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.old")
        os.replace(folder, old)
    try:
        os.replace(temporary, folder)
    except OSError:
        if old is not None:
            os.replace(old, folder)
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


# ------------------------------------------------------------------ read
@dataclass(frozen=True, eq=False)
class Opened:
    """A session that was read but not loaded."""

    folder: Path
    state: SessionState

    @property
    def objects(self) -> Objects:
        return Objects(self.folder / FOLDER)

    def files(self) -> list[Question]:
        """The files that its layers come from, each once, with the name of the layer."""
        found: dict[str, Question] = {}
        for layer in self.state.layers:
            for ref in layer.arrays.values():
                if ref.file is not None:
                    question = Question(ref.file, str(layer.state.get("name", layer.kind)))
                    found.setdefault(ref.file.path, question)
        return list(found.values())

    def near(self, file: FileRef) -> list[Path]:
        """Folders in which a file may be, that is not where it was: as far from the session."""
        here = self.folder.resolve().parent
        try:
            beside = os.path.relpath(Path(file.path).parent, self.state.place)
        except ValueError:  # another drive
            return [here, self.folder]
        return [Path(os.path.normpath(here / beside)), here, self.folder]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A session in memory. arrays: of each layer, None where they could not be read (see notes)."""

    opened: Opened
    arrays: list[dict[str, np.ndarray] | None]
    runs: list[Run]
    entry: Entry
    notes: list[str] = field(default_factory=list)


def read(folder: str | Path) -> Opened:
    """Raises InputError, one sentence, for what is no session, is damaged, or is of the future."""
    folder = Path(folder)
    folder = folder.parent if folder.name == FILE else folder
    path = folder / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"{folder}: is no session ({FILE} is missing); choose a folder that ends in {SUFFIX}."
        ) from None
    except ValueError:
        raise InputError(
            f"{path}: this session is damaged (it is not JSON); open a copy of it."
        ) from None
    version = values.get("version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise InputError(
            f"{path}: was saved by a newer napari-fireants (session version {version}, this one "
            f"reads {VERSION}); update napari-fireants."
        )
    return Opened(folder, checked(lambda: SessionState.model_validate(values), str(path)))


def missing(opened: Opened, files: Files) -> list[Question]:
    """Files that are neither where they were nor near the session."""
    out = []
    for question in opened.files():
        path = files.where(question.file, opened.near(question.file))
        if path is None:
            out.append(question)
        elif path != question.file.path:
            files.moved(question.file, path)
    return out


def changed(opened: Opened, files: Files) -> list[Question]:
    """Files whose content is another than when the session was saved."""
    out = []
    for question in opened.files():
        path = files.where(question.file)
        if path is not None and files.changed(question.file, path):
            out.append(question)
    return out


def load(opened: Opened, files: Files, objects: Objects) -> Loaded:
    """Read everything; results of runs become files among `objects`. See notes for what failed."""
    state, inside = opened.state, opened.objects
    notes: list[str] = []
    arrays: list[dict[str, np.ndarray] | None] = []
    for layer in state.layers:
        try:
            refs = layer.arrays.items()
            arrays.append({name: files.get(ref, inside, opened.folder) for name, ref in refs})
        except FireantsError as error:
            arrays.append(None)
            notes.append(f"Layer {layer.state.get('name')} is left out: {error}")
    runs = []
    for item in state.runs:
        run = _run_of(item, inside)
        try:
            for name in closure(names_in(item.kept), inside):
                objects.link(name, inside)
        except FireantsError as error:
            run = replace(run, kept=None)
            notes.append(f"The result of run {item.number} is lost: {error}")
        runs.append(run)
    return Loaded(opened, arrays, runs, entry_of(state.recipe), notes)
