"""The same run elsewhere: as a command line and as a Python script. No Qt."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fireants_engine.recipe.models import Recipe
from napari_fireants._store import Entry

OUTPUT = "registration"


@dataclass(frozen=True)
class Source:
    """A layer's name and file; `path` is None for a layer that is in no file."""

    name: str
    path: str | None


@dataclass(frozen=True)
class Files:
    """The layers of a run as files."""

    fixed: Source
    moving: Source
    fixed_mask: Source | None = None
    moving_mask: Source | None = None
    moving_labels: Source | None = None
    fixed_labels: Source | None = None

    def given(self) -> dict[str, Source]:
        parts = {role: getattr(self, role) for role in self.__dataclass_fields__}
        return {role: source for role, source in parts.items() if source is not None}


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted path -> value of nested mappings and lists."""
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = [(str(i), item) for i, item in enumerate(value)]
    else:
        return {prefix[:-1]: value}
    out: dict[str, Any] = {}
    for key, item in pairs:
        out |= flat(item, f"{prefix}{key}.")
    return out


def differences(base: Recipe, recipe: Recipe) -> dict[str, Any] | None:
    """Dotted path -> value that turns `base` into `recipe`; None when their structure differs."""
    before, after = flat(base.to_dict()), flat(recipe.to_dict())
    if before.keys() != after.keys():
        return None
    changed = {path: value for path, value in after.items() if value != before[path]}
    if any(path.endswith("kind") for path in changed):
        return None
    return changed


def _file(role: str, source: Source) -> str:
    return source.path or f"{role.upper()}.nii.gz"


def _remarks(files: Files, saved: bool) -> list[str]:
    lines = [
        f"# Layer {source.name!r} is in no file: save it, and put its path for "
        f"{_file(role, source)}."
        for role, source in files.given().items()
        if source.path is None
    ]
    if not saved:
        lines.append("# The stages were changed: press 'Save recipe...' and give that file here.")
    return lines


def _recipe_of(entry: Entry) -> tuple[str, dict[str, Any], bool]:
    """Preset or file to start from, values to set, and whether that is the whole recipe."""
    if not entry.is_preset and not entry.source.endswith((".yaml", ".yml", ".json")):
        return "recipe.yaml", {}, False
    changed = differences(entry.base, entry.recipe)
    if changed is None:
        return "recipe.yaml", {}, False
    return entry.source, changed, True


def command_line(entry: Entry, files: Files, device: str = "auto") -> str:
    """A shell command that repeats the run; remarks come first, as comments."""
    source, changed, saved = _recipe_of(entry)
    words = ["fireants-engine", "run", _file("fixed", files.fixed), _file("moving", files.moving)]
    words += ["-o", OUTPUT, "--preset" if entry.is_preset and saved else "--recipe", source]
    for path, value in changed.items():
        words += ["--set", f"{path}={json.dumps(value) if not isinstance(value, str) else value}"]
    for role, item in files.given().items():
        if role not in ("fixed", "moving"):
            words += [f"--{role.replace('_', '-')}", _file(role, item)]
    if device != "auto":
        words += ["--device", device]
    return "\n".join([*_remarks(files, saved), shlex.join(words)]) + "\n"


def python_script(entry: Entry, files: Files, device: str = "auto") -> str:
    """A script that repeats the run with the engine's public functions."""
    source, changed, saved = _recipe_of(entry)
    load = "preset" if entry.is_preset and saved else "load"
    lines = [*_remarks(files, saved), "import fireants_engine as fe", ""]
    for role, item in files.given().items():
        lines.append(f"{role} = fe.load_image({_file(role, item)!r})")
    for image in ("fixed", "moving"):
        if f"{image}_mask" in files.given():
            lines.append(f"{image} = {image}.with_mask({image}_mask)")
    lines.append(f"recipe = fe.Recipe.{load}({source!r})")
    if changed:
        lines.append("recipe = recipe.with_values({")
        lines += [f"    {path!r}: {value!r}," for path, value in changed.items()]
        lines.append("})")
    where = "" if device == "auto" else f", execution=fe.Execution(device={device!r})"
    labels = [role for role in files.given() if role.endswith("_labels")]
    if labels:
        given = ", ".join(f"{role}={role}" for role in labels)
        lines.append(f"extras = fe.Extras({given})")
        where = f", extras=extras{where}"
    lines.append(f"result = fe.register(fixed, moving, recipe{where})")
    lines.append(f"result.save({OUTPUT!r})")
    return "\n".join(lines) + "\n"
