"""Presets to choose from: those of the engine and a person's own. No Qt.

Own presets are recipe files in a folder of the person's (see `user_folder`), one each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from psygnal import Signal

from fireants_engine.errors import InputError, RecipeError
from fireants_engine.recipe.files import write_text
from fireants_engine.recipe.models import Recipe
from fireants_engine.recipe.presets import preset_names
from napari_fireants._autosave import user_folder
from napari_fireants._undo import UndoStack

SUFFIX, LONGEST = ".yaml", 60
_ALLOWED = re.compile(r"\w([\w .()+-]*[\w)+-])?")

PURPOSES = {
    "brain-mri": "For two heads or two brains scanned alike, one person twice or two persons. "
    "Aligns every fold that both have. The choice when in doubt.",
    "brain-mri-fast": "For a first look, or to try out masks and orientation before the long run.",
    "multimodal": "For images that show the same anatomy in other brightnesses, where dark in one "
    "may be bright in the other: T1 with T2, MR with CT.",
    "ct-lung": "For breathing in and out, or last year and today. Follows large motion near the "
    "diaphragm; with lung masks the ribs do not hold it back.",
    "microscopy": "For stained sections and volumes, of any pixel size. Keeps the warp smooth "
    "where the tissue is torn or has no structure.",
    "ultrasound-mr": "For an ultrasound volume laid on an MR image, whose files know nothing of "
    "each other. Only turns and shifts, and only a little: start from a rough fit.",
    "affine": "For different sizes and proportions without bending anything: the usual step "
    "before comparing positions.",
    "rigid": "For the same person or object twice, moved between the scans. Keeps all lengths "
    "and angles.",
}
"""What the engine's presets are for, in plain words."""

_SHORT = {"mi": "MI", "lncc": "LNCC", "ncc": "NCC", "ssd": "SSD"}


@dataclass(frozen=True)
class Preset:
    """One preset as it is offered. path: of an own one; picture: of one of the engine's.

    problem: why an own one cannot be used; empty when it can.
    """

    name: str
    sentence: str
    purpose: str = ""
    stages: str = ""
    picture: Path | None = None
    path: Path | None = None
    problem: str = ""

    @property
    def own(self) -> bool:
        return self.path is not None


def stages_line(recipe: Recipe) -> str:
    """The stages and what they match, in one line."""
    parts = []
    for stage in recipe.stages:
        if stage.enabled:
            terms = ", ".join(_SHORT.get(term.kind, term.kind) for term in stage.terms)
            parts.append(f"{stage.name} ({terms})")
    finest = min((lv.shrink for s in recipe.stages for lv in s.pyramid.levels), default=1)
    return " → ".join(parts) + ("" if finest <= 1 else f", to 1/{finest:g} of the resolution")


def picture_of(name: str) -> Path | None:
    """The picture of one of the engine's presets."""
    path = Path(__file__).parent / "pictures" / f"{name}.png"
    return path if path.is_file() else None


def packaged() -> list[Preset]:
    """The engine's presets, the most usual first."""
    out = []
    for name in preset_names():
        recipe = Recipe.preset(name)
        known = PURPOSES.get(name, "")
        shown = stages_line(recipe), picture_of(name)
        out.append(Preset(name, recipe.description, known, *shown))
    return out


class OwnPresets:
    """A person's presets as files of `folder`; every change is a step of `steps`.

    `changed` is emitted when there are others than before. Errors are RecipeErrors and
    InputErrors, one sentence each.
    """

    changed = Signal()

    def __init__(self, folder: Path | None = None, undo: UndoStack | None = None) -> None:
        self.folder = user_folder() / "presets" if folder is None else folder
        self.steps = UndoStack() if undo is None else undo

    # ------------------------------------------------------------ what there is
    def names(self) -> list[str]:
        """In the order of the alphabet."""
        try:
            found = [p.stem for p in self.folder.glob(f"*{SUFFIX}") if not p.name.startswith(".")]
        except OSError:
            return []
        return sorted(found, key=str.casefold)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def name_of(self, path: str | Path) -> str | None:
        """The name of the own preset in this file; None for any other file."""
        path = Path(path)
        return path.stem if path.parent == self.folder and path.suffix == SUFFIX else None

    def all(self) -> list[Preset]:
        """Those that cannot be read say why."""
        out = []
        for name in self.names():
            path = self.path(name)
            try:
                recipe = Recipe.load(path)
            except RecipeError as error:
                out.append(Preset(name, "", path=path, problem=str(error)))
            else:
                out.append(Preset(name, recipe.description, "", stages_line(recipe), path=path))
        return out

    def check(self, name: str, but: str = "") -> str:
        """Why `name` cannot be given to a new preset; empty when it can. but: the present name."""
        name = name.strip()
        if problem := self._form(name):
            return problem
        if name.casefold() in map(str.casefold, preset_names()):
            return f"{name} comes with the program; choose another name."
        taken = {known.casefold(): known for known in self.names() if known != but}
        if name.casefold() in taken:
            return f"You have a preset {taken[name.casefold()]} already; choose another name."
        return ""

    @staticmethod
    def _form(name: str) -> str:
        if not name:
            return "Give the preset a name."
        if len(name) > LONGEST:
            return f"The name has {len(name)} characters; use at most {LONGEST}."
        if not _ALLOWED.fullmatch(name):
            return "Use letters, digits, spaces and - _ + . ( ); begin with a letter or digit."
        return ""

    # ------------------------------------------------------------ changes
    def save(self, name: str, recipe: Recipe, sentence: str = "") -> Path:
        """Keep a recipe under a new name."""
        name = self._checked(name)
        kept = recipe.model_copy(update={"name": name, "description": sentence.strip()})
        self._make_folder()
        path = self.path(name)
        kept.save(path)
        text = path.read_text(encoding="utf-8")
        self._step(f"preset {name} saved", lambda: self._drop(name), lambda: self._put(name, text))
        return path

    def rename(self, name: str, new: str) -> Path:
        new = self._checked(new, but=name)
        recipe, old = Recipe.load(self.path(name)), self._text(name)
        text = recipe.model_copy(update={"name": new}).to_yaml()

        def change(before: str, after: str, content: str) -> None:
            os.replace(self.path(before), self.path(after))  # also where only the case differs
            self._put(after, content)

        change(name, new, text)
        self._step(
            f"preset {name} renamed",
            lambda: change(new, name, old),
            lambda: change(name, new, text),
        )
        return self.path(new)

    def delete(self, name: str) -> None:
        """It comes back by undo."""
        text = self._text(name)
        self._drop(name)
        self._step(f"preset {name} deleted", lambda: self._put(name, text),
                   lambda: self._drop(name))  # fmt: skip

    def export(self, name: str, path: str | Path) -> Path:
        """Write it as a recipe file."""
        path = Path(path)
        Recipe.load(self.path(name)).save(path)
        return path

    def take(self, path: str | Path) -> str:
        """Add a recipe file to the presets; its name, made different where it is taken."""
        recipe = Recipe.load(path)
        stems = (text.strip()[: LONGEST - 4] for text in (recipe.name, Path(path).stem, "preset"))
        plain = next(text for text in stems if not self._form(text))
        name, number = plain, 2
        while self.check(name):
            name, number = f"{plain} {number}", number + 1
        self.save(name, recipe, recipe.description)
        return name

    # ------------------------------------------------------------ files
    def _checked(self, name: str, but: str = "") -> str:
        problem = self.check(name, but)
        if problem:
            raise InputError(problem)
        return name.strip()

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.folder}: the folder of your presets cannot be made "
                f"({error.strerror or error}); check its permissions."
            ) from None

    def _text(self, name: str) -> str:
        try:
            return self.path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise RecipeError(f"{self.path(name)}: this preset cannot be read.") from None

    def _put(self, name: str, text: str) -> None:
        self._make_folder()
        write_text(self.path(name), text)
        self.changed.emit()

    def _drop(self, name: str) -> None:
        try:
            os.unlink(self.path(name))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise InputError(
                f"{self.path(name)}: cannot be removed ({error.strerror or error})."
            ) from None
        self.changed.emit()

    def _step(self, what: str, undo: Callable[[], object], redo: Callable[[], object]) -> None:
        self.steps.push(what, undo, redo)
        self.changed.emit()
