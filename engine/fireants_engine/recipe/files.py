"""Reading and writing recipe files: strict YAML and JSON, whole files only."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import yaml

from fireants_engine.errors import RecipeError


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is given twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} is given twice")
    return out


def read_data(path: Path) -> Any:
    """The content of a YAML or JSON file as plain data; raises RecipeError in one sentence."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: the recipe cannot be read ({error}).") from None
    try:
        if path.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=_unique)
        return yaml.load(text, _StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise RecipeError(f"{path}: this is not valid YAML ({error.problem}{line}).") from None
    except yaml.YAMLError as error:
        where = str(error).splitlines()[0]
        raise RecipeError(f"{path}: this is not valid YAML ({where}).") from None
    except ValueError as error:
        raise RecipeError(f"{path}: this is not valid JSON ({error}).") from None


def write_text(path: Path, text: str) -> None:
    """Write `path` whole: a temporary file is renamed. Raises RecipeError."""
    temporary = path.parent / f".{uuid.uuid4().hex[:12]}.partial"
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise RecipeError(
            f"{path}: the recipe cannot be written ({reason}); choose another place."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
